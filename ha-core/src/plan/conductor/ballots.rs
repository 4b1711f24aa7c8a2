//! Where nobody is known to have all that was acknowledged, every node has to agree.
//!
//! A node that would be promoted tells its wish; every other one consents that has nothing which that one lacks. Who has
//! consented does not count itself as in sync any more, and is promoted itself only in a later epoch, to which
//! the former has to consent in turn. So of two nodes that each believe the other one to be a standby, as after one stood
//! still for a while, none is promoted by what it heard before.

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};

use ha_common::{MonoNs, Nanos};

use super::Conductor;
use crate::{
    plan::{
        event::{Consent, GroupWord, PlanAction, Stance, Wish},
        journal::Record,
    },
    roles::Mode,
};

/// How long a consent counts from when it was asked for.
const LASTS: Nanos = Nanos::from_secs(2);
/// After which a node that could have been elected and was not lets another one go first that is as good.
const STANDS_BACK: Nanos = Nanos::from_secs(3);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ballots {
    /// The epoch that this node wishes.
    wished: Option<u64>,
    /// Since when: what was agreed to before may have been agreed to for more data than this node has by now.
    wished_at: MonoNs,
    /// Since when all have consented.
    agreed_since: Option<MonoNs>,
    /// Who consented to that.
    consents: Vec<(String, Consent)>,
    /// What this node consented to last: to whom, and whether that is on disk, or else the record's number.
    promised: Option<(String, Consent, Option<u64>)>,
    /// When that was renewed.
    promised_at: MonoNs,
    /// Until when this node lets another one go first that is as good.
    rests_until: MonoNs,
    /// Who wishes, for which epoch, and since when that was heard.
    heard: BTreeMap<String, (u64, MonoNs)>,
}

impl Ballots {
    /// The epoch up to which this node is not promoted.
    pub(super) fn promised(&self) -> u64 {
        self.promised
            .as_ref()
            .map_or(0, |(_, consent, _)| consent.epoch)
    }

    /// What this node tells another one that wishes.
    pub(super) fn consent(&self, to: &str) -> Option<Consent> {
        let (node, consent, record) = self.promised.as_ref()?;
        (node == to && record.is_none()).then_some(*consent)
    }

    /// A record is on disk.
    pub(super) fn written(&mut self, serial: u64, out: &mut VecDeque<PlanAction>) {
        if let Some((_, _, record)) = &mut self.promised
            && *record == Some(serial)
        {
            *record = None;
            out.push_back(PlanAction::Tell);
        }
    }

    pub(super) fn clear(&mut self) {
        self.wished = None;
        self.agreed_since = None;
        self.consents.clear();
    }

    /// Until when as many as there are have consented.
    pub(super) fn until(&self) -> MonoNs {
        let ends = self.consents.iter();
        ends.map(|(_, consent)| consent.asked_at.after(LASTS))
            .min()
            .unwrap_or_default()
    }

    fn count(&self, now: MonoNs) -> usize {
        let valid = |consent: &Consent| consent.asked_at.after(LASTS) > now;
        let consents = self.consents.iter();
        consents.filter(|(_, consent)| valid(consent)).count()
    }
}

impl Conductor {
    /// How many other nodes have consented to this one's promotion.
    pub(super) fn consents(&self, now: MonoNs) -> usize {
        let counts = self.ballots.wished > Some(self.epoch.max(self.ballots.promised()));
        #[cfg(feature = "sim")]
        if self.mutations.ignore_epochs {
            return self.hearsay(now);
        }
        if counts { self.ballots.count(now) } else { 0 }
    }

    /// How many other nodes were heard of late as standbys that have nothing which this one lacks.
    #[cfg(feature = "sim")]
    fn hearsay(&self, now: MonoNs) -> usize {
        let own = self.position().map_or(0, |position| position.rank);
        let lacks = |word: &GroupWord| {
            let theirs = word.position.as_ref();
            word.stance == Stance::Standby && theirs.is_some_and(|theirs| theirs.rank <= own)
        };
        let heard = self
            .peers
            .iter()
            .filter(|peer| peer.is_fresh(Self::freshness(), now));
        heard.filter(|peer| lacks(&peer.word)).count()
    }

