//! Every step of every plan fails once, and hangs once.

use ha_common::Nanos;
use ha_core::{
    Manner,
    plan::{ConductorConfig, Durability, Observation, Purpose, RoleKind, Stance, sequence},
};

use crate::node::{
    Manners, Node, able, config, database, disk_roles, exchange, mysql, purposes, role,
};

/// Groups that have every step there is.
fn groups() -> Vec<ConductorConfig> {
    let all = |kinds: &[RoleKind]| {
        let roles = kinds.iter().map(|kind| role(kind.name(), *kind));
        config("n1", roles.collect())
    };
    vec![
        all(&[mysql(Durability::SemiSync)]),
        all(&[mysql(Durability::Async)]),
        all(&[RoleKind::Galera, RoleKind::Cron]),
        config("n1", disk_roles()),
        all(&[RoleKind::Script, RoleKind::Binlog, RoleKind::Sync]),
    ]
}

fn promoted(config: &ConductorConfig) -> Node {
    let mut node = ready(config);
    node.promote(true);
    assert_eq!(node.promoted, [Ok(())]);
    node.promoted.clear();
    node.steps.clear();
    node
}

/// A node whose data is known to be the best there is.
fn ready(config: &ConductorConfig) -> Node {
    let mut node = Node::new("n1", config.clone());
    node.conductor.set_priority(100);
    node.observe_all(able());
    node.observe(0, database(100));
    let mut other = Node::new(
        "n2",
        ConductorConfig {
            node: "n2".to_owned(),
            ..config.clone()
        },
    );
    other.observe(0, database(100));
    for _ in 0..3 {
        exchange(&mut node, &mut other);
    }
    node
}

/// Each step of a plan, in both manners.
fn each(purpose: Purpose, test: impl Fn(&ConductorConfig, &'static str, Manners)) {
    for config in groups() {
        for (_, step) in sequence::plan(&config.roles, purpose) {
            for manners in [Manners::Fails, Manners::Hangs] {
                test(&config, step.name, manners);
            }
        }
    }
}

const LONG: Nanos = Nanos::from_secs(120);

#[test]
fn a_promotion_that_fails_anywhere_is_taken_back_before_anybody_is_told() {
    each(Purpose::Promote, |config, step, manners| {
        let mut node = ready(config);
        node.bad = vec![(step, manners)];
        node.promote(true);
        node.pass(LONG);
        let why = node.promoted[0].clone().expect_err(step);
        assert!(why.contains(step), "{why}");
        assert_eq!(node.stance(), Stance::Standby, "{step}");
        // The demotion of every role, from the last to the first.
        let demotion: Vec<String> = sequence::plan(&config.roles, Purpose::Demote)
            .into_iter()
            .map(|(index, step)| format!("{}: {}", config.roles[index].name, step.name))
            .collect();
        assert!(node.steps.ends_with(&demotion), "{step}: {:?}", node.steps);
        if manners == Manners::Hangs {
            assert_eq!(node.abandoned.len(), 1, "{step}");
        }
    });
}

#[test]
fn a_hand_over_that_fails_anywhere_is_taken_back_before_anybody_is_told() {
    each(Purpose::HandOver, |config, step, manners| {
        let mut node = promoted(config);
        node.bad = vec![(step, manners)];
        node.demote(Manner::Graceful);
        node.pass(LONG);
        let why = node.demoted[0].clone().expect_err(step);
        assert!(why.contains(step), "{why}");
        assert_eq!(node.stance(), Stance::Primary, "{step}");
        assert!(node.orders.last().is_some_and(|order| !order.context.solo));
    });
}

#[test]
fn a_forced_demotion_goes_on_the_hard_way_and_to_its_end() {
    each(Purpose::Demote, |config, step, manners| {
        let mut node = promoted(config);
        node.bad = vec![(step, manners)];
        node.demote(Manner::Forced);
        node.pass(LONG);
        let last = sequence::plan(&config.roles, Purpose::Demote)
            .last()
            .map(|(index, step)| format!("{}: {}", config.roles[*index].name, step.name))
            .expect("steps");
        assert!(node.steps.contains(&last), "{step}: {:?}", node.steps);
        let has_hard_way = matches!(step, "forbid-writes" | "stop" | "secondary");
        let is_left = matches!(step, "end-sessions" | "settle" | "demote");
        assert_eq!(node.demoted[0].is_ok(), has_hard_way || is_left, "{step}");
    });
}

#[test]
fn a_demotion_that_is_not_proven_is_tried_again_until_it_is() {
    let mut node = promoted(&config("n1", disk_roles()));
    node.bad = vec![("unmount", Manners::Fails)];
    node.demote(Manner::Forced);
    assert!(node.demoted[0].is_err());
    assert_eq!(node.stance(), Stance::Unsettled);
    assert!(node.eligible().is_err());
    node.bad.clear();
    node.pass(LONG);
    assert_eq!(node.stance(), Stance::Standby);
    assert!(node.eligible().is_err(), "nobody has looked since");
    node.observe_all(able());
    assert_eq!(node.eligible(), Ok(()));
}

#[test]
fn who_has_lost_while_it_was_promoted_demotes_at_once() {
    each(Purpose::Promote, |config, step, _| {
        let mut node = ready(config);
        node.bad = vec![(step, Manners::Hangs)];
        node.promote(true);
        node.demote(Manner::Forced);
        assert_eq!(node.demoted, [Ok(())], "{step}");
        assert!(
            node.promoted.is_empty(),
            "{step}: nobody waits for that any more"
        );
        assert_eq!(node.stance(), Stance::Standby);
    });
}

#[test]
fn a_hand_over_turns_into_a_forced_demotion() {
    each(Purpose::HandOver, |config, step, _| {
        let mut node = promoted(config);
        node.bad = vec![(step, Manners::Hangs)];
        node.demote(Manner::Graceful);
        node.bad.clear();
        node.demote(Manner::Forced);
        assert_eq!(node.demoted, [Ok(())], "{step}");
        assert_eq!(node.stance(), Stance::Standby);
    });
}

#[test]
fn what_ends_after_it_was_given_up_changes_nothing() {
    let mut node = Node::new("n1", config("n1", disk_roles()));
    node.bad = vec![("mount", Manners::Hangs)];
    node.promote(true);
    let late = node.orders.last().expect("an order").serial;
    node.pass(LONG);
    let before = node.steps.clone();
    node.handle(ha_core::plan::PlanInput::StepDone {
        serial: late,
        done: ha_core::plan::Done::default(),
    });
    assert_eq!(node.steps, before);
    assert_eq!(node.stance(), Stance::Standby);
}

/// To start a server takes long, and nobody takes over before it is told that the node has let go.
#[test]
fn a_server_that_was_killed_is_started_when_the_engine_was_told() {
    let mut node = promoted(&groups()[0]);
    node.bad = vec![("forbid-writes", Manners::Fails)];
    node.demote(Manner::Forced);
    assert_eq!(node.demoted, [Ok(())]);
    assert!(node.steps.iter().any(|step| step.ends_with("kill-server")));
    let ended = Observation {
        runs: Some(false),
        ..Observation::unknown("the server does not run")
    };
    node.observe(0, ended);
    let last = node.steps.last().expect("steps");
    assert!(last.ends_with("start-as-replica"), "{:?}", node.steps);
    assert_eq!(purposes(&node.journal).last(), Some(&Purpose::Correct));
}
