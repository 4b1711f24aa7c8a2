//! A reload that keeps the instance.

use alloc::format;

use ha_common::{MonoNs, Priority};

use super::{Claim, Instance, Verdict};
use crate::{config::InstanceConfig, event::Action, outbox::Outbox, status::State, timer::Timer};

impl Instance {
    /// Whether a reload turns it into another virtual router.
    pub(crate) fn is_other_router(&self, config: &InstanceConfig) -> bool {
        self.config.vrid != config.vrid
            || self.config.version != config.version
            || self.config.id != config.id
            || self.config.lease != config.lease
    }

    /// Applies a reload in place. The interval does not grow while this node speaks: who heard the
    /// shorter one would take over before our gate closes.
    pub(crate) fn reconfigure(
        &mut self,
        mut config: InstanceConfig,
        priority: Priority,
        kernel_watch: bool,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        self.deferred_interval = None;
        if self.holds() && config.advert_interval > self.config.advert_interval {
            self.note(
                format!(
                    "the longer advert interval of {} is used when this node no longer speaks for \
                     the addresses",
                    config.advert_interval
                ),
                out,
            );
            self.deferred_interval = Some(config.advert_interval);
            config.advert_interval = self.config.advert_interval;
        }
        self.match_channels(&config.channels);
        self.config = config;
        let watched = core::mem::replace(&mut self.kernel_watch, kernel_watch);
        self.link_delays_changed(now);
        let before = self.priority;
        self.tracked = priority;
        let priority = self.standing(priority);
        if before != priority {
            self.set_priority(priority, out);
        }
        // A candidate that is silent on the LAN so far stays that.
        let next = now.after(self.config.advert_interval);
        if self.timers.get(Timer::Advert).is_some_and(|due| due > next) {
            self.timers.set(Timer::Advert, next);
        }
        if self.state != State::Backup {
            return Verdict::Stay;
        }
        if watched && !kernel_watch {
            out.push(Action::Watch {
                instance: self.config.id,
                down: None,
            });
        }
        self.reconsider(before, now, out)
    }

    /// Backup, with another priority, interval or pre-emption than before.
    pub(super) fn reconsider(
        &mut self,
        before: Priority,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        self.watch(Some(self.down_interval()), out);
        if self.released.is_none() && self.claim.is_none() {
            self.arm_active_down();
        }
        if self.priority == Priority::OWNER && before != Priority::OWNER {
            self.claim = Some(Claim::Owner);
            return Verdict::Claim;
        }
        if self.may_preempt() {
            self.arm_preempt(now);
            return Verdict::Stay;
        }
        self.timers.stop(Timer::Preempt);
        if self.claim == Some(Claim::Preempt) {
            self.claim = None;
        }
        if self.active.is_some() {
            Verdict::Blocked
        } else {
            Verdict::Stay
        }
    }
}