    /// What this node asks of the others.
    pub(super) fn wish(&mut self, now: MonoNs) -> Option<Wish> {
        let data = self.data()?;
        let stands = self.stance == Stance::Standby && !self.is_busy();
        let able = data.able.is_ok() && data.position.is_some();
        let heir = self.sole || self.is_member(now) && self.config.peers <= 1;
        if !stands
            || !able
            || heir
            || self.mode != Mode::ActiveStandby
            || self.primary(now).is_some()
            || self.rests(now)
        {
            self.ballots.clear();
            return None;
        }
        let least = self.highest_epoch().saturating_add(1);
        if self.ballots.wished.is_none_or(|wished| wished < least) {
            self.ballots.clear();
            self.ballots.wished = Some(least);
            self.ballots.wished_at = now;
        }
        Some(Wish {
            asked_at: now,
            epoch: self.ballots.wished.unwrap_or(least),
            priority: self.priority,
        })
    }

    /// Whether it is another one's turn: one that this node has consented to, or any, since all have consented to this
    /// one, and it was not elected.
    fn rests(&mut self, now: MonoNs) -> bool {
        let ballots = &mut self.ballots;
        let in_vain = |since: MonoNs| since.after(STANDS_BACK) <= now;
        if ballots.agreed_since.is_some_and(in_vain) {
            ballots.agreed_since = None;
            ballots.rests_until = now.after(STANDS_BACK);
        }
        let promised = ballots.promised.is_some() && ballots.promised_at.after(LASTS) > now;
        promised || ballots.rests_until > now
    }

    pub(super) fn hear_ballots(&mut self, word: &GroupWord, now: MonoNs) {
        if let Some(consent) = word.consent
            && Some(consent.epoch) == self.ballots.wished
            && (self.ballots.wished_at..=now).contains(&consent.asked_at)
        {
            let node = &word.node;
            self.ballots.consents.retain(|(known, _)| known != node);
            self.ballots.consents.push((node.clone(), consent));
            if self.consents(now) >= self.config.peers {
                self.ballots.agreed_since.get_or_insert(now);
            }
        }
        if let Some(wish) = word.wish
            && self.has_looked_since(word, wish, now)
            && self.consents_to(word, wish, now)
        {
            self.promise(&word.node, wish, now);
        }
    }

    /// Whether a look at its own data has begun since this node heard of the wish first: what it found before, it may have
    /// received more after, up to when the one that wishes was no primary any more.
    fn has_looked_since(&mut self, word: &GroupWord, wish: Wish, now: MonoNs) -> bool {
        let heard = self.ballots.heard.entry(word.node.clone());
        let (epoch, at) = heard.or_insert((wish.epoch, now));
        if *epoch != wish.epoch {
            (*epoch, *at) = (wish.epoch, now);
        }
        #[cfg(feature = "sim")]
        if self.mutations.blind_consent {
            return true;
        }
        self.looked_at >= *at
    }

    fn consents_to(&self, word: &GroupWord, wish: Wish, now: MonoNs) -> bool {
        let stands = self.stance == Stance::Standby && !self.is_busy();
        let own = self.told_position();
        let (Some(own), Some(theirs)) = (own, &word.position) else {
            return false;
        };
        let heir = self.is_member(now) && self.data().is_some_and(|data| data.able.is_ok());
        // Who alone has everything lets nobody go first, however much that one has which nobody acknowledged.
        if !stands
            || heir
            || self.sole
            || self.mode == Mode::Standalone
            || self.primary(now).is_some()
        {
            return false;
        }
        let promised = self.ballots.promised.as_ref();
        let again = promised
            .is_some_and(|(to, consent, _)| *to == word.node && consent.epoch == wish.epoch);
        if wish.epoch <= self.epoch || wish.epoch <= self.ballots.promised() && !again {
            return false;
        }
        let competes = self.mode == Mode::ActiveStandby
            && self.data().is_some_and(|data| data.able.is_ok())
            && self.ballots.rests_until <= now;
        let ours = (self.priority, self.config.node.as_str());
        let tie = (wish.priority, word.node.as_str()) > ours || !competes || again;
        theirs.rank > own.rank || theirs.rank == own.rank && tie
    }

    fn promise(&mut self, to: &str, wish: Wish, now: MonoNs) {
        self.leave_sync(now);
        self.ballots.promised_at = now;
        let consent = Consent {
            asked_at: wish.asked_at,
            epoch: wish.epoch,
        };
        if let Some((node, known, _)) = &mut self.ballots.promised
            && node == to
            && known.epoch == wish.epoch
        {
            *known = consent;
            return;
        }
        let serial = self.write(Record::Heard { epoch: wish.epoch });
        self.ballots.promised = Some((to.into(), consent, Some(serial)));
    }
}
