//! Modes, and what a take-over does to them.

use ha_common::Nanos;
use ha_core::{
    Mode,
    plan::{AfterFailover, ConductorConfig, PlanInput, RoleKind},
};

use crate::node::{Node, config, database, exchange, pair, pair_with, primary, replica, role};

fn strict_pair() -> (Node, Node) {
    pair_with(AfterFailover::Maintenance)
}

#[test]
fn a_take_over_without_being_asked_leaves_one_alone_and_the_other_in_maintenance() {
    let (one, mut two) = strict_pair();
    two.observe(0, replica(100, false));
    two.promote(true);
    assert_eq!(two.mode, Mode::Standalone);
    two.observe(0, primary(100, true));
    let mut one = one.restarted();
    one.observe(0, database(100));
    assert_eq!(one.mode, Mode::ActiveStandby);
    two.tell(&mut one);
    assert_eq!(one.mode, Mode::Maintenance);
    assert!(
        one.eligible()
            .expect_err("a person decides")
            .contains("maintenance")
    );
    // Neither follows the other by itself.
    let before = one.steps.len();
    one.pass(Nanos::from_secs(60));
    exchange(&mut one, &mut two);
    assert_eq!(one.steps.len(), before);
    // A person returns both.
    two.handle(PlanInput::Mode(Mode::ActiveStandby));
    two.mode = Mode::ActiveStandby;
    one.handle(PlanInput::Mode(Mode::ActiveStandby));
    exchange(&mut one, &mut two);
    assert!(
        one.steps.iter().any(|step| step.ends_with("follow")),
        "{:?}",
        one.steps
    );
}

#[test]
fn a_take_over_that_was_asked_for_changes_no_mode() {
    let (mut one, mut two) = strict_pair();
    one.demote(ha_core::Manner::Graceful);
    one.tell(&mut two);
    two.promote(false);
    assert_eq!(two.mode, Mode::ActiveStandby);
    two.tell(&mut one);
    assert_eq!(one.mode, Mode::ActiveStandby);
}

#[test]
fn a_node_alone_needs_nobody_s_word() {
    let (_, two) = strict_pair();
    let mut two = two.restarted();
    two.observe(0, database(100));
    assert!(two.eligible().is_err());
    two.handle(PlanInput::Mode(Mode::Standalone));
    assert_eq!(two.eligible(), Ok(()));
}

#[test]
fn in_maintenance_nothing_is_done_by_itself() {
    let (mut one, mut two) = pair();
    two.handle(PlanInput::Mode(Mode::Maintenance));
    two.steps.clear();
    let mut writable = database(100);
    writable.promoted = Some(true);
    two.observe(0, writable);
    exchange(&mut one, &mut two);
    two.pass(Nanos::from_secs(60));
    assert!(two.steps.is_empty(), "{:?}", two.steps);
    assert!(two.eligible().is_err());
}

#[test]
fn a_database_that_fails_is_a_take_over_without_being_asked() {
    let (mut one, mut two) = strict_pair();
    // Its check has a veto: the daemon lets go by itself.
    one.demote(ha_core::Manner::Forced);
    one.tell(&mut two);
    two.promote(false);
    assert_eq!(two.mode, Mode::Standalone);
    two.tell(&mut one);
    assert_eq!(one.mode, Mode::Maintenance);
}

#[test]
fn the_first_promotion_of_all_is_no_take_over() {
    let (mut one, two) = strict_pair();
    one.demote(ha_core::Manner::Graceful);
    one.observe(0, database(100));
    let (mut one, mut two) = (one.restarted(), two.restarted());
    one.conductor.set_priority(150);
    one.observe(0, database(100));
    two.observe(0, database(100));
    for _ in 0..3 {
        exchange(&mut one, &mut two);
    }
    one.promote(true);
    assert_eq!(one.promoted, [Ok(())]);
    assert_eq!(one.mode, Mode::ActiveStandby);
}

#[test]
fn what_came_of_a_take_over_outlives_a_boot_of_either() {
    let (one, mut two) = strict_pair();
    two.observe(0, replica(100, false));
    two.promote(true);
    assert_eq!(two.mode, Mode::Standalone);
    let mut two = two.restarted();
    two.observe(0, database(100));
    two.promote(true);
    two.observe(0, primary(100, true));
    let mut one = one.restarted();
    two.tell(&mut one);
    assert_eq!(one.mode, Mode::Maintenance);
    // Whom a person has returned is not sent back because it boots before the other one is returned, too.
    one.handle(PlanInput::Mode(Mode::ActiveStandby));
    one.mode = Mode::ActiveStandby;
    let mut one = one.restarted();
    two.tell(&mut one);
    assert_eq!(one.mode, Mode::ActiveStandby);
}

/// Two nodes whose role has no data of which one could have more; the first one is primary.
fn strict_pair_without_data() -> (Node, Node) {
    let node = |name| {
        let config = ConductorConfig {
            after_failover: AfterFailover::Maintenance,
            ..config(name, vec![role("told", RoleKind::Script)])
        };
        Node::new(name, config)
    };
    let (mut one, mut two) = (node("n1"), node("n2"));
    one.promote(true);
    one.tell(&mut two);
    (one, two)
}

#[test]
fn a_node_that_lets_go_is_heard_out_before_that_counts_as_a_failure() {
    let (mut one, mut two) = strict_pair_without_data();
    // Its adverts are faster than the link.
    two.promote(false);
    assert!(two.promoted.is_empty());
    one.demote(ha_core::Manner::Graceful);
    one.tell(&mut two);
    assert_eq!(two.promoted, [Ok(())]);
    assert_eq!(two.mode, Mode::ActiveStandby);

    let (_, mut two) = strict_pair_without_data();
    two.promote(false);
    two.pass(Nanos::from_secs(1));
    assert_eq!(two.promoted, [Ok(())]);
    assert_eq!(two.mode, Mode::Standalone);
}
