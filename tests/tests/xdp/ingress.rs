//! The verdicts of `had_ingress`: name, packet, verdict, packet out, event, counter.

use ha_common::{
    Centis,
    abi::{AdvertWord, Reason},
    wire::{
        arp::{self, Arp},
        ethernet,
        vrrp::{self, Dialect, Version},
    },
};
use ha_core::InstanceId;

use crate::{
    fixture::{ELSEWHERE, Fixture, Gate, LOWER, OTHER, OURS, PEER, Row, UNICAST, V2, V3, mac, vip},
    frames::{self, IP, SENDER, VRRP, advert, advert_with, forged, request, udp},
};

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

/// Every way in which a gate is closed.
const CLOSED: [Gate; 5] = [
    Gate::Closed,
    Gate::Expired,
    Gate::Raised,
    Gate::HalfOpen,
    Gate::NoLeases,
];

fn check(rows: Vec<Row>) {
    Fixture::new().check(rows, |dataplane, frame| {
        dataplane.run_ingress(frame).unwrap()
    });
}

fn word(sender: [u8; 4], priority: u8, interval_centis: u16) -> AdvertWord {
    AdvertWord::new(sender, priority, interval_centis, true)
}

/// The answer of an instance to a padded request.
fn answer(id: InstanceId, request: Arp) -> Vec<u8> {
    let reply = Arp {
        operation: arp::REPLY,
        sender_mac: mac(id),
        sender_ip: vip(id),
        target_mac: request.sender_mac,
        target_ip: request.sender_ip,
    };
    let mut frame = ethernet::build(request.sender_mac, mac(id), ethernet::ARP).to_vec();
    frame.extend(reply.emit());
    frame.resize(60, 0xee);
    frame
}

#[test]
fn arp_while_open() {
    let ask = request(OTHER, vip(V3));
    let probe = request([0; 4], vip(V3));
    let from_vip = request(vip(V2), vip(V3));
    let reply = Arp {
        operation: arp::REPLY,
        target_mac: mac(V3),
        ..request(OTHER, vip(V3))
    };
    let row = |name, frame, code, reason| Row::new(name, Gate::Open, frame, code, reason);
    check(vec![
        row(
            "request",
            frames::arp(ethernet::BROADCAST, ask),
            TX,
            Reason::ArpAnswered,
        )
        .turns_into(answer(V3, ask)),
        row(
            "request to our MAC",
            frames::arp(mac(V3), ask),
            TX,
            Reason::ArpAnswered,
        )
        .turns_into(answer(V3, ask)),
        row(
            "probe (RFC 5227)",
            frames::arp(ethernet::BROADCAST, probe),
            TX,
            Reason::ArpAnswered,
        )
        .turns_into(answer(V3, probe)),
        row(
            "request by the holder of another VIP",
            frames::arp(ethernet::BROADCAST, from_vip),
            TX,
            Reason::ArpAnswered,
        )
        .turns_into(answer(V3, from_vip)),
        row(
            "request to another station",
            frames::arp([0x02, 0, 0, 0, 9, 9], ask),
            DROP,
            Reason::DropArpElsewhere,
        ),
        row(
            "request by another interface than the instance's",
            frames::arp(ethernet::BROADCAST, request(OTHER, vip(ELSEWHERE))),
            DROP,
            Reason::DropArpElsewhere,
        ),
        row(
            "reply to us",
            frames::arp(mac(V3), reply),
            PASS,
            Reason::PassVipOpen,
        ),
        row(
            "announcement of our VIP by another node",
            frames::arp(ethernet::BROADCAST, request(vip(V3), vip(V3))),
            PASS,
            Reason::PassArpFromVip,
        ),
    ]);
}

#[test]
fn arp_while_closed() {
    let reply = Arp {
        operation: arp::REPLY,
        ..request(OTHER, vip(V3))
    };
    let mut rows = Vec::new();
    for gate in CLOSED {
        for (name, packet) in [
            ("request", request(OTHER, vip(V3))),
            ("probe", request([0; 4], vip(V3))),
            (
                "request by the holder of another VIP",
                request(vip(V2), vip(V3)),
            ),
            ("reply", reply),
        ] {
            let frame = frames::arp(ethernet::BROADCAST, packet);
            rows.push(Row::new(name, gate, frame, DROP, Reason::DropArpClosed));
        }
    }
    check(rows);
}

