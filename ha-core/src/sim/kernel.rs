//! One instance's part in a node's kernel: gate, stamps, silence timer. It works while the process is
//! held up, and decides with the same [`gate::is_open`] as XDP and tc.

use ha_common::{
    MonoNs, Nanos, Priority,
    gate::{self, Epoch, Lease},
};

use super::{Mutations, grants::Grants};
use crate::{Advert, vrrp::Rank};

/// Where an advert came from, for the checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) node: usize,
    /// Index of the sender's stay; `None` for priority 0.
    pub(crate) stay: Option<usize>,
    pub(crate) sent_at: u64,
}

/// The words of one instance's maps.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) epoch: Epoch,
    superseded: Epoch,
    lease: Lease,
    pub(crate) rank: Rank,
    /// The last advert with a priority other than 0.
    pub(crate) last: Option<(MonoNs, Origin)>,
    last_word: Option<Advert>,
    pub(crate) watch: Nanos,
    /// For how long the silence timer runs, zero if it does not.
    pub(crate) armed: Nanos,
    pub(crate) timer: u64,
    /// Leases granted by the peers, where the instance relies on them.
    pub(crate) grants: Option<Grants>,
}

/// What an arriving advert leads to.
pub(crate) struct Receipt {
    /// The daemon hears of it.
    pub(crate) event: bool,
    /// It outranks this node.
    pub(crate) outranks: bool,
    /// The silence timer starts.
    pub(crate) arm: bool,
}

impl Kernel {
    pub(crate) const fn new(rank: Rank) -> Self {
        Self {
            epoch: Epoch::NONE,
            superseded: Epoch::NONE,
            lease: Lease::from_word(0),
            rank,
            last: None,
            last_word: None,
            watch: Nanos::ZERO,
            armed: Nanos::ZERO,
            timer: 0,
            grants: None,
        }
    }

    pub(crate) fn is_open(&self, now: MonoNs) -> bool {
        match &self.grants {
            Some(grants) => grants.is_open(self.epoch, self.superseded, now),
            None => gate::is_open(self.epoch, self.superseded, self.lease, now),
        }
    }

    pub(crate) fn deadline(&self) -> MonoNs {
        match &self.grants {
            Some(grants) => grants.deadline(self.epoch),
            None => self.lease.deadline(),
        }
    }

    pub(crate) fn lease_timer(&self) -> u64 {
        self.grants.as_ref().map_or(0, |grants| grants.timer)
    }

    /// The leases with the epoch and the superseded one.
    pub(crate) fn grants_and_gate(&mut self) -> Option<(&mut Grants, (&Epoch, &mut Epoch))> {
        let gate = (&self.epoch, &mut self.superseded);
        Some((self.grants.as_mut()?, gate))
    }

    /// What the last advert said, unless that was priority 0.
    pub(crate) fn last_word(&self) -> Option<Advert> {
        self.last_word
            .filter(|advert| advert.priority != Priority::RELEASE)
    }

    pub(crate) fn set_lease(&mut self, lease: Lease) {
        self.lease = lease;
    }

    /// What XDP does with a valid advert.
    pub(crate) fn receive(
        &mut self,
        advert: Advert,
        origin: Origin,
        now: MonoNs,
        mutations: Mutations,
    ) -> Receipt {
        let open = self.is_open(now);
        let theirs = Rank {
            priority: advert.priority,
            address: advert.sender,
        };
        let outranks = theirs > self.rank;
        let heeds = open || !mutations.supersede_when_open;
        let supersedes = outranks && heeds && self.superseded != self.epoch;
        if supersedes {
            self.superseded = self.epoch;
        }
        let changed = self.last_word != Some(advert);
        self.last_word = Some(advert);
        let release = advert.priority == Priority::RELEASE;
        let mut arm = false;
        if !release {
            self.last = Some((now, origin));
            arm = self.watch != Nanos::ZERO && self.armed != self.watch;
        }
        Receipt {
            event: changed || release || open || supersedes,
            outranks,
            arm,
        }
    }
}
