//! What the nodes of a group tell each other.

use alloc::{format, string::String};

use ha_common::{MonoNs, Nanos};

use super::Conductor;
use crate::{
    plan::{
        AfterFailover,
        event::{GroupWord, PlanAction, Stance},
        journal::Record,
        membership::{Ask, Grant},
        observation::{Follows, Position},
    },
    roles::Mode,
};

/// A node that was heard.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) word: GroupWord,
    pub(super) heard_at: MonoNs,
    /// The last epoch in which it said that it is primary.
    served: Option<u64>,
}

impl Peer {
    pub(super) fn is_fresh(&self, within: Nanos, now: MonoNs) -> bool {
        self.heard_at.after(within) > now
    }
}

impl Conductor {
    /// What this node tells another one now. Where it confirms an ask, that counts from now on: send it.
    #[must_use]
    pub fn word(&mut self, to: &str, endpoint: Option<&str>, now: MonoNs) -> GroupWord {
        let grant = self.grant(to, now);
        if grant.is_some() {
            self.keeper.granted_to(to, now);
        }
        let ask = self.ask(now);
        GroupWord {
            node: self.config.node.clone(),
            epoch: self.own_epoch(),
            stance: self.stance,
            mode: self.mode,
            eligible: self.eligible(now),
            position: self.told_position(),
            endpoint: endpoint.map(String::from),
            history: self.told_history(),
            renounces: self.renounces && ask.is_none(),
            ask,
            grant,
            wish: self.wish(now),
            consent: self.ballots.consent(to),
            handover: self.handover.clone(),
            alone_since: self.alone_since,
        }
    }

    /// How far this node's data is, if it stays there but for what the primary sends: else it says nothing of what
    /// this node had acknowledged.
    pub(super) fn told_position(&self) -> Option<Position> {
        let is_still = self.stance == Stance::Standby;
        self.position().filter(|_| is_still).cloned()
    }

    /// What the first role that has a history says of it. It is told whether or not somebody has to know it.
    fn told_history(&self) -> Option<String> {
        let mut found = self.observations.iter();
        found.find_map(|found| found.history.clone())
    }

    /// Asks to be counted as in sync, if this node's server acknowledges what the primary's sends.
    fn ask(&self, now: MonoNs) -> Option<Ask> {
        let primary = &self.primary(now)?.word;
        let data = self.data()?;
        let follows = match &data.follows {
            Follows::Source {
                source,
                receives: true,
                acknowledges: true,
                ..
            } => Some(source) == primary.endpoint.as_ref(),
            _ => false,
        };
        let stands = self.stance == Stance::Standby && self.run.is_none();
        (stands && follows && data.able.is_ok()).then_some(Ask {
            sent_at: now,
            epoch: primary.epoch,
        })
    }

    fn grant(&self, to: &str, now: MonoNs) -> Option<Grant> {
        if self.stance != Stance::Primary || !self.keeper.grants {
            return None;
        }
        let peer = self.peers.iter().find(|peer| peer.word.node == to)?;
        let ask = peer.word.ask?;
        let counts = ask.epoch == self.own_epoch() && peer.is_fresh(Self::freshness(), now);
        counts.then_some(Grant {
            asked_at: ask.sent_at,
            epoch: self.own_epoch(),
        })
    }

    /// The epoch in which it is primary, or is promoted; else the greatest that it knows.
    pub(super) fn own_epoch(&self) -> u64 {
        match (self.stance, &self.run) {
            (Stance::Promoting, Some((run, _))) => run.epoch,
            (Stance::Primary | Stance::Demoting, _) => self.held.unwrap_or(self.epoch),
            _ => self.epoch,
        }
    }

    pub(super) fn hear(&mut self, word: GroupWord, now: MonoNs) {
        if word.node == self.config.node {
            return;
        }
        if let Some(grant) = word.grant
            && self.stance == Stance::Standby
        {
            self.renounces = false;
            self.accepts_loss_until = MonoNs::ZERO;
            self.member.granted(grant, self.config.sync_lease, now);
        }
        self.raise(word.epoch);
        if matches!(word.stance, Stance::Primary | Stance::Promoting) {
            self.member.heard(word.epoch);
        }
        self.heed(&word);
        self.hear_ballots(&word, now);
        self.hear_replica(&word, now);
        let before = self.peers.iter().find(|peer| peer.word.node == word.node);
        let served = match word.stance {
            Stance::Primary => Some(word.epoch),
            _ => before.and_then(|peer| peer.served),
        };
        self.peers.retain(|peer| peer.word.node != word.node);
        self.peers.push(Peer {
            word,
            heard_at: now,
            served,
        });
        self.pending_due(now);
        self.weigh(now);
    }

