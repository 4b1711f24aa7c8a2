//! Galera: every node has the data; one at a time is written to.

use alloc::{vec, vec::Vec};

use crate::plan::{config::Limits, step::StepSpec};

pub(super) fn promote(limits: &Limits) -> Vec<StepSpec> {
    let mut steps = vec![StepSpec::look("inspect", limits.promote)];
    steps.extend(serve(limits));
    steps
}

/// What is left of a cluster whose other nodes are gone becomes a whole one, if that is allowed; what the others
/// committed is applied; then this node is written to.
pub(super) fn serve(limits: &Limits) -> Vec<StepSpec> {
    vec![
        StepSpec::open("bootstrap", limits.drain),
        StepSpec::look("drain", limits.drain),
        StepSpec::open("allow-writes", limits.promote),
    ]
}

pub(super) fn hand_over(limits: &Limits) -> Vec<StepSpec> {
    vec![
        StepSpec::change("forbid-writes", limits.demote),
        StepSpec::change("end-sessions", limits.demote),
    ]
}

pub(super) fn demote(limits: &Limits) -> Vec<StepSpec> {
    let mut steps = forbid_writes(limits);
    steps.push(StepSpec::change("end-sessions", limits.demote).or_go_on());
    steps
}

pub(super) fn forbid_writes(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::change("forbid-writes", limits.demote).or(vec![
        StepSpec::change("kill-server", limits.demote),
        StepSpec::change("start-server", limits.promote).or_go_on(),
    ])]
}

/// So that nobody writes to it any more. It is not killed for that: what two nodes of a cluster are told at once is
/// data that both have.
pub(super) fn fence(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::change("forbid-writes", limits.demote)]
}
