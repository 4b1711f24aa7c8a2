//! The daemon ends.

use ha_common::{Nanos, Priority};
use ha_core::{Action, Cause, Input, InstanceId, Manner, Mode, State};

use super::*;

fn finished(actions: &[Action]) -> bool {
    actions.contains(&Action::Finished)
}

#[test]
fn it_ends_after_the_roles_are_demoted() {
    let mut config = with_roles(1);
    config.instances.push(instance(1));
    let mut driver = active_of(config);
    driver.input(Input::Shutdown);
    let actions = driver.settle();
    assert!(!finished(&actions));
    assert_eq!(
        driver.state_of(InstanceId(1)),
        State::Initialize,
        "that one has no roles"
    );
    assert_eq!(driver.state(), State::Demoting);
    let (round, manner) = demotion(&actions).expect("they are promoted");
    assert_eq!(manner, Manner::Forced);

    // It takes no other orders meanwhile, and goes on advertising.
    driver.input(Input::Shutdown);
    switchover(&mut driver);
    mode(&mut driver, Mode::Maintenance);
    driver.input(Input::Reconfigure(with_roles(2)));
    assert_eq!(driver.settle(), []);
    let meanwhile = run_for(&mut driver, Nanos::from_millis(500));
    assert!(meanwhile.iter().any(|one| matches!(
        one,
        Action::SendAdvert {
            priority: Priority(100),
            ..
        }
    )));
    demoted(&mut driver, round, Ok(()));
    let actions = driver.settle();
    assert!(actions.iter().any(|one| matches!(
        one,
        Action::SendAdvert {
            priority: Priority::RELEASE,
            ..
        }
    )));
    assert!(finished(&actions));
    assert_eq!(driver.status_of(ID).cause, Cause::Shutdown);
    assert_eq!(driver.engine.poll_timeout(), None);
}

#[test]
fn it_ends_while_they_are_promoted_or_demoted() {
    let (mut driver, _) = promoting_of(with_roles(1));
    driver.input(Input::Shutdown);
    let (round, _) = demotion(&driver.settle()).expect("something of it may be done");
    demoted(&mut driver, round, Ok(()));
    assert!(finished(&driver.settle()));

    let mut driver = active_of(with_roles(1));
    switchover(&mut driver);
    driver.settle();
    driver.input(Input::Shutdown);
    let (round, manner) = demotion(&driver.settle()).expect("in any case now");
    assert_eq!(manner, Manner::Forced);
    demoted(&mut driver, round, Ok(()));
    assert!(finished(&driver.settle()));

    // Lost before: what is being demoted is waited for.
    let mut driver = active_of(with_roles(1));
    driver.hear(103, 200);
    let (round, _) = demotion(&driver.settle()).expect("they are promoted");
    driver.input(Input::Shutdown);
    assert!(!finished(&driver.settle()));
    demoted(&mut driver, round, Ok(()));
    assert!(finished(&driver.settle()));
}

#[test]
fn an_election_that_is_lost_at_the_end_is_let_go_of() {
    let mut driver = active_of(with_roles(1));
    driver.input(Input::Shutdown);
    let (round, _) = demotion(&driver.settle()).expect("they are promoted");
    driver.hear(103, 200);
    let actions = driver.settle();
    assert!(!finished(&actions));
    assert_eq!(demotion(&actions), None, "it is under way");
    assert_eq!(driver.state(), State::Initialize);
    demoted(&mut driver, round, Ok(()));
    assert!(finished(&driver.settle()));
}

#[test]
fn a_demotion_that_hangs_does_not_keep_it() {
    let mut driver = active_of(with_roles(1));
    driver.input(Input::Shutdown);
    let began = driver.now;
    driver.settle();
    let mut actions = Vec::new();
    while driver.engine.poll_timeout().is_some() {
        actions.extend(driver.tick_and_settle());
        assert!(driver.now.since(began) <= Nanos::from_millis(3_100));
    }
    assert!(finished(&actions));
    assert_eq!(alarms(&actions), 1);
}

#[test]
fn without_roles_that_are_promoted_it_ends_at_once() {
    let mut driver = backup_of(with_roles(1));
    driver.input(Input::Shutdown);
    assert!(finished(&driver.settle()));

    let mut driver = backup_of(with_roles(1));
    driver.silence();
    driver.take();
    driver.input(Input::Shutdown);
    let actions = driver.settle();
    assert!(finished(&actions));
    assert_eq!(demotion(&actions), None);
}
