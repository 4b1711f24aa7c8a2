//! A standby follows the primary; the primary sees to its replica.

use ha_common::{MonoNs, Nanos};
use ha_core::plan::{Observation, Purpose};

use crate::node::{
    LEASE, Manners, database, exchange, pair, primary, purposes, replica, steps, together,
};

#[test]
fn a_standby_is_told_whom_to_follow() {
    let (_, two) = pair();
    let follow = two.orders.iter().find(|order| order.step == "follow");
    let context = &follow.expect("it followed").context;
    assert_eq!(context.source.as_deref(), Some("n1:3306"));
    assert_eq!(context.history.as_deref(), Some("0-1-100"));
}

#[test]
fn what_was_received_is_not_thrown_away_when_the_primary_s_server_fails() {
    let (mut one, mut two) = pair();
    two.steps.clear();
    // The server is gone, its node is still heard.
    two.observe(0, replica(100, false));
    exchange(&mut one, &mut two);
    together(&mut one, &mut two, Nanos::from_secs(1));
    assert!(two.steps.is_empty(), "{:?}", two.steps);
    assert_eq!(two.eligible(), Ok(()));
}

/// To follow is to start it first; of one that only does not answer nothing is known.
#[test]
fn a_standby_s_server_that_does_not_run_is_started_to_follow() {
    let (mut one, mut two) = pair();
    for (promoted, follows) in [(None, 0), (Some(false), 1)] {
        two.steps.clear();
        let mut gone = Observation::unknown("it does not answer");
        gone.promoted = promoted;
        two.observe(0, gone);
        together(&mut one, &mut two, Nanos::from_secs(1));
        assert_eq!(steps(&two, "join-sync"), follows, "{:?}", two.steps);
    }
}

#[test]
fn a_standby_that_goes_astray_for_long_follows_anew() {
    let (mut one, mut two) = pair();
    two.steps.clear();
    two.observe(0, replica(100, false));
    together(&mut one, &mut two, Nanos::from_secs(6));
    assert_eq!(steps(&two, "join-sync"), 1, "{:?}", two.steps);
}

#[test]
fn a_standby_that_cannot_follow_tries_again_less_and_less_often() {
    let (mut one, mut two) = pair();
    two.steps.clear();
    two.bad = vec![("compare", Manners::Fails)];
    two.observe(0, database(107));
    for _ in 0..600 {
        together(&mut one, &mut two, Nanos::from_millis(100));
        two.observe(0, database(107));
        one.observe(0, primary(100, true));
    }
    let tries = steps(&two, "compare");
    assert!((5..12).contains(&tries), "{tries} in a minute");
    assert!(
        two.eligible()
            .expect_err("it strays")
            .contains("told to fail")
    );
    assert_eq!(two.notes.len(), 1, "{:?}", two.notes);
}

#[test]
fn somebody_makes_a_standby_writable_and_it_is_put_right() {
    let (_, mut two) = pair();
    two.steps.clear();
    let mut writable = replica(100, true);
    writable.promoted = Some(true);
    two.observe(0, writable);
    assert_eq!(two.steps, ["mariadb: forbid-writes"]);
    assert_eq!(two.eligible(), Ok(()), "it is in sync all the same");
}

#[test]
fn somebody_makes_the_primary_read_only_and_it_is_put_right() {
    let (mut one, _) = pair();
    one.steps.clear();
    one.observe(0, database(100));
    assert_eq!(one.steps, ["mariadb: become-primary"]);
    assert!(!one.orders.last().expect("an order").context.solo);
}

#[test]
fn the_primary_goes_solo_only_when_no_standby_counts_itself_as_in_sync() {
    let (mut one, mut two) = pair();
    let parted = one.now;
    // Nothing passes any more. The standby asked last before, and was granted later.
    while steps(&one, "degrade") == 0 {
        one.pass(Nanos::from_millis(10));
        two.pass(Nanos::from_millis(10));
        one.observe(0, primary(100, false));
        assert!(one.now.since(parted) < Nanos::from_secs(10), "never");
    }
    assert!(
        two.eligible().is_err(),
        "both may serve what the other lacks"
    );
    assert!(one.now.since(parted) >= LEASE);
    assert_eq!(purposes(&one.journal).last(), Some(&Purpose::GoSolo));
}

#[test]
fn a_replica_that_is_away_for_a_moment_is_not_given_up() {
    let (mut one, mut two) = pair();
    one.pass(Nanos::from_millis(400));
    two.pass(Nanos::from_millis(400));
    one.observe(0, primary(100, false));
    exchange(&mut one, &mut two);
    together(&mut one, &mut two, Nanos::from_secs(5));
    assert_eq!(steps(&one, "degrade"), 0);
    assert_eq!(two.eligible(), Ok(()));
}

#[test]
fn a_replica_counts_again_only_when_it_has_what_came_meanwhile() {
    let (mut one, mut two) = pair();
    two.observe(0, replica(100, false));
    for _ in 0..40 {
        one.pass(Nanos::from_millis(100));
        two.pass(Nanos::from_millis(100));
        let solo = steps(&one, "degrade") > 0;
        one.observe(0, primary(100, solo));
    }
    assert_eq!(steps(&one, "degrade"), 1);
    one.observe(0, primary(500, true));
    // It is back, and behind.
    one.end = 500;
    two.observe(0, replica(120, true));
    exchange(&mut one, &mut two);
    exchange(&mut one, &mut two);
    assert_eq!(steps(&one, "restore"), 2);
    one.observe(0, primary(500, false));
    exchange(&mut one, &mut two);
    exchange(&mut one, &mut two);
    assert!(two.eligible().is_err());
    two.observe(0, replica(500, true));
    exchange(&mut one, &mut two);
    exchange(&mut one, &mut two);
    assert_eq!(two.eligible(), Ok(()));
}

#[test]
fn nobody_joins_by_what_the_primary_had_before_it_began_to_go_solo() {
    let (mut one, mut two) = pair();
    one.bad = vec![("degrade", Manners::Hangs)];
    while steps(&one, "degrade") == 0 {
        one.pass(Nanos::from_millis(10));
        two.pass(Nanos::from_millis(10));
        one.observe(0, primary(100, false));
        assert!(one.now.since(MonoNs::ZERO) < Nanos::from_secs(60), "never");
    }
    // The link is back while the step is under way: the server may acknowledge alone already, and nobody knows.
    for _ in 0..3 {
        two.observe(0, replica(100, true));
        exchange(&mut one, &mut two);
    }
    assert!(two.eligible().is_err());
}

#[test]
fn a_primary_forgets_whom_it_followed() {
    let (_, mut two) = pair();
    two.promote(true);
    two.steps.clear();
    let mut attached = primary(100, true);
    attached.follows = replica(100, false).follows;
    two.observe(0, attached);
    assert_eq!(two.steps, ["mariadb: detach"]);
    two.observe(0, primary(100, true));
    assert_eq!(two.steps.len(), 1);
}

#[test]
fn what_cannot_be_put_right_does_not_keep_the_primary_from_going_on_alone() {
    let (mut one, _) = pair();
    one.bad = vec![("detach", Manners::Fails)];
    let follows = Observation {
        follows: replica(100, false).follows,
        ..primary(100, false)
    };
    // Its replica is gone, and nobody asks any more.
    for _ in 0..100 {
        one.observe(0, follows.clone());
        one.pass(Nanos::from_millis(100));
    }
    assert!(steps(&one, "detach") > 1);
    assert!(steps(&one, "degrade") > 0, "{:?}", one.steps);
}
