//! What is held until the roles are demoted.

use ha_common::{Nanos, Priority};
use ha_core::{Action, Cause, Input, InstanceId, InterfaceCondition, Manner, State, check::Health};

use super::*;

fn released(actions: &[Action]) -> bool {
    actions.iter().any(
        |action| matches!(action, Action::SendAdvert { priority, .. } if *priority == Priority::RELEASE),
    )
}

fn epochs(actions: &[Action]) -> usize {
    let epoch = |action: &&Action| matches!(action, Action::SetEpoch { .. });
    actions.iter().filter(epoch).count()
}

#[test]
fn a_switchover_closes_demotes_and_lets_go_then() {
    let mut driver = active_of(with_roles(2));
    switchover(&mut driver);
    let actions = driver.settle();
    assert_eq!(driver.state(), State::Demoting);
    assert_eq!(epochs(&actions), 2, "every gate is closed");
    let (round, manner) = demotion(&actions).expect("they are promoted");
    assert_eq!(manner, Manner::Graceful);
    let order = |of: fn(&Action) -> bool| actions.iter().position(of).expect("it is done");
    let closed = order(|one| matches!(one, Action::SetEpoch { .. }));
    let demote = order(|one| matches!(one, Action::DemoteRoles { .. }));
    assert!(closed < demote);
    let gone = |one: &&Action| matches!(one, Action::RemoveVips { .. });
    assert_eq!(actions.iter().filter(gone).count(), 2);
    explains(&driver, "Its roles are being demoted");

    let meanwhile = run_for(&mut driver, Nanos::from_secs(1));
    assert!(!released(&meanwhile));
    let sent = |one: &&Action| matches!(one, Action::SendAdvert { .. });
    assert!(
        meanwhile.iter().filter(sent).count() >= 180,
        "nobody takes over"
    );
    assert!(
        !meanwhile
            .iter()
            .any(|one| matches!(one, Action::SetLease { .. }))
    );

    demoted(&mut driver, round, Ok(()));
    let actions = driver.settle();
    assert!(released(&actions));
    assert_eq!(driver.state(), State::Backup);
    assert_eq!(driver.status_of(ID).cause, Cause::Switchover);
    assert!(
        !actions
            .iter()
            .any(|one| matches!(one, Action::RemoveVips { .. })),
        "once"
    );
}

