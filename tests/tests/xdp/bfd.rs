//! BFD in the kernel: verdicts, what the daemon hears, silence.

use std::time::Duration;

use ha_common::{
    Address, Nanos,
    abi::{
        EVENT_BUDGET, Reason,
        bfd::{AUTH_BUDGET, Event, EventKind, MAX_SESSIONS, Session},
    },
    wire::{
        bfd::{Control, Diagnostic, MULTIHOP_PORT, PORT, Payload, Sha1, Sha1Section, State},
        ethernet, ipv6,
    },
};
use ha_tests::{eventually, now};
use ha_user::dataplane::{Dataplane, Taken};

use crate::{
    fixture::{Fixture, LOOPBACK, OTHER, OURS, PEER, Tags, unpinned},
    frames::{self, seal_header},
    program::Program,
};

const DROP: u32 = 1;
const PASS: u32 = 2;

/// Over IPv6.
const V6: u32 = 3;
/// A session of the loopback interface.
const PLAIN: u32 = 0;
/// One that is authenticated, with another peer; the last slot.
const KEYED: u32 = MAX_SESSIONS - 1;
/// One over several hops, with a minimum TTL of 200.
const MULTIHOP: u32 = 7;

const KEYED_PEER: [u8; 4] = [192, 168, 0, 4];
const OURS_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const PEER_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];

fn session(slot: u32) -> Session {
    let multihop = slot == MULTIHOP;
    Session {
        ifindex: LOOPBACK,
        discriminator: 1_000 + slot,
        port: if multihop { MULTIHOP_PORT } else { PORT },
        min_ttl: if multihop { 200 } else { 255 },
        authenticated: u8::from(slot == KEYED),
        local: match slot {
            V6 => Address::v6(OURS_V6),
            _ => Address::v4(OURS),
        },
        peer: match slot {
            V6 => Address::v6(PEER_V6),
            KEYED => Address::v4(KEYED_PEER),
            _ => Address::v4(PEER),
        },
        ..Session::default()
    }
}

/// What the peer of a session says while it is Up.
fn up(slot: u32) -> Control {
    Control {
        diagnostic: Diagnostic::NONE,
        state: State::Up,
        poll: false,
        is_final: false,
        independent: false,
        authenticated: false,
        demand: false,
        multiplier: 3,
        my_discriminator: 99,
        your_discriminator: session(slot).discriminator,
        desired_min_tx_us: 3_000,
        required_min_rx_us: 3_000,
        required_min_echo_rx_us: 0,
    }
}

fn keyed() -> Vec<u8> {
    let control = Control {
        authenticated: true,
        ..up(KEYED)
    };
    let section = Sha1Section {
        kind: Sha1::Keyed,
        key_id: 1,
        sequence: 5,
        digest: [7; 20],
    };
    Payload::with_section(&control, &section)
        .as_slice()
        .to_vec()
}

type Change = fn(&mut Control);

/// A datagram; its UDP checksum is as wrong as on a link that leaves it to a card that is not there.
struct Datagram {
    source: [u8; 4],
    destination: [u8; 4],
    port: u16,
    ttl: u8,
    payload: Vec<u8>,
}

fn datagram(control: &Control) -> Datagram {
    Datagram {
        source: PEER,
        destination: OURS,
        port: PORT,
        ttl: 255,
        payload: Payload::plain(control).as_slice().to_vec(),
    }
}

impl Datagram {
    fn frame(&self) -> Vec<u8> {
        let udp_len = u16::try_from(8 + self.payload.len()).unwrap();
        let mut packet = vec![0x45, 0xc0];
        packet.extend((20 + udp_len).to_be_bytes());
        packet.extend([0, 1, 0x40, 0, self.ttl, 17, 0, 0]);
        packet.extend(self.source);
        packet.extend(self.destination);
        seal_header(&mut packet);
        packet.extend(50_000_u16.to_be_bytes());
        packet.extend(self.port.to_be_bytes());
        packet.extend(udp_len.to_be_bytes());
        packet.extend([0xba, 0xd0]);
        packet.extend(&self.payload);
        let mut frame = frames::frame([0x02, 0, 0, 0, 1, 1], ethernet::IPV4, &packet);
        frame.resize(frame.len().max(60), 0);
        frame
    }
}

