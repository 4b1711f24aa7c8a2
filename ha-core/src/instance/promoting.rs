//! Promoting: elected and advertising, not yet speaking for the VIPs.

use alloc::{format, string::String};

use ha_common::{MonoNs, Nanos, Priority, gate::Lease};

use super::{Claim, Departure, Instance, Speaker, Verdict};
use crate::{
    event::{Action, Advert},
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
    vrrp::Rank,
};

/// A promotion that is not complete after this failed. It is far beyond any netlink call, and its
/// purpose is that nothing is waited for without an end.
pub(super) const PATIENCE: Nanos = Nanos::from_secs(10);

impl Instance {
    /// Elected: advertises at once, so that nobody else competes.
    pub(crate) fn promote(&mut self, now: MonoNs, next: MonoNs, out: &mut Outbox) {
        let Some(cause) = self.claim_cause(now) else {
            return;
        };
        let calls = matches!(self.claim, Some(Claim::Preempt | Claim::Owner));
        self.timers.stop_all();
        self.settle();
        // An epoch of its own: an advert that outranks us from here on supersedes it in the kernel, even
        // if this node is held up before it reads that advert and opens.
        self.epoch = self.epoch.raised();
        out.push(Action::SetEpoch {
            instance: self.config.id,
            epoch: self.epoch,
        });
        self.active = None;
        self.yielded = false;
        self.elected_by = Some(cause.clone());
        self.elected_at = now;
        self.timers.set(Timer::Promotion, now.after(PATIENCE));
        if self.leases.is_some() {
            self.compete(calls, now, out);
        } else {
            self.send(self.priority, now, out);
            self.timers.set(Timer::Advert, next);
        }
        self.await_losers(now);
        self.transit(State::Promoting, cause, now, out);
    }

    /// The second half of [`Self::promote`], after every member of the unit has advertised.
    pub(crate) fn prepare(&self, out: &mut Outbox) {
        if !self.awaits_roles() {
            out.push(Action::AddVips {
                instance: self.config.id,
            });
        }
        self.watch(None, out);
    }

    /// Waits until no loser's gate can be open any more, should its priority 0 be lost. A foreign one
    /// does not say when it has let go: waiting for it would only lengthen the time in which it may
    /// still speak beside nobody.
    pub(super) fn await_losers(&mut self, now: MonoNs) {
        let due = self
            .speakers
            .iter()
            .filter(|speaker| speaker.advert.from_had && !self.binds(speaker))
            .map(|speaker| self.outlived(speaker))
            .max()
            .filter(|due| *due > now);
        #[cfg(feature = "sim")]
        let due = due.filter(|_| !self.mutations.preempt_at_once);
        let contested = core::mem::replace(&mut self.contested, due.is_some());
        match due {
            Some(due) => self.timers.set(Timer::Rival, due),
            None => {
                self.timers.stop(Timer::Rival);
                if contested {
                    self.await_promises(now);
                }
            }
        }
    }

    /// A loser with an interval that is shorter than ours is waited for as if it had ours.
    fn outlived(&self, speaker: &Speaker) -> MonoNs {
        let mut speaker = *speaker;
        speaker.advert.interval = speaker.advert.interval.max(self.config.advert_interval);
        speaker.outlived()
    }

    pub(super) fn losers_outlived(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        self.losers_gone(now, out)
    }

    pub(super) fn promoting_hears(
        &mut self,
        advert: Advert,
        received_at: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        if advert.priority == Priority::RELEASE {
            self.forget(advert.sender);
            return self.losers_gone(now, out);
        }
        if self.is_repetition(&advert, received_at) {
            return Verdict::Stay;
        }
        self.remember(advert, received_at);
        if let Some(verdict) = self.resumption_hears(&advert) {
            return verdict;
        }
        if self.is_outranked(&advert, received_at) {
            return Verdict::Leave(Departure::to_backup(self.outranked(&advert)));
        }
        self.active = None;
        self.await_losers(now);
        self.answer(now, out);
        Verdict::Stay
    }

    /// Whether an advert outranks this node, by the rank that the dataplane may have judged it with: it
    /// has closed the gate then.
    pub(super) fn is_outranked(&self, advert: &Advert, received_at: MonoNs) -> bool {
        let theirs = rank_of(advert);
        let floor = self
            .floor
            .filter(|(_, told)| told.is_none_or(|told| received_at <= told));
        self.rank().is_some_and(|mut ours| {
            if let Some((priority, _)) = floor {
                ours.priority = ours.priority.min(priority);
            }
            theirs > ours
        })
    }

    pub(super) fn outranked(&self, advert: &Advert) -> Cause {
        let is_greater = self.rank().is_some_and(|ours| rank_of(advert) > ours);
        Cause::Outranked {
            by: advert.sender,
            priority: advert.priority,
            by_address: is_greater && advert.priority == self.priority,
        }
    }

    /// An advert out of turn, for a router that should know better: at most two in an interval, so
    /// that nobody can make this node flood.
    pub(super) fn answer(&mut self, now: MonoNs, out: &mut Outbox) {
        let pause = Nanos(self.config.advert_interval.0 / 2);
        if self.extra_at.is_none_or(|last| last.after(pause) <= now) {
            self.extra_at = Some(now);
            self.send(self.priority, now, out);
        }
    }

