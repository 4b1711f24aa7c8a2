//! When what failed is tried again.

use ha_common::{MonoNs, Nanos};

/// The first wait after a failure; it doubles.
const FIRST: Nanos = Nanos::from_millis(500);
/// The longest.
const LONGEST: Nanos = Nanos::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retry {
    pub(super) at: MonoNs,
    failures: u32,
}

impl Retry {
    pub(super) fn is_due(&self, now: MonoNs) -> bool {
        self.at <= now
    }

    /// Whether nothing has failed since it went well.
    pub(super) const fn is_first(&self) -> bool {
        self.failures == 0
    }

    pub(super) fn failed(&mut self, now: MonoNs) {
        let wait = FIRST.times(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.at = now.after(wait);
    }
}
