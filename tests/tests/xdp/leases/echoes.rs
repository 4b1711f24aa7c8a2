//! Which echoes and answers are taken, and what a grant extends.

use std::time::Duration;

use ha_common::{
    MonoNs, Nanos,
    abi::{EventKind, Reason},
    gate::Lease,
    lease::{Ask, Standing, margin},
    wire::echo::{Entry, Head, Kind, MAX_ENTRIES, Verdict},
};
use ha_tests::{eventually, now};

use super::node::{D, DROP, ID, KEY, Node, PASS, PATH, PAYLOAD, TX, frame, seal, verdict, words};

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
            with(PAYLOAD + 50, echo[PAYLOAD + 50] ^ 1, false),
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
