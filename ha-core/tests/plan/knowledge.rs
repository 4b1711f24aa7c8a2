//! Who may be elected: what is known of the data.

use ha_common::{MonoNs, Nanos};
use ha_core::{
    Manner, Mode,
    plan::{Durability, Observation, PlanInput, Stance},
};

use crate::node::{
    LEASE, Node, config, database, exchange, mysql, pair, replica, role, standby, together,
};

fn node(name: &'static str, rank: u64) -> Node {
    let mut node = Node::new(
        name,
        config(name, vec![role("db", mysql(Durability::SemiSync))]),
    );
    node.observe(0, database(rank));
    node
}

#[test]
fn a_node_that_starts_alone_waits_for_the_other_one() {
    let mut one = node("n1", 5);
    let why = one.eligible().expect_err("alone");
    assert!(
        why.contains("not heard") && why.contains("--accept-loss"),
        "{why}"
    );
    one.conductor.set_priority(150);
    let mut two = node("n2", 5);
    for _ in 0..3 {
        exchange(&mut one, &mut two);
    }
    // With the same data the one of the higher priority goes first.
    assert_eq!(one.eligible(), Ok(()));
    assert!(
        two.eligible()
            .expect_err("one at a time")
            .contains("agreed")
    );
}

#[test]
fn a_node_that_is_not_elected_although_it_could_be_lets_the_other_one() {
    let (mut one, mut two) = (node("n1", 5), node("n2", 5));
    together(&mut one, &mut two, Nanos::from_secs(2));
    let name = "the greater name, with equal priorities";
    assert_eq!(two.eligible(), Ok(()), "{name}");
    assert!(one.eligible().is_err());
    // Its interface is down, say.
    together(&mut one, &mut two, Nanos::from_secs(5));
    assert_eq!(one.eligible(), Ok(()));
    assert!(two.eligible().is_err());
    together(&mut one, &mut two, Nanos::from_secs(1));
    assert_eq!(one.eligible(), Ok(()), "for long enough to be elected");
}

#[test]
fn what_one_was_told_before_it_stood_still_does_not_count() {
    let (mut one, mut two) = pair();
    // The primary stands still, the other one takes over, and stands still in turn, before it has told anything.
    two.promote(true);
    assert_eq!(two.promoted, [Ok(())]);
    one.pass(Nanos::from_millis(300));
    one.demote(Manner::Forced);
    one.observe(0, database(100));
    assert!(one.eligible().is_err());
}

#[test]
fn of_two_that_start_the_one_with_less_is_not_elected() {
    let (mut one, mut two) = (node("n1", 5), node("n2", 6));
    for _ in 0..3 {
        exchange(&mut one, &mut two);
    }
    let why = one.eligible().expect_err("less");
    assert!(
        why.contains("n2 has newer data (0-1-6 against 0-1-5)"),
        "{why}"
    );
    assert_eq!(two.eligible(), Ok(()));
    assert_eq!(
        two.prospect.as_ref().map(|prospect| prospect.position),
        Some(6)
    );
}

#[test]
fn an_operator_accepts_the_loss() {
    let mut one = node("n1", 5);
    one.handle(PlanInput::AcceptLoss);
    assert_eq!(one.eligible(), Ok(()));
}

#[test]
fn what_an_operator_accepted_does_not_count_for_ever() {
    let mut one = node("n1", 5);
    one.handle(PlanInput::AcceptLoss);
    one.pass(Nanos::from_secs(60));
    assert!(one.eligible().is_err());

    // Nor once the node is in sync: it has nothing to lose any more.
    let (mut one, mut two) = pair();
    two.handle(PlanInput::AcceptLoss);
    exchange(&mut one, &mut two);
    exchange(&mut one, &mut two);
    two.observe(0, replica(100, false));
    two.pass(LEASE);
    assert!(two.eligible().is_err());
}

#[test]
fn who_stood_alone_has_to_be_in_sync_to_take_part_again() {
    let (_, mut two) = pair();
    two.handle(PlanInput::Mode(Mode::Standalone));
    two.observe(0, replica(100, false));
    two.pass(LEASE);
    assert_eq!(two.eligible(), Ok(()));
    two.mode = Mode::Standalone;
    let mut again = two.restarted();
    again.observe(0, database(100));
    assert_eq!(again.eligible(), Ok(()), "the mode outlives a boot");
    two.handle(PlanInput::Mode(Mode::ActiveStandby));
    assert!(two.eligible().is_err());
}

#[test]
fn a_standby_in_sync_is_eligible_for_a_lease_after_it_asked_last() {
    let (_, mut two) = pair();
    // The primary is gone: nothing comes in, and its server's end is seen.
    two.observe(0, replica(100, false));
    two.pass(Nanos(LEASE.0 - 1));
    assert_eq!(two.eligible(), Ok(()));
    two.pass(Nanos(1));
    assert!(two.eligible().is_err());
}

