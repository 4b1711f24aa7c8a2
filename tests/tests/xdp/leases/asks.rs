//! What becomes of a request: who acts, who goes first, what was promised and released before.

use std::time::Duration;

use ha_common::{
    MonoNs, Nanos,
    abi::{EVENT_BUDGET, EventKind, Reason},
    gate::Lease,
    lease::{Ask, Standing, margin},
    wire::echo::{Entry, Head, Verdict},
};
use ha_tests::{eventually, now, wait::throughout};
use ha_user::dataplane::PathSettings;

use super::node::{D, ID, Node, PATH, PAYLOAD, frame, grantors, rank, verdict, words};
use crate::fixture::LOOPBACK;

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
fn who_asks_to_go_on_takes_nothing_from_anybody_and_yields_to_everybody() {
    for stands in [Standing::Candidate, Standing::Active, Standing::Lapsed] {
        let (mut a, mut b) = Node::pair(None);
        a.stand();
        a.dataplane.set_standing(ID, stands);
        b.stand();
        b.dataplane.set_standing(ID, Standing::Lapsed);
        // It would go first.
        b.dataplane.set_lease_rank(ID, rank(200));
        assert_eq!(b.ask(&mut a, Ask::Resume), Verdict::Refused, "{stands:?}");
        assert!(a.promise().is_acting() && b.promise().is_acting());
        assert_eq!(a.dataplane.standing(ID), stands);

        assert_eq!(a.ask(&mut b, Ask::Candidate), Verdict::Granted);
        assert_eq!(b.dataplane.standing(ID), Standing::Bystander);
        assert_eq!(b.dataplane.superseded(ID), b.dataplane.epoch(ID));
        assert!(b.events().contains(&(EventKind::Yielded, Ask::Candidate)));
    }

    // Of who does not act it is granted a lease, and is told; its gate stays closed until it stands as Active.
    let (mut a, mut b) = Node::pair(None);
    a.stand();
    a.dataplane.set_standing(ID, Standing::Lapsed);
    assert_eq!(a.ask(&mut b, Ask::Resume), Verdict::Granted);
    assert_eq!(a.events(), [(EventKind::Answered, Ask::Resume)]);
    assert!(!a.is_open());
    a.dataplane.set_standing(ID, Standing::Active);
    assert!(a.is_open());
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