    /// Somebody knows of a greater epoch.
    fn raise(&mut self, epoch: u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.sole = false;
            self.write(Record::Heard { epoch });
        }
    }

    /// Another node took over from this one without its doing: a person is to look at this one first.
    fn heed(&mut self, word: &GroupWord) {
        let Some(since) = word.alone_since.filter(|since| *since > self.heeded) else {
            return;
        };
        if self.config.after_failover != AfterFailover::Maintenance
            || word.mode != Mode::Standalone
            || self.mode == Mode::Maintenance
            || self.alone_since >= Some(since)
        {
            return;
        }
        self.heeded = since;
        self.write(Record::Alone {
            epoch: since,
            here: false,
        });
        self.mode = Mode::Maintenance;
        self.out.push_back(PlanAction::SetMode(Mode::Maintenance));
        self.note(format!(
            "{} took over without this node's doing (epoch {since}) and stands alone: this node goes into maintenance until `hactl mode active-standby` is run on both",
            word.node
        ));
    }

    pub(super) fn set_mode(&mut self, mode: Mode) {
        if mode == self.mode {
            return;
        }
        self.accepts_loss_until = MonoNs::ZERO;
        if mode == Mode::ActiveStandby {
            self.alone_since = None;
            self.heeded = self.heeded.max(self.epoch);
            if self.config.after_failover == AfterFailover::Maintenance {
                self.write(Record::Alone {
                    epoch: self.heeded,
                    here: false,
                });
            }
        }
        self.mode = mode;
        self.out.push_back(PlanAction::Tell);
    }

    /// The node that is primary, as far as was heard lately.
    pub(super) fn primary(&self, now: MonoNs) -> Option<&Peer> {
        let claims = self.peers.iter().filter(|peer| {
            peer.word.stance == Stance::Primary
                && peer.word.epoch >= self.member.epoch()
                && peer.is_fresh(Self::freshness(), now)
        });
        claims.max_by_key(|peer| peer.word.epoch)
    }

    /// As a standby: the other node whose data is the group's, and the epoch in which it is. One that was primary and is
    /// about to be demoted still has it, not so one whose promotion has failed; of two in one epoch nobody knows whose it is.
    #[must_use]
    pub fn leader(&self, now: MonoNs) -> Option<(&str, u64)> {
        if self.stance != Stance::Standby {
            return None;
        }
        let leads = |peer: &&Peer| {
            let stance = peer.word.stance;
            matches!(stance, Stance::Primary | Stance::Demoting)
                && peer.served == Some(peer.word.epoch)
                && peer.word.epoch >= self.member.epoch()
                && peer.is_fresh(Self::freshness(), now)
        };
        let leaders = self.peers.iter().filter(leads);
        let latest = leaders.clone().map(|peer| peer.word.epoch).max()?;
        let mut leaders = leaders.filter(|peer| peer.word.epoch == latest);
        let leader = leaders.next()?;
        let alone = leaders.next().is_none();
        alone.then_some((leader.word.node.as_str(), latest))
    }

    /// Whether no other node is heard whose server answers.
    pub(super) fn others_gone(&self, now: MonoNs) -> bool {
        let answers =
            |peer: &Peer| peer.is_fresh(Self::freshness(), now) && peer.word.position.is_some();
        !self.peers.iter().any(answers)
    }

    pub(super) fn highest_epoch(&self) -> u64 {
        self.peers
            .iter()
            .map(|peer| peer.word.epoch)
            .fold(self.epoch.max(self.ballots.promised()), u64::max)
    }

    /// Whether somebody else holds, or is about to hold, what this node has been promoted to in `epoch`.
    pub(super) fn rival(&self, epoch: u64) -> Option<String> {
        #[cfg(feature = "sim")]
        if self.mutations.ignore_epochs {
            return None;
        }
        let rival = self.peers.iter().find(|peer| {
            let holds = matches!(peer.word.stance, Stance::Primary | Stance::Promoting);
            peer.word.epoch > epoch || peer.word.epoch == epoch && holds
        })?;
        Some(format!(
            "{} has epoch {} by now, and this node {epoch}",
            rival.word.node, rival.word.epoch
        ))
    }

    /// Whether another node was promoted after this one, which was cut off from it meanwhile: that one acknowledged what
    /// this one lacks.
    pub(super) fn superseded(&self) -> Option<String> {
        #[cfg(feature = "sim")]
        if self.mutations.ignore_later {
            return None;
        }
        let held = self.held?;
        let later = self.peers.iter().find_map(|peer| {
            let word = &peer.word;
            let ended = word.handover.as_ref().map(|ended| ended.epoch);
            let stands = (word.stance == Stance::Primary).then_some(word.epoch);
            let epoch = ended.max(stands).filter(|epoch| *epoch > held)?;
            Some((&word.node, epoch))
        });
        later.map(|(node, epoch)| {
            format!("{node} was promoted later, in epoch {epoch}; this node in epoch {held}")
        })
    }

    /// Whether the node before is about to tell where it ended, or whether it was asked to, and that matters.
    pub(super) fn awaits_handover(&self, now: MonoNs) -> bool {
        let matters =
            self.data().is_some() || self.config.after_failover == AfterFailover::Maintenance;
        matters
            && self.peers.iter().any(|peer| {
                let lets_go = matches!(peer.word.stance, Stance::Primary | Stance::Demoting);
                lets_go && peer.word.epoch == self.epoch && peer.is_fresh(Self::freshness(), now)
            })
    }

    /// Whether another node was primary before, and nobody asked it to let go.
    pub(super) fn is_failed_over(&self) -> bool {
        let mut words = self.peers.iter().map(|peer| &peer.word);
        words.any(|word| {
            let ended = word.handover.as_ref();
            word.epoch == self.epoch
                && match word.stance {
                    Stance::Primary | Stance::Demoting => true,
                    _ => ended.is_some_and(|ended| ended.epoch == self.epoch && !ended.asked),
                }
        })
    }

    /// Where the node before ended, if it has told.
    pub(super) fn target(&self, now: MonoNs) -> Option<String> {
        let told = self.peers.iter().find_map(|peer| {
            let handover = peer.word.handover.as_ref()?;
            let counts = handover.epoch == self.epoch
                && peer.word.stance == Stance::Standby
                && peer.is_fresh(Self::freshness(), now);
            counts.then_some(handover)
        })?;
        told.position.as_ref().map(|position| position.text.clone())
    }
}
