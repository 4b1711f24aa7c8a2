//! Groups with roles.

mod demoting;
mod ending;
mod leases;
mod modes;
mod promoting;
mod prospects;
mod reload;

use ha_common::{MonoNs, Nanos};
use ha_core::{
    Action, EngineConfig, Input, Manner, Mode, Prospect, RolesConfig, State, Target, tracking,
};

use crate::driver::*;

const LIMITS: RolesConfig = RolesConfig {
    promote_limit: Nanos::from_secs(5),
    demote_limit: Nanos::from_secs(4),
    forced_limit: Nanos::from_secs(2),
};

/// `count` instances in a group with roles.
fn with_roles(count: u32) -> EngineConfig {
    let member = |id| {
        let mut member = instance(id);
        member.group = Some(0);
        member
    };
    let mut config = config((0..count).map(member).collect());
    config.groups[0].roles = Some(LIMITS);
    config.groups[0].track = vec![tracking::Track {
        source: tracking::Source::Check(String::from("disk")),
        effect: tracking::Effect::Veto,
    }];
    config.tracked = vec![tracking::TrackedConfig {
        source: tracking::Source::Check(String::from("disk")),
        up_delay: Nanos::ZERO,
        down_delay: Nanos::ZERO,
        damping: Nanos::ZERO,
        interval: Nanos::from_secs(1),
        timeout: Nanos::from_secs(1),
    }];
    config
}

fn prospect(eligible: Result<(), &str>) -> Input {
    Input::Prospect {
        group: String::from("db"),
        prospect: Prospect {
            eligible: eligible.map_err(String::from),
            position: 7,
        },
    }
}

/// Backup, with roles that could be promoted; what happened so far is thrown away.
fn backup_of(config: EngineConfig) -> Driver {
    let mut driver = Driver::backup_of(config);
    driver.input(prospect(Ok(())));
    checked(&mut driver, ha_core::check::Health::Up);
    driver.take();
    driver
}

/// Elected, with roles that are being promoted; the round.
fn promoting_of(config: EngineConfig) -> (Driver, MonoNs) {
    let mut driver = backup_of(config);
    driver.silence();
    let round = promotion(&driver.settle()).expect("roles are promoted").0;
    (driver, round)
}

fn active_of(config: EngineConfig) -> Driver {
    let (mut driver, round) = promoting_of(config);
    promoted(&mut driver, round, Ok(()));
    driver.settle();
    assert_eq!(driver.state(), State::Active);
    driver
}

fn promoted(driver: &mut Driver, round: MonoNs, result: Result<(), &str>) {
    driver.input(Input::RolesPromoted {
        group: String::from("db"),
        round,
        result: result.map_err(String::from),
    });
}

fn demoted(driver: &mut Driver, round: MonoNs, result: Result<(), &str>) {
    driver.input(Input::RolesDemoted {
        group: String::from("db"),
        round,
        result: result.map_err(String::from),
    });
}

/// The one order to promote among the actions.
fn promotion(actions: &[Action]) -> Option<(MonoNs, bool)> {
    let mut orders = actions.iter().filter_map(|action| match action {
        Action::PromoteRoles {
            group,
            round,
            unplanned,
        } => {
            assert_eq!(group, "db");
            Some((*round, *unplanned))
        }
        _ => None,
    });
    let order = orders.next();
    assert_eq!(orders.next(), None, "once");
    order
}

/// The one order to demote among the actions.
fn demotion(actions: &[Action]) -> Option<(MonoNs, Manner)> {
    let mut orders = actions.iter().filter_map(|action| match action {
        Action::DemoteRoles {
            group,
            round,
            manner,
        } => {
            assert_eq!(group, "db");
            Some((*round, *manner))
        }
        _ => None,
    });
    let order = orders.next();
    assert_eq!(orders.next(), None, "once");
    order
}

fn alarms(actions: &[Action]) -> usize {
    let alarm = |action: &&Action| matches!(action, Action::Alarm { .. });
    actions.iter().filter(alarm).count()
}

fn explains(driver: &Driver, part: &str) {
    let lines = driver.status_of(ID).explanation;
    assert!(lines.iter().any(|line| line.contains(part)), "{lines:?}");
}

fn switchover(driver: &mut Driver) {
    driver.input(Input::Switchover(Target::Group(0)));
}

/// Lets time pass, with every action carried out, until a state is reached.
fn until(driver: &mut Driver, state: State) -> Vec<Action> {
    let mut actions = Vec::new();
    for _ in 0..2_000 {
        if driver.state() == state {
            return actions;
        }
        actions.extend(driver.tick_and_settle());
    }
    panic!(
        "{state} is not reached: {:?}",
        driver.status_of(ID).explanation
    );
}

/// Lets time pass, with every action carried out.
fn run_for(driver: &mut Driver, span: Nanos) -> Vec<Action> {
    let end = driver.now.after(span);
    let mut actions = Vec::new();
    while driver
        .engine
        .poll_timeout()
        .is_some_and(|(due, _)| due <= end)
    {
        actions.extend(driver.tick_and_settle());
    }
    driver.now = end;
    actions
}

/// A check with a veto on the group, as it is found.
fn checked(driver: &mut Driver, health: ha_core::check::Health) {
    driver.input(Input::Tracked {
        source: tracking::Source::Check(String::from("disk")),
        reading: tracking::Reading {
            health,
            count: 0,
            why: String::from("no space"),
        },
    });
}

fn mode(driver: &mut Driver, mode: Mode) {
    driver.input(Input::Mode(mode));
}
