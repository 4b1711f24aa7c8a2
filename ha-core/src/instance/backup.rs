//! Backup: watching the Active router (RFC 9568 section 6.4.2).

use alloc::format;
use core::net::IpAddr;

use ha_common::{MonoNs, Nanos, Priority};

use super::{Claim, Departure, Instance, Verdict};
use crate::{
    event::Advert,
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
    vrrp,
};

/// How long the kernel's silence timer may be missing before the engine looks itself.
const BACKSTOP: Nanos = Nanos::from_secs(1);

/// Deadlines in a row that are not believed because this node was held up. Each one cost an interval in
/// which adverts were read and none was there, so after these the silence is real.
const DOUBTS: u32 = 3;

const FIRST_HOLD: Nanos = Nanos::from_secs(1);
const LONGEST_HOLD: Nanos = Nanos::from_secs(60);

impl Instance {
    /// Watches from now on. A router heard shortly before (while starting, or the one that outranked
    /// us) is the Active one at once: where the kernel filters, it would not be reported again.
    pub(crate) fn enter_backup(&mut self, cause: Cause, now: MonoNs, out: &mut Outbox) {
        self.timers.stop_all();
        self.settle();
        self.transit(State::Backup, cause, now, out);
        if let Some(until) = self.hold_until {
            self.timers.set(Timer::HoldDown, until);
        }
        if !self.heard_recently(now) {
            self.active = None;
        }
        self.watch(Some(self.down_interval()), out);
        self.arm_active_down();
        self.arm_preempt(now);
    }

    /// Raises the hold-down after a failed promotion: 1 s, doubling up to 60 s.
    pub(crate) fn hold_down(&mut self, now: MonoNs) {
        let hold = FIRST_HOLD
            .times(1 << self.failures.min(6))
            .min(LONGEST_HOLD);
        self.failures = self.failures.saturating_add(1);
        let until = now.after(hold);
        self.hold_until = Some(until);
        // A member that joined its group later may be in Backup already: it does not enter it again.
        if self.state == State::Backup {
            self.timers.set(Timer::HoldDown, until);
        }
    }

    /// Whether nothing but its unit keeps it from taking over.
    pub(crate) fn is_electable(&self, now: MonoNs) -> bool {
        self.claims(now) && !self.awaits_peer()
    }

    /// Whether it may take over, if the peers that it needs are there.
    pub(crate) fn claims(&self, now: MonoNs) -> bool {
        self.state == State::Backup
            && self.claim.is_some()
            && self.hold_until.is_none()
            && self.awaits_first.is_none()
            && !self.roles.bar()
            && self.arbitrators_agree(now)
    }

    /// The cause that its claim gives to a promotion.
    pub(crate) fn claim_cause(&self, now: MonoNs) -> Option<Cause> {
        Some(match self.claim? {
            Claim::Silence => Cause::Silence {
                lasted: now.since(self.silent_from()),
            },
            Claim::Dead(active) => Cause::Dead {
                active,
                lasted: now.since(self.silent_from()),
            },
            Claim::Released(by) => Cause::Released { by },
            Claim::Preempt => {
                let advert = self.heard?;
                Cause::Preempting {
                    active: advert.sender,
                    priority: advert.priority,
                }
            }
            Claim::Owner => Cause::Owner,
        })
    }

    pub(super) fn backup_hears(
        &mut self,
        advert: Advert,
        received_at: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        if advert.priority == Priority::RELEASE {
            return self.backup_released(advert.sender, advert.from_had, received_at, now);
        }
        if self.is_repetition(&advert, received_at) {
            return Verdict::Stay;
        }
        let refreshed = self.silent_from();
        let down = self.down_interval();
        self.remember(advert, received_at);
        self.released = None;
        self.doubts = 0;
        if self.down_interval() != down {
            self.watch(Some(self.down_interval()), out);
        }
        self.arm_active_down();
        if self.may_preempt() {
            if self.claim != Some(Claim::Preempt) {
                self.claim = None;
                self.arm_preempt(self.preempt_base(refreshed, received_at));
            }
            return Verdict::Stay;
        }
        self.claim = None;
        self.timers.stop(Timer::Preempt);
        Verdict::Blocked
    }

