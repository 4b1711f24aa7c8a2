//! What an advert must be to count, and what is told of it.

use ha_common::{
    Address, Centis,
    abi::{AdvertWord, Reason, Said},
    wire::vrrp::{self, Dialect, Version},
};

use super::{DROP, PASS, check};
use crate::{
    fixture::{Gate, OTHER, OURS, PEER, Row, UNICAST, V2, V3, said, vip},
    frames::{self, IP, VRRP, advert, advert_with, forged},
};

/// The same with a checksum that covers a pseudo-header.
fn with_pseudo_header(said: Said) -> Said {
    Said {
        word: said.word.with_pseudo_header(),
        ..said
    }
}

#[test]
fn valid_adverts() {
    let row = |name, frame, id, said| {
        Row::new(name, Gate::Closed, frame, DROP, Reason::AdvertTaken).reports(id, said)
    };
    let foreign = |mut frame: Vec<u8>| {
        frame[IP + 4] = 0;
        frames::seal_header(&mut frame[IP..]);
        frame
    };
    static MANY: [Address; 255] = [Address::v4(vip(V3)); 255];
    check(vec![
        row("version 3", advert(V3, 50), V3, said(PEER, 50, 1)),
        row("version 2", advert(V2, 50), V2, said(PEER, 50, 100)),
        row("unicast", advert(UNICAST, 50), UNICAST, said(PEER, 50, 1)),
        row(
            "version 3 with a pseudo-header",
            advert_with(V3, |spec| spec.version = Version::V3(Dialect::PseudoHeader)),
            V3,
            with_pseudo_header(said(PEER, 50, 1)),
        ),
        row(
            "unicast with a pseudo-header",
            advert_with(UNICAST, |spec| {
                spec.version = Version::V3(Dialect::PseudoHeader)
            }),
            UNICAST,
            with_pseudo_header(said(PEER, 50, 1)),
        ),
        row(
            "from a foreign router",
            foreign(advert(V3, 50)),
            V3,
            Said {
                word: AdvertWord::new(50, 1, false),
                ..said(PEER, 50, 1)
            },
        ),
        row("priority 0", advert(V3, 0), V3, said(PEER, 0, 1)),
        row("priority 255", advert(V3, 255), V3, said(PEER, 255, 1)),
        row(
            "longest interval",
            advert_with(V3, |spec| spec.interval = Centis(4095)),
            V3,
            said(PEER, 50, 4095),
        ),
        row(
            "255 addresses",
            advert_with(V3, |spec| spec.addresses = &MANY),
            V3,
            said(PEER, 50, 1),
        ),
        row(
            "longest of version 2",
            advert_with(V2, |spec| spec.addresses = &MANY),
            V2,
            said(PEER, 50, 100),
        ),
        row(
            "with IP options",
            frames::with_options(advert(V3, 50)),
            V3,
            said(PEER, 50, 1),
        ),
        row(
            "reserved bits set",
            forged(V3, |frame| frame[VRRP + 4] |= 0xf0),
            V3,
            said(PEER, 50, 1),
        ),
        row(
            "longer than its addresses need",
            forged(V3, |frame| frame[IP + 3] += 4),
            V3,
            said(PEER, 50, 1),
        ),
        row(
            "not padded",
            advert(V3, 50)[..VRRP + 12].to_vec(),
            V3,
            said(PEER, 50, 1),
        ),
    ]);
}

