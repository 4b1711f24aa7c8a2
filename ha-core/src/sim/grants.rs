//! One instance's leases in a node's kernel: it answers the peers' echoes, also while the process is held
//! up, and decides with the same functions as XDP.

use std::vec::Vec;

use ha_common::{
    MonoNs, Nanos,
    gate::{Epoch, Lease},
    lease::{self, Ask, Judgement, Promise, Rank, Situation, Standing, Vigil},
};

use super::Mutations;
use crate::LeaseView;

/// What an echo says of one instance, and what the answer says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) instance: usize,
    pub(crate) ask: Ask,
    pub(crate) epoch: Epoch,
    pub(crate) rank: Rank,
    pub(crate) granted: bool,
}

/// An echo's header; its answer carries the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The asker's start.
    pub(crate) boot: u64,
    /// By the asker's clock.
    pub(crate) sent: MonoNs,
    pub(crate) lease: Nanos,
}

/// What becomes of a request, for the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) granted: bool,
    pub(crate) yielded: bool,
    pub(crate) released: bool,
    /// It asks for something else than before.
    pub(crate) news: bool,
}

/// The words about one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PeerWords {
    promise: Promise,
    lease: Lease,
    boot: u64,
    granted_sent: MonoNs,
    released_sent: MonoNs,
    asked: Option<(Ask, Rank)>,
    asked_at: MonoNs,
    /// Whether its address is greater than ours.
    greater: bool,
}

/// The words of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Grants {
    pub(crate) peers: Vec<PeerWords>,
    pub(crate) standing: Standing,
    /// As what the daemon stands, whose echoes ask by that, also after the kernel yielded.
    pub(crate) told: Standing,
    /// Until when it counts as candidate, if it does not announce itself again.
    pub(crate) candidate_until: MonoNs,
    pub(crate) rank: Rank,
    /// Requests for longer leases are refused.
    longest: Nanos,
    /// The longest lease of this node's own paths: how long its silence has to last.
    pub(crate) slowest: Nanos,
    /// Counts what the silence timer was armed for; older ones are void.
    pub(crate) timer: u64,
    pub(crate) armed: bool,
    pub(crate) vigil: Vigil,
    mutations: Mutations,
}

impl Grants {
    /// `greater` tells of each peer whether its address is greater than this node's.
    pub(crate) fn new(
        greater: impl Iterator<Item = bool>,
        rank: Rank,
        slowest: Nanos,
        mutations: Mutations,
    ) -> Self {
        let peers = greater.map(|greater| PeerWords {
            greater,
            ..PeerWords::default()
        });
        Self {
            peers: peers.collect(),
            standing: Standing::Bystander,
            told: Standing::Bystander,
            candidate_until: MonoNs::ZERO,
            rank,
            longest: slowest.times(4),
            slowest,
            timer: 0,
            armed: false,
            vigil: Vigil::default(),
            mutations,
        }
    }

    /// A daemon starts, after it raised the epoch.
    pub(crate) fn attach(&mut self, now: MonoNs) {
        self.stand(Standing::Bystander);
        let first = if self.mutations.no_promise_at_attach {
            now
        } else {
            now.after(self.longest).after(lease::margin(self.longest))
        };
        for peer in &mut self.peers {
            peer.promise = Promise::until(peer.promise.ends().max(first));
        }
    }

    /// The daemon says as what it stands.
    pub(crate) fn stand(&mut self, standing: Standing) {
        self.standing = standing;
        self.told = standing;
    }

    pub(crate) fn is_open(&self, epoch: Epoch, superseded: Epoch, now: MonoNs) -> bool {
        let stands = self.standing == Standing::Active || self.mutations.any_epoch;
        stands
            && self
                .peers
                .iter()
                .all(|peer| ha_common::gate::is_open(epoch, superseded, peer.lease, now))
    }

    /// When the first lease of an epoch ends.
    pub(crate) fn deadline(&self, epoch: Epoch) -> MonoNs {
        self.peers
            .iter()
            .map(|peer| peer.deadline(epoch))
            .min()
            .unwrap_or_default()
    }

    /// When the last promise ends.
    pub(crate) fn promised_until(&self) -> MonoNs {
        self.peers
            .iter()
            .map(|peer| peer.promise.ends())
            .max()
            .unwrap_or_default()
    }

    pub(crate) fn is_acting(&self) -> bool {
        self.peers.iter().any(|peer| peer.promise.is_acting())
    }