#[test]
fn a_switchover_that_is_refused_opens_again() {
    let mut driver = active_of(with_roles(1));
    switchover(&mut driver);
    let (round, _) = demotion(&driver.settle()).expect("they are promoted");
    run_for(&mut driver, Nanos::from_millis(500));
    demoted(&mut driver, round, Err("no standby is fit"));
    let actions = driver.settle();
    assert_eq!(driver.state(), State::Active);
    assert_eq!(promotion(&actions), None, "they were promoted all the time");
    let steps = transitions(&actions);
    assert!(
        matches!(&steps[0], (State::Demoting, State::Promoting, Cause::TakenBack { why }) if why == "no standby is fit")
    );
    // And again, as if nothing had been.
    switchover(&mut driver);
    let (again, manner) = demotion(&driver.settle()).expect("again");
    assert!(again > round);
    assert_eq!(manner, Manner::Graceful);
    demoted(&mut driver, round, Ok(()));
    assert_eq!(driver.state(), State::Demoting, "that is another round");
    demoted(&mut driver, again, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn a_veto_demotes_in_any_case_and_ends_in_fault() {
    let mut driver = active_of(with_roles(1));
    checked(&mut driver, Health::Down);
    let (round, manner) = demotion(&driver.settle()).expect("they are promoted");
    assert_eq!(manner, Manner::Forced);
    assert_eq!(driver.state(), State::Demoting);
    explains(&driver, "fault afterwards");
    // An error that is told of does not keep it.
    demoted(&mut driver, round, Err("it does not end"));
    let actions = driver.settle();
    assert_eq!(alarms(&actions), 1);
    assert_eq!(driver.state(), State::Fault);
    assert!(released(&actions));
    checked(&mut driver, Health::Up);
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn what_it_left_for_may_be_over_by_the_time_that_the_roles_are_demoted() {
    let mut driver = active_of(with_roles(1));
    checked(&mut driver, Health::Down);
    let (round, _) = demotion(&driver.settle()).expect("they are promoted");
    checked(&mut driver, Health::Up);
    driver.settle();
    assert_eq!(driver.state(), State::Demoting);
    demoted(&mut driver, round, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn a_graceful_demotion_becomes_a_forced_one() {
    let mut driver = active_of(with_roles(1));
    switchover(&mut driver);
    let (graceful, _) = demotion(&driver.settle()).expect("they are promoted");
    checked(&mut driver, Health::Down);
    let (forced, manner) = demotion(&driver.settle()).expect("that cannot be taken back");
    assert_eq!(manner, Manner::Forced);
    assert!(forced > graceful);
    demoted(&mut driver, graceful, Err("taken back"));
    driver.settle();
    assert_eq!(
        driver.state(),
        State::Demoting,
        "that is not asked for any more"
    );
    demoted(&mut driver, forced, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Fault);
}

#[test]
fn a_demotion_that_hangs_is_given_up_loudly() {
    let mut driver = active_of(with_roles(1));
    checked(&mut driver, Health::Down);
    let began = driver.now;
    let (round, _) = demotion(&driver.settle()).expect("they are promoted");
    let actions = until(&mut driver, State::Fault);
    let lasted = driver.now.since(began);
    assert!(
        lasted >= Nanos::from_secs(3) && lasted <= Nanos::from_millis(3_100),
        "{lasted}"
    );
    assert_eq!(alarms(&actions), 1);
    assert!(released(&actions));
    // Nobody knows what they are: not before it has ended.
    checked(&mut driver, Health::Up);
    run_for(&mut driver, Nanos::from_secs(20));
    assert_eq!(driver.state(), State::Backup);
    explains(&driver, "it is not known whether they are");
    demoted(&mut driver, round, Ok(()));
    until(&mut driver, State::Promoting);
}

#[test]
fn a_graceful_demotion_that_hangs_is_forced_and_then_given_up() {
    let mut driver = active_of(with_roles(1));
    switchover(&mut driver);
    let began = driver.now;
    driver.settle();
    let mut actions = run_for(&mut driver, Nanos::from_millis(5_100));
    let (_, manner) = demotion(&actions).expect("after its limit");
    assert_eq!(manner, Manner::Forced);
    assert_eq!(driver.state(), State::Demoting);
    actions = until(&mut driver, State::Backup);
    assert_eq!(alarms(&actions), 1);
    assert!(driver.now.since(began) <= Nanos::from_millis(8_200));
}

#[test]
fn an_election_that_is_lost_meanwhile_is_let_go_of_at_once() {
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
    for (loss, to) in [
        (outranked, State::Backup),
        (cable, State::Fault),
        (held_up, State::Backup),
    ] {
        let mut driver = active_of(with_roles(1));
        switchover(&mut driver);
        let (graceful, _) = demotion(&driver.settle()).expect("they are promoted");
        loss(&mut driver);
        let actions = driver.settle();
        assert_eq!(driver.state(), to);
        let (forced, manner) = demotion(&actions).expect("another node may act");
        assert_eq!(manner, Manner::Forced);
        demoted(&mut driver, graceful, Err("taken back"));
        driver.settle();
        assert_eq!(driver.state(), to);
        demoted(&mut driver, forced, Ok(()));
        driver.settle();
        driver.ready(ID);
        until(&mut driver, State::Promoting);
    }
}

#[test]
fn what_is_lost_as_active_is_let_go_of_at_once() {
    let mut driver = active_of(with_roles(1));
    driver.hear(103, 200);
    let actions = driver.settle();
    assert_eq!(driver.state(), State::Backup);
    assert_eq!(
        demotion(&actions).map(|(_, manner)| manner),
        Some(Manner::Forced)
    );
    explains(&driver, "before its roles are demoted");

    let mut driver = active_of(with_roles(1));
    driver.after(INTERVAL.times(4));
    driver.engine.handle_timeout(driver.now);
    let actions = driver.settle();
    assert_eq!(driver.state(), State::Backup);
    assert!(!released(&actions), "somebody may have taken over");
    assert_eq!(
        demotion(&actions).map(|(_, manner)| manner),
        Some(Manner::Forced)
    );
}

#[test]
fn one_member_that_is_lost_takes_the_unit_along_at_once() {
    let mut driver = active_of(with_roles(2));
    driver.input(Input::Interface {
        instance: InstanceId(1),
        condition: InterfaceCondition::Down,
    });
    let actions = driver.settle();
    assert_eq!(driver.state(), State::Backup);
    assert_eq!(driver.state_of(InstanceId(1)), State::Fault);
    assert_eq!(
        demotion(&actions).map(|(_, manner)| manner),
        Some(Manner::Forced)
    );
}

#[test]
fn a_lower_one_that_advertises_meanwhile_is_answered() {
    let mut driver = active_of(with_roles(1));
    switchover(&mut driver);
    driver.settle();
    run_for(&mut driver, Nanos::from_millis(100));
    driver.hear(103, 50);
    let sent = |one: &Action| matches!(one, Action::SendAdvert { .. });
    assert!(driver.settle().iter().any(sent));
    assert_eq!(driver.state(), State::Demoting);
    driver.hear(103, 0);
    assert_eq!(driver.settle(), []);
    assert_eq!(driver.state(), State::Demoting);
}

#[test]
fn roles_that_are_on_their_way_are_not_moved() {
    let (mut driver, _) = promoting_of(with_roles(1));
    switchover(&mut driver);
    let actions = driver.settle();
    assert_eq!(
        notes(&actions),
        ["vr0 cannot be moved now: its roles are being promoted"]
    );
    assert_eq!(driver.state(), State::Promoting);

    let mut driver = active_of(with_roles(1));
    switchover(&mut driver);
    driver.settle();
    switchover(&mut driver);
    let actions = driver.settle();
    assert_eq!(
        notes(&actions),
        ["vr0 cannot be moved now: its roles are being demoted"]
    );
    assert_eq!(demotion(&actions), None);
}

#[test]
fn a_switchover_before_the_roles_are_promoted_lets_go_at_once() {
    let mut driver = backup_of(with_roles(1));
    driver.silence();
    driver.take();
    switchover(&mut driver);
    let actions = driver.settle();
    assert_eq!(demotion(&actions), None);
    assert_eq!(driver.state(), State::Backup);
    assert!(released(&actions));
}