#[test]
fn arp_whatever_the_gate() {
    let mut rows = Vec::new();
    for gate in [Gate::Open, Gate::Closed] {
        let mut row =
            |name, frame, code, reason| rows.push(Row::new(name, gate, frame, code, reason));
        let broadcast = |packet| frames::arp(ethernet::BROADCAST, packet);
        row(
            "request for an ordinary address",
            broadcast(request(PEER, OURS)),
            PASS,
            Reason::PassArp,
        );
        row(
            "request that names a VIP as sender",
            broadcast(request(vip(V3), OURS)),
            PASS,
            Reason::PassArpFromVip,
        );
        row(
            "announcement as a reply",
            broadcast(Arp {
                operation: arp::REPLY,
                ..request(vip(V3), vip(V3))
            }),
            PASS,
            Reason::PassArpFromVip,
        );
        row(
            "announcement of an ordinary address",
            broadcast(request(PEER, PEER)),
            PASS,
            Reason::PassArp,
        );
        let mut token_ring = broadcast(request(OTHER, vip(V3)));
        token_ring[IP + 1] = 6;
        row("ARP of other hardware", token_ring, PASS, Reason::PassOther);
        let mut tagged = broadcast(request(OTHER, vip(V3)));
        tagged = frames::tagged(tagged);
        row("tagged request", tagged, PASS, Reason::PassVlan);
        for len in 14..IP + arp::PACKET_LEN {
            let truncated = broadcast(request(OTHER, vip(V3)))[..len].to_vec();
            row("truncated request", truncated, PASS, Reason::PassOther);
        }
    }
    check(rows);
}

#[test]
fn packets_to_a_vip() {
    let to_vip = || udp(OTHER, vip(V3));
    let first_fragment = || {
        let mut frame = to_vip();
        frame[IP + 6] = 0x20;
        frames::seal_header(&mut frame[IP..]);
        frame
    };
    let later_fragment = || {
        let mut frame = to_vip();
        frame[IP + 7] = 0x20;
        frames::seal_header(&mut frame[IP..]);
        frame
    };
    let broken = |change: fn(&mut Vec<u8>)| {
        let mut frame = to_vip();
        change(&mut frame);
        frame
    };
    type Make<'a> = &'a dyn Fn() -> Vec<u8>;
    let shapes: [(&'static str, Make<'_>); 6] = [
        ("plain", &to_vip),
        ("first fragment", &first_fragment),
        ("later fragment", &later_fragment),
        ("with options", &|| frames::with_options(to_vip())),
        ("total length below the header", &|| {
            broken(|f| f[IP + 3] = 3)
        }),
        ("without anything after the header", &|| {
            to_vip()[..VRRP].to_vec()
        }),
    ];
    let mut rows = Vec::new();
    for (name, make) in shapes {
        rows.push(Row::new(
            name,
            Gate::Open,
            make(),
            PASS,
            Reason::PassVipOpen,
        ));
        for gate in CLOSED {
            rows.push(Row::new(name, gate, make(), DROP, Reason::DropVipClosed));
        }
    }
    // By another interface than the instance's: the same gate.
    let elsewhere = || udp(OTHER, vip(ELSEWHERE));
    rows.push(Row::new(
        "weak host",
        Gate::Open,
        elsewhere(),
        PASS,
        Reason::PassVipOpen,
    ));
    rows.push(Row::new(
        "weak host",
        Gate::Closed,
        elsewhere(),
        DROP,
        Reason::DropVipClosed,
    ));
    check(rows);
}