    /// Judges one entry of an echo. `superseded` is raised to `epoch` before anything else where this node
    /// yields.
    pub(crate) fn answer(
        &mut self,
        from: usize,
        header: &Header,
        entry: &Entry,
        gate: (&Epoch, &mut Epoch),
        now: MonoNs,
    ) -> Outcome {
        let mutations = self.mutations;
        let (epoch, superseded) = gate;
        let mut outcome = Outcome {
            granted: false,
            yielded: false,
            released: false,
            news: false,
        };
        let alive = match self.standing {
            Standing::Candidate => now < self.candidate_until,
            _ => self.is_open(*epoch, *superseded, now),
        };
        let promised_elsewhere = self.peers.iter().enumerate().any(|(index, peer)| {
            let bars = peer.asked.is_some_and(|(ask, _)| ask.bars(entry.ask));
            index != from && peer.promise.ends() > now && bars
        });
        let peer = &mut self.peers[from];
        if header.boot < peer.boot {
            return outcome;
        }
        if header.boot > peer.boot {
            peer.boot = header.boot;
            peer.granted_sent = MonoNs::ZERO;
            peer.released_sent = MonoNs::ZERO;
        }
        match entry.ask {
            Ask::Nothing => return outcome,
            Ask::Release => {
                peer.released_sent = peer.released_sent.max(header.sent);
                if header.sent > peer.granted_sent && !peer.promise.is_acting() {
                    outcome.released = matches!(peer.asked, Some((Ask::Hold, _)));
                    peer.promise = Promise::until(now.min(peer.promise.ends()));
                    peer.asked = None;
                }
                return outcome;
            }
            Ask::Hold | Ask::Candidate | Ask::Resume => {}
        }
        let lease = if mutations.own_duration {
            self.slowest
        } else {
            header.lease
        };
        if header.sent <= peer.released_sent || header.lease > self.longest {
            return outcome;
        }
        if entry.ask == Ask::Hold {
            peer.asked_at = now;
        }
        let asked = Some((entry.ask, entry.rank));
        outcome.news = peer.asked != asked;
        peer.asked = asked;
        let situation = Situation {
            acting: peer.promise.is_acting() && !mutations.no_acting,
            standing: self.standing,
            alive,
            self_renewed: peer.lease.is_self_renewed() && !mutations.alone_is_granted,
            outranked: self.rank.is_below(entry.rank, peer.greater),
            promised_elsewhere,
        };
        match lease::judge(entry.ask, &situation) {
            Judgement::Refuse => return outcome,
            Judgement::Grant => {}
            Judgement::Yield => {
                *superseded = *epoch;
                self.standing = Standing::Bystander;
                outcome.yielded = true;
            }
        }
        peer.granted_sent = peer.granted_sent.max(header.sent);
        let acting = peer.promise.is_acting() && !outcome.yielded;
        let promise = if mutations.no_margin {
            Promise::until(now.after(lease).max(peer.promise.ends()))
        } else {
            peer.promise.granted(now, lease)
        };
        if !acting {
            peer.promise = promise;
        }
        outcome.granted = true;
        outcome
    }

    /// A grant came home.
    pub(crate) fn grant(
        &mut self,
        from: usize,
        header: &Header,
        entry: &Entry,
        epoch: Epoch,
        now: MonoNs,
    ) {
        let mutations = self.mutations;
        if (entry.epoch != epoch && !mutations.any_epoch) || header.sent > now {
            return;
        }
        let counts_from = if mutations.from_arrival {
            now
        } else {
            header.sent
        };
        let lease = Lease::new(epoch, counts_from.after(header.lease));
        let peer = &mut self.peers[from];
        peer.lease = peer.lease.extended(lease);
    }

    /// The engine wants to act for every peer, or for none.
    pub(crate) fn act(&mut self, now: MonoNs) -> Result<(), MonoNs> {
        let until = self.promised_until();
        if until > now {
            return Err(until);
        }
        for peer in &mut self.peers {
            peer.promise = Promise::ACTING;
        }
        Ok(())
    }

    /// What the engine no longer acts for; a promise that was made meanwhile stays.
    pub(crate) fn let_go(&mut self) {
        for peer in &mut self.peers {
            if peer.promise.is_acting() {
                peer.promise = Promise::default();
            }
        }
    }

    pub(crate) fn renew_alone(&mut self, peer: usize, lease: Lease) {
        self.peers[peer].lease = lease.self_renewed();
    }

    pub(crate) fn view(&self, peer: usize, epoch: Epoch, heard_at: MonoNs) -> LeaseView {
        let words = &self.peers[peer];
        LeaseView {
            deadline: words.deadline(epoch),
            self_renewed: words.lease.is_self_renewed(),
            heard_at,
            asked_at: words.asked_at,
            promised_until: words.promise.ends(),
        }
    }
}

impl PeerWords {
    fn deadline(&self, epoch: Epoch) -> MonoNs {
        if self.lease.epoch() == epoch {
            self.lease.deadline()
        } else {
            MonoNs::ZERO
        }
    }
}