/// The frame of a packet that [`V6`]'s peer sends.
fn frame_v6(control: &Control, hop_limit: u8) -> Vec<u8> {
    let payload = Payload::plain(control);
    let udp_len = u16::try_from(8 + payload.as_slice().len()).unwrap();
    let header = ipv6::Header {
        flow_label: 0,
        payload_len: udp_len,
        next_header: 17,
        hop_limit,
        source: Address::v6(PEER_V6),
        destination: Address::v6(OURS_V6),
    };
    let mut packet: Vec<u8> = header
        .to_words()
        .into_iter()
        .flat_map(u64::to_ne_bytes)
        .collect();
    packet.extend(50_000_u16.to_be_bytes());
    packet.extend(PORT.to_be_bytes());
    packet.extend(udp_len.to_be_bytes());
    packet.extend([0xba, 0xd0]);
    packet.extend(payload.as_slice());
    frames::frame([0x02, 0, 0, 0, 1, 1], ethernet::IPV6, &packet)
}

/// The frame of a packet that [`PLAIN`]'s peer sends.
fn frame(control: &Control) -> Vec<u8> {
    datagram(control).frame()
}

fn dataplane() -> Dataplane {
    let mut dataplane = Dataplane::open(&unpinned()).unwrap();
    for slot in [PLAIN, KEYED, MULTIHOP, V6] {
        dataplane.set_session(slot, &session(slot)).unwrap();
    }
    dataplane
}

fn events(dataplane: &mut Dataplane) -> Vec<Event> {
    std::iter::from_fn(|| dataplane.next_session_event()).collect()
}

fn packets(dataplane: &mut Dataplane) -> usize {
    events(dataplane).len()
}

