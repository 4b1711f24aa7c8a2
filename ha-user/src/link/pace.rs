//! How fast something may go on: on the long run one unit each so often, and a burst at once.

use ha_common::{MonoNs, Nanos};

/// The generic cell rate algorithm: no tokens to refill, one time to keep.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    each: Nanos,
    burst: Nanos,
    /// When everything that was taken so far would have been taken one by one.
    due: MonoNs,
}

impl Pace {
    /// One unit `each`, and as many at once as fit into `burst`.
    pub(super) const fn new(each: Nanos, burst: Nanos) -> Self {
        Self {
            each,
            burst,
            due: MonoNs::ZERO,
        }
    }

    /// Takes so many units; how long to wait before anything else is done.
    pub(super) fn take(&mut self, units: u64, now: MonoNs) -> Nanos {
        self.due = self.due.max(now).after(self.each.times(units));
        self.due.since(now.after(self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_what_follows_is_slowed_down() {
        let mut pace = Pace::new(Nanos::from_millis(10), Nanos::from_millis(50));
        let now = MonoNs(1_000_000_000);
        for _ in 0..5 {
            assert_eq!(pace.take(1, now), Nanos::ZERO);
        }
        assert_eq!(pace.take(1, now), Nanos::from_millis(10));
        assert_eq!(pace.take(3, now), Nanos::from_millis(40));
        // Whoever waits as he is told is never told to wait for more than what he takes.
        let later = now.after(Nanos::from_millis(40));
        assert_eq!(pace.take(1, later), Nanos::from_millis(10));
        let rested = now.after(Nanos::from_secs(10));
        assert_eq!(pace.take(5, rested), Nanos::ZERO);
    }
}
