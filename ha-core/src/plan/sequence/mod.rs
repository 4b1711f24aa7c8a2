//! The steps of each kind of role: data, so that they can be listed, shown beforehand, and made to fail one by one.

mod disk;
mod galera;
mod mysql;
mod simple;

use alloc::vec::Vec;

use ha_common::Nanos;

use super::{
    config::{RoleConfig, RoleKind},
    event::{Purpose, Stance},
    step::StepSpec,
};

/// The steps of one role in a plan; none if the plan does nothing with such a role.
#[must_use]
pub fn steps(role: &RoleConfig, purpose: Purpose) -> Vec<StepSpec> {
    let limits = &role.limits;
    match (role.kind, purpose) {
        (RoleKind::Mysql { .. }, Purpose::Promote) => mysql::promote(limits),
        (RoleKind::Mysql { .. }, Purpose::HandOver) => mysql::hand_over(limits),
        (RoleKind::Mysql { .. }, Purpose::Demote) => mysql::demote(limits),
        (RoleKind::Mysql { durability, .. }, Purpose::Follow) => mysql::follow(limits, durability),
        (RoleKind::Mysql { .. }, Purpose::GoSolo) => mysql::go_solo(limits),
        (RoleKind::Mysql { .. }, Purpose::Rejoin) => mysql::rejoin(limits),
        (RoleKind::Galera, Purpose::Promote) => galera::promote(limits),
        (RoleKind::Galera, Purpose::HandOver) => galera::hand_over(limits),
        (RoleKind::Galera, Purpose::Demote) => galera::demote(limits),
        (RoleKind::Drbd, Purpose::Promote) => disk::promote_drbd(limits),
        (RoleKind::Drbd, Purpose::HandOver) => disk::hand_over_drbd(limits),
        (RoleKind::Drbd, Purpose::Demote) => disk::demote_drbd(limits),
        (RoleKind::Drbd, Purpose::Follow) => disk::follow_drbd(limits),
        (RoleKind::Mount, Purpose::Promote) => disk::mount(limits),
        (RoleKind::Mount, Purpose::HandOver | Purpose::Demote) => disk::unmount(limits),
        (RoleKind::Unit, Purpose::Promote) => simple::one("start", limits.promote),
        (RoleKind::Unit, Purpose::HandOver) => simple::one("stop", limits.demote),
        (RoleKind::Unit, Purpose::Demote) => simple::stop_unit(limits),
        (RoleKind::Script, Purpose::Promote) => simple::one("promote", limits.promote),
        (RoleKind::Script, Purpose::HandOver) => simple::one("demote", limits.demote),
        (RoleKind::Script, Purpose::Demote) => simple::one_that_may_fail("demote", limits.demote),
        (RoleKind::Cron | RoleKind::Binlog | RoleKind::Sync, Purpose::Promote) => {
            simple::one("activate", limits.promote)
        }
        (
            RoleKind::Cron | RoleKind::Binlog | RoleKind::Sync,
            Purpose::HandOver | Purpose::Demote,
        ) => simple::one("deactivate", limits.demote),
        _ => Vec::new(),
    }
}

/// The steps that put right what somebody else changed of one role.
#[must_use]
pub fn correction(role: &RoleConfig, stance: Stance) -> Vec<StepSpec> {
    match (role.kind, stance) {
        (RoleKind::Mysql { .. }, Stance::Primary) => mysql::allow_writes(&role.limits),
        (RoleKind::Galera, Stance::Primary) => galera::serve(&role.limits),
        (RoleKind::Mysql { .. }, _) => mysql::forbid_writes(&role.limits),
        (RoleKind::Galera, _) => galera::forbid_writes(&role.limits),
        _ => Vec::new(),
    }
}

/// The steps by which a role is kept from being written to, whatever becomes of the daemon.
#[must_use]
pub fn fence(role: &RoleConfig) -> Vec<StepSpec> {
    match role.kind {
        RoleKind::Galera => galera::fence(&role.limits),
        RoleKind::Mysql { .. } => mysql::fence(&role.limits),
        _ => Vec::new(),
    }
}

/// The steps that find out how far a replica is that was started again.
#[must_use]
pub fn salvage(role: &RoleConfig) -> Vec<StepSpec> {
    match role.kind {
        RoleKind::Mysql { .. } => mysql::salvage(&role.limits),
        _ => Vec::new(),
    }
}

/// The steps that start the server of a standby: it ended, or was killed to demote it.
#[must_use]
pub fn revival(role: &RoleConfig) -> Vec<StepSpec> {
    match role.kind {
        RoleKind::Mysql { .. } => mysql::revive(&role.limits),
        _ => Vec::new(),
    }
}

/// The steps by which a primary forgets whom it followed, where its promotion did not wait for that.
#[must_use]
pub fn detachment(role: &RoleConfig) -> Vec<StepSpec> {
    match role.kind {
        RoleKind::Mysql {
            master_master: false,
            ..
        } => mysql::detach(&role.limits),
        _ => Vec::new(),
    }
}

/// Whether a standby of this kind does anything to follow the primary.
#[must_use]
pub const fn follows(kind: RoleKind) -> bool {
    matches!(kind, RoleKind::Mysql { .. } | RoleKind::Drbd)
}

/// All steps of a plan: of the roles in order, or in reverse.
#[must_use]
pub fn plan(roles: &[RoleConfig], purpose: Purpose) -> Vec<(usize, StepSpec)> {
    let each = |(index, role)| {
        let steps = steps(role, purpose);
        steps.into_iter().map(move |step| (index, step))
    };
    let numbered = roles.iter().enumerate();
    match purpose {
        Purpose::HandOver | Purpose::Demote => numbered.rev().flat_map(each).collect(),
        _ => numbered.flat_map(each).collect(),
    }
}

/// The longest that a plan can take, every step and every hard way with its limit.
#[must_use]
pub fn longest(steps: &[(usize, StepSpec)]) -> Nanos {
    steps
        .iter()
        .fold(Nanos::ZERO, |sum, (_, step)| sum.plus(bound(step)))
}

fn bound(step: &StepSpec) -> Nanos {
    let instead = match &step.failure {
        super::step::OnFailure::Instead(steps) => steps
            .iter()
            .fold(Nanos::ZERO, |sum, step| sum.plus(bound(step))),
        _ => Nanos::ZERO,
    };
    step.limit.plus(instead)
}
