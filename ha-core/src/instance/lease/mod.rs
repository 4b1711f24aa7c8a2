//! Leases granted by the peers' kernels (docs/architecture.md, "Leases"): what an instance knows of them.
//!
//! Every handler is called after the words of the maps were read again ([`crate::Engine::read_leases`]).

mod alone;
mod candidate;
mod company;
mod leaving;
mod resume;
mod silence;

use alloc::vec::Vec;
use core::net::IpAddr;

use ha_common::{MonoNs, Nanos, lease};

pub(crate) use self::company::Company;
use self::{alone::Awaited, resume::Resumptions, silence::Silence};
use super::{Instance, Speaker, Verdict};
use crate::{
    config::{Alone, LeaseConfig, PathId},
    event::{LeaseView, LeaseViews},
    outbox::Outbox,
    path::Pace,
    status::State,
    timer::Timer,
};

/// How far a promotion has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its promises have to run out first.
    Promised,
    /// Announcing itself.
    Announcing,
    /// Every peer has granted a lease, or is silent.
    Won,
}

/// What an instance knows of its leases.
#[derive(Debug)]
pub(crate) struct Leases {
    pub(crate) peers: Vec<Peer>,
    alone: Alone,
    pub(crate) phase: Phase,
    /// Promoting: whether it held the instance until it was held up, and asks to go on.
    resumes: bool,
    resumptions: Resumptions,
    /// When the words of the maps were read last.
    read_at: MonoNs,
    /// Since when it stands as candidate.
    stood_at: MonoNs,
    /// Candidate: when every refusal that there is has come, once enough was announced.
    decide_at: Option<MonoNs>,
    /// The peer that was heard holding the instance last.
    asker: Option<usize>,
    silence: Silence,
    /// Backup that is not to serve alone: whom it waits for before it stands as candidate.
    awaited: Option<Awaited>,
}

/// A peer, as one instance sees it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    ways: Vec<Way>,
    pub(crate) view: LeaseView,
}

/// A path to a peer.
#[derive(Debug)]
struct Way {
    id: PathId,
    interval: Nanos,
    lease: Nanos,
    /// The last echo that left, in this stay.
    sent: Option<MonoNs>,
    /// Announcements that were tried, and those that left.
    tried: u32,
    announced: u32,
    round_trip: Option<Nanos>,
}

impl Peer {
    fn fastest(&self) -> Nanos {
        self.each(|way| way.interval).min().unwrap_or_default()
    }

    /// How long it has to be silent before it counts as silent: so long that a refusal would have been
    /// heard, and short enough that the lease has not ended by then.
    fn patience(&self) -> Nanos {
        self.each(|way| {
            let most = way.lease.0.saturating_sub(way.interval.0 / 2 * 3);
            Nanos(most.max(way.interval.0 / 4 * 5))
        })
        .min()
        .unwrap_or_default()
    }

    fn slowest_lease(&self) -> Nanos {
        self.each(|way| way.lease).max().unwrap_or_default()
    }

    fn fastest_lease(&self) -> Nanos {
        self.each(|way| way.lease).min().unwrap_or_default()
    }

    /// How long after it was heard as holder it may hold the instance. Where paths differ, it may have gone on
    /// alone by an echo on the slowest one which was lost.
    fn holds_for(&self) -> Nanos {
        let longest = self.longest_hold();
        if self.slowest_lease() == self.fastest_lease() {
            longest.min(self.view.promised_until.since(self.view.asked_at))
        } else {
            longest
        }
    }

    /// The same, if nothing is known of when it was heard.
    fn longest_hold(&self) -> Nanos {
        let slowest = self.slowest_lease();
        Nanos(slowest.0 + lease::margin(slowest).0)
    }

    fn each<T>(&self, of: impl Fn(&Way) -> T) -> impl Iterator<Item = T> {
        self.ways.iter().map(of)
    }

    /// Whether nothing came from it for as long as it takes. A peer that holds the instance as well does not
    /// hear this node: if packets of its own are lost now and then, it is not silent.
    fn is_silent(&self, now: MonoNs) -> bool {
        self.silent_from() <= now
    }

    /// When it counts as silent, if nothing comes.
    fn silent_from(&self) -> MonoNs {
        let heard = self.view.heard_at.after(self.patience());
        heard.max(self.view.asked_at.after(self.slowest_lease()))
    }
}

impl Leases {
    pub(crate) fn new(config: &LeaseConfig) -> Self {
        let peers = config.peers.iter().map(|peer| Peer {
            address: peer.address,
            ways: peer
                .paths
                .iter()
                .map(|path| Way {
                    id: path.id,
                    interval: path.interval,
                    lease: path.lease(),
                    sent: None,
                    tried: 0,
                    announced: 0,
                    round_trip: None,
                })
                .collect(),
            view: LeaseView::default(),
        });
        Self {
            peers: peers.collect(),
            alone: config.alone,
            phase: Phase::Promised,
            resumes: false,
            resumptions: Resumptions::default(),
            read_at: MonoNs::ZERO,
            stood_at: MonoNs::ZERO,
            decide_at: None,
            asker: None,
            silence: Silence::Unproven,
            awaited: None,
        }
    }

    /// When the first lease ends.
    pub(crate) fn deadline(&self) -> MonoNs {
        self.peers
            .iter()
            .map(|peer| peer.view.deadline)
            .min()
            .unwrap_or_default()
    }

    /// The peer that was heard holding the instance last.
    pub(crate) fn asker(&self) -> Option<&Peer> {
        self.peers.get(self.asker?)
    }

