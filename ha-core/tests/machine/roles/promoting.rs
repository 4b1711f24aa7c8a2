//! Elected, until the roles are promoted.

use ha_common::{Nanos, Priority};
use ha_core::{Action, Cause, Input, InstanceId, InterfaceCondition, Manner, State};

use super::*;

fn adds(actions: &[Action]) -> usize {
    let add = |action: &&Action| matches!(action, Action::AddVips { .. });
    actions.iter().filter(add).count()
}

fn adverts(actions: &[Action], priority: u8) -> usize {
    let is_one = |action: &&Action| matches!(action, Action::SendAdvert { priority: sent, .. } if *sent == Priority(priority));
    actions.iter().filter(is_one).count()
}

#[test]
fn the_addresses_and_the_gate_wait_for_the_roles() {
    let mut driver = backup_of(with_roles(1));
    driver.silence();
    let actions = driver.settle();
    let (round, unplanned) = promotion(&actions).expect("no other node can act");
    assert!(unplanned);
    assert_eq!(adds(&actions), 0);
    assert_eq!(driver.state(), State::Promoting);
    explains(&driver, "Its roles are being promoted");
    driver.input(Input::RolesProgress {
        group: String::from("db"),
        text: String::from("mariadb: drain"),
    });
    explains(&driver, "Its roles are being promoted: mariadb: drain");

    let meanwhile = run_for(&mut driver, Nanos::from_secs(1));
    assert!(adverts(&meanwhile, 100) >= 90, "nobody else competes");
    assert_eq!(adds(&meanwhile), 0);
    assert!(
        !meanwhile
            .iter()
            .any(|action| matches!(action, Action::SetLease { .. }))
    );

    promoted(&mut driver, round, Ok(()));
    let actions = driver.settle();
    let order: Vec<usize> = [
        actions
            .iter()
            .position(|one| matches!(one, Action::AddVips { .. })),
        actions
            .iter()
            .position(|one| matches!(one, Action::SetLease { .. })),
        actions
            .iter()
            .position(|one| matches!(one, Action::Announce { .. })),
    ]
    .into_iter()
    .map(|at| at.expect("it opens"))
    .collect();
    assert!(order.is_sorted());
    assert_eq!(driver.state(), State::Active);
    run_for(&mut driver, Nanos::from_secs(20));
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn one_that_let_go_is_told_from_one_that_fell_silent() {
    let mut config = with_roles(1);
    config.instances[0].sole_peer = true;
    let mut driver = backup_of(config);
    driver.hear(102, 200);
    driver.hear(102, 0);
    let (_, unplanned) = promotion(&driver.settle()).expect("at once");
    assert!(!unplanned);
}

#[test]
fn roles_wait_until_a_loser_is_gone() {
    let mut config = with_roles(1);
    config.instances[0].preempt_delay = Nanos::ZERO;
    let mut driver = backup_of(config);
    let mut actions = Vec::new();
    while driver.state() == State::Backup {
        driver.hear(102, 50);
        actions.extend(run_for(&mut driver, INTERVAL));
    }
    assert_eq!(promotion(&actions), None);
    explains(&driver, "as soon as no other node can act");
    driver.hear(102, 0);
    let (_, unplanned) = promotion(&driver.settle()).expect("it has let go");
    assert!(!unplanned);
}

#[test]
fn roles_are_promoted_once_every_member_has_won() {
    let mut driver = backup_of(with_roles(2));
    driver.silence();
    let advert = |driver: &mut Driver| {
        let action = driver.engine.poll_action();
        matches!(action, Some(Action::PromoteRoles { .. }))
    };
    // The first member's advert is sent, the second one's is not.
    let mut sent = 0;
    while let Some(action) = driver.engine.poll_action() {
        if let Action::SendAdvert {
            instance, round, ..
        } = action
        {
            sent += 1;
            let result = if instance == InstanceId(0) {
                Ok(())
            } else {
                Err(String::from("no"))
            };
            driver.input(Input::AdvertSent {
                instance,
                round,
                result,
            });
        }
    }
    assert_eq!(sent, 2);
    assert!(!advert(&mut driver));
    let mut actions = Vec::new();
    while promotion(&actions).is_none() {
        actions.extend(driver.tick_and_settle());
    }
    let round = promotion(&actions).expect("both have won").0;
    promoted(&mut driver, round, Ok(()));
    let actions = driver.settle();
    assert_eq!(adds(&actions), 2);
    assert_eq!(driver.state_of(InstanceId(0)), State::Active);
    assert_eq!(driver.state_of(InstanceId(1)), State::Active);
}

#[test]
fn a_promotion_that_fails_lets_go_at_once_and_is_held_down_longer_each_time() {
    let (mut driver, mut round) = promoting_of(with_roles(1));
    let mut before = Nanos::ZERO;
    for _ in 0..4 {
        promoted(&mut driver, round, Err("the relay log is broken"));
        let failed = driver.now;
        let actions = driver.settle();
        assert_eq!(demotion(&actions), None, "none of them is promoted");
        assert_eq!(adverts(&actions, 0), 1);
        assert_eq!(driver.state(), State::Backup);
        assert!(
            matches!(&driver.status_of(ID).cause, Cause::PromotionFailed { why } if why == "the relay log is broken")
        );
        let mut actions = until(&mut driver, State::Promoting);
        actions.extend(driver.settle());
        let held = driver.now.since(failed);
        assert!(held > before, "{held} after {before}");
        before = held;
        round = promotion(&actions).expect("again").0;
    }
}

#[test]
fn a_promotion_that_hangs_is_given_up_and_undone() {
    let (mut driver, round) = promoting_of(with_roles(1));
    let actions = until(&mut driver, State::Demoting);
    assert!(driver.now.since(round) >= Nanos::from_secs(6));
    assert!(driver.now.since(round) <= Nanos::from_millis(6_100));
    let (back, manner) = demotion(&actions).expect("whatever it has done");
    assert_eq!(manner, Manner::Forced);
    assert!(
        matches!(&driver.status_of(ID).cause, Cause::PromotionFailed { why } if why.contains("within 5 s"))
    );
    // Too late, and not asked for any more.
    promoted(&mut driver, round, Ok(()));
    assert_eq!(adds(&driver.settle()), 0);
    assert_eq!(driver.state(), State::Demoting);
    demoted(&mut driver, back, Ok(()));
    assert_eq!(adverts(&driver.settle(), 0), 1);
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn outcomes_of_other_rounds_and_groups_count_for_nothing() {
    let (mut driver, round) = promoting_of(with_roles(1));
    promoted(&mut driver, round.before(Nanos(1)), Ok(()));
    promoted(&mut driver, round.before(Nanos(1)), Err("no"));
    demoted(&mut driver, round, Ok(()));
    demoted(&mut driver, round, Err("no"));
    driver.input(Input::RolesPromoted {
        group: String::from("web"),
        round,
        result: Ok(()),
    });
    assert_eq!(driver.settle(), []);
    assert_eq!(driver.state(), State::Promoting);
    promoted(&mut driver, round, Ok(()));
    driver.settle();
    promoted(&mut driver, round, Err("no"));
    driver.settle();
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn what_is_lost_while_they_are_promoted_is_let_go_of_at_once() {
    type Loss = fn(&mut Driver);
    let outranked: Loss = |driver| driver.hear(103, 200);
    let cable: Loss = |driver| {
        driver.input(Input::Interface {
            instance: ID,
            condition: InterfaceCondition::NoCarrier,
        });
    };
    let held_up: Loss = |driver| {
        driver.after(INTERVAL.times(4));
        driver.engine.handle_timeout(driver.now);
    };
    for (loss, to, farewell) in [
        (outranked, State::Backup, 1),
        (cable, State::Fault, 0),
        (held_up, State::Backup, 0),
    ] {
        let (mut driver, round) = promoting_of(with_roles(1));
        loss(&mut driver);
        let actions = driver.settle();
        assert_eq!(driver.state(), to, "{:?}", driver.status_of(ID).cause);
        assert_eq!(adverts(&actions, 0), farewell);
        let (back, manner) = demotion(&actions).expect("something of it may be done");
        assert_eq!(manner, Manner::Forced);
        promoted(&mut driver, round, Ok(()));
        assert_eq!(adds(&driver.settle()), 0);

        // It takes nothing over before that is done.
        driver.ready(ID);
        let actions = run_for(&mut driver, Nanos::from_secs(2));
        assert_eq!(promotion(&actions), None);
        assert_eq!(driver.state(), State::Backup);
        explains(&driver, "before its roles are demoted");
        demoted(&mut driver, back, Ok(()));
        let mut actions = driver.settle();
        actions.extend(until(&mut driver, State::Promoting));
        actions.extend(driver.settle());
        assert!(promotion(&actions).is_some());
    }
}

#[test]
fn addresses_that_cannot_be_added_have_the_roles_demoted_before_it_lets_go() {
    let (mut driver, round) = promoting_of(with_roles(1));
    promoted(&mut driver, round, Ok(()));
    driver.take();
    driver.input(Input::VipsAdded {
        instance: ID,
        result: Err(String::from("no")),
    });
    let actions = driver.settle();
    assert_eq!(driver.state(), State::Demoting);
    assert_eq!(adverts(&actions, 0), 0);
    let (back, manner) = demotion(&actions).expect("they are promoted");
    assert_eq!(manner, Manner::Forced);
    demoted(&mut driver, back, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Backup);
    let failed = driver.now;
    until(&mut driver, State::Promoting);
    assert!(driver.now.since(failed) >= Nanos::from_millis(900));
}

#[test]
fn a_member_that_joins_later_follows() {
    let mut driver = active_of(with_roles(1));
    driver.input(Input::Reconfigure(with_roles(2)));
    for id in [0, 1].map(InstanceId) {
        driver.ready(id);
    }
    let actions = run_for(&mut driver, Nanos::from_secs(1));
    assert_eq!(promotion(&actions), None);
    assert_eq!(driver.state_of(InstanceId(1)), State::Active);

    // Also while the others wait for the roles.
    let (mut driver, round) = promoting_of(with_roles(1));
    driver.input(Input::Reconfigure(with_roles(2)));
    for id in [0, 1].map(InstanceId) {
        driver.ready(id);
    }
    let actions = run_for(&mut driver, Nanos::from_secs(1));
    assert_eq!(promotion(&actions), None);
    assert_eq!(driver.state_of(InstanceId(1)), State::Promoting);
    assert_eq!(adds(&actions), 0);
    promoted(&mut driver, round, Ok(()));
    driver.settle();
    assert_eq!(driver.state_of(ID), State::Active);
    assert_eq!(driver.state_of(InstanceId(1)), State::Active);
}

#[test]
fn an_address_that_is_not_there_yet_is_not_put_back() {
    let (mut driver, _) = promoting_of(with_roles(1));
    driver.input(Input::VipLost { instance: ID });
    assert_eq!(adds(&driver.settle()), 0);
}
