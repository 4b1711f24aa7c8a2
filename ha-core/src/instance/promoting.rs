//! Promoting: elected and advertising, not yet speaking for the VIPs.

use alloc::{format, string::String};

use ha_common::{MonoNs, Nanos, Priority, gate::Lease};

use super::{Claim, Departure, Instance, Rival, Verdict};
use crate::{
    event::{Action, Advert},
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
    vrrp::{self, Rank},
};

/// A promotion that is not complete after this failed. It is far beyond any netlink call, and its
/// purpose is that nothing is waited for without an end.
const PATIENCE: Nanos = Nanos::from_secs(10);

/// Routers that can be Active at once after a network was split, as far as they are waited for: more
/// than a virtual router has.
const MAX_RIVALS: usize = 16;

impl Instance {
    /// Elected: advertises at once, so that nobody else competes.
    pub(crate) fn promote(&mut self, now: MonoNs, out: &mut Outbox) {
        let Some(cause) = self.claim_cause(now) else {
            return;
        };
        let loser = self.loser();
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
        self.rivals.extend(loser);
        self.elected_by = Some(cause.clone());
        self.elected_at = now;
        self.send(self.config.priority, now, out);
        self.timers
            .set(Timer::Advert, now.after(self.config.advert_interval));
        self.timers.set(Timer::Promotion, now.after(PATIENCE));
        self.arm_rivals();
        self.transit(State::Promoting, cause, now, out);
    }

    /// The second half of [`Self::promote`], after every member of the unit has advertised.
    pub(crate) fn prepare(&self, out: &mut Outbox) {
        out.push(Action::AddVips {
            instance: self.config.id,
        });
        self.watch(None, out);
    }

    /// The router that a pre-emption takes over from, if it will say when it has closed. A foreign one
    /// does not: waiting for it would only lengthen the time in which it may still speak.
    fn loser(&self) -> Option<Rival> {
        match (self.claim, self.heard, self.stamp) {
            (Some(Claim::Preempt), Some(advert), Some(last)) if advert.from_had => Some(Rival {
                sender: advert.sender,
                interval: advert.interval,
                last,
            }),
            _ => None,
        }
    }

    /// Waits until no loser's gate can be open any more, should its priority 0 be lost: for as long as
    /// its last advert can keep it open, and 1/256 for clocks that differ in rate.
    fn arm_rivals(&mut self) {
        self.timers.stop(Timer::Rival);
        if let Some(due) = self.rivals.iter().map(|rival| self.outlived(rival)).max() {
            self.timers.set(Timer::Rival, due);
        }
    }

    fn outlived(&self, rival: &Rival) -> MonoNs {
        let longer = rival.interval.max(self.config.advert_interval);
        let gate = vrrp::gate_time(longer);
        rival.last.after(gate).after(Nanos(gate.0 / 256))
    }

    pub(super) fn rivals_due(&mut self) -> Verdict {
        self.rivals.clear();
        Verdict::Open
    }

    /// Notes that a lower-ranked `had` still advertises.
    fn meet_rival(&mut self, advert: &Advert, received_at: MonoNs) {
        self.rivals.retain(|rival| rival.sender != advert.sender);
        if self.rivals.len() < MAX_RIVALS {
            self.rivals.push(Rival {
                sender: advert.sender,
                interval: advert.interval,
                last: received_at,
            });
        }
        self.arm_rivals();
    }

    /// Priority 0: it has closed its gate.
    fn rival_closed(&mut self, sender: core::net::IpAddr) -> Verdict {
        let before = self.rivals.len();
        self.rivals.retain(|rival| rival.sender != sender);
        if self.rivals.len() == before {
            return Verdict::Stay;
        }
        self.arm_rivals();
        Verdict::Open
    }

    pub(super) fn promoting_hears(
        &mut self,
        advert: Advert,
        received_at: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        if advert.priority == Priority::RELEASE {
            return self.rival_closed(advert.sender);
        }
        if self.is_repetition(&advert, received_at) {
            return Verdict::Stay;
        }
        self.remember(advert, received_at);
        if self.is_outranked(&advert) {
            return Verdict::Leave(Departure::to_backup(Cause::Outranked {
                by: advert.sender,
                priority: advert.priority,
            }));
        }
        self.active = None;
        if advert.from_had {
            self.meet_rival(&advert, received_at);
        }
        self.answer(now, out);
        Verdict::Stay
    }

    pub(super) fn is_outranked(&self, advert: &Advert) -> bool {
        let theirs = Rank {
            priority: advert.priority,
            address: advert.sender,
        };
        self.rank().is_some_and(|ours| theirs > ours)
    }

    /// An advert out of turn, for a router that should know better: at most two in an interval, so
    /// that nobody can make this node flood.
    pub(super) fn answer(&mut self, now: MonoNs, out: &mut Outbox) {
        let pause = Nanos(self.config.advert_interval.0 / 2);
        if self.extra_at.is_none_or(|last| last.after(pause) <= now) {
            self.extra_at = Some(now);
            self.send(self.config.priority, now, out);
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
            Ok(()) if self.state == State::Active => {
                self.begin_burst(now, out);
                Verdict::Stay
            }
            Ok(()) => {
                self.vips = true;
                Verdict::Open
            }
        }
    }

    /// Somebody removed an address: it is put back in place, without a transition.
    pub(super) fn vip_lost(&mut self, out: &mut Outbox) -> Verdict {
        if self.speaks() {
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
        if !self.speaks() || round < self.elected_at || self.sent.is_some_and(|sent| sent >= round)
        {
            return Verdict::Stay;
        }
        match result {
            Ok(()) => {
                let heard_of_us = self.sent.unwrap_or(self.elected_at);
                self.send_error = None;
                self.sent = Some(round);
                if self.state == State::Active {
                    self.renew(round, now, out);
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

    /// Whether every condition for speaking is met: an advert that is not too old was sent, the VIPs
    /// are in place, no loser may still speak, and if this node was held up for so long that another
    /// one may have taken over meanwhile, it had an interval to object.
    pub(crate) fn can_open(&self, now: MonoNs) -> bool {
        self.state == State::Promoting
            && self.vips
            && self.rivals.is_empty()
            && self.quiet_until.is_none_or(|until| until <= now)
            && self
                .sent
                .is_some_and(|round| self.lease(round, now).deadline() > now)
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
        self.renew(round, now, out);
        self.begin_announcing(now, out);
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
        if self.vips {
            // The addresses are in place: the wait is for a loser that still advertises, here or in
            // its group. It ends with what that router does, and meanwhile that router serves.
            self.timers.set(Timer::Promotion, now.after(PATIENCE));
            return Verdict::Open;
        }
        Verdict::Leave(Departure::to_backup(Cause::PromotionFailed {
            why: format!("the addresses were not in place after {PATIENCE}"),
        }))
    }
}
