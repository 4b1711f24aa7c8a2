//! A primary on its own.

use ha_common::Nanos;
use ha_core::{
    Manner,
    plan::{Follows, Stance},
};

use crate::node::{LEASE, Manners, Node, config, database, pair, primary, replica, steps};

/// The second node takes over, and the first one is gone.
fn heir() -> Node {
    let (_, mut two) = pair();
    two.observe(0, replica(100, false));
    two.promote(true);
    assert_eq!(two.promoted, [Ok(())]);
    two.observe(0, primary(100, true));
    two
}

#[test]
fn who_was_alone_with_the_data_needs_nobody_to_serve_again() {
    let mut two = heir();
    // Its server fails and comes back.
    two.demote(Manner::Forced);
    two.pass(Nanos::from_secs(60));
    two.observe(0, database(140));
    assert_eq!(two.eligible(), Ok(()));
    two.promote(true);
    assert_eq!(two.stance(), Stance::Primary);
}

#[test]
fn that_survives_a_reboot() {
    let two = heir();
    let mut again = two.restarted();
    assert_eq!(again.stance(), Stance::Standby);
    again.observe(0, database(140));
    assert_eq!(again.eligible(), Ok(()));
}

#[test]
fn with_a_replica_in_sync_it_does_not() {
    let (one, _two) = pair();
    let mut again = one.restarted();
    again.observe(0, database(140));
    assert!(
        again.eligible().is_err(),
        "the other one may have taken over"
    );
}

#[test]
fn nor_once_another_one_has_taken_over() {
    let mut two = heir();
    two.demote(Manner::Forced);
    two.observe(0, database(140));
    assert_eq!(two.eligible(), Ok(()));
    // An operator has made the other one serve what it has.
    let mut one = Node::new("n1", two.config.clone());
    let mut word = one.conductor.word("n2", None, one.now);
    word.node = "n1".to_owned();
    word.epoch = 3;
    two.hear(word);
    two.pass(Nanos::from_secs(60));
    assert!(two.eligible().is_err());
}

/// The two heard nothing of each other for a while.
#[test]
fn a_primary_lets_go_to_one_that_was_promoted_after_it() {
    let (mut one, mut two) = pair();
    two.observe(0, replica(100, false));
    two.promote(true);
    one.hear(two.conductor.word("n1", None, two.now));
    let why = one.eligible().expect_err("it is superseded");
    assert!(
        why.contains("n2 was promoted later, in epoch 2; this node in epoch 1"),
        "{why}"
    );

    // Also if that one has been demoted meanwhile.
    let (mut one, mut two) = pair();
    two.observe(0, replica(100, false));
    two.promote(true);
    two.demote(Manner::Forced);
    one.hear(two.conductor.word("n1", None, two.now));
    assert!(one.eligible().is_err());
}

#[test]
fn a_promotion_that_failed_elsewhere_does_not_concern_a_primary() {
    let (mut one, mut two) = pair();
    two.observe(0, replica(100, false));
    two.bad = vec![("drain", Manners::Fails)];
    two.promote(true);
    assert!(two.promoted[0].is_err());
    one.hear(two.conductor.word("n1", None, two.now));
    assert_eq!(one.eligible(), Ok(()));
}

/// The word of one of two standbys does not free the primary of what it granted to the other.
#[test]
fn who_renounces_speaks_for_itself_alone() {
    let (mut one, mut two) = pair();
    let roles = two.config.roles.clone();
    let mut three = Node::new("n3", config("n3", roles));
    three.observe(0, replica(100, true));
    for _ in 0..2 {
        one.tell(&mut three);
        three.tell(&mut one);
    }
    // It is granted, and falls silent; the other one's server fails.
    one.tell(&mut three);
    let granted = one.now;
    let mut dead = replica(100, false);
    dead.able = Err("it does not answer".to_owned());
    two.observe(0, dead);
    two.tell(&mut one);
    while steps(&one, "degrade") == 0 {
        one.observe(0, primary(100, false));
        one.pass(Nanos::from_millis(10));
        assert!(one.now.since(granted) < Nanos::from_secs(10), "never");
    }
    assert!(
        one.now.since(granted) >= LEASE,
        "{}",
        one.now.since(granted)
    );
}

/// What was to end its solitude failed: it is alone still, and that has to be on record for when its server comes back.
#[test]
fn a_primary_whose_replica_does_not_stay_is_alone_again() {
    let mut two = heir();
    let mut one = Node::new("n1", config("n1", two.config.roles.clone()));
    // The other one is back, asks, and is gone again before writes wait for it.
    two.bad = vec![("restore", Manners::Fails)];
    let mut follower = replica(100, true);
    if let Follows::Source { source, .. } = &mut follower.follows {
        *source = "n2:3306".to_owned();
    }
    one.observe(0, follower);
    two.tell(&mut one);
    one.tell(&mut two);
    two.observe(0, primary(100, true));
    assert_eq!(steps(&two, "restore"), 1, "{:?}", two.steps);
    for _ in 0..100 {
        two.observe(0, primary(100, true));
        two.pass(Nanos::from_millis(100));
    }
    // Its daemon starts again: nobody else has the data.
    let mut again = two.restarted();
    again.observe(0, database(100));
    assert_eq!(again.eligible(), Ok(()));
}
