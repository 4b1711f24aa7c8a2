//! This node's own addresses to which its peers send: only the interface that has one answers for it, and who sends to
//! it by another one makes an event.

use std::collections::BTreeMap;

use ha_common::{
    Vrid,
    abi::{EventKind, Reason, local::LOCAL_EVENT_BUDGET},
    lease,
    wire::{
        arp::{self, Arp},
        bfd, ethernet,
    },
};
use ha_user::dataplane::{Dataplane, Verdict};
use ipnet::Ipv4Net;

use crate::{
    fixture::{Fixture, Gate, LOOPBACK, LOWER, OTHER, OURS, Row, Tags, UNICAST, V3, vip},
    frames::{self, IP, VRRP, advert_with, request, seal_header, udp},
    program::Program,
};

/// Another interface than the one by which frames come in here.
const ANOTHER: u32 = 4811;

/// As XDP says it.
const DROP: u32 = 1;
const PASS: u32 = 2;

/// Where a frame's TTL is.
const TTL: usize = IP + 8;

/// With [`OURS`] on an interface.
fn fixture(on: u32) -> Fixture {
    let mut fixture = Fixture::new();
    let net = Ipv4Net::new(OURS.into(), 24).unwrap();
    fixture.locals = BTreeMap::from([(net, on)]);
    fixture
}

/// The guard's verdict, as XDP would say it.
fn guard(dataplane: &mut Dataplane, frame: &[u8]) -> Verdict {
    let verdict = dataplane.run_guard(frame).unwrap();
    let code = match verdict.code {
        2 => DROP,
        u32::MAX => PASS,
        other => panic!("no such verdict: {other}"),
    };
    Verdict { code, ..verdict }
}

/// Checks rows by the programs of interfaces that are named, and by the guard of others.
fn check(on: u32, rows: &[Row]) {
    let mut fixture = fixture(on);
    for program in Program::ALL {
        fixture.check_tagged(&[Tags::None], rows, |dataplane, frame| {
            program.run(dataplane, frame)
        });
    }
    fixture.check_tagged(&[Tags::None], rows, guard);
}

fn asks(name: &'static str, packet: Arp, code: u32, reason: Reason) -> Row {
    let frame = frames::arp(ethernet::BROADCAST, packet);
    Row::new(name, Gate::Closed, frame, code, reason)
}

#[test]
fn another_interface_does_not_answer_to_its_network() {
    let to_us = frames::arp([0x02, 0, 0, 0, 9, 9], request(OTHER, OURS));
    check(
        ANOTHER,
        &[
            asks("request", request(OTHER, OURS), DROP, Reason::DropArpLocal),
            Row::new(
                "to one station",
                Gate::Open,
                to_us,
                DROP,
                Reason::DropArpLocal,
            ),
        ],
    );
}

#[test]
fn other_arp_passes() {
    let reply = Arp {
        operation: arp::REPLY,
        ..request(OTHER, OURS)
    };
    let passes = |name, packet| asks(name, packet, PASS, Reason::PassArp);
    check(
        ANOTHER,
        &[
            passes("from another network", request([10, 9, 9, 9], OURS)),
            passes("probe", request([0; 4], OURS)),
            passes("announcement", request(OURS, OURS)),
            passes("reply", reply),
            passes("for a neighbour", request(OTHER, LOWER)),
        ],
    );
    check(
        LOOPBACK,
        &[passes("by its own interface", request(OTHER, OURS))],
    );
}

/// An advert to this node for a virtual router that is nowhere here.
fn advert() -> Vec<u8> {
    advert_with(UNICAST, |spec| spec.vrid = Vrid::new(99).unwrap())
}

/// A datagram of a neighbour.
fn datagram(port: u16) -> Vec<u8> {
    let mut frame = udp(OTHER, OURS);
    frame[TTL] = 255;
    frame[VRRP + 2..VRRP + 4].copy_from_slice(&port.to_be_bytes());
    seal_header(&mut frame[IP..]);
    frame
}

fn told(name: &'static str, frame: Vec<u8>) -> Row {
    let reason = Reason::HeartbeatElsewhere;
    Row::new(name, Gate::Closed, frame, DROP, reason).tells_elsewhere(OURS, LOOPBACK)
}

