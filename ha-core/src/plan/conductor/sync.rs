//! The sync set: joining and leaving it as a standby, keeping it as the primary.

use ha_common::MonoNs;

use super::Conductor;
use crate::plan::{
    config::Durability,
    event::{GroupWord, PlanAction, Purpose, Stance},
    observation::{Follows, Replicas},
};

/// What the primary is to do about its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncNeed {
    Nothing,
    GoSolo,
    Rejoin,
}

impl Conductor {
    /// Whether writes wait for a replica; `None`: there is nothing to wait with.
    pub(super) fn in_sync(&self) -> Option<bool> {
        let replicas = self.replicas()?;
        Some(!replicas.solo && self.keeper.grants)
    }

    fn replicas(&self) -> Option<Replicas> {
        if self.stance != Stance::Primary || self.durability() != Some(Durability::SemiSync) {
            return None;
        }
        self.data()?.replicas
    }

    /// From now on this node may lack what is acknowledged.
    pub(super) fn leave_sync(&mut self, now: MonoNs) {
        if self.member.until() > MonoNs::ZERO {
            self.renounces = true;
            self.out.push_back(PlanAction::Tell);
        }
        self.member.leave(now);
        self.fresh_until = MonoNs::ZERO;
    }

    /// What was found or heard may change how much this node's data counts.
    pub(super) fn weigh(&mut self, now: MonoNs) {
        let Some(data) = self.data() else {
            return;
        };
        let (able, incarnation) = (data.able.is_ok(), data.incarnation);
        let other = incarnation.is_some() && incarnation != self.seen_server;
        self.seen_server = incarnation.or(self.seen_server);
        if other {
            // Who has agreed to the promotion of what was there before has not to this.
            self.ballots.clear();
        }
        if self.stance == Stance::Standby && (!able || other) {
            // Its server may have come back, or come back, with less than it had acknowledged.
            self.leave_sync(now);
            return;
        }
        let Some((index, _)) = self.data_role() else {
            return;
        };
        if self.seen[index] && self.replicas().is_some_and(|replicas| replicas.solo) {
            // Its server acknowledges alone, whoever told it to.
            if self.keeper.grants {
                self.out.push_back(PlanAction::Tell);
            }
            self.keeper.stop_granting();
        }
        let Some(data) = self.data() else {
            return;
        };
        let most = self.config.roles[index].max_lag;
        let endpoint = self
            .primary(now)
            .and_then(|primary| primary.word.endpoint.as_ref());
        let close = match &data.follows {
            Follows::Source {
                source,
                receives: true,
                lag: Some(lag),
                ..
            } => Some(source) == endpoint && *lag <= most,
            _ => false,
        };
        if close && self.stance == Stance::Standby {
            self.fresh_until = self.looked_at.after(self.config.sync_lease);
        }
    }

    /// A standby's word, as the primary takes it.
    pub(super) fn hear_replica(&mut self, word: &GroupWord, now: MonoNs) {
        if self.stance != Stance::Primary {
            return;
        }
        if word.renounces {
            self.keeper.renounced_by(&word.node);
            if self.keeper.asked_until() <= now {
                self.keeper.stop_granting();
            }
            return;
        }
        if word.ask.is_none_or(|ask| ask.epoch != self.own_epoch()) {
            return;
        }
        self.keeper.asked_by(&word.node, now);
        let waits = self.replicas().is_some_and(|replicas| !replicas.solo);
        let has_all = self.keeper.joined_at.is_some_and(|joined| {
            let position = word.position.as_ref();
            position.is_some_and(|position| position.rank >= joined)
        });
        if waits && has_all && !self.keeper.grants {
            self.keeper.grants = true;
            self.out.push_back(PlanAction::Tell);
        }
    }

    /// What the primary has to do about its replica.
    pub(super) fn sync_need(&mut self, now: MonoNs) -> SyncNeed {
        let Some(replicas) = self.replicas() else {
            return SyncNeed::Nothing;
        };
        let is_asked = self.keeper.asked_until() > now;
        if self.keeper.grants && !is_asked {
            self.keeper.grants = false;
            self.out.push_back(PlanAction::Tell);
        }
        if is_asked && (replicas.solo || self.keeper.joined_at.is_none()) {
            return SyncNeed::Rejoin;
        }
        let free = self.keeper.free_at(self.config.sync_lease) <= now;
        #[cfg(feature = "sim")]
        let free = free || self.mutations.solo_at_once;
        // Also where it is alone already, and that was to end and did not: it has to be on record.
        if !is_asked && free && !(replicas.solo && self.sole) {
            return SyncNeed::GoSolo;
        }
        SyncNeed::Nothing
    }

    /// The primary's plan about its replica has ended well.
    pub(super) fn replica_seen_to(&mut self, purpose: Purpose, joined_at: Option<u64>) {
        self.keeper.grants = false;
        self.keeper.joined_at = match purpose {
            Purpose::Rejoin => joined_at,
            _ => None,
        };
        // No grant stands when it goes solo, and none is given before it has rejoined.
        self.sole = purpose == Purpose::GoSolo;
    }
}
