//! The verdicts of `had_egress`.

use ha_common::{
    Address,
    abi::Reason,
    wire::{arp, ethernet, ipv6},
};

use crate::{
    fixture::{ELSEWHERE, Fixture, Gate, OTHER, OTHER_V6, OURS, OURS_V6, Row, V3, V6, vip, vip_v6},
    frames::{self, IP, advert_with, request, udp},
    frames_v6,
};

/// `TC_ACT_UNSPEC`: whatever else is attached decides.
const NEXT: u32 = u32::MAX;

/// `TC_ACT_SHOT`.
const SHOT: u32 = 2;

fn check(rows: Vec<Row>) {
    Fixture::shared().check(&rows, |dataplane, frame| {
        dataplane.run_egress(frame).unwrap()
    });
}

#[test]
fn packets_from_a_vip() {
    let mut rows = Vec::new();
    for (name, frame) in [
        ("plain", udp(vip(V3), OTHER)),
        ("with options", frames::with_options(udp(vip(V3), OTHER))),
        ("fragment", {
            let mut frame = udp(vip(V3), OTHER);
            frame[IP + 7] = 9;
            frame
        }),
        ("by another interface", udp(vip(ELSEWHERE), OTHER)),
        ("VIP to VIP", udp(vip(V3), vip(ELSEWHERE))),
    ] {
        rows.push(Row::new(
            name,
            Gate::Open,
            frame.clone(),
            NEXT,
            Reason::EgressVipOpen,
        ));
        for gate in [Gate::Closed, Gate::Expired, Gate::Raised, Gate::HalfOpen] {
            rows.push(Row::new(
                name,
                gate,
                frame.clone(),
                SHOT,
                Reason::EgressVipClosed,
            ));
        }
    }
    check(rows);
}

#[test]
fn arp_that_claims_a_vip() {
    let broadcast = |packet| frames::arp(ethernet::BROADCAST, packet);
    let reply = |mut packet: arp::Arp| {
        packet.operation = arp::REPLY;
        broadcast(packet)
    };
    let mut rows = Vec::new();
    for (name, frame) in [
        ("request", broadcast(request(vip(V3), OTHER))),
        ("announcement", broadcast(request(vip(V3), vip(V3)))),
        ("reply", reply(request(vip(V3), OTHER))),
        ("announcement as a reply", reply(request(vip(V3), vip(V3)))),
    ] {
        rows.push(Row::new(
            name,
            Gate::Open,
            frame.clone(),
            NEXT,
            Reason::EgressVipOpen,
        ));
        for gate in [Gate::Closed, Gate::Expired, Gate::Raised, Gate::HalfOpen] {
            rows.push(Row::new(
                name,
                gate,
                frame.clone(),
                SHOT,
                Reason::EgressArpClosed,
            ));
        }
    }
    check(rows);
}

#[test]
fn everything_else_leaves() {
    let mut rows = Vec::new();
    for gate in [Gate::Open, Gate::Closed] {
        let mut row =
            |name, frame| rows.push(Row::new(name, gate, frame, NEXT, Reason::EgressOther));
        row("from an ordinary address", udp(OURS, OTHER));
        row("to a VIP", udp(OURS, vip(V3)));
        row(
            "request for a VIP",
            frames::arp(ethernet::BROADCAST, request(OURS, vip(V3))),
        );
        row(
            "probe for a VIP",
            frames::arp(ethernet::BROADCAST, request([0; 4], vip(V3))),
        );
        row(
            "advert of an address owner",
            advert_with(V3, |spec| spec.source = Address::v4(vip(V3))),
        );
        row(
            "another EtherType",
            frames::frame(ethernet::BROADCAST, 0x88cc, &[0; 46]),
        );
        let mut version = udp(vip(V3), OTHER);
        version[IP] = 0x65;
        row("not version 4", version);
        // BPF_PROG_TEST_RUN makes no IPv4 frame without a whole header.
        for len in [15, 20, IP + 27] {
            let frame = frames::arp(ethernet::BROADCAST, request(vip(V3), OTHER));
            row("truncated ARP", frame[..len].to_vec());
        }
    }
    check(rows);
}

#[test]
fn packets_from_a_vip_of_ipv6() {
    let vip = vip_v6(V6);
    let all = ([0x33, 0x33, 0, 0, 0, 1], ipv6::ALL_NODES);
    let claim = |source| {
        let option = frames_v6::link_layer(2, frames::SENDER);
        frames_v6::neighbor(
            all.0,
            (source, all.1),
            (frames_v6::ADVERTISEMENT, 0x20),
            vip,
            &option,
        )
    };
    let extended = frames_v6::packet(all.0, (vip, OTHER_V6), 0, &[58, 0, 1, 4, 0, 0, 0, 0]);
    let mut rows = Vec::new();
    for (name, frame, closed) in [
        (
            "plain",
            frames_v6::udp(vip, OTHER_V6),
            Reason::EgressVipClosed,
        ),
        (
            "of the other family's instance",
            frames_v6::udp(vip_v6(V3), OTHER_V6),
            Reason::EgressVipClosed,
        ),
        (
            "with an extension header",
            extended,
            Reason::EgressVipClosed,
        ),
        (
            "solicitation",
            frames_v6::solicitation(vip, OTHER_V6),
            Reason::EgressVipClosed,
        ),
        ("advertisement", claim(vip), Reason::EgressVipClosed),
        (
            "advertisement from another address",
            claim(OURS_V6),
            Reason::EgressNdpClosed,
        ),
    ] {
        rows.push(Row::new(
            name,
            Gate::Open,
            frame.clone(),
            NEXT,
            Reason::EgressVipOpen,
        ));
        for gate in [Gate::Closed, Gate::Expired, Gate::Raised, Gate::HalfOpen] {
            rows.push(Row::new(name, gate, frame.clone(), SHOT, closed));
        }
    }
    check(rows);
}

#[test]
fn everything_else_of_ipv6_leaves() {
    let mut rows = Vec::new();
    for (name, frame) in [
        (
            "from an ordinary address",
            frames_v6::udp(OURS_V6, OTHER_V6),
        ),
        ("to a VIP", frames_v6::udp(OURS_V6, vip_v6(V6))),
        (
            "solicitation of a VIP",
            frames_v6::solicitation(OURS_V6, vip_v6(V6)),
        ),
        (
            "an owner's advert",
            frames_v6::advert_with(V6, |spec| spec.source = vip_v6(V6)),
        ),
    ] {
        for gate in [Gate::Open, Gate::Closed] {
            rows.push(Row::new(
                name,
                gate,
                frame.clone(),
                NEXT,
                Reason::EgressOther,
            ));
        }
    }
    check(rows);
}
