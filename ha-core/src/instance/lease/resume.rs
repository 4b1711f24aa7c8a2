//! A holder that was held up until its leases had run out: it lets nobody have the instance without need, and
//! takes it from nobody.
//!
//! Its gate is closed by then, and its peers may have taken over. It knows nothing of that, for what arrived
//! meanwhile it has not heard. So it raises its epoch, stays where it is with its addresses in place, and asks
//! ([`lease::Ask::Resume`](ha_common::lease::Ask)): a peer that acts refuses, and this node's kernel yields to
//! holders and candidates. Only when every peer has granted, or is silent as it would have to be for a Backup, it goes on.

use ha_common::{MonoNs, lease::Standing};

use super::{Leases, Phase};
use crate::{
    event::{Action, Advert},
    instance::{Departure, Instance, Verdict, promoting::PATIENCE},
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
};

/// How often in so many leases a node goes on. More often it is too slow for them, and another one had better
/// have the instance.
const TIMES: u32 = 3;
const IN_LEASES: u64 = 100;

/// How often a node went on, since when it is counted.
#[derive(Debug, Default)]
pub(super) struct Resumptions {
    since: MonoNs,
    count: u32,
}

impl Leases {
    /// Its leases ran out while this node was held up: begins to ask for them anew, unless its kernel has given way
    /// meanwhile, or this happens too often. Whether it does.
    fn lapse(&mut self, now: MonoNs) -> bool {
        let span = self.slowest_lease().times(IN_LEASES);
        if self.resumptions.since.after(span) <= now {
            self.resumptions = Resumptions {
                since: now,
                count: 0,
            };
        }
        if self.granted_meanwhile().is_some() || self.resumptions.count >= TIMES {
            return false;
        }
        self.resumptions.count += 1;
        self.phase = Phase::Announcing;
        self.resumes = true;
        self.begin(now);
        for peer in &mut self.peers {
            peer.view.deadline = MonoNs::ZERO;
        }
        true
    }
}

impl Instance {
    /// Whether it asks its peers to go on, instead of letting go because of `cause`.
    pub(crate) fn asks_to_go_on(&mut self, cause: &Cause, now: MonoNs, out: &mut Outbox) -> bool {
        let was_held_up = matches!(cause, Cause::Late { .. });
        // Another node that had it for a moment has newer data.
        let in_place = self.state == State::Active
            && self.is_ready()
            && self.vips
            && !self.roles.are_under_way();
        let Some(leases) = self.leases.as_mut().filter(|_| was_held_up && in_place) else {
            return false;
        };
        if !leases.lapse(now) {
            return false;
        }
        let gives_up_at = leases.gives_up_at();
        // A router that grants no leases may have taken over for want of adverts: it gets the time to say so.
        let unheard = self
            .sent
            .is_some_and(|sent| sent.after(self.gate_time()) <= now);
        self.timers.stop_all();
        self.settle();
        self.vips = true;
        self.quiet_until = unheard.then(|| now.after(self.config.advert_interval));
        self.epoch = self.epoch.raised();
        self.elected_by = Some(cause.clone());
        self.elected_at = now;
        self.timers.set(Timer::Candidate, gives_up_at);
        self.timers.set(Timer::Promotion, now.after(PATIENCE));
        out.take_back(self.config.id);
        out.push(Action::SetEpoch {
            instance: self.config.id,
            epoch: self.epoch,
        });
        out.push(Action::Stand {
            instance: self.config.id,
            standing: Standing::Lapsed,
        });
        self.transit(State::Promoting, cause.clone(), now, out);
        true
    }

    /// Whether it asks to go on.
    pub(crate) fn resumes(&self) -> bool {
        self.leases.as_ref().is_some_and(|leases| leases.resumes)
    }

    /// A router advertises, so that it holds the instance: this node does not go on.
    pub(crate) fn resumption_hears(&self, advert: &Advert) -> Option<Verdict> {
        let cause = Cause::NotGranted { by: advert.sender };
        self.resumes()
            .then(|| Verdict::Leave(Departure::silently(cause)))
    }
}