    /// The peer that was heard holding the instance last, if it has asked within a lease.
    pub(crate) fn asking(&self, now: MonoNs) -> Option<IpAddr> {
        let asker = self.asker()?;
        let asks = asker.view.asked_at.after(asker.slowest_lease()) > now;
        asks.then_some(asker.address)
    }

    /// When the last promise ends.
    pub(crate) fn promised_until(&self) -> MonoNs {
        self.peers
            .iter()
            .map(|peer| peer.view.promised_until)
            .max()
            .unwrap_or_default()
    }

    /// Whether nothing comes from any peer.
    pub(crate) fn all_silent(&self, now: MonoNs) -> bool {
        self.peers.iter().all(|peer| peer.is_silent(now))
    }

    /// When anything came from any peer last.
    pub(crate) fn heard_at(&self) -> MonoNs {
        let heard = self.peers.iter().map(|peer| peer.view.heard_at);
        heard.max().unwrap_or_default()
    }

    /// Whether another peer was heard of late than the one that held the instance last: after the latter was, and
    /// after `since`. What was heard before may have fallen silent at the same time.
    pub(crate) fn hears_beside_asker(&self, since: MonoNs, lately: Nanos, now: MonoNs) -> bool {
        let asker = self.asker().map(|peer| peer.view.heard_at);
        let since = since.max(asker.unwrap_or_default());
        let heard = |peer: &Peer| {
            let at = peer.view.heard_at;
            at > since && at.after(lately) > now
        };
        let mut peers = self.peers.iter().enumerate();
        peers.any(|(index, peer)| self.asker != Some(index) && heard(peer))
    }

    fn slowest_lease(&self) -> Nanos {
        self.peers
            .iter()
            .map(Peer::slowest_lease)
            .max()
            .unwrap_or_default()
    }

    /// Whether a router's gate depends on this node's promise, so that it need not be outlived: it is a peer
    /// that asked about when it advertised last.
    pub(crate) fn bind(&self, speaker: &Speaker) -> bool {
        self.peers.iter().any(|peer| {
            peer.address == speaker.advert.sender
                && peer.view.asked_at != MonoNs::ZERO
                && peer.view.asked_at.after(peer.slowest_lease()) >= speaker.last
        })
    }
}

impl Instance {
    /// How fast the echoes on its paths are to follow each other because of this instance.
    pub(crate) fn pace(&self) -> Pace {
        match (&self.leases, self.state) {
            (Some(leases), State::Promoting | State::Demoting) => match leases.phase {
                Phase::Promised => Pace::Hello,
                Phase::Announcing => Pace::Announce,
                Phase::Won => Pace::Hold,
            },
            (Some(_), State::Active) => Pace::Hold,
            (Some(leases), State::Backup) if leases.awaited.is_some() => Pace::Hold,
            _ => Pace::Hello,
        }
    }

    /// Whether its leases are asked for on a path.
    pub(crate) fn uses(&self, path: PathId) -> bool {
        self.leases.as_ref().is_some_and(|leases| {
            let mut ways = leases.peers.iter().flat_map(|peer| &peer.ways);
            ways.any(|way| way.id == path)
        })
    }

    /// The words were read again. To be called before anything is judged by the gate's deadline.
    ///
    /// Returns which peer holds the instance that was not known to: also where the kernel's report was lost.
    pub(crate) fn read_leases(&mut self, views: &LeaseViews, now: MonoNs) -> Option<usize> {
        let leases = self.leases.as_mut()?;
        leases.read_at = now;
        let mut asks = None;
        for (index, (peer, view)) in leases.peers.iter_mut().zip(views).enumerate() {
            if view.asked_at > peer.view.asked_at {
                leases.silence = Silence::Unproven;
                asks = Some(index);
            }
            peer.view = *view;
        }
        let holder = asks.filter(|index| leases.asker != Some(*index));
        let deadline = leases.deadline();
        if asks.is_some() && self.state == State::Backup {
            self.drop_proof();
        }
        if self.state == State::Active {
            self.gate = Some(deadline);
            self.timers.set(Timer::Gate, deadline);
        } else if self.holds() && self.roles.are_under_way() {
            self.timers.set(Timer::Gate, deadline);
        }
        holder
    }

    /// Until when this node knows how its gate stands: the kernel may have extended it since.
    pub(crate) fn known_until(&self, now: MonoNs) -> MonoNs {
        let read_at = self.leases.as_ref().map(|leases| leases.read_at);
        read_at.map_or(now, |read_at| read_at.min(now))
    }

    /// Whether its gate has run out as far as it knows, and the kernel may have extended it since.
    pub(crate) fn is_unread(&self, now: MonoNs) -> bool {
        self.held_until()
            .is_some_and(|deadline| deadline <= now && self.known_until(now) < deadline)
    }

    /// What follows from them, after a node that is late has stepped down.
    pub(crate) fn consider_leases(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        if let Some(peer) = self.leases.as_ref().and_then(Leases::granted_meanwhile) {
            return self.yielded_to(peer);
        }
        match self.state {
            State::Promoting | State::Demoting => self.consider_candidacy(now, out),
            State::Active => {
                self.go_on_alone(now, out);
                Verdict::Stay
            }
            State::Backup if self.awaits_peer() => Verdict::Claim,
            _ => Verdict::Stay,
        }
    }

    /// Until when a promise keeps this node from acting.
    pub(crate) fn promised_until(&self) -> MonoNs {
        self.leases
            .as_ref()
            .map_or(MonoNs::ZERO, Leases::promised_until)
    }
}
