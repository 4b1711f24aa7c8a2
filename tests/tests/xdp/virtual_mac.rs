//! What `had_ingress`, `had_ingress_tc` and `had_egress` make of a virtual router's MAC address.

use ha_common::{
    Address,
    abi::Reason,
    wire::{
        arp::{self, Arp},
        ethernet, ipv6, virtual_mac,
    },
};
use ha_core::InstanceId;

use crate::{
    fixture::{
        ELSEWHERE, Fixture, Gate, OTHER, OTHER_V6, OURS, OURS_V6, Row, Tags, V3, V6, mac, vip,
        vip_v6, vrid,
    },
    frames::{self, SENDER, advert_with, request, udp},
    frames_v6,
    program::Program,
};

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

/// At tc.
const NEXT: u32 = u32::MAX;
const SHOT: u32 = 2;

/// All the ways in which a gate is not open.
const CLOSED: [Gate; 4] = [Gate::Closed, Gate::Expired, Gate::Raised, Gate::HalfOpen];

fn of(id: InstanceId) -> [u8; 6] {
    virtual_mac::of(vrid(id), if id == V6 { 6 } else { 4 })
}

fn to(station: [u8; 6], mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&station);
    frame
}

fn leaves(source: [u8; 6], mut frame: Vec<u8>) -> Vec<u8> {
    frame[6..12].copy_from_slice(&source);
    frame
}

fn check_ingress(virtual_mac: bool, mut rows: Vec<Row>) {
    let mut fixture = Fixture::new();
    fixture.virtual_mac = virtual_mac;
    for program in Program::ALL {
        rows.retain(|row| program.takes(&row.frame));
        fixture.check(&rows, |dataplane, frame| program.run(dataplane, frame));
    }
}

fn check_egress(virtual_mac: bool, rows: &[Row]) {
    let mut fixture = Fixture::new();
    fixture.virtual_mac = virtual_mac;
    // A VLAN's interface has a guard of its own, which sees its frames without a tag.
    fixture.check_tagged(&[Tags::None, Tags::Priority], rows, |dataplane, frame| {
        dataplane.run_egress(frame).unwrap()
    });
}

#[test]
fn it_answers_for_the_vips() {
    let ask = request(OTHER, vip(V3));
    let reply = Arp {
        operation: arp::REPLY,
        sender_mac: of(V3),
        sender_ip: vip(V3),
        target_mac: SENDER,
        target_ip: OTHER,
    };
    let mut answer = ethernet::build(SENDER, of(V3), ethernet::ARP).to_vec();
    answer.extend(reply.emit());
    answer.resize(60, 0xee);
    let advertisement = |id| {
        let pair = (vip_v6(id), OTHER_V6);
        let option = frames_v6::link_layer(2, of(id));
        let flags = (frames_v6::ADVERTISEMENT, 0x60);
        let frame = frames_v6::neighbor(SENDER, pair, flags, vip_v6(id), &option);
        leaves(of(id), frame)
    };
    let mut rows = Vec::new();
    for station in [ethernet::BROADCAST, of(V3), mac(V3)] {
        let frame = frames::arp(station, ask);
        rows.push(
            Row::new(
                "request",
                Gate::Open,
                frame.clone(),
                TX,
                Reason::ArpAnswered,
            )
            .turns_into(answer.clone()),
        );
        let dropped = if station == of(V3) {
            Reason::DropArpElsewhere
        } else {
            Reason::DropArpClosed
        };
        rows.extend(CLOSED.map(|gate| Row::new("request", gate, frame.clone(), DROP, dropped)));
    }
    // The second one's instance has adverts over IPv4, and its address with it.
    for id in [V6, V3] {
        let frame = frames_v6::solicitation(OTHER_V6, vip_v6(id));
        for frame in [frame.clone(), to(of(id), frame)] {
            rows.push(
                Row::new("solicitation", Gate::Open, frame, TX, Reason::NdpAnswered)
                    .turns_into(advertisement(id)),
            );
        }
    }
    check_ingress(true, rows);
}