#[test]
fn who_sends_by_another_interface_makes_an_event() {
    check(
        ANOTHER,
        &[
            told("advert", advert()),
            told("with options", frames::with_options(advert())),
        ],
    );
    let rows = [
        told("of an instance here", advert_with(UNICAST, |_| {})),
        told("BFD", datagram(bfd::PORT)),
        told("echo", datagram(lease::PORT)),
    ];
    fixture(ANOTHER).check_tagged(&[Tags::None], &rows, guard);
}

#[test]
fn other_packets_make_none() {
    let passes = |name, frame| Row::new(name, Gate::Closed, frame, PASS, Reason::PassOther);
    let mut routed = advert_with(UNICAST, |_| {});
    routed[TTL] = 254;
    seal_header(&mut routed[IP..]);
    let mut fragment = datagram(bfd::PORT);
    fragment[IP + 6] = 0x20;
    seal_header(&mut fragment[IP..]);
    let rows = [
        passes("UDP", udp(OTHER, OURS)),
        passes("BFD over several hops", datagram(bfd::MULTIHOP_PORT)),
        passes("through a router", routed),
        passes("multicast", advert_with(V3, |_| {})),
        passes("a fragment", fragment),
        passes("cut short", datagram(bfd::PORT)[..VRRP + 4].to_vec()),
    ];
    fixture(ANOTHER).check_tagged(&[Tags::None], &rows, guard);
    let rows = [passes("by its own interface", advert())];
    fixture(LOOPBACK).check_tagged(&[Tags::None], &rows, guard);
    let unknown = Row::new(
        "by its own interface",
        Gate::Closed,
        advert(),
        PASS,
        Reason::PassUnknownVrid,
    );
    fixture(LOOPBACK).check_tagged(&[Tags::None], &[unknown], |dataplane, frame| {
        Program::Xdp.run(dataplane, frame)
    });
}

/// Whoever sends what he likes keeps the daemon awake no more than that.
#[test]
fn events_have_a_budget() {
    let mut fixture = fixture(ANOTHER);
    fixture.reset(Gate::Closed);
    let frame = advert();
    let begin = ha_tests::now();
    let mut sent = 0;
    while sent < 50 * LOCAL_EVENT_BUDGET {
        assert_eq!(guard(&mut fixture.dataplane, &frame).code, DROP);
        sent += 1;
    }
    let windows = ha_tests::now().since(begin).0 / ha_common::abi::EVENT_WINDOW_NS + 1;
    let events = fixture.events();
    let count = u64::try_from(events.len()).unwrap();
    assert!(
        (LOCAL_EVENT_BUDGET..=windows * LOCAL_EVENT_BUDGET).contains(&count),
        "{count} events in {windows} windows"
    );
    assert!(
        events
            .iter()
            .all(|event| event.kind == EventKind::Elsewhere as u32)
    );
}

/// A change takes the place of what was, and an address that is no longer told of is anybody's.
#[test]
fn addresses_are_replaced() {
    let mut fixture = fixture(ANOTHER);
    let ask = frames::arp(ethernet::BROADCAST, request(OTHER, OURS));
    let mut code_with = |len: Option<u8>, on| {
        let net = len.map(|len| (Ipv4Net::new(OURS.into(), len).unwrap(), on));
        let dataplane = &mut fixture.dataplane;
        dataplane.set_locals(&net.into_iter().collect()).unwrap();
        guard(dataplane, &ask).code
    };
    assert_eq!(code_with(Some(24), ANOTHER), DROP);
    assert_eq!(code_with(Some(30), ANOTHER), PASS, "not of that network");
    assert_eq!(code_with(Some(16), ANOTHER), DROP);
    assert_eq!(code_with(Some(16), LOOPBACK), PASS);
    assert_eq!(code_with(Some(16), ANOTHER), DROP);
    assert_eq!(code_with(None, ANOTHER), PASS);
    let vip_asked = frames::arp(ethernet::BROADCAST, request(OTHER, vip(V3)));
    assert_eq!(guard(&mut fixture.dataplane, &vip_asked).code, DROP);
}
