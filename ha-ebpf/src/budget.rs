//! How many events a sender may cause.

use ha_common::{
    MonoNs,
    abi::{EVENT_BUDGET, EVENT_WINDOW_NS, Reason},
};

use crate::maps;

/// The two words of a map value that count an instance's or a session's events.
pub(crate) struct Budget {
    /// Start of the window.
    pub(crate) window_ns: *mut u64,
    /// Events reported in it.
    pub(crate) events: *mut u64,
}

impl Budget {
    /// Whether another event may be reported in this window.
    #[inline(always)]
    pub(crate) fn allows(&self, now: MonoNs) -> bool {
        let allowed = self.allows_of(EVENT_BUDGET, now);
        if !allowed {
            maps::count(Reason::EventBudget);
        }
        allowed
    }

    /// The same for another number than [`EVENT_BUDGET`].
    #[inline(always)]
    pub(crate) fn allows_of(&self, budget: u64, now: MonoNs) -> bool {
        let mut events = maps::load(self.events);
        if now.0.wrapping_sub(maps::load(self.window_ns)) >= EVENT_WINDOW_NS {
            maps::store(self.window_ns, now.0);
            events = 0;
        }
        if events >= budget {
            return false;
        }
        maps::store(self.events, events + 1);
        true
    }
}