#[test]
fn verdicts() {
    let with = |change: fn(&mut Datagram)| {
        let mut datagram = datagram(&up(PLAIN));
        change(&mut datagram);
        datagram.frame()
    };
    let unknown_yet = Control {
        state: State::Down,
        your_discriminator: 0,
        ..up(PLAIN)
    };
    let rows: Vec<(&str, Vec<u8>, u32, Reason)> = vec![
        (
            "by discriminator",
            frame(&up(PLAIN)),
            DROP,
            Reason::BfdTaken,
        ),
        ("by sender", frame(&unknown_yet), DROP, Reason::BfdTaken),
        (
            "tag",
            frames::tagged(frame(&up(PLAIN))),
            PASS,
            Reason::PassVlan,
        ),
        ("TTL 254", with(|one| one.ttl = 254), DROP, Reason::BfdTtl),
        (
            "version 0",
            with(|one| one.payload[0] = 0),
            DROP,
            Reason::BfdVersion,
        ),
        (
            "too long",
            with(|one| one.payload[3] = 25),
            DROP,
            Reason::BfdLength,
        ),
        (
            "mult 0",
            with(|one| one.payload[2] = 0),
            DROP,
            Reason::BfdMultiplier,
        ),
        (
            "multipoint",
            with(|one| one.payload[1] |= 1),
            DROP,
            Reason::BfdMultipoint,
        ),
        (
            "no discriminator",
            with(|one| one.payload[4..8].fill(0)),
            DROP,
            Reason::BfdDiscriminator,
        ),
        (
            "Up without ours",
            with(|one| one.payload[8..12].fill(0)),
            DROP,
            Reason::BfdDiscriminator,
        ),
        (
            "another's",
            with(|one| one.payload[8..12].fill(9)),
            DROP,
            Reason::BfdUnknownDiscriminator,
        ),
        (
            "from elsewhere",
            with(|one| one.source = OTHER),
            DROP,
            Reason::BfdSource,
        ),
        (
            "to elsewhere",
            with(|one| one.destination = OTHER),
            DROP,
            Reason::BfdSource,
        ),
        (
            "to the other port",
            with(|one| one.port = MULTIHOP_PORT),
            DROP,
            Reason::BfdSource,
        ),
        (
            "nobody's",
            with(|one| {
                one.source = OTHER;
                one.payload[8..12].fill(9);
            }),
            PASS,
            Reason::PassBfdUnknown,
        ),
        (
            "echo port",
            with(|one| one.port = 3785),
            PASS,
            Reason::PassOther,
        ),
        (
            "a tagged packet without a key",
            with(|one| one.payload = keyed()),
            DROP,
            Reason::BfdSource,
        ),
        (
            "authenticated",
            Datagram {
                source: KEYED_PEER,
                payload: keyed(),
                ..datagram(&up(KEYED))
            }
            .frame(),
            PASS,
            Reason::PassBfdAuth,
        ),
        (
            "not authenticated",
            Datagram {
                source: KEYED_PEER,
                ..datagram(&up(KEYED))
            }
            .frame(),
            DROP,
            Reason::BfdAuth,
        ),
        (
            "authenticated without need",
            with(|one| {
                one.payload = keyed();
                one.payload[8..12].copy_from_slice(&1_000_u32.to_be_bytes());
            }),
            DROP,
            Reason::BfdAuth,
        ),
        (
            "multihop",
            Datagram {
                port: MULTIHOP_PORT,
                ttl: 200,
                ..datagram(&up(MULTIHOP))
            }
            .frame(),
            DROP,
            Reason::BfdTaken,
        ),
        ("IPv6", frame_v6(&up(V6), 255), DROP, Reason::BfdTaken),
        (
            "IPv6 by sender",
            frame_v6(
                &Control {
                    state: State::Down,
                    your_discriminator: 0,
                    ..up(V6)
                },
                255,
            ),
            DROP,
            Reason::BfdTaken,
        ),
        (
            "IPv6, hop limit 254",
            frame_v6(&up(V6), 254),
            DROP,
            Reason::BfdTtl,
        ),
        (
            "another family's discriminator",
            frame_v6(&up(PLAIN), 255),
            DROP,
            Reason::BfdSource,
        ),
        (
            "too many hops",
            Datagram {
                port: MULTIHOP_PORT,
                ttl: 199,
                ..datagram(&up(MULTIHOP))
            }
            .frame(),
            DROP,
            Reason::BfdTtl,
        ),
    ];
    let mut failures = Vec::new();
    let mut dataplane = dataplane();
    let counts = |dataplane: &Dataplane| dataplane.counters().unwrap();
    for program in Program::ALL {
        for tags in [Tags::None, Tags::Priority] {
            for (name, frame, code, reason) in &rows {
                let before = counts(&dataplane);
                let verdict = program.run(&mut dataplane, &tags.put(frame));
                let counted: Vec<_> = counts(&dataplane)
                    .into_iter()
                    .zip(before)
                    .map(|((reason, after), (_, before))| (reason, after - before))
                    .filter(|(_, count)| *count > 0)
                    .collect();
                let taken = packets(&mut dataplane);
                if verdict.code != *code
                    || counted != [(*reason, 1)]
                    || taken != usize::from(*reason == Reason::BfdTaken)
                {
                    failures.push(format!(
                        "{name}, {program:?}, {tags:?}: {} {counted:?}, {taken} events",
                        verdict.code
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn fragments_are_the_kernel_s() {
    let mut fixture = Fixture::new();
    fixture
        .dataplane
        .set_session(PLAIN, &session(PLAIN))
        .unwrap();
    for flags in [[0x20, 0x00], [0x00, 0x03]] {
        let mut fragment = frame(&up(PLAIN));
        fragment[20..22].copy_from_slice(&flags);
        seal_header(&mut fragment[14..34]);
        assert_eq!(fixture.dataplane.run_ingress(&fragment).unwrap().code, PASS);
    }
}

#[test]
fn repetitions_are_silent_while_the_session_is_watched() {
    let mut dataplane = dataplane();
    let hears = |dataplane: &mut Dataplane, control: &Control| {
        assert_eq!(dataplane.run_ingress(&frame(control)).unwrap().code, DROP);
        packets(dataplane)
    };
    for _ in 0..3 {
        assert_eq!(hears(&mut dataplane, &up(PLAIN)), 1, "not watched");
    }
    dataplane.watch_session(PLAIN, 60_000_000_000).unwrap();
    for _ in 0..20 {
        assert_eq!(hears(&mut dataplane, &up(PLAIN)), 0);
    }
    let changes: [(&str, Change); 8] = [
        ("state", |one| one.state = State::Down),
        ("diagnostic", |one| one.diagnostic = Diagnostic::EXPIRED),
        ("multiplier", |one| one.multiplier = 4),
        ("discriminator", |one| one.my_discriminator = 98),
        ("transmit interval", |one| one.desired_min_tx_us += 1),
        ("receive interval", |one| one.required_min_rx_us += 1),
        ("echo interval", |one| one.required_min_echo_rx_us += 1),
        ("demand", |one| one.demand = true),
    ];
    for (name, change) in changes {
        let mut control = up(PLAIN);
        change(&mut control);
        assert_eq!(hears(&mut dataplane, &control), 1, "{name}");
        assert_eq!(hears(&mut dataplane, &control), 0, "{name} again");
        assert_eq!(hears(&mut dataplane, &up(PLAIN)), 1, "and back");
    }
    let poll = Control {
        poll: true,
        ..up(PLAIN)
    };
    let answer = Control {
        is_final: true,
        ..up(PLAIN)
    };
    for control in [poll, answer] {
        for _ in 0..3 {
            assert_eq!(hears(&mut dataplane, &control), 1, "each poll and answer");
        }
    }
}

#[test]
fn the_packet_and_its_stamp_are_handed_over() {
    let mut dataplane = dataplane();
    let before = now();
    dataplane.run_ingress(&frame(&up(PLAIN))).unwrap();
    let after = now();
    let event = events(&mut dataplane)[0];
    assert_eq!(EventKind::from_u32(event.kind), Some(EventKind::Packet));
    assert_eq!(event.session, PLAIN);
    assert!(before.0 < event.stamp_ns && event.stamp_ns < after.0);
    let taken = Taken::new(event.packet, event.stamp());
    assert_eq!(taken.payload, Payload::plain(&up(PLAIN)));
    let received = dataplane.session_received(PLAIN);
    assert_eq!(
        (received.last_ns, received.packet),
        (event.stamp_ns, event.packet)
    );
    assert_eq!(received.packets, 1);
    // A new session in the slot has heard nothing, and the old discriminator is nobody's.
    let other = Session {
        discriminator: 4_711,
        ..session(PLAIN)
    };
    dataplane.set_session(PLAIN, &other).unwrap();
    assert_eq!(dataplane.session_received(PLAIN).packets, 0);
    dataplane.run_ingress(&frame(&up(PLAIN))).unwrap();
    assert_eq!(packets(&mut dataplane), 0);
    dataplane.clear_session(PLAIN).unwrap();
    assert_eq!(
        dataplane.run_ingress(&frame(&up(PLAIN))).unwrap().code,
        PASS
    );
    assert!(dataplane.set_session(MAX_SESSIONS, &other).is_err());
}

#[test]
fn no_peer_reports_more_than_the_budget() {
    let mut dataplane = dataplane();
    let flood = 4 * EVENT_BUDGET;
    let start = now();
    for index in 0..flood {
        let control = Control {
            poll: true,
            desired_min_tx_us: u32::try_from(index).unwrap(),
            ..up(PLAIN)
        };
        dataplane.run_ingress(&frame(&control)).unwrap();
    }
    let windows = now().since(start).0 / ha_common::abi::EVENT_WINDOW_NS + 2;
    let reported = packets(&mut dataplane);
    assert!(reported as u64 <= windows * EVENT_BUDGET, "{reported}");
    // The daemon finds in the map what it was not told.
    let received = dataplane.session_received(PLAIN);
    assert_eq!(received.packets, flood);
}

#[test]
fn a_flood_of_authenticated_packets_does_not_reach_the_daemon() {
    let mut dataplane = dataplane();
    let frame = Datagram {
        source: KEYED_PEER,
        payload: keyed(),
        ..datagram(&up(KEYED))
    }
    .frame();
    let flood = 8 * AUTH_BUDGET;
    let start = now();
    let passed = (0..flood)
        .filter(|_| dataplane.run_ingress(&frame).unwrap().code == PASS)
        .count() as u64;
    let windows = now().since(start).0 / ha_common::abi::EVENT_WINDOW_NS + 2;
    assert!(
        (AUTH_BUDGET..=windows * AUTH_BUDGET).contains(&passed),
        "{passed}"
    );
    let dropped = dataplane.counters().unwrap();
    let dropped = dropped
        .iter()
        .find(|(reason, _)| *reason == Reason::BfdAuthBudget);
    assert_eq!(dropped.unwrap().1, flood - passed);
}

#[test]
fn silence_is_reported_once_by_the_kernel() {
    const DOWN: Nanos = Nanos::from_millis(9);
    let mut dataplane = dataplane();
    assert!(dataplane.has_watch());
    dataplane.watch_session(PLAIN, DOWN.0).unwrap();
    for _ in 0..2 {
        dataplane.run_ingress(&frame(&up(PLAIN))).unwrap();
        let mut heard = events(&mut dataplane);
        eventually(Duration::from_secs(5), "silence", || {
            heard.extend(events(&mut dataplane));
            Ok(heard
                .iter()
                .any(|event| event.kind == EventKind::Silence as u32))
        })
        .unwrap();
        let silence = heard.last().unwrap();
        let last = dataplane.session_received(PLAIN).last_ns;
        assert_eq!((silence.session, silence.stamp_ns), (PLAIN, last));
        assert!(silence.made_ns - last >= DOWN.0);
        // No wait: the time in which a timer that was armed again would have reported three more times.
        std::thread::sleep(Duration::from_nanos(DOWN.times(3).0));
        assert_eq!(packets(&mut dataplane), 0, "once");
    }
}
