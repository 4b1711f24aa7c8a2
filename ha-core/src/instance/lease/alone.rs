//! Without a peer: an Active node renews by itself, a Backup that is not to serve alone waits.

use alloc::format;
use core::net::IpAddr;

use ha_common::{MonoNs, gate::Lease};

use super::{Leases, Peer};
use crate::{
    config::Alone,
    event::Action,
    instance::{Instance, Verdict},
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
};

/// A peer that is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    peer: usize,
    since: MonoNs,
    /// It had the time to answer, and that it did not was told.
    told: bool,
}

impl Peer {
    /// What the last echoes give, if every one of them was heard.
    pub(super) fn alone_until(&self) -> Option<MonoNs> {
        self.ways
            .iter()
            .filter_map(|way| Some(way.sent?.after(way.lease)))
            .max()
    }
}

impl Leases {
    /// The first peer without which this node does not stand: not to serve alone, it needs them all.
    fn missing(&self, now: MonoNs) -> Option<usize> {
        let is_missing = |peer: &Peer| peer.view.heard_at.after(peer.slowest_lease()) <= now;
        match self.alone {
            Alone::Serve => None,
            Alone::Stop => self.peers.iter().position(is_missing),
        }
    }

    /// The peer that is waited for.
    pub(crate) fn awaited(&self) -> Option<IpAddr> {
        let peer = self.peers.get(self.awaited?.peer)?;
        Some(peer.address)
    }
}

impl Instance {
    /// A peer may have fallen silent, or one that is waited for be back.
    pub(crate) fn alone_due(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        if self.state == State::Active {
            self.go_on_alone(now, out);
        } else if self.holds() && self.roles.are_under_way() {
            return self.consider_candidacy(now, out);
        }
        if self.awaits_peer() {
            Verdict::Claim
        } else {
            Verdict::Stay
        }
    }

    pub(crate) fn awaits_peer(&self) -> bool {
        self.leases
            .as_ref()
            .is_some_and(|leases| leases.awaited.is_some())
    }

    /// Before it stands: looks whether it has to wait for a peer. Echoes go out as fast as those of a holder
    /// meanwhile; one that heard hellos alone so far answers the first of them.
    pub(crate) fn await_peers(&mut self, now: MonoNs, out: &mut Outbox) {
        let claims = self.claims(now);
        let Some(leases) = &mut self.leases else {
            return;
        };
        let Some(missing) = leases.missing(now).filter(|_| claims) else {
            if leases.awaited.take().is_some() {
                self.timers.stop(Timer::Alone);
            }
            return;
        };
        let peer = &leases.peers[missing];
        let since = leases.awaited.map_or(now, |awaited| awaited.since);
        let mut told = leases.awaited.is_some_and(|awaited| awaited.told);
        let sentence = (!told && since.after(peer.slowest_lease()) <= now)
            .then(|| format!("waits for {}: alone = \"stop\"", peer.address));
        told |= sentence.is_some();
        self.timers.set(Timer::Alone, now.after(peer.fastest()));
        leases.awaited = Some(Awaited {
            peer: missing,
            since,
            told,
        });
        // Who let go because it was alone has said so.
        if let Some(sentence) = sentence
            && !matches!(self.cause, Cause::Alone { .. })
        {
            self.note(sentence, out);
        }
    }

    /// Forgets whom it waited for.
    pub(crate) fn await_nobody(&mut self) {
        if let Some(leases) = &mut self.leases {
            leases.awaited = None;
        }
    }

    pub(super) fn arm_alone(&mut self, now: MonoNs) {
        let due = self
            .leases
            .iter()
            .flat_map(|leases| &leases.peers)
            .map(Peer::silent_from)
            .filter(|due| *due > now)
            .min();
        match due {
            Some(due) => self.timers.set(Timer::Alone, due),
            None => self.timers.stop(Timer::Alone),
        }
    }

    /// Renews the leases of peers of which nothing is heard: with every echo, so that a whole lease is left to
    /// ask for a grant when the peer is back.
    pub(super) fn go_on_alone(&mut self, now: MonoNs, out: &mut Outbox) {
        let Some(leases) = &self.leases else {
            return;
        };
        if leases.alone == Alone::Serve {
            for (index, peer) in leases.peers.iter().enumerate() {
                if peer.is_silent(now) {
                    self.renew_alone(index, now, out);
                }
            }
        }
        self.arm_alone(now);
        if self.hears_nobody(now) {
            self.ask_arbitrators(now, out);
        }
        self.consider_company(now, out);
    }

    /// Renews a lease to what the last echo would give, never from now: a peer that heard it grants as
    /// much.
    pub(super) fn renew_alone(&self, index: usize, now: MonoNs, out: &mut Outbox) {
        let Some(peer) = self
            .leases
            .as_ref()
            .and_then(|leases| leases.peers.get(index))
        else {
            return;
        };
        let until = peer.alone_until();
        #[cfg(feature = "sim")]
        let until = if self.mutations.alone_from_now {
            Some(now.after(peer.slowest_lease()))
        } else if self.mutations.unannounced {
            until.or(Some(now.after(peer.slowest_lease())))
        } else {
            until
        };
        let Some(until) = until.filter(|until| *until > now) else {
            return;
        };
        let lease = Lease::new(self.epoch, until);
        if lease.deadline() > peer.view.deadline {
            out.push(Action::RenewAlone {
                instance: self.config.id,
                peer: index,
                lease,
                heard_at: peer.view.heard_at,
            });
        }
    }
}
