//! The instance's own interface.

use ha_common::{MonoNs, Nanos};

use super::{Departure, Instance, Verdict};
use crate::{
    event::InterfaceCondition,
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
};

impl Instance {
    /// What the shell reports. A carrier that comes or goes has to last first, where that is configured.
    pub(super) fn link(
        &mut self,
        condition: InterfaceCondition,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let wait = self.link_wait(condition);
        if wait == Nanos::ZERO {
            self.unsettled = None;
            self.timers.stop(Timer::Link);
            return self.interface(condition, now, out);
        }
        if self.unsettled != Some(condition) {
            self.unsettled = Some(condition);
            self.unsettled_since = now;
            self.timers.set(Timer::Link, now.after(wait));
        }
        Verdict::Stay
    }

    fn link_wait(&self, condition: InterfaceCondition) -> Nanos {
        use InterfaceCondition::{FewSlaves, NoCarrier, Ready};
        match (self.condition, condition) {
            (Some(Ready { .. }), NoCarrier | FewSlaves) => self.config.link_delays.down,
            (Some(NoCarrier | FewSlaves), Ready { .. }) => self.config.link_delays.up,
            _ => Nanos::ZERO,
        }
    }

    /// It has lasted.
    pub(super) fn link_settled(&mut self, now: MonoNs, out: &mut Outbox) -> Verdict {
        match self.unsettled.take() {
            Some(condition) => self.interface(condition, now, out),
            None => Verdict::Stay,
        }
    }

    /// After a reload: what waited by the former delays waits by the present ones, from when it began.
    pub(super) fn link_delays_changed(&mut self, now: MonoNs) {
        if let Some(condition) = self.unsettled {
            let due = self.unsettled_since.after(self.link_wait(condition));
            self.timers.set(Timer::Link, due.max(now));
        }
    }

    fn interface(
        &mut self,
        condition: InterfaceCondition,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let was_listening = self.is_ready();
        self.condition = Some(condition);
        if self.is_ready() {
            self.was_ready = true;
            if !was_listening {
                self.listening_since = now;
            }
            return match self.state {
                State::Initialize | State::Fault => self.start(Cause::InterfaceReady, now, out),
                _ => Verdict::Stay,
            };
        }
        let cause = Cause::Interface(condition);
        match self.state {
            State::Initialize if self.rests.is_some() => {}
            State::Initialize if !self.was_ready => self.cause = cause,
            State::Fault => self.cause = cause,
            State::Initialize | State::Backup => {
                self.rest(State::Fault, cause, now, out);
                return Verdict::Blocked;
            }
            State::Promoting | State::Active | State::Demoting => {
                return Verdict::Leave(Departure {
                    to: State::Fault,
                    cause,
                    // Nobody would hear it, and it would make the kernel ask in vain for the peer's Ethernet
                    // address: packets that follow the carrier's return wait until it asks again, a second
                    // later.
                    farewell: condition != InterfaceCondition::NoCarrier,
                });
            }
        }
        Verdict::Stay
    }
}