    /// Priority 0: only the Active router has anything to let go of. A router that just lost to another
    /// one says it too, and must not wake a third. Where only two are, nobody competes: at once. But not
    /// if this node was held up since: the other one may have come back, and its adverts wait to be read.
    pub(super) fn backup_released(
        &mut self,
        sender: IpAddr,
        from_had: bool,
        received_at: MonoNs,
        now: MonoNs,
    ) -> Verdict {
        if self.active != Some(sender) {
            return Verdict::Stay;
        }
        let interval = self.active_interval();
        let skew = vrrp::skew_time(self.config.version, self.priority, interval);
        self.forget(sender);
        let alone = self.others_outlived() <= now && !self.is_promised(now);
        self.yielded = false;
        self.timers.stop(Timer::Preempt);
        let fresh = now.since(received_at) <= interval;
        if self.config.sole_peer && from_had && fresh && alone {
            self.claim = Some(Claim::Released(sender));
            return Verdict::Claim;
        }
        self.claim = None;
        self.released = Some(sender);
        let due = received_at
            .after(skew)
            .max(self.others_outlived())
            .max(self.promised_until())
            .max(self.strangers_outlived(interval));
        self.timers.set(Timer::ActiveDown, due);
        Verdict::Stay
    }

    /// When the gate of a router is closed that spoke before this node began to listen. Where there is
    /// only one other, that is the one that let go.
    fn strangers_outlived(&self, interval: Nanos) -> MonoNs {
        if self.config.sole_peer {
            MonoNs::ZERO
        } else {
            self.listening_since.after(vrrp::gate_time(interval))
        }
    }

    /// The kernel says that it is silent. Checked against the stamps: an advert may have come since.
    pub(super) fn kernel_silence(
        &mut self,
        last_received_at: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        if self.state != State::Backup || self.released.is_some() || self.claim.is_some() {
            return Verdict::Stay;
        }
        // The stamp may be news: the silence is the one after it.
        let heard = self.hear_again(last_received_at, now, out);
        let due = self.silence_due();
        if now < due {
            // It may not be told again, so this time the engine waits for the exact end itself.
            self.timers.set(Timer::ActiveDown, due);
            return heard;
        }
        self.believe_silence(due, now, out)
    }

    /// Active_Down_Timer fired.
    pub(super) fn active_down(&mut self, due: MonoNs, now: MonoNs, out: &mut Outbox) -> Verdict {
        if self.state != State::Backup {
            return Verdict::Stay;
        }
        if let Some(by) = self.released {
            return self.believe(Claim::Released(by), due, now, out);
        }
        if now < self.silence_due() {
            self.arm_active_down();
            return self.lease_silence_due(due, now, out);
        }
        self.believe_silence(due, now, out)
    }

    pub(super) fn believe_silence(
        &mut self,
        due: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let claim = match self.active {
            Some(active) if now < self.active_down_due() => Claim::Dead(active),
            _ => Claim::Silence,
        };
        self.believe(claim, due, now, out)
    }

    /// A deadline that passed while this node was held up proves nothing: adverts may wait to be
    /// read. One more interval of silence does.
    pub(super) fn believe(
        &mut self,
        claim: Claim,
        due: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let silence = matches!(claim, Claim::Silence | Claim::Dead(_));
        let promised = if silence {
            self.holder_outlived()
        } else {
            self.promised_until()
        };
        if promised > now {
            self.timers.set(Timer::ActiveDown, promised);
            return Verdict::Stay;
        }
        if let Some(again) = self.may_have_slept(now)
            && silence
            && self.doubts < DOUBTS
        {
            self.doubts += 1;
            self.timers.set(Timer::ActiveDown, again);
            return Verdict::Stay;
        }
        let interval = self.active_interval();
        let late = now.since(due);
        if late > interval && self.doubts < DOUBTS {
            self.doubts += 1;
            self.timers.set(Timer::ActiveDown, now.after(interval));
            self.note(
                format!(
                    "this node was held up for {late} beyond the end of the wait for an advert: \
                     it waits {interval} more before it believes the silence"
                ),
                out,
            );
            return Verdict::Stay;
        }
        self.doubts = 0;
        self.yielded = false;
        self.timers.stop(Timer::Preempt);
        self.claim = Some(claim);
        self.ask_arbitrators(now, out);
        // If its unit or a hold-down keeps it back, it looks again.
        self.timers
            .set(Timer::ActiveDown, now.after(self.down_interval()));
        Verdict::Claim
    }