#[test]
fn packets_to_others() {
    let mut rows = Vec::new();
    for gate in [Gate::Open, Gate::Closed] {
        let mut row = |name, frame, reason| rows.push(Row::new(name, gate, frame, PASS, reason));
        row(
            "to an ordinary address",
            udp(OTHER, OURS),
            Reason::PassOther,
        );
        row("from a VIP", udp(vip(V3), OURS), Reason::PassOther);
        row(
            "tagged, to a VIP",
            frames::tagged(udp(OTHER, vip(V3))),
            Reason::PassVlan,
        );
        let mut service = frames::tagged(udp(OTHER, vip(V3)));
        service[12..14].copy_from_slice(&[0x88, 0xa8]);
        row("service tag, to a VIP", service, Reason::PassVlan);
        let mut ipv6 = udp(OTHER, vip(V3));
        ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
        row("IPv6", ipv6, Reason::PassOther);
        let mut version = udp(OTHER, vip(V3));
        version[IP] = 0x55;
        row("not version 4", version, Reason::PassOther);
        let mut short = udp(OTHER, vip(V3));
        short[IP] = 0x44;
        row("header too short", short, Reason::PassOther);
        for len in 14..VRRP {
            let truncated = udp(OTHER, vip(V3))[..len].to_vec();
            row("truncated header", truncated, Reason::PassOther);
        }
    }
    check(rows);
}

