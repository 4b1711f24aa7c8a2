//! What is tracked bears on an instance: its effective priority, a veto, and what is still to be known.

use alloc::format;

use ha_common::{MonoNs, Priority};

use super::{Departure, Instance, Verdict};
use crate::{
    event::Action,
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
    tracking::{Bearing, Veto},
};

impl Instance {
    /// Takes in what everything tracked comes to.
    pub(crate) fn bear(&mut self, bearing: Bearing, now: MonoNs, out: &mut Outbox) -> Verdict {
        let Bearing {
            priority,
            veto,
            awaits,
            arbitrators,
            muted,
        } = bearing;
        self.muted = muted;
        self.tracked = priority;
        let moved = self.compete_with(self.standing(priority), now, out);
        let awaited = core::mem::replace(&mut self.awaits_first, awaits);
        let advised = self.arbitrators.match_advisors(arbitrators);
        let vetoed = core::mem::replace(&mut self.veto, veto);
        if let Some(cause) = self.veto_cause() {
            return self.vetoed(cause, now, out);
        }
        if let Some(Veto { by, .. }) = vetoed
            && matches!(self.state, State::Initialize | State::Fault)
        {
            return self.start(Cause::Recovered { by }, now, out);
        }
        if let Some(departure) = self.isolated(now) {
            return Verdict::Leave(departure);
        }
        if (awaited.is_some() && self.awaits_first.is_none() || advised) && self.claims(now) {
            return Verdict::Claim;
        }
        moved
    }

    /// The veto that stands, as a cause.
    pub(super) fn veto_cause(&self) -> Option<Cause> {
        let veto = self.veto.as_ref()?;
        Some(Cause::Vetoed {
            by: veto.by.clone(),
            why: veto.why.clone(),
        })
    }

    fn vetoed(&mut self, cause: Cause, now: MonoNs, out: &mut Outbox) -> Verdict {
        match self.state {
            // What its interface lacks comes first: without it nothing else can be done.
            _ if !self.is_ready() => Verdict::Stay,
            State::Initialize if self.rests.is_some() => Verdict::Stay,
            State::Fault => {
                self.cause = cause;
                Verdict::Stay
            }
            State::Initialize | State::Backup => {
                self.rest(State::Fault, cause, now, out);
                Verdict::Blocked
            }
            State::Promoting | State::Active | State::Demoting => Verdict::Leave(Departure {
                to: State::Fault,
                cause,
                farewell: true,
            }),
        }
    }

    /// Goes by another effective priority.
    fn compete_with(&mut self, priority: Priority, now: MonoNs, out: &mut Outbox) -> Verdict {
        let before = self.priority;
        if before == priority {
            return Verdict::Stay;
        }
        self.set_priority(priority, out);
        let by = if priority == self.config.priority {
            ""
        } else {
            ", by what it tracks"
        };
        self.note(
            format!("its priority is now {priority} instead of {before}{by}"),
            out,
        );
        match self.state {
            State::Backup => self.reconsider(before, now, out),
            // Who may take over from it hears so at once.
            State::Promoting | State::Active | State::Demoting
                if self.timers.get(Timer::Advert).is_some() =>
            {
                self.answer(now, out);
                Verdict::Stay
            }
            _ => Verdict::Stay,
        }
    }

    /// How far this node's data is by now.
    pub(crate) fn set_position(&mut self, position: u32, out: &mut Outbox) {
        if self.position == position {
            return;
        }
        self.position = position;
        out.push(Action::SetRank {
            instance: self.config.id,
            priority: self.priority,
            position: self.told_position(),
        });
    }

    /// That of a node that goes last counts for nothing.
    fn told_position(&self) -> u32 {
        if self.is_left() { 0 } else { self.position }
    }

    /// Tells the dataplane of another priority. As long as it may not know of a higher one, the lower one counts.
    pub(super) fn set_priority(&mut self, priority: Priority, out: &mut Outbox) {
        if self.holds() {
            let lowest = self
                .floor
                .map_or(self.priority, |(lowest, _)| lowest.min(self.priority));
            self.floor = Some((lowest, None));
        }
        self.priority = priority;
        out.push(Action::SetRank {
            instance: self.config.id,
            priority,
            position: self.told_position(),
        });
    }
}