#[test]
fn what_comes_to_it_is_the_interfaces_while_open() {
    let reply = Arp {
        operation: arp::REPLY,
        ..request(OTHER, vip(V3))
    };
    let mut rows = Vec::new();
    for (name, id, frame, open, closed) in [
        (
            "to the VIP",
            V3,
            udp(OTHER, vip(V3)),
            Reason::PassVipOpen,
            (DROP, Reason::DropVipClosed),
        ),
        (
            "to the VIP of IPv6",
            V6,
            frames_v6::udp(OTHER_V6, vip_v6(V6)),
            Reason::PassVipOpen,
            (DROP, Reason::DropVipClosed),
        ),
        (
            "an ARP reply",
            V3,
            frames::arp(of(V3), reply),
            Reason::PassVipOpen,
            (DROP, Reason::DropArpClosed),
        ),
        (
            "to be sent on",
            V3,
            udp(OTHER, [203, 0, 113, 1]),
            Reason::PassOther,
            (PASS, Reason::PassOther),
        ),
        (
            "another EtherType",
            V3,
            frames::frame(of(V3), 0x88cc, &[0; 46]),
            Reason::PassOther,
            (PASS, Reason::PassOther),
        ),
    ] {
        let frame = to(of(id), frame);
        rows.push(
            Row::new(name, Gate::Open, frame.clone(), PASS, open)
                .turns_into(to(mac(id), frame.clone())),
        );
        let (code, reason) = closed;
        rows.extend(CLOSED.map(|gate| Row::new(name, gate, frame.clone(), code, reason)));
    }
    check_ingress(true, rows);
}

#[test]
fn others_stay_as_they_are() {
    let mut rows = Vec::new();
    for gate in [Gate::Open, Gate::Closed] {
        for station in [
            virtual_mac::of(99, 4),
            virtual_mac::of(vrid(ELSEWHERE), 4),
            [0x00, 0x00, 0x5e, 0x00, 0x03, vrid(V3)],
            [0x00, 0x00, 0x5e, 0x01, 0x01, vrid(V3)],
            [0x02, 0, 0, 0, 9, 9],
        ] {
            let frame = to(station, udp(OTHER, OURS));
            rows.push(Row::new("others", gate, frame, PASS, Reason::PassOther));
        }
    }
    check_ingress(true, rows);
    let frame = to(of(V3), udp(OTHER, vip(V3)));
    check_ingress(
        false,
        vec![Row::new(
            "unset",
            Gate::Open,
            frame,
            PASS,
            Reason::PassVipOpen,
        )],
    );
}

/// What leaves for an instance, and what becomes of that.
fn spoken() -> Vec<(&'static str, Vec<u8>, Vec<u8>, Reason)> {
    let claim = |mac, operation| {
        let packet = Arp {
            operation,
            sender_mac: mac,
            ..request(vip(V3), OTHER)
        };
        frames::arp(ethernet::BROADCAST, packet)
    };
    let all = ([0x33, 0x33, 0, 0, 0, 1], ipv6::ALL_NODES);
    let advertisement = |mac, source| {
        let option = frames_v6::link_layer(2, mac);
        let flags = (frames_v6::ADVERTISEMENT, 0x20);
        frames_v6::neighbor(all.0, (source, all.1), flags, vip_v6(V6), &option)
    };
    let solicitation = |mac| {
        let target = OTHER_V6;
        frames_v6::neighbor(
            frames_v6::group_mac(target),
            (vip_v6(V6), ipv6::solicited_node(target)),
            (frames_v6::SOLICITATION, 0),
            target,
            &frames_v6::link_layer(1, mac),
        )
    };
    let without_option = || {
        let pair = (vip_v6(V6), OTHER_V6);
        let flags = (frames_v6::ADVERTISEMENT, 0x60);
        frames_v6::neighbor(SENDER, pair, flags, vip_v6(V6), &[])
    };
    let mut spoken = vec![
        (
            "packet",
            udp(vip(V3), OTHER),
            leaves(of(V3), udp(vip(V3), OTHER)),
            Reason::EgressVipClosed,
        ),
        (
            "packet of IPv6",
            frames_v6::udp(vip_v6(V6), OTHER_V6),
            leaves(of(V6), frames_v6::udp(vip_v6(V6), OTHER_V6)),
            Reason::EgressVipClosed,
        ),
        (
            "solicitation",
            solicitation(SENDER),
            leaves(of(V6), solicitation(of(V6))),
            Reason::EgressVipClosed,
        ),
        (
            "advertisement without a link-layer address",
            without_option(),
            leaves(of(V6), without_option()),
            Reason::EgressVipClosed,
        ),
    ];
    for (source, closed) in [
        (vip_v6(V6), Reason::EgressVipClosed),
        (OURS_V6, Reason::EgressNdpClosed),
    ] {
        spoken.push((
            "advertisement",
            advertisement(SENDER, source),
            leaves(of(V6), advertisement(of(V6), source)),
            closed,
        ));
    }
    for operation in [arp::REQUEST, arp::REPLY] {
        spoken.push((
            "ARP",
            claim(SENDER, operation),
            leaves(of(V3), claim(of(V3), operation)),
            Reason::EgressArpClosed,
        ));
    }
    spoken
}

