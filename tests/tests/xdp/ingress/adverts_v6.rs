//! What an advert over IPv6 must be to count, what is told of it, and which closes an open gate.

use ha_common::{
    Address, Centis, Priority,
    abi::{AdvertWord, Reason, Said},
    wire::{checksum::Sum, vrrp},
};

use super::{DROP, PASS, TX, check};
use crate::{
    fixture::{
        Fixture, Gate, LOWER_V6, OTHER_V6, OURS_V6, PEER_V6, Row, UNICAST_V6, V3, V6, vip_v6,
    },
    frames::{IP, frame},
    frames_v6::{BODY, advert, advert_with, forged, packet, seal, solicitation},
};

fn said(sender: Address, priority: u8, interval_centis: u16, from_had: bool) -> Said {
    Said {
        sender,
        word: AdvertWord::new(priority, interval_centis, from_had).with_pseudo_header(),
    }
}

#[test]
fn valid_adverts() {
    let row = |name, frame, id, said| {
        Row::new(name, Gate::Closed, frame, DROP, Reason::AdvertTaken).reports(id, said)
    };
    static MANY: [Address; vrrp::MAX_ADDRESSES_V6] = [vip_v6(V6); vrrp::MAX_ADDRESSES_V6];
    check(vec![
        row("multicast", advert(V6, 50), V6, said(PEER_V6, 50, 1, true)),
        row(
            "unicast",
            advert(UNICAST_V6, 50),
            UNICAST_V6,
            said(PEER_V6, 50, 1, true),
        ),
        row(
            "from a foreign router",
            forged(advert(V6, 50), |f| f[IP + 3] = 0),
            V6,
            said(PEER_V6, 50, 1, false),
        ),
        row("priority 0", advert(V6, 0), V6, said(PEER_V6, 0, 1, true)),
        row(
            "longest interval",
            advert_with(V6, |spec| spec.interval = Centis(4095)),
            V6,
            said(PEER_V6, 50, 4095, true),
        ),
        row(
            "as many addresses as a frame holds",
            advert_with(V6, |spec| spec.addresses = &MANY),
            V6,
            said(PEER_V6, 50, 1, true),
        ),
        row(
            "reserved bits set",
            forged(advert(V6, 50), |f| f[BODY + 4] |= 0xf0),
            V6,
            said(PEER_V6, 50, 1, true),
        ),
    ]);
}

#[test]
fn invalid_adverts() {
    let row = |name, frame, reason| Row::new(name, Gate::Closed, frame, DROP, reason);
    let changed = |at: usize, value: u8| forged(advert(V6, 50), |f| f[at] = value);
    check(vec![
        row("hop limit 254", changed(IP + 7, 254), Reason::AdvertTtl),
        row("version 2", changed(BODY, 0x21), Reason::AdvertVersion),
        row("type 2", changed(BODY, 0x32), Reason::AdvertType),
        row("no address", changed(BODY + 3, 0), Reason::AdvertNoAddress),
        row("two addresses", changed(BODY + 3, 2), Reason::AdvertLength),
        row("interval 0", changed(BODY + 5, 0), Reason::AdvertInterval),
        row(
            "another group",
            changed(IP + 39, 0x13),
            Reason::AdvertDestination,
        ),
        row(
            "own address",
            advert_with(V6, |spec| spec.source = OURS_V6),
            Reason::AdvertOwn,
        ),
        row(
            "unicast where multicast is meant",
            advert_with(V6, |spec| spec.destination = OURS_V6),
            Reason::AdvertDestination,
        ),
        row(
            "a sender that is none of the peers",
            advert_with(UNICAST_V6, |spec| spec.source = OTHER_V6),
            Reason::AdvertSender,
        ),
        row(
            "checksum",
            {
                let mut frame = advert(V6, 50);
                frame[BODY + 2] = 51;
                frame
            },
            Reason::AdvertChecksum,
        ),
        row(
            "checksum without the pseudo-header",
            {
                let mut frame = advert(V6, 50);
                frame[BODY + 6..BODY + 8].fill(0);
                let sum = Sum::ZERO.slice(&frame[BODY..]).checksum();
                frame[BODY + 6..BODY + 8].copy_from_slice(&sum.to_be_bytes());
                frame
            },
            Reason::AdvertChecksum,
        ),
        row(
            "cut",
            advert(V6, 50)[..BODY + 12].to_vec(),
            Reason::AdvertLength,
        ),
    ]);
}

#[test]
fn adverts_of_others() {
    let row = |name, frame, reason| Row::new(name, Gate::Closed, frame, PASS, reason);
    let v4 = crate::frames::advert(V3, 50);
    check(vec![
        row(
            "unknown VRID",
            forged(advert(V6, 50), |f| f[BODY + 1] = 99),
            Reason::PassUnknownVrid,
        ),
        row(
            "a VRID of IPv4 alone",
            forged(advert(V6, 50), |f| f[BODY + 1] = 52),
            Reason::PassUnknownVrid,
        ),
        row(
            "behind an extension header",
            packet(
                [0x33, 0x33, 0, 0, 0, 0x12],
                (PEER_V6, Address::v6(vrrp::GROUP_V6)),
                60,
                &[&[112, 0, 1, 4, 0, 0, 0, 0][..], &advert(V6, 50)[BODY..]].concat(),
            ),
            Reason::PassOther,
        ),
        row(
            "of IPv4 in a frame of IPv6",
            frame([0x33, 0x33, 0, 0, 0, 0x12], 0x86dd, &v4[IP..]),
            Reason::PassOther,
        ),
    ]);
}

#[test]
fn rank_decides_whether_an_open_gate_stays_open() {
    let from = |source, priority| {
        advert_with(V6, move |spec| {
            spec.source = source;
            spec.priority = Priority(priority);
        })
    };
    let rows = [
        ("higher priority", from(LOWER_V6, 101), false),
        ("equal priority, greater address", from(PEER_V6, 100), false),
        ("equal priority, lower address", from(LOWER_V6, 100), true),
        ("lower priority, greater address", from(PEER_V6, 99), true),
        ("priority 0", from(PEER_V6, 0), true),
        (
            "higher priority with a wrong checksum",
            {
                let mut frame = from(PEER_V6, 200);
                frame[BODY + 2] = 201;
                frame
            },
            true,
        ),
    ];
    let mut fixture = Fixture::shared();
    for (name, frame, stays) in rows {
        fixture.reset(Gate::Open);
        fixture.dataplane.run_ingress(&frame).unwrap();
        assert_eq!(fixture.is_open(V6), stays, "{name}");
        // The instance of IPv4 with the same VRID is another virtual router.
        assert!(fixture.is_open(V3), "{name}");
        let ask = solicitation(OTHER_V6, vip_v6(V6));
        let verdict = fixture.dataplane.run_ingress(&ask).unwrap();
        assert_eq!(verdict.code, if stays { TX } else { DROP }, "{name}");
    }
    // And the other way round.
    fixture.reset(Gate::Open);
    let v4 = crate::frames::advert(V3, 200);
    fixture.dataplane.run_ingress(&v4).unwrap();
    assert!(fixture.is_open(V6) && !fixture.is_open(V3));
    let mut sealed = advert(V6, 50);
    seal(&mut sealed);
    assert_eq!(
        sealed,
        advert(V6, 50),
        "what is built has its checksum right"
    );
}
