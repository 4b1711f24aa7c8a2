//! Announcing the VIPs (gratuitous ARP, neighbour advertisements): a burst, a second one, refreshes; failures are tried again.
//!
//! Here it is decided when a round over all VIPs is due; how fast its packets leave, in the `announcer`.

use alloc::{format, string::String};

use ha_common::{MonoNs, Nanos};

use super::Instance;
use crate::{outbox::Outbox, status::State, timer::Timer};

/// The longest wait before a failed announcement is tried again: 10 ms at first, or an advert interval
/// where that is shorter, doubling up to one second.
const FIRST_RETRY: Nanos = Nanos::from_millis(10);
const LONGEST_RETRY: Nanos = Nanos::from_secs(1);

impl Instance {
    /// The first burst, and the timers of what follows.
    pub(crate) fn begin_announcing(&mut self, now: MonoNs, out: &mut Outbox) {
        let config = self.config.announce;
        self.announce_failures = 0;
        self.begin_burst(now, out);
        if config.repeat_after > Nanos::ZERO {
            self.timers
                .set(Timer::Repeat, now.after(config.repeat_after));
        }
        if config.refresh > Nanos::ZERO {
            self.timers.set(Timer::Refresh, now.after(config.refresh));
        }
    }

    /// The network learns where the addresses are by now, if they are this node's.
    pub(super) fn reattached(&mut self, now: MonoNs, out: &mut Outbox) {
        if self.state == State::Active {
            self.begin_announcing(now, out);
        }
    }

    pub(super) fn begin_burst(&mut self, now: MonoNs, out: &mut Outbox) {
        self.announcements = self.config.announce.count;
        self.announce(now, now, out);
    }

    pub(super) fn refresh(&mut self, due: MonoNs, now: MonoNs, out: &mut Outbox) {
        let every = self.config.announce.refresh;
        if every == Nanos::ZERO {
            return;
        }
        let missed = now.since(due).0 / every.0;
        self.timers
            .set(Timer::Refresh, due.after(every.times(missed + 1)));
        self.announcements = self.announcements.max(1);
        self.announce(now, now, out);
    }

    /// Begins what is due: one round, or all of the burst if they go back to back.
    pub(super) fn announce(&mut self, due: MonoNs, now: MonoNs, out: &mut Outbox) {
        self.timers.stop(Timer::Announce);
        let interval = self.config.announce.interval;
        let batch = if interval == Nanos::ZERO {
            self.announcements
        } else {
            self.announcements.min(1)
        };
        out.announce(self.config.id, self.config.vips, batch);
        self.announcements -= batch;
        if self.announcements > 0 {
            self.timers
                .set(Timer::Announce, due.after(interval).max(now));
        }
    }

    pub(super) fn announced(&mut self, result: Result<(), String>, now: MonoNs, out: &mut Outbox) {
        if self.state != State::Active {
            return;
        }
        let Err(why) = result else {
            self.announce_failures = 0;
            return;
        };
        if self.announce_failures == 0 {
            self.note(
                format!("the addresses could not be announced and will be again: {why}"),
                out,
            );
        }
        let retry = FIRST_RETRY
            .min(self.config.advert_interval)
            .times(1 << self.announce_failures.min(16))
            .min(LONGEST_RETRY);
        self.announce_failures = self.announce_failures.saturating_add(1);
        let left = out.stop_announcing(self.config.id);
        self.announcements = (self.announcements + left + 1).min(self.config.announce.count);
        self.timers.set(Timer::Announce, now.after(retry));
    }
}
