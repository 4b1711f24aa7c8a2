//! Two nodes that grant each other leases, and their packets.

use std::net::IpAddr;

use ha_common::{
    Address, MonoNs, Nanos,
    abi::{Event, EventKind, InstanceConfig, Reason},
    lease::{Ask, Promise, Rank, Standing},
    wire::{
        checksum::Sum,
        echo::{self, Entry, HEAD_LEN, Head, Kind, MAX_LEN, Route, Verdict},
        ethernet, ipv4, udp,
    },
};
use ha_core::InstanceId;
use ha_tests::now;
use ha_user::dataplane::{Dataplane, Grantor, Grantors, PathSettings};

use crate::fixture::{LOOPBACK, unpinned};

pub(super) const DROP: u32 = 1;
pub(super) const PASS: u32 = 2;
pub(super) const TX: u32 = 3;

pub(super) const ID: InstanceId = InstanceId(7);
pub(super) const VRID: u8 = 51;
pub(super) const PATH: u32 = 3;
pub(super) const D: Nanos = Nanos::from_millis(200);
pub(super) const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// Where the payload begins.
pub(super) const PAYLOAD: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN;

/// One of two nodes that grant each other leases.
pub(super) struct Node {
    pub(super) dataplane: Dataplane,
    pub(super) address: [u8; 4],
    pub(super) peer: [u8; 4],
    /// Node id; boot id.
    pub(super) ids: (u64, u64),
    pub(super) key: Option<[u64; 2]>,
    pub(super) sequence: u64,
}

impl Node {
    /// Its promise of the start has run out already.
    pub(super) fn new(number: u8, key: Option<[u64; 2]>) -> Self {
        let mut node = Self {
            dataplane: Dataplane::open(&unpinned()).unwrap(),
            address: [192, 168, 0, number],
            peer: [192, 168, 0, 3 - number],
            ids: (u64::from(number), 100 + u64::from(number)),
            key,
            sequence: 0,
        };
        node.configure(MonoNs(1));
        node
    }

    pub(super) fn pair(key: Option<[u64; 2]>) -> (Self, Self) {
        let (mut a, mut b) = (Self::new(1, key), Self::new(2, key));
        // Each learns the other's boot and challenge.
        a.greet(&mut b);
        b.greet(&mut a);
        a.events();
        b.events();
        (a, b)
    }

    pub(super) fn configure(&mut self, now: MonoNs) {
        let config = InstanceConfig {
            ifindex: LOOPBACK,
            leases: 1,
            vrid: VRID,
            version: 3,
            priority: 100,
            unicast: 1,
            source: Address::v4(self.address),
            interval_centis: 100,
            family: 4,
            ..InstanceConfig::default()
        };
        let vip = IpAddr::from([192, 168, 0, 100]);
        self.dataplane
            .set_instance(ID, &config, &[vip], &[self.peer.into()])
            .unwrap();
        self.dataplane.set_path(PATH, &self.path()).unwrap();
        self.dataplane
            .set_grantors(
                ID,
                Some(&grantors(self.peer, self.peer > self.address)),
                now,
            )
            .unwrap();
        self.dataplane.set_lease_rank(ID, rank(100));
    }

    pub(super) fn path(&self) -> PathSettings {
        PathSettings {
            ifindex: LOOPBACK,
            local: self.address.into(),
            peer: self.peer.into(),
            key: self.key,
            node: self.ids.0,
            boot: self.ids.1,
        }
    }

    pub(super) fn head(&mut self, sent: MonoNs) -> Head {
        self.sequence += 1;
        Head {
            kind: Kind::Echo,
            count: 0,
            node: self.ids.0,
            boot: self.ids.1,
            challenge: self.dataplane.path_state(PATH).their_challenge,
            sequence: self.sequence,
            sent,
            lease: D,
        }
    }

    pub(super) fn entry(&self, ask: Ask) -> Entry {
        Entry {
            vrid: VRID,
            family: 4,
            ask,
            verdict: Verdict::None,
            epoch: self.dataplane.epoch(ID),
            rank: rank(100),
        }
    }

    /// An echo that asks, begun at `sent`.
    pub(super) fn echo(&mut self, ask: Ask, sent: MonoNs) -> Vec<u8> {
        let (head, entry) = (self.head(sent), self.entry(ask));
        self.frame(&head, &[entry])
    }

    pub(super) fn frame(&self, head: &Head, entries: &[Entry]) -> Vec<u8> {
        frame(self.address, self.peer, self.key, head, entries)
    }

    /// What the programs make of a frame.
    pub(super) fn run(&mut self, frame: &[u8]) -> (u32, Vec<u8>, Reason) {
        let before = self.dataplane.counters().unwrap();
        let verdict = self.dataplane.run_ingress(frame).unwrap();
        let after = self.dataplane.counters().unwrap();
        let counted = before.iter().zip(&after).find(|(b, a)| b.1 != a.1);
        let (reason, _) = *counted.unwrap().1;
        (verdict.code, verdict.frame, reason)
    }

