//! Every state and every event: what becomes of it, as one table.

use std::fmt::Write as _;

use ha_common::Nanos;
use ha_core::{Action, Input, InterfaceCondition, State, Target};

use crate::driver::*;

const STATES: [State; 5] = [
    State::Initialize,
    State::Backup,
    State::Promoting,
    State::Active,
    State::Fault,
];

/// A driver in a state, with its actions taken.
fn in_state(state: State) -> Driver {
    let mut driver = Driver::new(config(vec![instance(0)]));
    match state {
        State::Initialize => {}
        State::Backup => driver.ready(ID),
        State::Promoting => {
            driver.ready(ID);
            driver.silence();
        }
        State::Active => driver = Driver::active(instance(0)),
        State::Demoting => unreachable!("it has no roles"),
        State::Fault => {
            driver.ready(ID);
            lose(&mut driver);
        }
    }
    driver.take();
    assert_eq!(driver.state(), state);
    driver.after(Nanos::from_millis(6));
    driver
}

fn lose(driver: &mut Driver) {
    driver.input(Input::Interface {
        instance: ID,
        condition: InterfaceCondition::NoCarrier,
    });
}

type Step = fn(&mut Driver);

const EVENTS: [(&str, Step); 16] = [
    ("interface ready", |driver| driver.ready(ID)),
    ("interface lost", lose),
    ("advert, higher priority", |driver| driver.hear(1, 200)),
    ("advert, same priority, greater address", |driver| {
        driver.hear(200, 100);
    }),
    ("advert, same priority, smaller address", |driver| {
        driver.hear(1, 100);
    }),
    ("advert, lower priority", |driver| driver.hear(200, 50)),
    ("priority 0", |driver| driver.hear(200, 0)),
    ("timers, after a long time", |driver| {
        driver.after(Nanos::from_millis(45));
        driver.engine.handle_timeout(driver.now);
    }),
    ("next timer", |driver| {
        if let Some((due, _)) = driver.engine.poll_timeout() {
            driver.now = driver.now.max(due);
            driver.engine.handle_timeout(driver.now);
        }
    }),
    ("addresses added", |driver| {
        driver.input(Input::VipsAdded {
            instance: ID,
            result: Ok(()),
        });
    }),
    ("addresses not added", |driver| {
        driver.input(Input::VipsAdded {
            instance: ID,
            result: Err(String::from("no")),
        });
    }),
    ("announcement failed", |driver| {
        driver.input(Input::Announced {
            instance: ID,
            result: Err(String::from("no")),
        });
    }),
    ("address lost", |driver| {
        driver.input(Input::VipLost { instance: ID });
    }),
    ("at another port", |driver| {
        driver.input(Input::Reattached { instance: ID });
    }),
    ("switchover", |driver| {
        driver.input(Input::Switchover(Target::Instance(ID)));
    }),
    ("shutdown", |driver| driver.input(Input::Shutdown)),
];

fn brief(action: &Action) -> Option<String> {
    Some(match action {
        Action::SetEpoch { epoch, .. } => format!("epoch {}", epoch.0),
        Action::SetLease { .. } => String::from("lease"),
        Action::SetRank { priority, .. } => format!("rank {priority}"),
        Action::Watch { down, .. } => format!("watch {down:?}"),
        Action::SendAdvert { priority, .. } => format!("send {priority}"),
        Action::AddVips { .. } => String::from("add"),
        Action::RemoveVips { .. } => String::from("remove"),
        Action::Announce { .. } => String::from("announce"),
        Action::PromoteRoles { .. } => String::from("promote"),
        Action::DemoteRoles { .. } => String::from("demote"),
        Action::Finished => String::from("finished"),
        Action::Confirm { .. } => String::from("confirm"),
        Action::Alarm { .. } => String::from("alarm"),
        Action::Note { .. } => String::from("note"),
        Action::Report(_) => return None,
        Action::Stand { .. }
        | Action::Act { .. }
        | Action::LetGo { .. }
        | Action::SendEcho { .. }
        | Action::SendRelease { .. }
        | Action::RenewAlone { .. }
        | Action::PathReport { .. } => String::from("lease of a peer"),
    })
}

#[test]
fn transitions() {
    let mut table = String::new();
    for state in STATES {
        for (name, step) in EVENTS {
            let mut driver = in_state(state);
            step(&mut driver);
            let actions: Vec<String> = driver.take().iter().filter_map(brief).collect();
            let to = driver.state();
            let row = format!(
                "{:<10} | {name:<38} | {:<10} | {}",
                state.name(),
                if to == state { "" } else { to.name() },
                actions.join(", ")
            );
            let _ = writeln!(table, "{}", row.trim_end());
        }
    }
    insta::assert_snapshot!(table);
}
