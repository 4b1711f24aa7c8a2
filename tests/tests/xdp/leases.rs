//! Leases between two kernels: what one node's programs make of the other's echoes.

use std::{net::IpAddr, time::Duration};

use ha_common::{
    Address, MonoNs, Nanos,
    abi::{EVENT_BUDGET, Event, EventKind, InstanceConfig, Reason},
    gate::Lease,
    lease::{Ask, Promise, Rank, Standing, margin},
    wire::{
        checksum::Sum,
        echo::{self, Entry, HEAD_LEN, Head, Kind, MAX_ENTRIES, MAX_LEN, Route, Verdict},
        ethernet, ipv4, udp,
    },
};
use ha_core::InstanceId;
use ha_tests::{eventually, now, wait::throughout};
use ha_user::dataplane::{Dataplane, Grantor, Grantors, PathSettings};

use crate::fixture::{LOOPBACK, unpinned};

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

const ID: InstanceId = InstanceId(7);
const VRID: u8 = 51;
const PATH: u32 = 3;
const D: Nanos = Nanos::from_millis(200);
const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// Where the payload begins.
const PAYLOAD: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + udp::HEADER_LEN;

/// One of two nodes that grant each other leases.
struct Node {
    dataplane: Dataplane,
    address: [u8; 4],
    peer: [u8; 4],
    /// Node id; boot id.
    ids: (u64, u64),
    key: Option<[u64; 2]>,
    sequence: u64,
}

