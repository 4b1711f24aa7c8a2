//! The roles of an instance's unit: what becomes of the instance while they are promoted and demoted.

use alloc::string::String;

use ha_common::{MonoNs, Priority};

use super::{Departure, Instance, Verdict, promoting::PATIENCE};
use crate::{
    event::{Action, Advert},
    outbox::Outbox,
    status::{Cause, State},
    timer::Timer,
};

/// How the roles of an instance's unit stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Roles {
    /// It has none.
    #[default]
    None,
    /// They cannot be promoted.
    Barred,
    /// They could be promoted.
    Free,
    /// They are being promoted.
    Promoting,
    /// They are promoted.
    Promoted,
    /// They are being demoted.
    Demoting,
}

impl Roles {
    /// Whether one of them may be promoted.
    pub(crate) const fn are_under_way(self) -> bool {
        matches!(self, Self::Promoting | Self::Promoted | Self::Demoting)
    }

    /// Whether they keep the unit from being elected.
    pub(crate) const fn bar(self) -> bool {
        matches!(self, Self::Barred | Self::Demoting)
    }

    /// Whether the addresses have to wait for them.
    pub(crate) const fn come_first(self) -> bool {
        matches!(self, Self::Barred | Self::Free | Self::Promoting)
    }
}

impl Departure {
    /// Whether another node may act by then: what is demoted is demoted too late to be waited for.
    pub(crate) fn is_lost(&self) -> bool {
        match self.cause {
            Cause::Interface(_)
            | Cause::Outranked { .. }
            | Cause::Late { .. }
            | Cause::NotGranted { .. }
            | Cause::Alone { .. }
            | Cause::Yielded { .. }
            | Cause::Promised
            | Cause::SendFailed { .. } => true,
            Cause::Started
            | Cause::InterfaceReady
            | Cause::Recovered { .. }
            | Cause::Silence { .. }
            | Cause::Dead { .. }
            | Cause::Released { .. }
            | Cause::Preempting { .. }
            | Cause::Owner
            | Cause::Promoted
            | Cause::PromotionFailed { .. }
            | Cause::NotEligible { .. }
            | Cause::TakenBack { .. }
            | Cause::Switchover
            | Cause::Maintenance
            | Cause::MaintenanceOver
            | Cause::GroupMember { .. }
            | Cause::Shutdown
            | Cause::Vetoed { .. }
            | Cause::Isolated { .. }
            | Cause::Reconfigured => false,
        }
    }
}

impl Instance {
    /// Whether no other node is to take it: it is elected, speaks for the VIPs, or did until its roles are demoted.
    pub(crate) const fn holds(&self) -> bool {
        self.speaks() || matches!(self.state, State::Demoting)
    }

    /// Whether its addresses, and its gate, wait until its roles are promoted.
    pub(crate) const fn awaits_roles(&self) -> bool {
        #[cfg(feature = "sim")]
        if self.mutations.open_unpromoted {
            return false;
        }
        self.roles.come_first()
    }

    /// Its roles are promoted: the addresses follow.
    pub(crate) fn add_vips(&mut self, now: MonoNs, out: &mut Outbox) {
        self.timers.set(Timer::Promotion, now.after(PATIENCE));
        out.push(Action::AddVips {
            instance: self.config.id,
        });
    }

    /// Closes, and holds what it holds until its roles are demoted. What it does then is known.
    pub(crate) fn hold_back(&mut self, departure: Departure, now: MonoNs, out: &mut Outbox) {
        if self.state == State::Demoting {
            // That another one has to go is no news.
            if !matches!(departure.cause, Cause::GroupMember { .. }) {
                self.cause = departure.cause.clone();
                self.departing = Some(departure);
            }
            return;
        }
        let advert = self.timers.get(Timer::Advert);
        self.timers.stop_all();
        if let Some(due) = advert {
            self.timers.set(Timer::Advert, due);
        }
        self.gate = None;
        self.vips = false;
        self.contested = false;
        self.quiet_until = None;
        self.calls = false;
        self.announcements = 0;
        self.announce_failures = 0;
        out.take_back(self.config.id);
        if self.leases.is_some() {
            self.ask_on(out);
        } else {
            self.epoch = self.epoch.raised();
            out.push(Action::SetEpoch {
                instance: self.config.id,
                epoch: self.epoch,
            });
        }
        self.transit(State::Demoting, departure.cause.clone(), now, out);
        self.departing = Some(departure);
    }

    /// Nothing was demoted after all: it opens again.
    pub(crate) fn take_back(&mut self, why: String, now: MonoNs, out: &mut Outbox) {
        if self.state != State::Demoting {
            return;
        }
        self.departing = None;
        self.yielded = false;
        self.transit(State::Promoting, Cause::TakenBack { why }, now, out);
        self.add_vips(now, out);
    }

    /// Its roles are demoted, or given up: where it goes.
    pub(crate) fn departure(&mut self) -> Option<Departure> {
        let mut departure = self.departing.take()?;
        // What it left for may be over by now.
        if departure.to == State::Fault && self.veto.is_none() && self.is_ready() {
            departure.to = State::Backup;
        }
        if departure.cause == Cause::Maintenance && self.rests.is_none() {
            departure.to = State::Backup;
            departure.cause = Cause::MaintenanceOver;
        }
        Some(departure)
    }

    pub(super) fn demoting_hears(
        &mut self,
        advert: Advert,
        received_at: MonoNs,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        if advert.priority == Priority::RELEASE {
            self.forget(advert.sender);
            return Verdict::Stay;
        }
        if self.is_repetition(&advert, received_at) {
            return Verdict::Stay;
        }
        self.remember(advert, received_at);
        if self.is_outranked(&advert, received_at) {
            return Verdict::Leave(Departure::to_backup(self.outranked(&advert)));
        }
        self.active = None;
        self.answer(now, out);
        Verdict::Stay
    }

    /// Until when no other node can act: while its gate is open, that is its deadline; and while its roles are on
    /// their way behind a closed gate, what the deadline would be. Whoever acted for a moment in between may have let
    /// go again, and its data would be newer.
    pub(super) fn held_until(&self) -> Option<MonoNs> {
        let closed = matches!(self.state, State::Promoting | State::Demoting);
        if !closed || !self.roles.are_under_way() {
            return self.gate;
        }
        match &self.leases {
            Some(leases) => Some(leases.deadline()),
            None => Some(self.sent?.after(self.gate_time())),
        }
    }

    /// Takes no part, or does again.
    pub(crate) fn set_rest(
        &mut self,
        rests: Option<Cause>,
        now: MonoNs,
        out: &mut Outbox,
    ) -> Verdict {
        let rested = core::mem::replace(&mut self.rests, rests);
        match (&self.rests, rested) {
            (Some(cause), _) if !self.holds() => {
                let cause = cause.clone();
                self.rest(State::Initialize, cause, now, out);
            }
            (None, Some(_)) if self.state == State::Initialize => match self.condition {
                Some(condition) if !self.is_ready() => {
                    let to = if self.was_ready {
                        State::Fault
                    } else {
                        State::Initialize
                    };
                    self.rest(to, Cause::Interface(condition), now, out);
                }
                Some(_) => return self.start(Cause::MaintenanceOver, now, out),
                None => self.cause = Cause::Started,
            },
            _ => {}
        }
        Verdict::Stay
    }
}