    /// The lower-priority Active router has been heard for long enough.
    pub(super) fn preempt_due(&mut self, now: MonoNs) -> Verdict {
        if self.state != State::Backup || !self.may_preempt() || !self.heard_recently(now) {
            return Verdict::Stay;
        }
        self.claim = Some(Claim::Preempt);
        Verdict::Claim
    }

    /// Whether the router last heard may be pre-empted.
    pub(crate) fn may_preempt(&self) -> bool {
        self.config.preempts()
            && !self.yielded
            && self.active.is_some()
            && self
                .heard
                .is_some_and(|advert| advert.priority < self.priority)
    }

    pub(crate) fn heard_recently(&self, now: MonoNs) -> bool {
        self.active.is_some()
            && self
                .stamp
                .is_some_and(|stamp| stamp.after(self.down_interval()) > now)
    }

    /// Starts the pre-emption timer, unless it runs: the Active_Down_Interval from `base`, as
    /// Active_Down_Timer keeps running in RFC 9568 section 6.4.2, and the configured delay.
    pub(crate) fn arm_preempt(&mut self, base: MonoNs) {
        if self.may_preempt() && self.timers.get(Timer::Preempt).is_none() {
            let due = base
                .after(self.down_interval())
                .after(self.config.preempt_delay);
            self.timers.set(Timer::Preempt, due);
        }
    }

    /// The last refresh before a lower-priority advert. Where the kernel filters, refreshes are not
    /// reported: the last one came at most about an interval before.
    fn preempt_base(&self, refreshed: MonoNs, received_at: MonoNs) -> MonoNs {
        if self.kernel_watch {
            refreshed.max(received_at.before(self.active_interval()))
        } else {
            refreshed
        }
    }

    /// From when on silence counts in this stay.
    pub(crate) fn silent_from(&self) -> MonoNs {
        self.since
            .max(self.stamp.unwrap_or_default())
            .max(self.farewell_at.unwrap_or_default())
    }

    /// Our own priority 0 left, perhaps long after it was decided. An advert of ours that follows at once
    /// could be overtaken by it on the way, and then says nothing to those who hear it in that order: so
    /// this node does not compete for an interval.
    pub(super) fn farewell_sent(&mut self, now: MonoNs) {
        self.farewell_at = Some(now);
        let until = now.after(self.config.advert_interval);
        if self.hold_until.is_none_or(|hold| hold < until) {
            self.hold_until = Some(until);
            self.timers.set(Timer::HoldDown, until);
        }
        if self.released.is_none() && self.claim.is_none() {
            self.arm_active_down();
        }
    }

    /// When silence lets this node take over, with or without the channels' proof.
    pub(super) fn silence_due(&self) -> MonoNs {
        let due = self.active_down_due();
        self.dead_due().map_or(due, |dead| dead.min(due))
    }

    /// The Active_Down_Interval after the last advert, and not while an earlier one of yet another router,
    /// with a longer interval, may keep that one's gate open.
    fn active_down_due(&self) -> MonoNs {
        self.silent_from()
            .after(self.down_interval())
            .max(self.others_outlived())
    }

    /// Sets Active_Down_Timer from what was heard. Where the kernel watches, and as long as something
    /// was heard in this stay (before, its timer is not armed), only a backstop.
    pub(crate) fn arm_active_down(&mut self) {
        let down = self.down_interval();
        let watched = self.kernel_watch && self.stamp.is_some_and(|stamp| stamp > self.since);
        let due = if watched && self.dead_due().is_none() {
            self.silent_from()
                .after(down.max(BACKSTOP))
                .max(self.silence_due())
        } else {
            self.silence_due()
        };
        self.timers.set(Timer::ActiveDown, due);
    }

    /// Lets go of what it held, after its unit closed.
    pub(crate) fn depart(&mut self, departure: Departure, now: MonoNs, out: &mut Outbox) {
        match departure.to {
            State::Fault | State::Initialize => {
                self.rest(departure.to, departure.cause, now, out);
            }
            _ => self.enter_backup(departure.cause, now, out),
        }
    }
}
