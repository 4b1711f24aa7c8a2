//! Reloads while roles are promoted, or on their way.

use ha_common::Nanos;
use ha_core::{Action, Cause, EngineConfig, GroupConfig, Input, InstanceId, Manner, State};

use super::*;

fn reload(driver: &mut Driver, config: EngineConfig) -> Vec<Action> {
    let ids: Vec<InstanceId> = config.instances.iter().map(|one| one.id).collect();
    driver.input(Input::Reconfigure(config));
    for id in ids {
        driver.ready(id);
    }
    driver.settle()
}

#[test]
fn a_reload_that_changes_nothing_of_them_disturbs_nothing() {
    // Another group comes first by now.
    let mut other = with_roles(1);
    other.groups.insert(
        0,
        GroupConfig {
            name: String::from("web"),
            track: Vec::new(),
            roles: None,
        },
    );
    other.instances[0].group = Some(1);
    let (mut driver, round) = promoting_of(with_roles(1));
    assert_eq!(deeds(reload(&mut driver, other.clone())), []);
    promoted(&mut driver, round, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Active);
    assert_eq!(deeds(reload(&mut driver, with_roles(1))), []);
    assert_eq!(driver.state(), State::Active);
    switchover(&mut driver);
    let (round, _) = demotion(&driver.settle()).expect("they are promoted");
    assert_eq!(deeds(reload(&mut driver, other)), []);
    assert_eq!(driver.state(), State::Demoting);
    demoted(&mut driver, round, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn roles_whose_instances_are_gone_are_demoted() {
    let mut driver = active_of(with_roles(1));
    let mut gone = with_roles(1);
    gone.instances[0].name = String::from("another");
    gone.instances[0].id = InstanceId(1);
    let actions = reload(&mut driver, gone);
    let (round, manner) = demotion(&actions).expect("nobody holds them");
    assert_eq!(manner, Manner::Forced);
    let actions = run_for(&mut driver, Nanos::from_secs(1));
    assert_eq!(promotion(&actions), None);
    demoted(&mut driver, round, Ok(()));
    let mut actions = driver.settle();
    actions.extend(run_for(&mut driver, Nanos::from_secs(1)));
    assert!(promotion(&actions).is_some());
}

#[test]
fn one_instance_of_several_may_go() {
    let mut driver = active_of(with_roles(2));
    let actions = reload(&mut driver, with_roles(1));
    assert_eq!(demotion(&actions), None);
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn roles_that_are_no_longer_configured_are_demoted_and_forgotten() {
    let mut without = with_roles(1);
    without.groups[0].roles = None;

    let mut driver = active_of(with_roles(1));
    let (round, _) = demotion(&reload(&mut driver, without.clone())).expect("they are promoted");
    assert_eq!(driver.state(), State::Active, "its addresses are its own");
    demoted(&mut driver, round, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Active);

    let (mut driver, _) = promoting_of(with_roles(1));
    let actions = reload(&mut driver, without.clone());
    assert!(demotion(&actions).is_some());
    assert_eq!(
        driver.state(),
        State::Active,
        "there is nothing to wait for"
    );

    let mut driver = active_of(with_roles(1));
    switchover(&mut driver);
    driver.settle();
    let actions = reload(&mut driver, without.clone());
    assert_eq!(
        demotion(&actions).map(|(_, manner)| manner),
        Some(Manner::Forced)
    );
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn roles_that_are_new_are_promoted_before_it_goes_on() {
    let mut without = with_roles(1);
    without.groups[0].roles = None;
    let mut driver = Driver::backup_of(without);
    checked(&mut driver, ha_core::check::Health::Up);
    until(&mut driver, State::Active);
    reload(&mut driver, with_roles(1));
    assert_eq!(driver.state(), State::Backup);
    assert_eq!(driver.status_of(ID).cause, Cause::Reconfigured);
    driver.input(prospect(Ok(())));
    let mut actions = until(&mut driver, State::Promoting);
    actions.extend(driver.settle());
    assert!(promotion(&actions).is_some());
}

#[test]
fn an_active_instance_that_joins_a_group_whose_roles_are_not_promoted_lets_go() {
    let mut config = with_roles(2);
    config.instances[1].group = None;
    let mut driver = Driver::backup_of(config);
    run_for(&mut driver, Nanos::from_secs(1));
    assert_eq!(driver.state_of(InstanceId(1)), State::Active);
    reload(&mut driver, with_roles(2));
    assert_eq!(driver.state_of(InstanceId(1)), State::Backup);
}
