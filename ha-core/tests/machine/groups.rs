//! Instances that move together.

use ha_common::{Nanos, Priority};
use ha_core::{Action, Cause, EngineConfig, Input, InstanceId, InterfaceCondition, State, Target};

use crate::driver::*;

const A: InstanceId = InstanceId(0);
const B: InstanceId = InstanceId(1);

fn pair() -> EngineConfig {
    let member = |id| {
        let mut member = instance(id);
        member.group = Some(0);
        member
    };
    config(vec![member(0), member(1)])
}

fn active_pair() -> Driver {
    let mut driver = Driver::backup_of(pair());
    driver.silence();
    driver.settle();
    assert_eq!(states(&driver), [State::Active; 2]);
    driver
}

fn states(driver: &Driver) -> [State; 2] {
    [driver.state_of(A), driver.state_of(B)]
}

fn instance_of(action: &Action) -> Option<InstanceId> {
    match action {
        Action::SetEpoch { instance, .. }
        | Action::SendAdvert { instance, .. }
        | Action::RemoveVips { instance } => Some(*instance),
        _ => None,
    }
}

#[test]
fn a_group_waits_until_every_member_can_be_promoted() {
    let mut driver = Driver::backup_of(pair());
    driver.after(Nanos::from_millis(30));
    driver.hear_from(B, 102, 200);
    driver.now = START.after(DOWN);
    driver.engine.handle_timeout(driver.now);
    assert_eq!(driver.take(), []);
    assert!(
        driver
            .status_of(A)
            .explanation
            .iter()
            .any(|line| line.contains("waits for vr1")),
        "{:?}",
        driver.status_of(A).explanation
    );
    while driver.state_of(A) == State::Backup {
        driver.tick_and_settle();
    }
    assert_eq!(states(&driver), [State::Active; 2]);
}

#[test]
fn one_member_that_is_outranked_takes_the_other_along_and_every_gate_closes_first() {
    let mut driver = active_pair();
    driver.hear_from(B, 102, 200);
    let actions = driver.take();
    assert_eq!(
        transitions(&actions),
        [
            (
                State::Active,
                State::Backup,
                Cause::GroupMember {
                    name: String::from("vr1")
                }
            ),
            (
                State::Active,
                State::Backup,
                Cause::Outranked {
                    by: address(102),
                    priority: Priority(200),
                    by_address: false,
                }
            ),
        ]
    );
    let order: Vec<InstanceId> = deeds(actions).iter().filter_map(instance_of).collect();
    assert_eq!(order, [A, B, A, B, A, B]);
}

#[test]
fn a_member_that_fails_takes_the_other_along() {
    let mut driver = active_pair();
    driver.input(Input::Interface {
        instance: A,
        condition: InterfaceCondition::NoCarrier,
    });
    assert_eq!(states(&driver), [State::Fault, State::Backup]);
    driver.take();
    driver.after(Nanos::from_secs(1));
    driver.engine.handle_timeout(driver.now);
    driver.settle();
    assert_eq!(states(&driver), [State::Fault, State::Backup]);
}

#[test]
fn members_that_are_late_together_say_nothing() {
    let mut driver = active_pair();
    driver.after(Nanos::from_millis(31));
    driver.engine.handle_timeout(driver.now);
    let actions = driver.take();
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::SendAdvert { .. }))
    );
    assert_eq!(states(&driver), [State::Backup; 2]);
}

#[test]
fn a_failed_promotion_of_one_member_holds_both_down() {
    let mut driver = Driver::backup_of(pair());
    driver.silence();
    driver.take();
    driver.input(Input::VipsAdded {
        instance: B,
        result: Err(String::from("no")),
    });
    assert_eq!(states(&driver), [State::Backup; 2]);
    let failed = driver.now;
    while states(&driver) == [State::Backup; 2] {
        driver.tick_and_settle();
    }
    assert!(driver.now >= failed.after(Nanos::from_secs(1)));
}

#[test]
fn a_switchover_of_a_member_moves_the_group() {
    for target in [Target::Instance(B), Target::Group(0)] {
        let mut driver = active_pair();
        driver.input(Input::Switchover(target));
        assert_eq!(states(&driver), [State::Backup; 2]);
    }
}

#[test]
fn independent_instances_do_not_disturb_each_other() {
    let mut driver = Driver::backup_of(config(vec![instance(0), instance(1)]));
    driver.silence();
    driver.settle();
    driver.hear_from(B, 102, 200);
    driver.take();
    assert_eq!(states(&driver), [State::Active, State::Backup]);
}

#[test]
fn a_member_that_waits_while_another_one_fails_is_held_down_no_longer_than_it() {
    let mut grown = pair();
    let alone = EngineConfig {
        instances: vec![grown.instances[0].clone()],
        ..grown.clone()
    };
    let mut driver = Driver::backup_of(alone);
    driver.silence();
    driver.settle();
    assert_eq!(driver.state_of(A), State::Active);
    // The member that a reload adds is in Backup when the addresses of the Active one cannot be put back.
    grown.instances[1].preempt_delay = Nanos::from_secs(5);
    driver.input(Input::Reconfigure(grown));
    driver.ready(B);
    driver.settle();
    driver.hear_from(B, 102, 50);
    assert_eq!(states(&driver), [State::Active, State::Backup]);
    driver.input(Input::VipLost { instance: A });
    driver.take();
    driver.input(Input::VipsAdded {
        instance: A,
        result: Err(String::from("no")),
    });
    driver.settle();
    assert_eq!(states(&driver), [State::Backup; 2]);
    let failed = driver.now;
    while states(&driver) != [State::Active; 2] {
        driver.tick_and_settle();
        assert!(
            driver.now < failed.after(Nanos::from_secs(10)),
            "{:?}",
            driver.status_of(B).explanation
        );
    }
}