#[test]
fn invalid_adverts() {
    let row = |name, frame, reason| Row::new(name, Gate::Closed, frame, DROP, reason);
    let spoiled = |offset: usize| {
        let mut frame = advert(V3, 50);
        frame[offset] ^= 1;
        frame
    };
    let spoiled_pseudo = || {
        let mut frame = advert_with(V3, |spec| spec.version = Version::V3(Dialect::PseudoHeader));
        frame[VRRP + 7] ^= 1;
        frame
    };
    let pseudo_v2 = || {
        // The sum with a pseudo-header is the plain one less that of the pseudo-header.
        let mut frame = advert(V2, 50);
        frames::seal(&mut frame);
        let plain = u16::from_be_bytes([frame[VRRP + 6], frame[VRRP + 7]]);
        let header = ha_common::wire::checksum::Sum::ZERO
            .word(PEER)
            .word(vrrp::GROUP)
            .word([0, 112, 0, 20])
            .folded();
        let sum = ha_common::wire::checksum::Sum::ZERO
            .half(plain.to_be_bytes())
            .half((!header).to_be_bytes())
            .folded();
        frame[VRRP + 6..VRRP + 8].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let oversized = || {
        forged(V3, |frame| {
            frame.resize(IP + 20 + 1040, 0);
            frame[IP + 2..IP + 4].copy_from_slice(&1060_u16.to_be_bytes());
        })
    };
    check(vec![
        row(
            "TTL 254",
            forged(V3, |f| f[IP + 8] = 254),
            Reason::AdvertTtl,
        ),
        row("TTL 1", forged(V3, |f| f[IP + 8] = 1), Reason::AdvertTtl),
        row(
            "version 2 for version 3",
            forged(V3, |f| f[VRRP] = 0x21),
            Reason::AdvertVersion,
        ),
        row(
            "version 3 for version 2",
            forged(V2, |f| f[VRRP] = 0x31),
            Reason::AdvertVersion,
        ),
        row(
            "version 4",
            forged(V3, |f| f[VRRP] = 0x41),
            Reason::AdvertVersion,
        ),
        row("type 2", forged(V3, |f| f[VRRP] = 0x32), Reason::AdvertType),
        row("type 0", forged(V3, |f| f[VRRP] = 0x30), Reason::AdvertType),
        row(
            "no address",
            forged(V3, |f| f[VRRP + 3] = 0),
            Reason::AdvertNoAddress,
        ),
        row(
            "two addresses, one there",
            forged(V3, |f| f[VRRP + 3] = 2),
            Reason::AdvertLength,
        ),
        row(
            "version 2 without authentication data",
            forged(V2, |f| f[IP + 3] -= 8),
            Reason::AdvertLength,
        ),
        row(
            "length no multiple of four",
            forged(V3, |f| f[IP + 3] += 2),
            Reason::AdvertLength,
        ),
        row("oversized", oversized(), Reason::AdvertLength),
        row(
            "total length beyond the frame",
            forged(V3, |f| f[IP + 3] += 40),
            Reason::AdvertLength,
        ),
        row(
            "total length below the header",
            forged(V3, |f| f[IP + 3] = 10),
            Reason::AdvertLength,
        ),
        row(
            "interval 0",
            forged(V3, |f| f[VRRP + 5] = 0),
            Reason::AdvertInterval,
        ),
        row(
            "version 2, interval 0",
            forged(V2, |f| f[VRRP + 5] = 0),
            Reason::AdvertInterval,
        ),
        row(
            "version 2, other interval",
            forged(V2, |f| f[VRRP + 5] = 2),
            Reason::AdvertInterval,
        ),
        row(
            "version 2, password",
            forged(V2, |f| f[VRRP + 4] = 1),
            Reason::AdvertAuth,
        ),
        row(
            "version 2, IPsec AH",
            forged(V2, |f| f[VRRP + 4] = 2),
            Reason::AdvertAuth,
        ),
        row("checksum", spoiled(VRRP + 7), Reason::AdvertChecksum),
        row(
            "address changed",
            spoiled(VRRP + 10),
            Reason::AdvertChecksum,
        ),
        row(
            "checksum with a pseudo-header",
            spoiled_pseudo(),
            Reason::AdvertChecksum,
        ),
        row(
            "version 2 with a pseudo-header",
            pseudo_v2(),
            Reason::AdvertChecksum,
        ),
        row(
            "checksum of the IP header",
            spoiled(IP + 10),
            Reason::AdvertChecksum,
        ),
        row(
            "source changed on the way",
            spoiled(IP + 13),
            Reason::AdvertChecksum,
        ),
        row(
            "our own address",
            forged(V3, |f| f[IP + 12..IP + 16].copy_from_slice(&OURS)),
            Reason::AdvertOwn,
        ),
        row(
            "unicast from a stranger",
            forged(UNICAST, |f| f[IP + 12..IP + 16].copy_from_slice(&OTHER)),
            Reason::AdvertSender,
        ),
        row(
            "unicast for a multicast instance",
            forged(V3, |f| f[IP + 16..IP + 20].copy_from_slice(&OURS)),
            Reason::AdvertDestination,
        ),
        row(
            "multicast for a unicast instance",
            forged(UNICAST, |f| {
                f[IP + 16..IP + 20].copy_from_slice(&vrrp::GROUP)
            }),
            Reason::AdvertDestination,
        ),
        row(
            "unicast for somebody else",
            forged(UNICAST, |f| f[IP + 16..IP + 20].copy_from_slice(&OTHER)),
            Reason::AdvertDestination,
        ),
        row(
            "first fragment",
            forged(V3, |f| f[IP + 6] = 0x20),
            Reason::AdvertFragment,
        ),
        row(
            "later fragment",
            forged(V3, |f| f[IP + 7] = 1),
            Reason::AdvertFragment,
        ),
    ]);
}

#[test]
fn adverts_of_others() {
    let row = |name, frame, reason| Row::new(name, Gate::Closed, frame, PASS, reason);
    let mut rows = vec![
        row(
            "unknown VRID",
            forged(V3, |f| f[VRRP + 1] = 99),
            Reason::PassUnknownVrid,
        ),
        row(
            "VRID 0",
            forged(V3, |f| f[VRRP + 1] = 0),
            Reason::PassUnknownVrid,
        ),
        row(
            "the VRID of another interface",
            forged(V3, |f| f[VRRP + 1] = 54),
            Reason::PassUnknownVrid,
        ),
        row("tagged", frames::tagged(advert(V3, 50)), Reason::PassVlan),
    ];
    // Cut before the VRID can be known with certainty.
    for len in 14..VRRP + 8 {
        rows.push(row(
            "truncated",
            advert(V3, 50)[..len].to_vec(),
            Reason::PassOther,
        ));
    }
    for len in VRRP + 8..VRRP + 12 {
        let cut = advert(V3, 50)[..len].to_vec();
        rows.push(Row::new(
            "cut",
            Gate::Closed,
            cut,
            DROP,
            Reason::AdvertLength,
        ));
    }
    // No way round the gate.
    let to_vip = |f: &mut Vec<u8>| {
        f[VRRP + 1] = 99;
        f[IP + 16..IP + 20].copy_from_slice(&vip(V3));
    };
    rows.push(Row::new(
        "unknown VRID to a VIP",
        Gate::Closed,
        forged(V3, to_vip),
        DROP,
        Reason::DropVipClosed,
    ));
    rows.push(Row::new(
        "unknown VRID to a VIP",
        Gate::Open,
        forged(V3, to_vip),
        PASS,
        Reason::PassVipOpen,
    ));
    check(rows);
}
