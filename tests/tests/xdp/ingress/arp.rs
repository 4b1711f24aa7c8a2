//! ARP requests and whatever else names a virtual IP in ARP.

use ha_common::{
    abi::Reason,
    wire::{
        arp::{self, Arp},
        ethernet,
    },
};
use ha_core::InstanceId;

use super::{CLOSED, DROP, PASS, TX, check};
use crate::{
    fixture::{ELSEWHERE, Fixture, Gate, OTHER, OURS, PEER, Row, V2, V3, mac, vip},
    frames::{self, IP, SENDER, request},
};

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
fn a_sender_is_a_station() {
    // The frame's own source does not matter: the answer goes to the sender that ARP names.
    let mut fixture = Fixture::shared();
    fixture.reset(Gate::Open);
    let mut frame = frames::arp(ethernet::BROADCAST, request(OTHER, vip(V3)));
    frame[6..12].copy_from_slice(&[0x02, 9, 9, 9, 9, 9]);
    let verdict = fixture.dataplane.run_ingress(&frame).unwrap();
    assert_eq!(verdict.code, TX);
    assert_eq!(verdict.frame[..6], SENDER);
}
