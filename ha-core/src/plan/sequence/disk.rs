//! DRBD and file systems.

use alloc::{vec, vec::Vec};

use crate::plan::{config::Limits, step::StepSpec};

pub(super) fn promote_drbd(limits: &Limits) -> Vec<StepSpec> {
    vec![
        StepSpec::look("inspect", limits.promote),
        StepSpec::change("primary", limits.promote),
    ]
}

pub(super) fn hand_over_drbd(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::change("secondary", limits.demote)]
}

pub(super) fn demote_drbd(limits: &Limits) -> Vec<StepSpec> {
    vec![
        StepSpec::change("secondary", limits.demote)
            .or(vec![StepSpec::change("force-secondary", limits.demote)]),
    ]
}

pub(super) fn follow_drbd(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::change("connect", limits.promote)]
}

pub(super) fn mount(limits: &Limits) -> Vec<StepSpec> {
    vec![
        StepSpec::change("fsck", limits.drain),
        StepSpec::change("mount", limits.promote),
    ]
}

pub(super) fn unmount(limits: &Limits) -> Vec<StepSpec> {
    vec![StepSpec::change("unmount", limits.demote)]
}
