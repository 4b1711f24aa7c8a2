//! Silence of whoever was promised something: when to look at the promises, and what a look tells.

use crate::units::{MonoNs, Nanos};

/// A look that is later than this part of what was waited for it tells of a hold-up of this node.
const LATE: u64 = 4;

/// From a promise to the silence after it.
///
/// A node that was held up has not heard what its peers asked, so that its silence proves nothing. There is a
/// look halfway to the end of the promises as well as at it: a hold-up that swallowed every request of a peer in
/// between (two at least, since the multiplier is 2 or more) lasted over one of the looks, and made it late. Then
/// the silence has to last for a lease more from there on; once, so that a timer that is always late only delays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Vigil {
    /// When the next look is due.
    pub due: MonoNs,
    /// How long it was waited for.
    pub wait: Nanos,
    /// When the promises ended that were there at the last look.
    pub seen: MonoNs,
    /// Until when the silence has to last after a hold-up; the clock's origin if there was none.
    pub listens: MonoNs,
}

/// What a look told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing yet.
    Wait(Vigil),
    /// This node was held up: nothing yet.
    HeldUp(Vigil),
    /// Nobody asks.
    Silence,
}

impl Vigil {
    /// Promises until `ends` were made, and nobody kept watch.
    #[must_use]
    #[inline(always)]
    pub const fn begin(ends: MonoNs, now: MonoNs) -> Self {
        Self {
            seen: ends,
            ..Self::waiting(Nanos(ends.since(now).0 / 2), now)
        }
    }

    const fn waiting(wait: Nanos, now: MonoNs) -> Self {
        Self {
            due: now.after(wait),
            wait,
            seen: MonoNs::ZERO,
            listens: MonoNs::ZERO,
        }
    }

    /// The look that was due. `ends`: when the promises end that there are now; `lease`: for how long to listen
    /// after a hold-up.
    #[must_use]
    #[inline(always)]
    pub const fn look(self, ends: MonoNs, lease: Nanos, now: MonoNs) -> Look {
        let asked = ends.0 != self.seen.0;
        let listens = if asked { MonoNs::ZERO } else { self.listens };
        let late = now.since(self.due).0 > self.wait.0 / LATE;
        let held_up = late && listens.0 == 0;
        let listens = if held_up { now.after(lease) } else { listens };
        let last = if listens.0 > ends.0 { listens } else { ends };
        let left = last.since(now);
        if left.0 == 0 {
            return Look::Silence;
        }
        let wait = if asked && !held_up {
            Nanos(left.0.div_ceil(2))
        } else {
            left
        };
        let next = Self {
            seen: ends,
            listens,
            ..Self::waiting(wait, now)
        };
        if held_up {
            Look::HeldUp(next)
        } else {
            Look::Wait(next)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Promise;

    const LEAST_MULTIPLIER: u64 = 2;
    const INTERVAL: Nanos = Nanos::from_millis(1);
    const STEP: Nanos = Nanos::from_micros(10);

    /// A peer asks every interval but while this node is held up, when `timer` does not run either; until
    /// `dies`. When silence is reported, and how often a hold-up was noticed.
    fn keep(multiplier: u64, held_up: (u64, u64), dies: u64) -> (MonoNs, u32) {
        let lease = INTERVAL.times(multiplier);
        let awake = |at: u64| at < held_up.0 || held_up.1 <= at;
        let mut promise = Promise::default();
        let mut vigil: Option<Vigil> = None;
        let mut noticed = 0;
        let mut now = MonoNs(0);
        loop {
            now = now.after(STEP);
            if !awake(now.0) {
                continue;
            }
            if now.0.is_multiple_of(INTERVAL.0) && now.0 < dies {
                promise = promise.granted(now, lease);
                vigil = vigil.or(Some(Vigil::begin(promise.ends(), now)));
            }
            if let Some(keeps) = vigil.filter(|vigil| vigil.due <= now) {
                vigil = match keeps.look(promise.ends(), lease, now) {
                    Look::Wait(next) => Some(next),
                    Look::HeldUp(next) => {
                        noticed += 1;
                        Some(next)
                    }
                    Look::Silence => return (now, noticed),
                };
            }
        }
    }

    #[test]
    fn silence_is_reported_when_the_last_promise_ends() {
        for multiplier in LEAST_MULTIPLIER..12 {
            for dies in (20_000_000..24_000_000).step_by(100_000) {
                let last = MonoNs((dies - 1) / INTERVAL.0 * INTERVAL.0);
                let ends = Promise::default()
                    .granted(last, INTERVAL.times(multiplier))
                    .ends();
                let (at, noticed) = keep(multiplier, (0, 0), dies);
                assert_eq!(noticed, 0);
                assert!(ends <= at && at.since(ends) <= STEP);
            }
        }
    }

    #[test]
    fn no_hold_up_of_any_length_makes_a_living_peer_silent() {
        let dies = 60_000_000;
        for multiplier in LEAST_MULTIPLIER..7 {
            for from in (20_000_000..24_000_000).step_by(90_000) {
                for lasts in (100_000..15_000_000).step_by(110_000) {
                    let (at, _) = keep(multiplier, (from, from + lasts), dies);
                    assert!(at.0 > dies, "{multiplier} {from} {lasts}: {at:?}");
                }
            }
        }
    }

    #[test]
    fn a_timer_that_is_always_late_delays_a_report_by_one_lease() {
        let lease = INTERVAL.times(3);
        let late = Nanos::from_millis(4);
        let ends = Promise::default().granted(MonoNs(1), lease).ends();
        let mut vigil = Vigil::begin(ends, MonoNs(1));
        let mut looks = 0;
        loop {
            looks += 1;
            match vigil.look(ends, lease, vigil.due.after(late)) {
                Look::Wait(next) | Look::HeldUp(next) => vigil = next,
                Look::Silence => break,
            }
        }
        assert_eq!(looks, 2);
    }
}
