//! Who has every write that was acknowledged: membership of the sync set, as a lease.
//!
//! A standby counts as in sync for `sync_lease` after the *sending* of an ask that the primary has granted. The
//! primary grants only while its server acknowledges nothing that no replica has received, and lets it do so only when
//! every grant has run out: it counts from when it granted last, which is later. So no standby that counts itself as in
//! sync lacks an acknowledged write, also if the two hear nothing of each other; and neither compares clocks.

use alloc::{collections::BTreeMap, string::String};

use ha_common::{MonoNs, Nanos};

/// For clocks that differ in rate: a 64th of the lease.
const RATE: u64 = 64;

/// How long the primary waits for an ask before it no longer grants: a replica that is away for a moment is not
/// given up.
const PATIENCE: Nanos = Nanos::from_millis(500);

/// A standby asks to be counted as in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// When it asked, by its own clock.
    pub sent_at: MonoNs,
    /// The epoch of the primary that it follows.
    pub epoch: u64,
}

/// The primary confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The ask.
    pub asked_at: MonoNs,
    /// The primary's epoch.
    pub epoch: u64,
}

/// The standby's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    until: MonoNs,
    epoch: u64,
    /// What was asked until then counts no more.
    left_at: MonoNs,
}

impl Member {
    pub(super) fn granted(&mut self, grant: Grant, lease: Nanos, now: MonoNs) {
        // A time that this node has not seen yet it has not sent.
        if grant.asked_at > now || grant.epoch < self.epoch || grant.asked_at <= self.left_at {
            return;
        }
        self.heard(grant.epoch);
        self.until = self.until.max(grant.asked_at.after(lease));
    }

    /// From now on it does not count itself as in sync.
    pub(super) fn leave(&mut self, now: MonoNs) {
        self.until = MonoNs::ZERO;
        self.left_at = now;
    }

    /// A primary of this epoch was heard of: what an earlier one granted counts no more.
    pub(super) fn heard(&mut self, epoch: u64) {
        if epoch > self.epoch {
            self.until = MonoNs::ZERO;
            self.epoch = epoch;
        }
    }

    /// The greatest in which somebody was primary, as far as was heard.
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) const fn until(&self) -> MonoNs {
        self.until
    }
}

/// What passed between the primary and one standby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    at: MonoNs,
    granted_at: Option<MonoNs>,
}

/// The primary's side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keeper {
    /// Whether it grants: its server waits for a replica, which has everything from before.
    pub(super) grants: bool,
    /// By standby: when it granted last, and was asked last.
    standbys: BTreeMap<String, Asked>,
    /// The position at which its server began to wait for a replica: who has that has everything from before.
    pub(super) joined_at: Option<u64>,
}

impl Keeper {
    /// Until a replica has everything anew.
    pub(super) fn stop_granting(&mut self) {
        self.grants = false;
        self.joined_at = None;
    }

    pub(super) fn asked_by(&mut self, node: &str, now: MonoNs) {
        self.standbys.entry(node.into()).or_default().at = now;
    }

    pub(super) fn granted_to(&mut self, node: &str, now: MonoNs) {
        self.standbys.entry(node.into()).or_default().granted_at = Some(now);
    }

    /// What this standby was granted counts no more; what others were does.
    pub(super) fn renounced_by(&mut self, node: &str) {
        self.standbys.remove(node);
    }

    /// Until when somebody counts as one that asks.
    pub(super) fn asked_until(&self) -> MonoNs {
        let last = self.standbys.values().map(|asked| asked.at).max();
        last.filter(|at| *at > MonoNs::ZERO)
            .map_or(MonoNs::ZERO, |at| at.after(PATIENCE))
    }

    /// When every grant has run out.
    pub(super) fn free_at(&self, lease: Nanos) -> MonoNs {
        let granted = self.standbys.values().filter_map(|asked| asked.granted_at);
        granted.max().map_or(MonoNs::ZERO, |at| {
            at.after(lease).after(Nanos(lease.0 / RATE))
        })
    }
}