    pub(super) fn count(&self, reason: Reason) -> u64 {
        let counters = self.dataplane.counters().unwrap();
        let counted = counters.into_iter().find(|(of, _)| *of == reason);
        counted.unwrap().1
    }

    pub(super) fn counted(&mut self, frame: &[u8]) -> Reason {
        self.run(frame).2
    }

    /// The peer takes the echo, this node its answer. The verdict on the first entry.
    pub(super) fn exchange(&mut self, peer: &mut Self, echo: &[u8]) -> Verdict {
        let (code, answer, reason) = peer.run(echo);
        assert_eq!((code, reason), (TX, Reason::EchoAnswered));
        let (code, _, reason) = self.run(&answer);
        assert_eq!((code, reason), (DROP, Reason::EchoAnswer));
        verdict(&answer)
    }

    pub(super) fn ask(&mut self, peer: &mut Self, ask: Ask) -> Verdict {
        let echo = self.echo(ask, now());
        self.exchange(peer, &echo)
    }

    /// Two echoes that ask for nothing: the first one is a stranger's.
    pub(super) fn greet(&mut self, peer: &mut Self) {
        let head = self.head(now());
        let (code, answer, reason) = peer.run(&self.frame(&head, &[]));
        assert_eq!((code, reason), (TX, Reason::EchoStranger));
        assert_eq!(self.counted(&answer), Reason::EchoAnswer);
        let head = self.head(now());
        let echo = self.frame(&head, &[]);
        assert_eq!(peer.counted(&echo), Reason::EchoAnswered);
    }

    /// Acts, as candidate.
    pub(super) fn stand(&mut self) {
        self.dataplane
            .set_epoch(ID, self.dataplane.epoch(ID).raised());
        self.dataplane.act(ID, now()).unwrap();
        self.dataplane.set_candidate_until(ID, MonoNs(u64::MAX));
        self.dataplane.set_standing(ID, Standing::Candidate);
    }

    /// Acts, with its gate open by the peer's grant.
    pub(super) fn hold(&mut self, peer: &mut Self) {
        self.stand();
        assert_eq!(self.ask(peer, Ask::Candidate), Verdict::Granted);
        self.dataplane.set_standing(ID, Standing::Active);
        assert!(self.is_open());
    }

    pub(super) fn is_open(&self) -> bool {
        self.dataplane.gate_open(ID, now())
    }

    pub(super) fn promise(&self) -> Promise {
        self.dataplane.promise(ID, 0)
    }

    pub(super) fn lease(&self) -> MonoNs {
        self.dataplane.views(ID)[0].deadline
    }

    pub(super) fn events(&mut self) -> Vec<(EventKind, Ask)> {
        std::iter::from_fn(|| self.dataplane.next_event())
            .map(|event: Event| {
                assert_eq!(event.instance, ID.0);
                let kind = EventKind::from_u32(event.kind).unwrap();
                (kind, event.ask().ask())
            })
            .collect()
    }
}

pub(super) fn rank(priority: u8) -> Rank {
    Rank {
        position: 0,
        priority,
    }
}

pub(super) fn grantors(peer: [u8; 4], is_greater: bool) -> Grantors {
    Grantors {
        peers: vec![Grantor {
            address: peer.into(),
            is_greater,
            paths: vec![PATH],
        }],
        lease: D,
    }
}

pub(super) fn frame(
    source: [u8; 4],
    destination: [u8; 4],
    key: Option<[u64; 2]>,
    head: &Head,
    entries: &[Entry],
) -> Vec<u8> {
    let route = Route {
        source: Address::v4(source).words(),
        destination: Address::v4(destination).words(),
        key,
    };
    let mut buffer = [0; MAX_LEN];
    let payload = echo::build(head, entries, &route, &mut buffer);
    let len = u16::try_from(udp::HEADER_LEN + payload.len()).unwrap();
    let header = ipv4::Header {
        header_len: 20,
        total_len: 20 + len,
        identification: 0,
        dont_fragment: true,
        fragment: false,
        ttl: 255,
        protocol: udp::PROTOCOL,
        source,
        destination,
    };
    let mut datagram = vec![0x68, 0x41, 0x68, 0x41];
    datagram.extend(len.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let mut frame = ethernet::build([2; 6], [4; 6], ethernet::IPV4).to_vec();
    frame.extend(header.emit());
    frame.extend(datagram);
    seal(&mut frame);
    frame
}

/// Puts the UDP checksum right.
pub(super) fn seal(frame: &mut [u8]) {
    let len = u16::from_be_bytes([frame[38], frame[39]]);
    frame[40..42].fill(0);
    let sum = Sum::ZERO
        .slice(&frame[26..34])
        .half([0, udp::PROTOCOL])
        .half(len.to_be_bytes())
        .slice(&frame[34..34 + usize::from(len)])
        .checksum();
    // Zero is written in its other form (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    frame[40..42].copy_from_slice(&sum.to_be_bytes());
}

pub(super) fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|at| u64::from_ne_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap()))
}

pub(super) fn verdict(answer: &[u8]) -> Verdict {
    Entry::parse(&words(&answer[PAYLOAD + HEAD_LEN..])).verdict
}
