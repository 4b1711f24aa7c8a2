//! What a promotion would meet with.

use ha_common::Nanos;
use ha_core::{Action, Cause, Input, Prospect, State};

use super::*;

#[test]
fn nothing_is_taken_over_before_the_roles_were_looked_at() {
    let mut driver = Driver::backup_of(with_roles(1));
    checked(&mut driver, ha_core::check::Health::Up);
    let actions = run_for(&mut driver, Nanos::from_secs(1));
    assert_eq!(driver.state(), State::Backup);
    assert!(
        !actions
            .iter()
            .any(|one| matches!(one, Action::SendAdvert { .. }))
    );
    explains(&driver, "not been looked at yet");
    driver.input(prospect(Ok(())));
    assert_eq!(
        driver.state(),
        State::Promoting,
        "it has been silent for long enough"
    );
}

#[test]
fn roles_that_cannot_be_promoted_keep_a_node_from_taking_over() {
    let mut driver = backup_of(with_roles(1));
    driver.input(prospect(Err("it is 40 s behind")));
    run_for(&mut driver, Nanos::from_secs(1));
    assert_eq!(driver.state(), State::Backup);
    explains(&driver, "its roles cannot be promoted: it is 40 s behind");
    // Whoever is heard takes the claim away.
    driver.hear(102, 200);
    driver.input(prospect(Ok(())));
    assert_eq!(driver.state(), State::Backup);
    driver.input(prospect(Err("it is 40 s behind")));
    run_for(&mut driver, Nanos::from_secs(1));
    assert_eq!(driver.state(), State::Backup);
    driver.input(prospect(Ok(())));
    assert_eq!(driver.state(), State::Promoting);
}

#[test]
fn one_that_is_elected_lets_go_if_the_roles_cannot_be_promoted_any_more() {
    let mut driver = backup_of(with_roles(1));
    driver.silence();
    driver.input(prospect(Err("replication has stopped")));
    let actions = driver.settle();
    assert_eq!(driver.state(), State::Backup);
    assert_eq!((promotion(&actions), demotion(&actions)), (None, None));
    assert_eq!(
        driver.status_of(ID).cause,
        Cause::NotEligible {
            why: String::from("replication has stopped")
        }
    );
    // It is no failure: it is elected again as soon as it may be.
    run_for(&mut driver, Nanos::from_millis(100));
    driver.input(prospect(Ok(())));
    assert_eq!(driver.state(), State::Promoting);
}

#[test]
fn what_is_under_way_goes_on() {
    let (mut driver, round) = promoting_of(with_roles(1));
    driver.input(prospect(Err("it is a primary")));
    assert_eq!(driver.settle(), []);
    promoted(&mut driver, round, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn the_data_s_position_is_told_to_the_dataplane() {
    let mut driver = backup_of(with_roles(2));
    let at = |position| Input::Prospect {
        group: String::from("db"),
        prospect: Prospect {
            eligible: Ok(()),
            position,
        },
    };
    driver.input(at(8));
    let positions = |actions: &[Action]| -> Vec<u32> {
        let position = |action: &Action| match action {
            Action::SetRank { position, .. } => Some(*position),
            _ => None,
        };
        actions.iter().filter_map(position).collect()
    };
    assert_eq!(positions(&driver.settle()), [8, 8]);
    driver.input(at(8));
    assert_eq!(driver.settle(), []);
    // A member that joins has it from the beginning, and another priority does not change it.
    let mut grown = with_roles(3);
    for instance in &mut grown.instances {
        instance.priority = ha_common::Priority(90);
    }
    driver.input(Input::Reconfigure(grown));
    assert_eq!(positions(&driver.settle()), [8, 8, 0, 8]);
    // Also while they are promoted.
    driver.input(at(9));
    assert_eq!(positions(&driver.settle()), [9, 9, 9]);
}

#[test]
fn other_groups_are_not_concerned() {
    let mut config = with_roles(1);
    config.instances.push(instance(1));
    let mut driver = Driver::backup_of(config);
    driver.input(Input::Prospect {
        group: String::from("web"),
        prospect: Prospect {
            eligible: Ok(()),
            position: 3,
        },
    });
    driver.settle();
    run_for(&mut driver, Nanos::from_secs(1));
    assert_eq!(driver.state_of(ha_core::InstanceId(1)), State::Active);
    assert_eq!(driver.state(), State::Backup);
}
