//! Units, programs and files.

use alloc::{vec, vec::Vec};

use ha_common::Nanos;

use crate::plan::{config::Limits, step::StepSpec};

pub(super) fn stop_unit(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::change("stop", limits.demote).or(vec![StepSpec::change("kill", limits.demote)])]
}

pub(super) fn one(name: &'static str, limit: Nanos) -> Vec<StepSpec> {
    vec![StepSpec::change(name, limit)]
}

pub(super) fn one_that_may_fail(name: &'static str, limit: Nanos) -> Vec<StepSpec> {
    vec![StepSpec::change(name, limit).or_go_on()]
}
