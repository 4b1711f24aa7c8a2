//! What follows what.

use ha_common::Nanos;
use ha_core::{
    Manner,
    plan::{Durability, Record, Stance},
};

use crate::node::{Node, config, disk_roles, mysql, pair, role};

#[test]
fn roles_are_promoted_in_order_and_demoted_in_reverse() {
    let mut node = Node::new("n1", config("n1", disk_roles()));
    node.promote(true);
    insta::assert_snapshot!(node.steps.join("\n"), @r"
    r0: inspect
    r0: primary
    data: fsck
    data: mount
    app: start
    ");
    assert_eq!(node.promoted, [Ok(())]);
    assert_eq!(node.stance(), Stance::Primary);
    node.steps.clear();
    node.demote(Manner::Forced);
    insta::assert_snapshot!(node.steps.join("\n"), @r"
    app: stop
    data: unmount
    r0: secondary
    ");
    assert_eq!(node.demoted, [Ok(())]);
    assert_eq!(node.stance(), Stance::Standby);
}

#[test]
fn a_database_drains_before_it_is_detached_and_is_written_to_last() {
    let (_, mut two) = pair();
    two.steps.clear();
    two.promote(true);
    insta::assert_snapshot!(two.steps.join("\n"), @r"
    mariadb: inspect
    mariadb: stop-receiving
    mariadb: drain
    mariadb: prove
    mariadb: detach
    mariadb: become-primary
    mariadb: mark
    ");
    assert!(two.orders.last().expect("orders").context.source_gone);
}

#[test]
fn what_changes_something_is_in_the_journal_before() {
    let mut node = Node::new("n1", config("n1", disk_roles()));
    node.bad = vec![("mount", crate::node::Manners::Hangs)];
    node.promote(true);
    let told = |wanted: &str| {
        let mut records = node.journal.iter();
        records.any(|record| matches!(record, Record::Step { step, .. } if step == wanted))
    };
    assert!(told("primary") && told("mount"));
    assert!(!told("inspect"), "it only looks");
    assert!(!told("start"), "it was not begun");
}

#[test]
fn without_a_journal_nothing_is_promoted_and_everything_demoted() {
    let mut node = Node::new("n1", config("n1", disk_roles()));
    node.promote(true);
    node.disk_full = true;
    node.demote(Manner::Forced);
    assert_eq!(node.demoted, [Ok(())]);
    node.observe_all(crate::node::able());
    node.promote(true);
    let why = node.promoted.last().expect("an answer").clone();
    assert!(why.expect_err("no journal").contains("journal"));
    assert_eq!(node.stance(), Stance::Standby);
}

#[test]
fn a_hand_over_tells_where_it_ended_and_the_other_node_waits_for_that() {
    let (mut one, mut two) = pair();
    one.end = 107;
    two.steps.clear();
    one.bad = vec![("settle", crate::node::Manners::Hangs)];
    one.demote(Manner::Graceful);
    one.tell(&mut two);
    // It is elected although the other one is not done: that one's daemon let go too early.
    two.promote(false);
    assert!(two.steps.is_empty(), "{:?}", two.steps);
    let settle = one.orders.last().expect("an order").serial;
    one.handle(ha_core::plan::PlanInput::StepDone {
        serial: settle,
        done: ha_core::plan::Done {
            position: crate::node::at(107),
            ..Default::default()
        },
    });
    assert_eq!(one.demoted, [Ok(())]);
    one.tell(&mut two);
    assert_eq!(two.promoted, [Ok(())]);
    let first = two.orders.iter().find(|order| order.step == "inspect");
    let context = &first.expect("promoted").context;
    assert_eq!(context.target.as_deref(), Some("0-1-107"));
    assert!(!context.source_gone);
}

#[test]
fn a_promotion_does_not_wait_long_for_a_word_that_is_lost() {
    let (mut one, mut two) = pair();
    two.steps.clear();
    one.bad = vec![("settle", crate::node::Manners::Hangs)];
    one.demote(Manner::Graceful);
    one.tell(&mut two);
    two.promote(false);
    two.pass(Nanos::from_millis(299));
    assert!(two.steps.is_empty());
    two.pass(Nanos::from_millis(1));
    assert_eq!(two.promoted, [Ok(())]);
}

#[test]
fn each_take_over_has_a_greater_epoch() {
    let (mut one, mut two) = pair();
    let epoch = |node: &Node| node.conductor.status(node.now).epoch;
    assert_eq!((epoch(&one), epoch(&two)), (1, 1));
    one.demote(Manner::Graceful);
    one.tell(&mut two);
    two.promote(false);
    assert_eq!(epoch(&two), 2);
    two.tell(&mut one);
    assert_eq!(epoch(&one), 2);
    let written = |record: &Record| matches!(record, Record::Heard { epoch: 2 });
    assert!(one.journal.iter().any(written));
}

#[test]
fn a_promotion_does_not_complete_if_somebody_has_a_greater_epoch() {
    let (_, mut two) = pair();
    two.bad = vec![("become-primary", crate::node::Manners::Hangs)];
    two.promote(true);
    // Another one, of which nothing was known, has taken over meanwhile.
    let mut third = Node::new(
        "n3",
        config("n3", vec![role("mariadb", mysql(Durability::SemiSync))]),
    );
    let mut word = third.conductor.word("n2", None, third.now);
    word.epoch = 3;
    word.stance = Stance::Primary;
    two.hear(word);
    let serial = two.orders.last().expect("an order").serial;
    two.bad.clear();
    two.handle(ha_core::plan::PlanInput::StepDone {
        serial,
        done: ha_core::plan::Done::default(),
    });
    let why = two.promoted[0].clone().expect_err("a rival");
    assert!(why.contains("n3 has epoch 3"), "{why}");
    assert_eq!(two.stance(), Stance::Standby);
    assert!(two.steps.iter().any(|step| step.ends_with("forbid-writes")));
}