#[test]
fn valid_adverts() {
    let row = |name, frame, id, word| {
        Row::new(name, Gate::Closed, frame, DROP, Reason::AdvertTaken).reports(id, word)
    };
    let foreign = |mut frame: Vec<u8>| {
        frame[IP + 4] = 0;
        frames::seal_header(&mut frame[IP..]);
        frame
    };
    static MANY: [[u8; 4]; 255] = [vip(V3); 255];
    check(vec![
        row("version 3", advert(V3, 50), V3, word(PEER, 50, 1)),
        row("version 2", advert(V2, 50), V2, word(PEER, 50, 100)),
        row("unicast", advert(UNICAST, 50), UNICAST, word(PEER, 50, 1)),
        row(
            "version 3 with a pseudo-header",
            advert_with(V3, |spec| spec.version = Version::V3(Dialect::PseudoHeader)),
            V3,
            word(PEER, 50, 1).with_pseudo_header(),
        ),
        row(
            "unicast with a pseudo-header",
            advert_with(UNICAST, |spec| {
                spec.version = Version::V3(Dialect::PseudoHeader)
            }),
            UNICAST,
            word(PEER, 50, 1).with_pseudo_header(),
        ),
        row(
            "from a foreign router",
            foreign(advert(V3, 50)),
            V3,
            AdvertWord::new(PEER, 50, 1, false),
        ),
        row("priority 0", advert(V3, 0), V3, word(PEER, 0, 1)),
        row("priority 255", advert(V3, 255), V3, word(PEER, 255, 1)),
        row(
            "longest interval",
            advert_with(V3, |spec| spec.interval = Centis(4095)),
            V3,
            word(PEER, 50, 4095),
        ),
        row(
            "255 addresses",
            advert_with(V3, |spec| spec.addresses = &MANY),
            V3,
            word(PEER, 50, 1),
        ),
        row(
            "longest of version 2",
            advert_with(V2, |spec| spec.addresses = &MANY),
            V2,
            word(PEER, 50, 100),
        ),
        row(
            "with IP options",
            frames::with_options(advert(V3, 50)),
            V3,
            word(PEER, 50, 1),
        ),
        row(
            "reserved bits set",
            forged(V3, |frame| frame[VRRP + 4] |= 0xf0),
            V3,
            word(PEER, 50, 1),
        ),
        row(
            "longer than its addresses need",
            forged(V3, |frame| frame[IP + 3] += 4),
            V3,
            word(PEER, 50, 1),
        ),
        row(
            "not padded",
            advert(V3, 50)[..VRRP + 12].to_vec(),
            V3,
            word(PEER, 50, 1),
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

#[test]
fn rank_decides_whether_an_open_gate_stays_open() {
    let from = |source, priority| {
        advert_with(V3, move |spec| {
            spec.source = source;
            spec.priority = ha_common::Priority(priority);
        })
    };
    let rows: [(&str, Vec<u8>, bool); 7] = [
        ("higher priority", from(LOWER, 101), false),
        ("equal priority, greater address", from(PEER, 100), false),
        ("equal priority, lower address", from(LOWER, 100), true),
        ("lower priority, greater address", from(PEER, 99), true),
        ("priority 0", from(PEER, 0), true),
        ("owner", from(LOWER, 255), false),
        (
            "higher priority with a wrong checksum",
            {
                let mut frame = from(PEER, 200);
                frame[VRRP + 2] = 201;
                frame
            },
            true,
        ),
    ];
    let mut fixture = Fixture::new();
    for (name, frame, stays) in rows {
        fixture.reset(Gate::Open);
        let before = fixture.counts();
        let verdict = fixture.dataplane.run_ingress(&frame).unwrap();
        assert_eq!(verdict.code, DROP, "{name}");
        assert_eq!(fixture.is_open(V3), stays, "{name}");
        let outranked = fixture.counted(&before) == [(Reason::AdvertOutranks, 1)];
        assert_eq!(outranked, !stays, "{name}");
        let request = frames::arp(ethernet::BROADCAST, request(OTHER, vip(V3)));
        let verdict = fixture.dataplane.run_ingress(&request).unwrap();
        assert_eq!(verdict.code, if stays { TX } else { DROP }, "{name}");
        // Only the daemon opens it again, with an epoch of its own; another instance's is untouched.
        assert!(fixture.is_open(V2), "{name}");
        let raised = fixture.dataplane.epoch(V3).raised();
        fixture.dataplane.set_epoch(V3, raised);
        assert!(!fixture.is_open(V3), "{name}");
    }
}

#[test]
fn an_advert_that_outranks_comes_before_the_gate_is_opened() {
    let mut fixture = Fixture::new();
    fixture.reset(Gate::Closed);
    fixture.dataplane.run_ingress(&advert(V3, 200)).unwrap();
    fixture.lease(V3, ha_tests::now().after(ha_common::Nanos::from_secs(9)));
    assert!(
        !fixture.is_open(V3),
        "the epoch was superseded before the lease was given"
    );
    assert_eq!(
        fixture.dataplane.superseded(V3),
        fixture.dataplane.epoch(V3)
    );
}

#[test]
fn an_epoch_that_comes_round_again_can_open() {
    let mut fixture = Fixture::new();
    fixture.reset(Gate::Open);
    fixture.dataplane.run_ingress(&advert(V3, 200)).unwrap();
    assert!(!fixture.is_open(V3));
    let epoch = fixture.dataplane.epoch(V3);
    fixture.dataplane.set_epoch(V3, epoch.raised());
    fixture.dataplane.set_epoch(V3, epoch);
    fixture.lease(V3, ha_tests::now().after(ha_common::Nanos::from_secs(9)));
    assert!(fixture.is_open(V3));
}

#[test]
fn the_priority_that_counts_is_the_present_one() {
    let mut fixture = Fixture::new();
    fixture.reset(Gate::Open);
    fixture.dataplane.set_priority(V3, 210).unwrap();
    fixture.dataplane.run_ingress(&advert(V3, 200)).unwrap();
    assert!(fixture.is_open(V3));
    fixture.dataplane.set_priority(V3, 190).unwrap();
    fixture.dataplane.run_ingress(&advert(V3, 200)).unwrap();
    assert!(!fixture.is_open(V3));
}

#[test]
fn a_sender_is_a_station() {
    // The frame's own source does not matter: the answer goes to the sender that ARP names.
    let mut fixture = Fixture::new();
    fixture.reset(Gate::Open);
    let mut frame = frames::arp(ethernet::BROADCAST, request(OTHER, vip(V3)));
    frame[6..12].copy_from_slice(&[0x02, 9, 9, 9, 9, 9]);
    let verdict = fixture.dataplane.run_ingress(&frame).unwrap();
    assert_eq!(verdict.code, TX);
    assert_eq!(verdict.frame[..6], SENDER);
}
