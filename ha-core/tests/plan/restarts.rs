//! A database's server that is started again behind its node's back: it may have less than it had acknowledged, or than
//! it had received.

use ha_common::Nanos;
use ha_core::plan::{Observation, Stance};

use crate::node::{
    LEASE, Manners, Node, SERVER, database, exchange, pair, primary, replica, steps, together,
};

const ANOTHER: Option<u64> = Some(2);

fn on(incarnation: Option<u64>, found: Observation) -> Observation {
    Observation {
        runs: Some(true),
        incarnation,
        ..found
    }
}

/// A replica as its server comes back: stopped, with what it had received in its files.
fn unread() -> Observation {
    Observation {
        position: None,
        unread: true,
        ..on(ANOTHER, replica(90, false))
    }
}

fn ended() -> Observation {
    Observation {
        runs: Some(false),
        promoted: Some(false),
        ..Observation::unknown("the server does not run")
    }
}

/// A primary and a standby in sync, and each knows its server.
fn pair_of_servers() -> (Node, Node) {
    let (mut one, mut two) = pair();
    one.observe(0, on(SERVER, primary(100, false)));
    two.observe(0, on(SERVER, replica(100, true)));
    exchange(&mut one, &mut two);
    exchange(&mut one, &mut two);
    assert_eq!(two.eligible(), Ok(()));
    one.steps.clear();
    two.steps.clear();
    (one, two)
}

#[test]
fn the_primary_s_server_that_comes_back_is_not_opened_and_its_node_lets_go() {
    let (mut one, _) = pair_of_servers();
    one.observe(0, on(ANOTHER, database(95)));
    assert!(one.steps.is_empty(), "{:?}", one.steps);
    assert!(one.eligible().is_err());
}

#[test]
fn the_server_that_was_promoted_may_be_opened_again_and_no_other() {
    let (mut one, _) = pair_of_servers();
    one.observe(0, on(SERVER, database(100)));
    assert_eq!(one.steps, ["mariadb: become-primary"]);
    let order = one.orders.last().expect("an order");
    assert_eq!(order.context.incarnation, SERVER);
    assert_eq!(one.eligible(), Ok(()));
}

#[test]
fn a_server_that_comes_back_during_its_promotion_is_not_the_one_that_was_proved() {
    let (mut one, _) = pair_of_servers();
    one.demote(ha_core::Manner::Forced);
    one.observe(0, on(SERVER, database(100)));
    one.bad = vec![("prove", Manners::Hangs)];
    let before = one.promoted.len();
    one.promote(true);
    let proving = one.orders.last().expect("an order").serial;
    one.bad.clear();
    one.server = ANOTHER;
    one.handle(ha_core::plan::PlanInput::StepDone {
        serial: proving,
        done: ha_core::plan::Done {
            incarnation: ANOTHER,
            ..Default::default()
        },
    });
    assert!(matches!(one.promoted.get(before), Some(Err(_))));
    assert_eq!(steps(&one, "become-primary"), 0, "{:?}", one.steps);
    assert_eq!(one.stance(), Stance::Standby);
}

#[test]
fn a_server_that_came_back_does_not_make_its_node_the_only_one_with_the_data() {
    let (mut one, _) = pair_of_servers();
    one.server = ANOTHER;
    // Nobody asks any more, and it has not been looked at since it came back.
    one.pass(LEASE.times(2));
    assert_eq!(steps(&one, "degrade"), 1, "{:?}", one.steps);
    one.observe(0, on(ANOTHER, database(95)));
    one.demote(ha_core::Manner::Forced);
    one.observe(0, on(ANOTHER, database(95)));
    assert!(one.eligible().is_err(), "the other one has more");
}

#[test]
fn a_standby_s_server_that_comes_back_unseen_is_not_in_sync() {
    let (_, mut two) = pair_of_servers();
    two.observe(0, on(ANOTHER, replica(100, true)));
    assert!(two.eligible().is_err());
}

#[test]
fn a_replica_that_came_back_reads_what_it_had_received_where_nobody_is_primary() {
    let (mut one, mut two) = pair_of_servers();
    two.observe(0, unread());
    assert!(two.steps.is_empty(), "the primary has it: {:?}", two.steps);
    one.demote(ha_core::Manner::Forced);
    one.observe(0, on(ANOTHER, database(95)));
    together(&mut one, &mut two, Nanos::from_millis(500));
    assert!(steps(&two, "salvage") > 0);
    assert_eq!(steps(&two, "follow"), 0, "{:?}", two.steps);
    assert!(
        one.eligible().is_err(),
        "nobody agrees who does not know what it has"
    );
    two.observe(0, on(ANOTHER, replica(100, false)));
    // Who has agreed to the other one's promotion lately waits for that.
    together(&mut one, &mut two, Nanos::from_secs(3));
    assert!(one.eligible().is_err());
    assert_eq!(two.eligible(), Ok(()));
}

#[test]
fn a_standby_s_server_that_does_not_run_is_started_whoever_ended_it() {
    let (_, mut two) = pair_of_servers();
    two.pass(LEASE.times(2));
    two.observe(0, ended());
    assert_eq!(two.steps, ["mariadb: start-as-replica"]);
    // Also by the next daemon, which has not seen it run.
    let mut again = two.restarted();
    again.observe(0, ended());
    assert_eq!(again.steps, ["mariadb: start-as-replica"]);
}