impl Node {
    /// Its promise of the start has run out already.
    fn new(number: u8, key: Option<[u64; 2]>) -> Self {
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

    fn pair(key: Option<[u64; 2]>) -> (Self, Self) {
        let (mut a, mut b) = (Self::new(1, key), Self::new(2, key));
        // Each learns the other's boot and challenge.
        a.greet(&mut b);
        b.greet(&mut a);
        a.events();
        b.events();
        (a, b)
    }

    fn configure(&mut self, now: MonoNs) {
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

    fn path(&self) -> PathSettings {
        PathSettings {
            ifindex: LOOPBACK,
            local: self.address.into(),
            peer: self.peer.into(),
            key: self.key,
            node: self.ids.0,
            boot: self.ids.1,
        }
    }

    fn head(&mut self, sent: MonoNs) -> Head {
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

    fn entry(&self, ask: Ask) -> Entry {
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
    fn echo(&mut self, ask: Ask, sent: MonoNs) -> Vec<u8> {
        let (head, entry) = (self.head(sent), self.entry(ask));
        self.frame(&head, &[entry])
    }

    fn frame(&self, head: &Head, entries: &[Entry]) -> Vec<u8> {
        frame(self.address, self.peer, self.key, head, entries)
    }

    /// What the programs make of a frame.
    fn run(&mut self, frame: &[u8]) -> (u32, Vec<u8>, Reason) {
        let before = self.dataplane.counters().unwrap();
        let verdict = self.dataplane.run_ingress(frame).unwrap();
        let after = self.dataplane.counters().unwrap();
        let counted = before.iter().zip(&after).find(|(b, a)| b.1 != a.1);
        let (reason, _) = *counted.unwrap().1;
        (verdict.code, verdict.frame, reason)
    }

    fn count(&self, reason: Reason) -> u64 {
        let counters = self.dataplane.counters().unwrap();
        let counted = counters.into_iter().find(|(of, _)| *of == reason);
        counted.unwrap().1
    }

    fn counted(&mut self, frame: &[u8]) -> Reason {
        self.run(frame).2
    }

    /// The peer takes the echo, this node its answer. The verdict on the first entry.
    fn exchange(&mut self, peer: &mut Self, echo: &[u8]) -> Verdict {
        let (code, answer, reason) = peer.run(echo);
        assert_eq!((code, reason), (TX, Reason::EchoAnswered));
        let (code, _, reason) = self.run(&answer);
        assert_eq!((code, reason), (DROP, Reason::EchoAnswer));
        verdict(&answer)
    }

    fn ask(&mut self, peer: &mut Self, ask: Ask) -> Verdict {
        let echo = self.echo(ask, now());
        self.exchange(peer, &echo)
    }

    /// Two echoes that ask for nothing: the first one is a stranger's.
    fn greet(&mut self, peer: &mut Self) {
        let head = self.head(now());
        let (code, answer, reason) = peer.run(&self.frame(&head, &[]));
        assert_eq!((code, reason), (TX, Reason::EchoStranger));
        assert_eq!(self.counted(&answer), Reason::EchoAnswer);
        let head = self.head(now());
        let echo = self.frame(&head, &[]);
        assert_eq!(peer.counted(&echo), Reason::EchoAnswered);
    }

    /// Acts, as candidate.
    fn stand(&mut self) {
        self.dataplane
            .set_epoch(ID, self.dataplane.epoch(ID).raised());
        self.dataplane.act(ID, now()).unwrap();
        self.dataplane.set_candidate_until(ID, MonoNs(u64::MAX));
        self.dataplane.set_standing(ID, Standing::Candidate);
    }

    /// Acts, with its gate open by the peer's grant.
    fn hold(&mut self, peer: &mut Self) {
        self.stand();
        assert_eq!(self.ask(peer, Ask::Candidate), Verdict::Granted);
        self.dataplane.set_standing(ID, Standing::Active);
        assert!(self.is_open());
    }

    fn is_open(&self) -> bool {
        self.dataplane.gate_open(ID, now())
    }

    fn promise(&self) -> Promise {
        self.dataplane.promise(ID, 0)
    }

    fn lease(&self) -> MonoNs {
        self.dataplane.views(ID)[0].deadline
    }

    fn events(&mut self) -> Vec<(EventKind, Ask)> {
        std::iter::from_fn(|| self.dataplane.next_event())
            .map(|event: Event| {
                assert_eq!(event.instance, ID.0);
                let kind = EventKind::from_u32(event.kind).unwrap();
                (kind, event.ask().ask())
            })
            .collect()
    }
}

fn rank(priority: u8) -> Rank {
    Rank {
        position: 0,
        priority,
    }
}

fn grantors(peer: [u8; 4], is_greater: bool) -> Grantors {
    Grantors {
        peers: vec![Grantor {
            address: peer.into(),
            is_greater,
            paths: vec![PATH],
        }],
        lease: D,
    }
}

fn frame(
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
fn seal(frame: &mut [u8]) {
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

fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|at| u64::from_ne_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap()))
}

fn verdict(answer: &[u8]) -> Verdict {
    Entry::parse(&words(&answer[PAYLOAD + HEAD_LEN..])).verdict
}

#[test]
fn a_grant_opens_the_gate_from_the_echos_send_time() {
    for key in [None, Some(KEY)] {
        let (mut a, mut b) = Node::pair(key);
        a.stand();
        let sent = now();
        let echo = a.echo(Ask::Candidate, sent);
        let (code, answer, _) = b.run(&echo);
        assert_eq!(code, TX);
        // The whole answer is what a had would build.
        let asked = Head::parse(&words(&echo[PAYLOAD..])).unwrap();
        let head = Head {
            kind: Kind::Answer,
            node: b.ids.0,
            ..asked
        };
        let granted = Entry {
            verdict: Verdict::Granted,
            ..a.entry(Ask::Candidate)
        };
        let mut expected = frame(b.address, a.address, key, &head, &[granted]);
        expected[..12].copy_from_slice(&[4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2]);
        assert_eq!(answer, expected);

        assert_eq!(a.counted(&answer), Reason::EchoAnswer);
        let lease = Lease::new(a.dataplane.epoch(ID), sent.after(D));
        assert_eq!(a.lease(), lease.deadline());
        assert!(!a.is_open(), "a candidate's gate is closed");
        a.dataplane.set_standing(ID, Standing::Active);
        assert!(a.is_open());
        let promise = b.promise();
        assert!(!promise.is_acting());
        assert!(promise.ends() >= sent.after(D).after(margin(D)));
        assert!(promise.ends() <= now().after(D).after(margin(D)));
        assert_eq!(b.dataplane.act(ID, now()), Err(promise.ends()));
        assert_eq!(
            b.events(),
            [(EventKind::Asked, Ask::Candidate)],
            "key {key:?}"
        );
        assert_eq!(a.ask(&mut b, Ask::Candidate), Verdict::Granted);
        // The second grant only makes the lease longer: it is no news.
        assert_eq!(a.events(), [(EventKind::Answered, Ask::Candidate)]);
    }
}

#[test]
fn what_is_wrong_is_dropped_with_its_reason() {
    let (mut a, mut b) = Node::pair(None);
    a.stand();
    let promised = b.promise();
    let echo = a.echo(Ask::Candidate, now());
    let with = |at: usize, value: u8, sealed: bool| {
        let mut frame = echo.clone();
        frame[at] = value;
        if sealed {
            seal(&mut frame);
        }
        frame
    };
    let mut options = echo.clone();
    options[14] = 0x46;
    options[17] += 4;
    options.splice(34..34, [0; 4]);
    let mut own = echo.clone();
    own[PAYLOAD + 16..PAYLOAD + 24].copy_from_slice(&b.ids.0.to_be_bytes());
    seal(&mut own);
    for (name, frame, code, reason) in [
        ("TTL 254", with(22, 254, false), DROP, Reason::EchoTtl),
        (
            "another sender",
            with(29, 77, true),
            PASS,
            Reason::PassEchoUnknown,
        ),
        (
            "another destination",
            with(33, 77, true),
            PASS,
            Reason::PassEchoUnknown,
        ),
        (
            "another source port",
            with(34, 0, true),
            DROP,
            Reason::EchoFormat,
        ),
        (
            "another version",
            with(PAYLOAD + 2, 2, true),
            DROP,
            Reason::EchoFormat,
        ),
        (
            "more entries than bytes",
            with(PAYLOAD + 4, 2, true),
            DROP,
            Reason::EchoFormat,
        ),
        (
            "a flipped bit",
            with(PAYLOAD + 50, 1, false),
            DROP,
            Reason::EchoChecksum,
        ),
        (
            "a tag without a key",
            with(PAYLOAD + 8, 1, true),
            DROP,
            Reason::EchoTag,
        ),
        (
            "cut short",
            echo[..PAYLOAD + 70].to_vec(),
            DROP,
            Reason::EchoFormat,
        ),
        ("sent by this node", own, DROP, Reason::EchoOwn),
        ("IPv4 options", options, DROP, Reason::EchoFormat),
    ] {
        let (verdict, out, counted) = b.run(&frame);
        assert_eq!((verdict, counted), (code, reason), "{name}");
        assert_eq!(out, frame, "{name}");
    }
    let mut unsummed = echo.clone();
    unsummed[40..42].fill(0);
    assert_eq!(b.counted(&unsummed), Reason::EchoChecksum);
    assert_eq!(b.promise(), promised);
    assert_eq!(a.exchange(&mut b, &echo), Verdict::Granted);
}

#[test]
fn a_key_is_needed_where_there_is_one() {
    let (mut a, mut b) = Node::pair(Some(KEY));
    a.stand();
    let promised = b.promise();
    let (head, entry) = (a.head(now()), a.entry(Ask::Candidate));
    for key in [None, Some([KEY[0], KEY[1] ^ 1])] {
        let forged = frame(a.address, b.address, key, &head, &[entry]);
        assert_eq!(b.counted(&forged), Reason::EchoTag);
    }
    assert_eq!(b.dataplane.path_state(PATH).bad_tags, 2);
    assert_eq!(b.promise(), promised);
    let echo = a.frame(&head, &[entry; MAX_ENTRIES]);
    assert_eq!(a.exchange(&mut b, &echo), Verdict::Granted);

    // An answer is as little to be forged.
    let head = Head {
        kind: Kind::Answer,
        node: b.ids.0,
        ..a.head(now())
    };
    let lease = a.lease();
    let granted = Entry {
        verdict: Verdict::Granted,
        ..entry
    };
    let forged = frame(b.address, a.address, None, &head, &[granted]);
    assert_eq!(a.counted(&forged), Reason::EchoTag);
    assert_eq!(a.lease(), lease);
}

#[test]
fn an_echo_is_taken_once() {
    let (mut a, mut b) = Node::pair(Some(KEY));
    a.stand();
    let echo = a.echo(Ask::Candidate, now());
    assert_eq!(a.exchange(&mut b, &echo), Verdict::Granted);
    let promised = b.promise();
    assert_eq!(b.counted(&echo), Reason::EchoOld);
    let sent = Head::parse(&words(&echo[PAYLOAD..])).unwrap().sent;
    let older = a.echo(Ask::Candidate, sent.before(Nanos(D.0 / 2)));
    assert_eq!(b.counted(&older), Reason::EchoOld);
    let older = a.echo(Ask::Candidate, sent.before(Nanos(D.0 * 2)));
    assert_eq!(b.counted(&older), Reason::EchoStranger);
    assert_eq!(b.promise(), promised);

    // After a reboot the clock begins anew. What was recorded before is a stranger's.
    a.ids.1 += 1;
    a.configure(now());
    let (code, answer, reason) = b.run(&a.echo(Ask::Hold, MonoNs(5_000)));
    assert_eq!((code, reason), (TX, Reason::EchoStranger));
    assert_eq!(verdict(&answer), Verdict::None);
    assert_eq!(b.promise(), promised);
    assert_eq!(a.counted(&answer), Reason::EchoAnswer);
    let echo = a.echo(Ask::Hold, MonoNs(6_000));
    assert_eq!(a.exchange(&mut b, &echo), Verdict::Granted);
    let promised = b.promise();

    a.ids.1 -= 1;
    let recorded = a.echo(Ask::Hold, now());
    assert_eq!(
        b.counted(&recorded),
        Reason::EchoStranger,
        "of the boot before"
    );
    assert_eq!(b.promise(), promised);
}

#[test]
fn an_echo_that_carried_a_challenge_in_vain_is_no_stranger_s_later() {
    let (mut a, mut b) = Node::pair(Some(KEY));
    a.stand();
    let recorded = a.echo(Ask::Candidate, now().before(Nanos(D.0 * 3)));
    let granted = a.echo(Ask::Candidate, now());
    assert_eq!(a.exchange(&mut b, &granted), Verdict::Granted);
    // Whoever recorded an echo and sends it again gets the peer to carry the present challenge.
    let (code, answer, reason) = b.run(&recorded);
    assert_eq!((code, reason), (TX, Reason::EchoStranger));
    assert_eq!(a.counted(&answer), Reason::EchoAnswer);
    let challenge = a.dataplane.path_state(PATH).their_challenge;
    assert_eq!(b.dataplane.path_state(PATH).challenge, challenge);

    // The next echo carries it, but would have been taken without.
    let sent = now();
    let carries = a.echo(Ask::Candidate, sent);
    assert_eq!(a.exchange(&mut b, &carries), Verdict::Granted);
    let later = a.echo(Ask::Candidate, sent.after(D).after(D));
    let (_, answer, reason) = b.run(&later);
    assert_eq!(reason, Reason::EchoAnswered);
    assert_eq!(verdict(&answer), Verdict::Granted);
    // Now they are older than a lease, all of them.
    let promised = b.promise();
    for echo in [&recorded, &granted, &carries] {
        assert_eq!(b.counted(echo), Reason::EchoStranger);
    }
    assert_eq!(b.promise(), promised);
    assert_eq!(
        b.dataplane.path_state(PATH).last_sent,
        sent.after(D).after(D).0
    );
}

#[test]
fn only_the_open_epoch_is_extended() {
    let (mut a, mut b) = Node::pair(None);
    a.hold(&mut b);
    let (_, answer, _) = b.run(&a.echo(Ask::Hold, now()));
    a.dataplane.set_epoch(ID, a.dataplane.epoch(ID).raised());
    assert_eq!(a.counted(&answer), Reason::EchoAnswer);
    assert!(!a.is_open(), "closed for good");
    assert_eq!(a.lease(), MonoNs::ZERO);

    // Nor by an answer to another boot, or to what was not sent yet.
    for (boot, sent) in [
        (a.ids.1 + 1, now()),
        (a.ids.1, now().after(Nanos::from_secs(9))),
    ] {
        let head = Head {
            kind: Kind::Answer,
            node: b.ids.0,
            boot,
            ..a.head(sent)
        };
        let granted = Entry {
            verdict: Verdict::Granted,
            ..a.entry(Ask::Hold)
        };
        let forged = frame(b.address, a.address, None, &head, &[granted]);
        assert_eq!(a.counted(&forged), Reason::EchoForeign);
    }
    assert_eq!(a.lease(), MonoNs::ZERO);
}

#[test]
fn the_longest_round_trip_is_one_shorter_than_a_lease() {
    let (mut a, b) = Node::pair(None);
    let longest = |a: &mut Node, age: Nanos| {
        let head = Head {
            kind: Kind::Answer,
            node: b.ids.0,
            ..a.head(now().before(age))
        };
        let answer = frame(b.address, a.address, None, &head, &[]);
        assert_eq!(a.counted(&answer), Reason::EchoAnswer);
        a.dataplane.path_heard(PATH).1
    };
    assert_eq!(longest(&mut a, D), None, "it waited somewhere");
    let half = Nanos(D.0 / 2);
    let measured = longest(&mut a, half);
    assert!(measured >= Some(half), "{measured:?}");
    assert_eq!(longest(&mut a, Nanos(D.0 / 4)), measured, "of late");
    eventually(Duration::from_secs(20), "none is known any more", || {
        Ok(longest(&mut a, D).is_none())
    })
    .unwrap();
}

#[test]
fn who_acts_refuses_and_who_goes_first_is_granted() {
    // The holder's gate is open: whoever asks is refused.
    let (mut a, mut b) = Node::pair(None);
    a.hold(&mut b);
    for ask in [Ask::Candidate, Ask::Hold] {
        assert_eq!(b.ask(&mut a, ask), Verdict::Refused);
    }
    assert!(a.promise().is_acting() && a.is_open());

    // Two candidates: at equal rank the greater address.
    let (mut a, mut b) = Node::pair(None);
    a.stand();
    b.stand();
    assert_eq!(a.ask(&mut b, Ask::Candidate), Verdict::Refused);
    assert_eq!(b.ask(&mut a, Ask::Candidate), Verdict::Granted);
    assert_eq!(a.dataplane.standing(ID), Standing::Bystander);
    assert_eq!(a.dataplane.superseded(ID), a.dataplane.epoch(ID));
    assert!(!a.promise().is_acting() && b.promise().is_acting());
    assert!(a.events().contains(&(EventKind::Yielded, Ask::Candidate)));

    // A higher priority beats the address.
    let (mut a, mut b) = Node::pair(None);
    a.stand();
    b.stand();
    a.dataplane.set_lease_rank(ID, rank(101));
    assert_eq!(b.ask(&mut a, Ask::Candidate), Verdict::Refused);

    // One whose leases ran out gives way to anybody.
    let (mut a, mut b) = Node::pair(None);
    a.stand();
    a.dataplane.set_standing(ID, Standing::Active);
    assert_eq!(b.ask(&mut a, Ask::Candidate), Verdict::Granted);
    assert!(!a.promise().is_acting());
}

#[test]
fn alone_until_somebody_is_heard() {
    let (mut a, mut b) = Node::pair(None);
    a.stand();
    a.dataplane.set_standing(ID, Standing::Active);
    let heard_at = a.dataplane.views(ID)[0].heard_at;
    assert!(heard_at > MonoNs::ZERO);
    let lease = Lease::new(a.dataplane.epoch(ID), now().after(Nanos::from_secs(9)));
    let earlier = heard_at.before(Nanos(1));
    assert!(
        !a.dataplane.renew_alone(ID, 0, lease, earlier),
        "it was heard"
    );
    assert!(!a.is_open());
    assert!(a.dataplane.renew_alone(ID, 0, lease, heard_at));
    assert!(a.is_open() && a.dataplane.views(ID)[0].self_renewed);
    assert!(
        !a.dataplane.renew_alone(ID, 0, lease, heard_at),
        "it is as long"
    );

    // A candidate has heard of nobody: who went on alone gives way.
    assert_eq!(b.ask(&mut a, Ask::Candidate), Verdict::Granted);
    assert!(!a.is_open());
    let lease = Lease::new(a.dataplane.epoch(ID), now().after(Nanos::from_secs(99)));
    let heard_at = a.dataplane.views(ID)[0].heard_at;
    a.dataplane.renew_alone(ID, 0, lease, heard_at);
    assert!(!a.is_open(), "its epoch is superseded");
}

#[test]
fn a_release_voids_what_was_promised_before_it() {
    let (mut a, mut b) = Node::pair(None);
    a.hold(&mut b);
    let released = now();
    let later = a.echo(Ask::Hold, now());
    let mut release = a.echo(Ask::Release, released);
    // On the same path they would come in order: the release is as one that came on another path.
    assert_eq!(a.exchange(&mut b, &later), Verdict::Granted);
    let promised = b.promise();
    assert_eq!(b.counted(&release), Reason::EchoOld);
    assert_eq!(b.promise(), promised, "it holds on by a later request");

    b.events();
    release = a.echo(Ask::Release, now());
    assert_eq!(a.exchange(&mut b, &release), Verdict::None);
    assert!(b.promise().ends() <= now());
    assert_eq!(b.events(), [(EventKind::Released, Ask::Release)]);
    assert_eq!(b.dataplane.act(ID, now()), Ok(()));
}

#[test]
fn a_forged_send_time_blocks_nobody() {
    let (mut a, mut b) = Node::pair(None);
    a.hold(&mut b);
    let promised = b.promise();
    // Anybody on the link can send these.
    for ask in [Ask::Hold, Ask::Release] {
        let forged = a.echo(ask, MonoNs(u64::MAX));
        assert_eq!(b.counted(&forged), Reason::EchoStranger);
    }
    assert_eq!(b.promise(), promised);
    assert_eq!(a.ask(&mut b, Ask::Hold), Verdict::Granted);

    // One that is taken, since it is not so far ahead, is found out by the next echo.
    let ahead = a.echo(Ask::Hold, now().after(Nanos(D.0 * 2)));
    assert_eq!(b.counted(&ahead), Reason::EchoAnswered);
    let echo = a.echo(Ask::Hold, now());
    let (_, answer, reason) = b.run(&echo);
    assert_eq!(reason, Reason::EchoStranger);
    assert_eq!(a.counted(&answer), Reason::EchoAnswer);
    assert_eq!(a.ask(&mut b, Ask::Hold), Verdict::Granted);
    assert_eq!(b.counted(&echo), Reason::EchoOld);
}

#[test]
fn what_a_slower_path_brings_after_a_release_undoes_nothing() {
    const SLOW: u32 = 4;
    let (mut a, mut b) = Node::pair(None);
    let (near, far) = ([192, 168, 1, 1], [192, 168, 1, 2]);
    let path = PathSettings {
        ifindex: LOOPBACK,
        local: far.into(),
        peer: near.into(),
        key: None,
        node: b.ids.0,
        boot: b.ids.1,
    };
    b.dataplane.set_path(SLOW, &path).unwrap();
    let mut both = grantors(b.peer, false);
    both.peers[0].paths.push(SLOW);
    b.dataplane.set_grantors(ID, Some(&both), now()).unwrap();
    let mut head = a.head(now());
    let (_, answer, reason) = b.run(&frame(near, far, None, &head, &[]));
    assert_eq!(reason, Reason::EchoStranger);
    head.challenge = Head::parse(&words(&answer[PAYLOAD..])).unwrap().challenge;
    head.sent = now();
    let hello = frame(near, far, None, &head, &[]);
    assert_eq!(b.counted(&hello), Reason::EchoAnswered);

    a.hold(&mut b);
    assert_eq!(a.ask(&mut b, Ask::Hold), Verdict::Granted);
    b.events();
    let asked_at = b.dataplane.views(ID)[0].asked_at;
    head.sent = now();
    let slower = frame(near, far, None, &head, &[a.entry(Ask::Hold)]);
    assert_eq!(a.ask(&mut b, Ask::Release), Verdict::None);
    let (_, answer, _) = b.run(&slower);
    assert_eq!(verdict(&answer), Verdict::Refused);
    assert!(b.promise().ends() <= now());
    assert_eq!(b.events(), [(EventKind::Released, Ask::Release)]);
    assert_eq!(b.dataplane.views(ID)[0].asked_at, asked_at);
}

#[test]
fn that_this_node_gave_way_is_told_whatever_was_told_before() {
    let (mut a, mut b) = Node::pair(None);
    for _ in 0..EVENT_BUDGET {
        assert_eq!(a.ask(&mut b, Ask::Hold), Verdict::Granted);
        assert_eq!(a.ask(&mut b, Ask::Candidate), Verdict::Granted);
    }
    b.events();
    assert_eq!(a.ask(&mut b, Ask::Release), Verdict::None);
    b.stand();
    assert_eq!(a.ask(&mut b, Ask::Hold), Verdict::Granted);
    assert!(b.events().contains(&(EventKind::Yielded, Ask::Hold)));
    assert_eq!(b.dataplane.standing(ID), Standing::Bystander);
}

#[test]
fn too_long_a_lease_and_unknown_instances_are_not_granted() {
    let (mut a, mut b) = Node::pair(None);
    let (mut head, entry) = (a.head(now()), a.entry(Ask::Hold));
    head.lease = Nanos(D.0 * 5);
    let echo = a.frame(&head, &[entry]);
    let refused = b.count(Reason::LeaseTooLong);
    assert_eq!(a.exchange(&mut b, &echo), Verdict::Refused);
    assert_eq!(b.count(Reason::LeaseTooLong), refused + 1);
    let head = a.head(now());
    let unknown = Entry { vrid: 52, ..entry };
    let other_family = Entry { family: 6, ..entry };
    let echo = a.frame(&head, &[unknown, other_family, entry]);
    let (_, answer, _) = b.run(&echo);
    let verdicts: Vec<Verdict> = (0..3).map(|at| verdict(&answer[16 * at..])).collect();
    assert_eq!(
        verdicts,
        [Verdict::Unknown, Verdict::Unknown, Verdict::Granted]
    );
}

#[test]
fn a_peer_that_has_lost_the_instance_grants_nothing_and_is_reported() {
    let (mut a, mut b) = Node::pair(None);
    a.hold(&mut b);
    b.dataplane.clear_instance(ID).unwrap();
    let (lease, unknown) = (a.dataplane.first_lease(ID), a.count(Reason::LeaseUnknown));
    assert_eq!(a.ask(&mut b, Ask::Hold), Verdict::Unknown);
    assert_eq!(a.dataplane.first_lease(ID), lease);
    assert_eq!(a.count(Reason::LeaseUnknown), unknown + 1);
}

#[test]
fn promises_of_before_are_kept() {
    let (mut a, mut b) = Node::pair(None);
    a.hold(&mut b);
    let promised = b.promise();
    // A reload with other times leaves them; another peer does not, and closes the gate.
    let mut changed = grantors(b.peer, false);
    changed.lease = Nanos(D.0 / 2);
    b.dataplane.set_grantors(ID, Some(&changed), now()).unwrap();
    assert_eq!(b.promise(), promised);
    let start = now();
    a.dataplane
        .set_grantors(ID, Some(&grantors([192, 168, 0, 9], true)), start)
        .unwrap();
    assert!(!a.is_open() && !a.promise().is_acting());
    let longest = Nanos(D.0 * 4);
    assert_eq!(
        a.promise().ends(),
        start.after(longest).after(margin(longest))
    );
}

#[test]
fn a_second_path_to_a_peer_on_an_interface_is_refused() {
    let (mut a, mut b) = Node::pair(None);
    let second = PathSettings {
        local: [192, 168, 0, 9].into(),
        ..a.path()
    };
    let error = a.dataplane.set_path(PATH + 1, &second).unwrap_err();
    assert!(error.to_string().contains("path 3 leads"), "{error}");
    assert_eq!(
        b.ask(&mut a, Ask::Nothing),
        Verdict::None,
        "the first stays"
    );
    a.dataplane.clear_path(PATH).unwrap();
    a.dataplane.set_path(PATH + 1, &second).unwrap();
}

#[test]
fn silence_is_reported_when_the_promise_has_run_out() {
    let (mut a, mut b) = Node::pair(None);
    a.hold(&mut b);
    b.events();
    // As long as somebody asks there is nothing to report.
    throughout(Duration::from_nanos(D.0 * 2), "asks are granted", || {
        Ok(a.ask(&mut b, Ask::Hold) == Verdict::Granted)
    })
    .unwrap();
    let promised = b.promise();
    let mut reported = None;
    eventually(Duration::from_secs(5), "silence is reported", || {
        while let Some(event) = b.dataplane.next_event() {
            if event.kind == EventKind::LeaseSilence as u32 {
                reported = Some(event);
            }
        }
        Ok(reported.is_some())
    })
    .unwrap();
    let event = reported.unwrap();
    assert_eq!(event.instance, ID.0);
    assert_eq!(event.stamp(), promised.ends());
    assert!(event.made_ns >= promised.ends().0);
    assert_eq!(b.dataplane.act(ID, now()), Ok(()));
}