#[test]
fn a_standby_whose_server_fails_is_not_in_sync_any_more() {
    let (mut one, mut two) = pair();
    let mut dead = replica(100, false);
    dead.able = Err("it does not answer".to_owned());
    dead.position = None;
    two.observe(0, dead);
    assert!(two.eligible().is_err());
    two.tell(&mut one);
    // And the primary may go on without it at once.
    assert!(
        one.steps.iter().any(|step| step.ends_with("degrade")),
        "{:?}",
        one.steps
    );
}

#[test]
fn a_daemon_that_starts_again_is_not_in_sync_before_the_primary_says_so() {
    let (mut one, two) = pair();
    let mut again = two.restarted();
    assert_eq!(again.stance(), Stance::Standby);
    again.observe(0, replica(100, true));
    assert!(again.eligible().is_err());
    exchange(&mut one, &mut again);
    exchange(&mut one, &mut again);
    assert_eq!(again.eligible(), Ok(()));
}

#[test]
fn the_primary_that_comes_back_does_not_take_over_from_its_heir() {
    let (one, mut two) = pair();
    two.observe(0, replica(100, false));
    two.promote(true);
    assert_eq!(two.promoted, [Ok(())]);
    let mut back = one.restarted();
    back.observe(0, database(103));
    assert!(back.eligible().is_err());
    two.tell(&mut back);
    let why = back.eligible().expect_err("an heir is there");
    assert!(why.contains("n2"), "{why}");
    // The heir dies as well, before this one has followed it: it lacks what the heir acknowledged.
    back.bad = vec![("compare", crate::node::Manners::Fails)];
    back.pass(Nanos::from_secs(60));
    assert!(back.eligible().is_err());
}

#[test]
fn among_three_nodes_the_others_have_to_be_heard() {
    let (mut one, mut two) = pair();
    let mut three = Node::found(
        "n3",
        config("n3", two.config.roles.clone()),
        standby(),
        Default::default(),
    );
    two.config.peers = 2;
    let mut two_of_three = two.restarted();
    two_of_three.observe(0, replica(100, true));
    exchange(&mut one, &mut two_of_three);
    exchange(&mut one, &mut two_of_three);
    assert!(two_of_three.eligible().is_err(), "n3 may have more");
    three.observe(0, replica(100, true));
    three.tell(&mut two_of_three);
    together(&mut one, &mut two_of_three, Nanos::from_millis(100));
    let mut ahead = replica(101, true);
    ahead.position = crate::node::at(101);
    three.observe(0, ahead);
    three.tell(&mut two_of_three);
    let why = two_of_three.eligible().expect_err("n3 has more");
    assert!(why.contains("n3") || why.contains("n1"), "{why}");
}

#[test]
fn a_grant_that_was_asked_for_before_it_left_does_not_bring_it_back() {
    let (mut one, mut two) = pair();
    // Its ask is on the way, and the answer comes after its server has failed.
    two.tell(&mut one);
    let late = one.word("n2");
    assert!(late.grant.is_some());
    let mut dead = replica(100, false);
    dead.able = Err("it does not answer".to_owned());
    two.observe(0, dead);
    two.observe(0, replica(100, false));
    two.hear(late);
    assert!(two.eligible().is_err());
}

/// A standby that is not in sync, and looked at its data before the other one's wish was heard.
fn asked() -> (Node, Node) {
    let (mut one, mut two) = (node("n1", 5), node("n2", 5));
    one.conductor.set_priority(150);
    let word = one.word("n2");
    assert!(word.wish.is_some());
    two.pass(Nanos(1));
    two.hear(word.clone());
    assert!(two.word("n1").consent.is_none(), "it has not looked since");
    (one, two)
}

#[test]
fn who_agrees_goes_by_a_look_that_began_since_it_was_asked() {
    let (mut one, mut two) = asked();
    let heard_at = two.now;
    // It stood still between a look and its answer.
    two.pass(Nanos::from_millis(300));
    let late = Observation {
        began_at: MonoNs(heard_at.0 - 1),
        ..database(5)
    };
    two.observe(0, late);
    two.hear(one.word("n2"));
    assert!(two.word("n1").consent.is_none(), "a look from before");
    let since = Observation {
        began_at: heard_at,
        ..database(5)
    };
    two.observe(0, since);
    two.hear(one.word("n2"));
    assert!(two.word("n1").consent.is_some());
}

#[test]
fn a_standby_is_as_close_as_when_the_look_began() {
    let roles = || vec![role("db", mysql(Durability::Async))];
    let mut two = Node::new("n2", config("n2", roles()));
    let (mut primary_of, _) = pair();
    let close = |began_at| Observation {
        began_at,
        ..replica(100, true)
    };
    two.observe(0, replica(100, true));
    primary_of.tell(&mut two);
    assert_eq!(two.eligible(), Ok(()), "it is close enough");
    let began_at = two.now;
    two.pass(Nanos(LEASE.0 / 2));
    two.observe(0, close(began_at));
    primary_of.tell(&mut two);
    two.pass(Nanos(LEASE.0 / 2));
    assert!(two.eligible().is_err(), "that was long ago");
}
