//! Maintenance, and back.

use ha_common::Nanos;
use ha_core::{
    Action, Cause, Input, InstanceId, InterfaceCondition, Manner, Mode, State, check::Health,
};

use super::*;

#[test]
fn an_active_node_in_maintenance_demotes_and_rests() {
    let mut driver = active_of(with_roles(1));
    mode(&mut driver, Mode::Maintenance);
    let (round, manner) = demotion(&driver.settle()).expect("they are promoted");
    assert_eq!(manner, Manner::Forced);
    assert_eq!(driver.state(), State::Demoting);
    demoted(&mut driver, round, Ok(()));
    let actions = driver.settle();
    assert_eq!(driver.state(), State::Initialize);
    assert_eq!(driver.status_of(ID).cause, Cause::Maintenance);
    assert!(
        actions
            .iter()
            .any(|one| matches!(one, Action::SendAdvert { .. })),
        "it lets go"
    );
    explains(&driver, "in maintenance");
    // Nothing brings it back but the mode.
    driver.input(prospect(Ok(())));
    driver.ready(ID);
    checked(&mut driver, Health::Down);
    checked(&mut driver, Health::Up);
    driver.input(Input::Interface {
        instance: ID,
        condition: InterfaceCondition::NoCarrier,
    });
    driver.ready(ID);
    driver.input(Input::Reconfigure(with_roles(2)));
    for id in [0, 1].map(InstanceId) {
        driver.ready(id);
    }
    driver.settle();
    assert_eq!(driver.engine.poll_timeout(), None);
    assert_eq!(driver.state(), State::Initialize);
    assert_eq!(driver.state_of(InstanceId(1)), State::Initialize);
    mode(&mut driver, Mode::Maintenance);
    assert_eq!(driver.settle(), []);

    mode(&mut driver, Mode::ActiveStandby);
    assert_eq!(driver.state(), State::Backup);
    assert_eq!(driver.status_of(ID).cause, Cause::MaintenanceOver);
    until(&mut driver, State::Promoting);
}

#[test]
fn maintenance_while_the_roles_are_promoted() {
    let (mut driver, round) = promoting_of(with_roles(1));
    mode(&mut driver, Mode::Maintenance);
    let (back, _) = demotion(&driver.settle()).expect("something of it may be done");
    promoted(&mut driver, round, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Demoting);
    demoted(&mut driver, back, Ok(()));
    assert_eq!(driver.state(), State::Initialize);
}

#[test]
fn maintenance_while_the_roles_are_demoted_for_a_switchover() {
    let mut driver = active_of(with_roles(1));
    switchover(&mut driver);
    driver.settle();
    mode(&mut driver, Mode::Maintenance);
    let (round, manner) = demotion(&driver.settle()).expect("in any case now");
    assert_eq!(manner, Manner::Forced);
    demoted(&mut driver, round, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Initialize);
    assert_eq!(driver.status_of(ID).cause, Cause::Maintenance);
}

#[test]
fn maintenance_that_is_over_before_the_roles_are_demoted() {
    let mut driver = active_of(with_roles(1));
    mode(&mut driver, Mode::Maintenance);
    let (round, _) = demotion(&driver.settle()).expect("they are promoted");
    mode(&mut driver, Mode::Standalone);
    driver.settle();
    assert_eq!(driver.state(), State::Demoting);
    demoted(&mut driver, round, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Backup);
    until(&mut driver, State::Promoting);
}

#[test]
fn maintenance_in_the_other_states() {
    // Lost, and its roles are still being demoted.
    let mut driver = active_of(with_roles(1));
    driver.hear(103, 200);
    let (round, _) = demotion(&driver.settle()).expect("they are promoted");
    mode(&mut driver, Mode::Maintenance);
    assert_eq!(demotion(&driver.settle()), None, "that is under way");
    assert_eq!(driver.state(), State::Initialize);
    demoted(&mut driver, round, Ok(()));
    assert_eq!(driver.state(), State::Initialize);

    // Lost while it goes into maintenance.
    let mut driver = active_of(with_roles(1));
    mode(&mut driver, Mode::Maintenance);
    driver.settle();
    driver.hear(103, 200);
    driver.settle();
    assert_eq!(driver.state(), State::Initialize);

    // Backup, elected, at fault, and not there yet.
    for state in [
        State::Backup,
        State::Promoting,
        State::Fault,
        State::Initialize,
    ] {
        let mut driver = Driver::new(with_roles(1));
        if state != State::Initialize {
            driver.ready(ID);
            driver.input(prospect(Ok(())));
            checked(&mut driver, Health::Up);
        }
        match state {
            State::Promoting => driver.silence(),
            State::Fault => checked(&mut driver, Health::Down),
            _ => {}
        }
        assert_eq!(driver.state(), state);
        driver.take();
        mode(&mut driver, Mode::Maintenance);
        let actions = driver.settle();
        assert_eq!(demotion(&actions), None);
        assert_eq!(driver.state(), State::Initialize);
        assert_eq!(driver.status_of(ID).cause, Cause::Maintenance);
        mode(&mut driver, Mode::ActiveStandby);
        let after = match state {
            State::Fault => State::Fault,
            State::Initialize => State::Initialize,
            _ => State::Backup,
        };
        assert_eq!(driver.state(), after);
    }
}

#[test]
fn a_node_without_roles_hands_over_at_once() {
    let mut driver = Driver::active(instance(0));
    mode(&mut driver, Mode::Maintenance);
    let actions = driver.settle();
    assert_eq!(driver.state(), State::Initialize);
    assert!(
        actions
            .iter()
            .any(|one| matches!(one, Action::SendAdvert { .. }))
    );
    assert!(
        actions
            .iter()
            .any(|one| matches!(one, Action::RemoveVips { .. }))
    );
    mode(&mut driver, Mode::ActiveStandby);
    driver.silence();
    driver.settle();
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn a_node_may_start_in_maintenance() {
    let mut config = with_roles(1);
    config.mode = Mode::Maintenance;
    let mut driver = Driver::backup_of(config);
    driver.input(prospect(Ok(())));
    run_for(&mut driver, Nanos::from_secs(1));
    assert_eq!(driver.state(), State::Initialize);
    assert_eq!(driver.status_of(ID).cause, Cause::Maintenance);
}

#[test]
fn an_interface_that_was_lost_in_maintenance_counts_afterwards() {
    let mut driver = active_of(with_roles(1));
    mode(&mut driver, Mode::Maintenance);
    let (round, _) = demotion(&driver.settle()).expect("they are promoted");
    demoted(&mut driver, round, Ok(()));
    driver.input(Input::Interface {
        instance: ID,
        condition: InterfaceCondition::Down,
    });
    driver.settle();
    assert_eq!(driver.state(), State::Initialize);
    mode(&mut driver, Mode::ActiveStandby);
    assert_eq!(driver.state(), State::Fault);
    driver.ready(ID);
    assert_eq!(driver.state(), State::Backup);
}
