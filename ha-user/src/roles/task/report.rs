//! How a group stands, for people and programs.

use ha_common::Nanos;
use ha_core::plan::{Follows, Observation};

use super::Task;
use crate::{
    config,
    control::report::{GroupPeerReport, GroupReport, PlanReport, RoleReport, StepReport},
    sys::clock,
};

pub(super) fn of(task: &Task) -> GroupReport {
    let now = clock::now();
    let status = task.conductor.status(now);
    let roles = task.spec.roles.iter().zip(&task.found);
    let steps = status.steps.into_iter().map(|step| StepReport {
        role: step.role,
        step: step.step.to_owned(),
        began_ns: step.began.0,
        took_us: step.took.map(|took| took.0 / 1_000),
        ok: step.result.is_ok(),
        text: step.result.unwrap_or_else(|why| why),
    });
    let steps = steps.collect();
    GroupReport {
        group: status.group,
        stance: status.stance.name().to_owned(),
        epoch: status.epoch,
        not_eligible: status.eligible.err(),
        in_sync: status.in_sync,
        roles: roles.map(|(role, found)| of_role(role, found)).collect(),
        plan: status.plan.map(|purpose| PlanReport {
            purpose: purpose.name().to_owned(),
            under_way: status.under_way,
            steps,
        }),
        peers: task
            .heard
            .values()
            .map(|(word, at)| GroupPeerReport {
                node: word.node.clone(),
                heard_ms_ago: millis(now.since(*at)),
                stance: word.stance.name().to_owned(),
                epoch: word.epoch,
                mode: word.mode.name().to_owned(),
                not_eligible: word.eligible.clone().err(),
                position: word.position.as_ref().map(|one| one.text.clone()),
            })
            .collect(),
    }
}

fn of_role(role: &config::Role, found: &Observation) -> RoleReport {
    let mut report = RoleReport {
        name: role.name.clone(),
        kind: role.kind.name().to_owned(),
        promoted: found.promoted,
        unable: found.able.clone().err(),
        position: found.position.as_ref().map(|one| one.text.clone()),
        acknowledging: found.replicas.map(|replicas| replicas.acknowledging),
        note: found.note.clone(),
        warning: found.warning.clone(),
        ..RoleReport::default()
    };
    if let Follows::Source {
        source,
        receives,
        lag,
        ..
    } = &found.follows
    {
        report.follows = Some(source.clone());
        report.receives = Some(*receives);
        report.lag_ms = lag.map(millis);
    }
    report
}

fn millis(span: Nanos) -> u64 {
    span.0 / 1_000_000
}
