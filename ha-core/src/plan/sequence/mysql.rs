//! MariaDB and MySQL with replication (docs/databases.md).

use alloc::{vec, vec::Vec};

use crate::plan::{
    config::{Durability, Limits},
    step::StepSpec,
};

/// What was received is applied, and proved to be, before anything is stopped that would throw it away: MariaDB
/// forgets its relay log when both replication threads are stopped and one is started again.
pub(super) fn promote(limits: &Limits) -> Vec<StepSpec> {
    vec![
        StepSpec::change("inspect", limits.drain),
        StepSpec::change("stop-receiving", limits.drain),
        StepSpec::look("drain", limits.drain),
        StepSpec::look("prove", limits.promote),
        StepSpec::change("detach", limits.promote),
        StepSpec::open("become-primary", limits.promote),
        StepSpec::change("mark", limits.promote),
    ]
}

pub(super) fn hand_over(limits: &Limits) -> Vec<StepSpec> {
    vec![
        StepSpec::change("forbid-writes", limits.demote),
        StepSpec::change("end-sessions", limits.demote),
        StepSpec::change("settle", limits.demote),
    ]
}

pub(super) fn demote(limits: &Limits) -> Vec<StepSpec> {
    let mut steps = fence(limits);
    steps.push(StepSpec::change("end-sessions", limits.demote).or_go_on());
    steps.push(StepSpec::change("settle", limits.demote).or_go_on());
    steps
}

/// So that nobody writes to it any more.
pub(super) fn fence(limits: &Limits) -> Vec<StepSpec> {
    let forbid = StepSpec::change("forbid-writes", limits.demote);
    let kill = StepSpec::change("kill-server", limits.demote);
    vec![forbid.or(vec![kill])]
}

/// What a replica had received before it was started is applied.
pub(super) fn salvage(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::change("salvage", limits.drain)]
}

/// The server runs again, while nobody waits for that.
pub(super) fn revive(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::change("start-as-replica", limits.promote)]
}

/// By the hard way if need be: neither switching semi-synchronous replication off nor ending the sessions that wait
/// for it would do, for the one acknowledges what no replica has and the other commits it here alone.
pub(super) fn forbid_writes(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::change("forbid-writes", limits.demote).or(vec![
        StepSpec::change("kill-server", limits.demote),
        StepSpec::change("start-as-replica", limits.promote).or_go_on(),
    ])]
}

pub(super) fn allow_writes(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::open("become-primary", limits.promote)]
}

pub(super) fn detach(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::change("detach", limits.promote)]
}

pub(super) fn follow(limits: &Limits, durability: Durability) -> Vec<StepSpec> {
    let mut steps = forbid_writes(limits);
    steps.push(StepSpec::look("compare", limits.promote));
    steps.push(StepSpec::change("follow", limits.promote));
    steps.push(StepSpec::look("catch-up", limits.drain));
    if durability == Durability::SemiSync {
        steps.push(StepSpec::change("join-sync", limits.promote));
    }
    steps
}

pub(super) fn go_solo(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::open("degrade", limits.promote)]
}

pub(super) fn rejoin(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::change("restore", limits.promote)]
}
