//! Backup: who asks to hold the instance, who lets go of it, and the silence when nobody asks any more.

use ha_common::{MonoNs, lease::Ask};

use super::Leases;
use crate::{
    instance::{Claim, Instance, Speaker, Verdict},
    outbox::Outbox,
    status::State,
    timer::Timer,
};

/// What was found since a peer asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing: somebody may ask.
    Unproven,
    /// The kernel, which was awake all the time, has found that nobody asks.
    Proven,
    /// The same, and this node was held up later. It waits for a lease more: once, since a node that is always
    /// held up would wait for ever.
    Doubted,
}

impl Leases {
    /// When the peer that asked last cannot hold the instance any more: after its promise, and as long after
    /// the last advert that shows it alive.
    fn outlived(&self, speakers: &[Speaker]) -> MonoNs {
        let promised = self.promised_until();
        let Some(asker) = self.asker() else {
            return promised;
        };
        let advertised = speakers
            .iter()
            .filter(|speaker| speaker.advert.sender == asker.address)
            .map(|speaker| speaker.last)
            .max();
        let alive_at = asker.view.asked_at.max(advertised.unwrap_or_default());
        promised.max(alive_at.after(asker.holds_for()))
    }
}

impl Instance {
    /// When a peer that fell silent cannot hold the instance any more.
    pub(crate) fn holder_outlived(&self) -> MonoNs {
        self.leases
            .as_ref()
            .map_or(MonoNs::ZERO, |leases| leases.outlived(&self.speakers))
    }

    /// Every promise has run out: nobody who relied on one holds the instance any more, unless it was heard
    /// later by its adverts. Only who asked until then and advertises no longer than that proves it by
    /// silence; for all others the Active_Down_Interval decides.
    pub(crate) fn lease_silence(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        if self.state != State::Backup || self.released.is_some() || self.claim.is_some() {
            return Verdict::Stay;
        }
        let due = leases.promised_until();
        if now < due {
            self.timers.set(Timer::ActiveDown, due);
            return Verdict::Stay;
        }
        if leases.silence == Silence::Unproven {
            leases.silence = Silence::Proven;
        }
        let Some(asker) = leases.asker() else {
            return Verdict::Stay;
        };
        let goes_on = asker.view.asked_at.after(asker.fastest().times(2));
        let bound = self
            .speakers
            .iter()
            .filter(|speaker| Some(speaker.advert.sender) == self.active || self.active.is_none())
            .all(|speaker| speaker.advert.sender == asker.address && speaker.last <= goes_on);
        let due = leases.outlived(&self.speakers);
        if !bound || self.others_outlived() > now {
            return Verdict::Stay;
        }
        if now < due {
            self.timers.set(Timer::ActiveDown, due);
            return Verdict::Stay;
        }
        self.believe(Claim::Silence, now, now, out)
    }

    /// Active_Down_Timer fired at `now` before the Active_Down_Interval was over, perhaps because the kernel
    /// found that nobody asks. If this node was held up since, a request may have been lost: who is there asks
    /// again within a lease.
    pub(crate) fn lease_silence_due(
        &mut self,
        due: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        let Some(asker) = leases.asker() else {
            return Verdict::Stay;
        };
        let again = now.after(asker.slowest_lease());
        let late = now.since(due) >= asker.fastest();
        match leases.silence {
            Silence::Unproven => Verdict::Stay,
            Silence::Proven if late => {
                leases.silence = Silence::Doubted;
                self.timers.set(Timer::ActiveDown, again);
                Verdict::Stay
            }
            Silence::Proven | Silence::Doubted => self.lease_silence(now, out),
        }
    }

    /// A peer asks.
    pub(crate) fn asked(&mut self, peer: usize, ask: Ask) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        if ask != Ask::Hold || peer >= leases.peers.len() {
            return Verdict::Stay;
        }
        leases.asker = Some(peer);
        leases.silence = Silence::Unproven;
        if self.state != State::Backup {
            return Verdict::Stay;
        }
        self.drop_proof();
        self.released = None;
        if self.may_preempt() {
            Verdict::Stay
        } else {
            Verdict::Blocked
        }
    }

    /// Who asks is there: what proved that nobody is does so no more, also where a hold-down kept this node
    /// from acting on it.
    pub(super) fn drop_proof(&mut self) {
        if matches!(
            self.claim,
            Some(Claim::Silence | Claim::Dead(_) | Claim::Released(_))
        ) {
            self.claim = None;
        }
    }

    /// A peer lets go.
    pub(crate) fn peer_released(
        &mut self,
        peer: usize,
        received_at: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(leases) = &mut self.leases else {
            return Verdict::Stay;
        };
        let Some(address) = leases.peers.get(peer).map(|peer| peer.address) else {
            return Verdict::Stay;
        };
        let held = leases.asker == Some(peer);
        if held {
            leases.asker = None;
        }
        match self.state {
            State::Backup if held || self.active == Some(address) => {
                self.active = Some(address);
                self.backup_released(address, true, received_at, now)
            }
            State::Promoting => {
                self.forget(address);
                self.losers_gone(now, out)
            }
            _ => Verdict::Stay,
        }
    }

    /// When to look again, where only this node's own sleep may have made a peer silent: the kernel, whose
    /// timer knows whether it slept, has not said so.
    pub(crate) fn may_have_slept(&self, now: MonoNs) -> Option<MonoNs> {
        let leases = self.leases.as_ref()?;
        let unproven = leases.asker.is_some() && leases.silence == Silence::Unproven;
        unproven.then(|| now.after(leases.slowest_lease()))
    }

    /// Whether what was heard of a router's end needs a promise's end, too.
    pub(crate) fn is_promised(&self, now: MonoNs) -> bool {
        self.promised_until() > now
    }
}