    pub(super) fn vips_added(
        &mut self,
        result: Result<(), String>,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        if !self.speaks() {
            return Verdict::Stay;
        }
        match result {
            Err(why) => Verdict::Leave(Departure::to_backup(Cause::PromotionFailed { why })),
            Ok(()) => {
                self.vips = true;
                if self.state == State::Promoting {
                    return Verdict::Open;
                }
                self.begin_burst(now, out);
                Verdict::Stay
            }
        }
    }

    /// Somebody removed an address: it is put back in place, without a transition.
    pub(super) fn vip_lost(&mut self, out: &mut Outbox) -> Verdict {
        if self.speaks() && !self.roles.come_first() {
            self.vips = false;
            out.push(Action::AddVips {
                instance: self.config.id,
            });
            self.note(
                String::from("somebody removed an address of this instance: it is put back"),
                out,
            );
        }
        Verdict::Stay
    }

    pub(super) fn advert_sent(
        &mut self,
        round: MonoNs,
        result: Result<(), String>,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        // Not an advert that was sent before this node let go, and whose outcome comes after.
        if self.state == State::Backup && round >= self.since {
            self.farewell_sent(now);
        }
        if !self.holds() || round < self.elected_at || self.sent.is_some_and(|sent| sent >= round) {
            return Verdict::Stay;
        }
        if let Some((_, told @ None)) = &mut self.floor {
            // Actions are carried out in order: the new rank went before this advert.
            *told = Some(now);
        }
        match result {
            Ok(()) => {
                let heard_of_us = self.sent.unwrap_or(self.elected_at);
                self.send_error = None;
                self.sent = Some(round);
                if self.state == State::Active {
                    if self.leases.is_none() {
                        self.renew(round, now, out);
                    }
                    return Verdict::Stay;
                }
                if self.state == State::Demoting {
                    return Verdict::Stay;
                }
                if heard_of_us.after(self.gate_time()) <= round {
                    self.quiet_until = Some(now.after(self.config.advert_interval));
                }
                Verdict::Open
            }
            Err(why) => self.advert_failed(why, now, out),
        }
    }

    fn advert_failed(&mut self, why: String, now: MonoNs, out: &mut Outbox) -> Verdict {
        if self.send_error.is_none() {
            self.note(format!("an advert could not be sent: {why}"), out);
        }
        self.send_error = Some(why.clone());
        let unheard = self.sent.unwrap_or(self.elected_at).after(self.gate_time());
        if self.state == State::Promoting && unheard <= now {
            let cause = Cause::PromotionFailed {
                why: format!("adverts cannot be sent: {why}"),
            };
            return Verdict::Leave(Departure::to_backup(cause));
        }
        Verdict::Stay
    }

    /// Whether every condition for speaking is met: no other node can act, and the VIPs are in place.
    pub(crate) fn can_open(&self, now: MonoNs) -> bool {
        self.vips && self.may_act(now)
    }

    /// Whether no other node can act: an advert that is not too old was sent, no loser may still speak, and if
    /// this node was held up for so long that another one may have taken over meanwhile, it had an interval to
    /// object.
    pub(crate) fn may_act(&self, now: MonoNs) -> bool {
        self.state == State::Promoting
            && !self.contested
            && self.quiet_until.is_none_or(|until| until <= now)
            && self.sent.is_some_and(|round| {
                if self.leases.is_some() {
                    self.leases_allow(now)
                } else {
                    self.lease(round, now).deadline() > now
                }
            })
    }

    /// The one time sample before the advert was sent, and three intervals: what was sent later
    /// counts from earlier, so that no pause in between lengthens the gate.
    pub(super) fn lease(&self, round: MonoNs, now: MonoNs) -> Lease {
        #[cfg(feature = "sim")]
        let round = if self.mutations.stamp_after_send {
            now
        } else {
            round
        };
        let _ = now;
        Lease::new(self.epoch, round.after(self.gate_time()))
    }

    /// Opens the gate.
    pub(crate) fn open(&mut self, now: MonoNs, out: &mut Outbox) {
        let Some(round) = self.sent else {
            return;
        };
        self.timers.stop(Timer::Promotion);
        if self.leases.is_some() {
            self.open_by_leases(now, out);
        } else {
            self.renew(round, now, out);
        }
        self.transit(State::Active, Cause::Promoted, now, out);
    }

    /// A promotion that takes too long, or a gate that ran out.
    pub(super) fn overdue(&mut self, timer: Timer, now: MonoNs) -> Verdict {
        if timer == Timer::Gate {
            return self.late(now).map_or(Verdict::Stay, Verdict::Leave);
        }
        if self.state != State::Promoting {
            return Verdict::Stay;
        }
        if self.vips || self.roles.come_first() {
            // The addresses are in place, or are not to be yet: the wait is for a loser that still advertises,
            // here or in its group. It ends with what that router does, and meanwhile that router serves.
            self.timers.set(Timer::Promotion, now.after(PATIENCE));
            return Verdict::Open;
        }
        Verdict::Leave(Departure::to_backup(Cause::PromotionFailed {
            why: format!("the addresses were not in place after {PATIENCE}"),
        }))
    }
}

const fn rank_of(advert: &Advert) -> Rank {
    Rank {
        priority: advert.priority,
        address: advert.sender,
    }
}
