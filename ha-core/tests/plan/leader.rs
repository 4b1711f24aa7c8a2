//! Whom a standby copies from.

use ha_common::Nanos;
use ha_core::{
    Manner,
    plan::{GroupWord, RoleKind, Stance},
};

use crate::node::{Manners, Node, config, exchange, role};

fn node(name: &'static str) -> Node {
    Node::new(name, config(name, vec![role("files", RoleKind::Sync)]))
}

fn leader(node: &Node) -> Option<(&str, u64)> {
    node.conductor.leader(node.now)
}

/// What somebody says who stands so.
fn word(like: &mut Node, name: &str, stance: Stance, epoch: u64) -> GroupWord {
    GroupWord {
        node: name.to_owned(),
        stance,
        epoch,
        ..like.word("n1")
    }
}

#[test]
fn a_standby_follows_the_one_node_that_is_promoted_last() {
    let (mut one, mut two) = (node("n1"), node("n2"));
    exchange(&mut one, &mut two);
    assert_eq!((leader(&one), leader(&two)), (None, None));
    two.promote(false);
    exchange(&mut one, &mut two);
    assert_eq!(leader(&one), Some(("n2", 1)));
    assert_eq!(leader(&two), None, "it is promoted itself");
    // It is about to be demoted, and what it has is the last still.
    let demoting = word(&mut two, "n2", Stance::Demoting, 1);
    one.hear(demoting);
    assert_eq!(leader(&one), Some(("n2", 1)));
    let standby = word(&mut two, "n2", Stance::Standby, 1);
    one.hear(standby);
    assert_eq!(leader(&one), None);
}

#[test]
fn who_was_promoted_before_is_not_followed_any_more() {
    let (mut one, mut two) = (node("n1"), node("n2"));
    let old = word(&mut two, "n2", Stance::Primary, 3);
    one.hear(old.clone());
    assert_eq!(leader(&one), Some(("n2", 3)));
    // Another one takes over: from then on nobody is, until that has come to its end.
    let promoting = word(&mut two, "n3", Stance::Promoting, 4);
    one.hear(promoting);
    assert_eq!(leader(&one), None);
    let new = word(&mut two, "n3", Stance::Primary, 4);
    one.hear(new.clone());
    // The one before stood still, and goes on.
    one.hear(old.clone());
    assert_eq!(leader(&one), Some(("n3", 4)));
    // The new one falls silent, and the one before does not.
    one.pass(Nanos::from_secs(3));
    one.hear(old);
    assert_eq!(leader(&one), None);
    one.hear(new);
    assert_eq!(leader(&one), Some(("n3", 4)));
}

#[test]
fn whose_promotion_failed_is_not_followed() {
    let (mut one, mut two) = (node("n1"), node("n2"));
    exchange(&mut one, &mut two);
    one.promote(false);
    exchange(&mut one, &mut two);
    assert_eq!(leader(&two), Some(("n1", 1)));
    one.demote(Manner::Graceful);
    exchange(&mut one, &mut two);
    // Its step fails, and what it began is taken back.
    two.bad.push(("activate", Manners::Fails));
    two.promote(false);
    let taken_back = word(&mut two, "n2", Stance::Demoting, 2);
    assert_ne!(two.stance(), Stance::Primary);
    one.hear(taken_back);
    assert_eq!(leader(&one), None);
    // Nor one that starts, and demotes what may have been promoted.
    let starts = word(&mut two, "n3", Stance::Demoting, 2);
    one.hear(starts);
    assert_eq!(leader(&one), None);
}

#[test]
fn of_two_in_one_epoch_nobody_is_followed() {
    let (mut one, mut two) = (node("n1"), node("n2"));
    for name in ["n2", "n3"] {
        let word = word(&mut two, name, Stance::Primary, 5);
        one.hear(word);
    }
    assert_eq!(leader(&one), None);
    one.pass(Nanos::from_secs(3));
    let word = word(&mut two, "n2", Stance::Primary, 5);
    one.hear(word);
    assert_eq!(leader(&one), Some(("n2", 5)));
}

#[test]
fn who_was_promoted_itself_follows_nobody_from_before() {
    let (mut one, mut two) = (node("n1"), node("n2"));
    exchange(&mut one, &mut two);
    one.promote(false);
    assert_eq!(one.stance(), Stance::Primary);
    let epoch = one.word("n2").epoch;
    one.demote(Manner::Forced);
    let old = word(&mut two, "n2", Stance::Primary, epoch - 1);
    one.hear(old);
    assert_eq!(leader(&one), None);
}