#[test]
fn what_speaks_for_a_vip_leaves_from_it() {
    let mut rows = Vec::new();
    for (name, frame, out, closed) in spoken() {
        rows.push(
            Row::new(name, Gate::Open, frame.clone(), NEXT, Reason::EgressVipOpen)
                .turns_into(out.clone()),
        );
        // What names it already stays so.
        rows.push(Row::new(name, Gate::Open, out, NEXT, Reason::EgressVipOpen));
        rows.extend(CLOSED.map(|gate| Row::new(name, gate, frame.clone(), SHOT, closed)));
    }
    check_egress(true, &rows);
    rows.retain(|row| row.out.is_some());
    for row in &mut rows {
        row.out = None;
    }
    check_egress(false, &rows);
}

#[test]
fn adverts_leave_from_it_while_open() {
    let ours = advert_with(V3, |spec| spec.source = Address::v4(OURS));
    let ours_v6 = frames_v6::advert_with(V6, |spec| spec.source = OURS_V6);
    let mut rows = Vec::new();
    let row = |name, gate, frame| Row::new(name, gate, frame, NEXT, Reason::EgressOther);
    for (id, frame) in [(V3, ours), (V6, ours_v6)] {
        rows.push(
            row("advert", Gate::Open, frame.clone()).turns_into(leaves(of(id), frame.clone())),
        );
        rows.extend(CLOSED.map(|gate| row("advert", gate, frame.clone())));
    }
    for frame in [
        advert_with(V3, |_| {}),
        frames_v6::advert_with(V6, |_| {}),
        advert_with(ELSEWHERE, |spec| spec.source = Address::v4(OURS)),
    ] {
        rows.push(row("another's advert", Gate::Open, frame));
    }
    check_egress(true, &rows);
}

#[test]
fn what_is_its_own_leaves_as_it_is() {
    let row = |name, frame, reason| Row::new(name, Gate::Open, frame, NEXT, reason);
    let elsewhere = row(
        "by another interface",
        udp(vip(ELSEWHERE), OTHER),
        Reason::EgressVipOpen,
    );
    let rows = [
        row("packet", udp(OURS, OTHER), Reason::EgressOther),
        row(
            "packet of IPv6",
            frames_v6::udp(OURS_V6, OTHER_V6),
            Reason::EgressOther,
        ),
        row(
            "request",
            frames::arp(ethernet::BROADCAST, request(OURS, OTHER)),
            Reason::EgressOther,
        ),
        row(
            "solicitation",
            frames_v6::solicitation(OURS_V6, OTHER_V6),
            Reason::EgressOther,
        ),
        elsewhere,
    ];
    check_egress(true, &rows);
}
