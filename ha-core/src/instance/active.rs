//! Active: speaking for the VIPs as long as adverts leave in time (RFC 9568 section 6.4.3).

use ha_common::{MonoNs, Nanos, Priority, gate::ADVERT_SLOT};

use super::{Departure, Instance, Verdict};
use crate::{
    event::{Action, Advert},
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
    vrrp,
};

/// Time as Active after which earlier failures to promote are forgotten.
const SETTLED: Nanos = Nanos::from_secs(60);

impl Instance {
    /// Whether its own gate has run out: then it steps down before it sends anything. Somebody may
    /// have taken over since, so it says nothing at all.
    pub(crate) fn late(&self, now: MonoNs) -> Option<Departure> {
        #[cfg(feature = "sim")]
        if self.mutations.ignore_late {
            return None;
        }
        let deadline = self.held_until()?;
        let now = self.known_until(now);
        if now < deadline {
            return None;
        }
        let by_leases = || self.late_by_leases(deadline, now);
        Some(Departure::silently(match &self.send_error {
            Some(why) if self.leases.is_none() => Cause::SendFailed { why: why.clone() },
            _ => by_leases().unwrap_or(Cause::Late {
                by: now.since(deadline),
            }),
        }))
    }

    /// Extends the gate to what this round's advert gives it.
    pub(super) fn renew(&mut self, round: MonoNs, now: MonoNs, out: &mut Outbox) {
        let lease = self.lease(round, now);
        self.gate = Some(lease.deadline());
        self.timers.set(Timer::Gate, lease.deadline());
        out.push(Action::SetLease {
            instance: self.config.id,
            slot: ADVERT_SLOT,
            lease,
        });
    }

    pub(super) fn active_hears(
        &mut self,
        advert: Advert,
        received_at: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        if advert.priority == Priority::RELEASE {
            self.answer(now, out);
            return Verdict::Stay;
        }
        if self.is_repetition(&advert, received_at) {
            return Verdict::Stay;
        }
        self.remember(advert, received_at);
        if self.is_outranked(&advert, received_at) {
            return Verdict::Leave(Departure::to_backup(self.outranked(&advert)));
        }
        // RFC 9568 section 6.4.3: answered at once, so that the lower one learns of us. It may have
        // announced the addresses as its own: once it has stepped down, they are announced again.
        self.active = None;
        self.answer(now, out);
        let settled = now.after(vrrp::gate_time(
            advert.interval.max(self.config.advert_interval),
        ));
        self.timers.set(Timer::Repeat, settled);
        Verdict::Stay
    }

    /// Adver_Timer fired: the next round. The timer is absolute, and ticks that were missed are
    /// skipped.
    pub(super) fn advert_due(&mut self, due: MonoNs, now: MonoNs, out: &mut Outbox) -> Verdict {
        if !self.holds() {
            return Verdict::Stay;
        }
        let interval = self.config.advert_interval;
        let missed = now.since(due).0 / interval.0.max(1);
        self.timers
            .set(Timer::Advert, due.after(interval.times(missed + 1)));
        if self.state == State::Active && now.since(self.since) >= SETTLED {
            self.failures = 0;
        }
        self.send(self.priority, now, out);
        Verdict::Stay
    }
}
