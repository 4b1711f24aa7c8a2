//! The actions that wait for the shell.

use alloc::{collections::VecDeque, string::String};

use ha_common::{MonoNs, Priority};

use crate::{
    announcer::Announcer,
    event::{Action, InstanceId},
    status::Transition,
};

/// Queues by urgency: adverts, epochs and leases of all instances go before changes of addresses, which can
/// take long, those before announcements; and what is said about a transition never delays the transition.
///
/// Bounded by the machine: one call adds at most a few actions for each instance, and the shell drains
/// the queue between calls (an outcome is handed in while the rest of the same call's actions wait).
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    urgent: VecDeque<Action>,
    addresses: VecDeque<Action>,
    announcements: VecDeque<Action>,
    announcer: Announcer,
    words: VecDeque<Action>,
}

impl Outbox {
    pub(crate) fn push(&mut self, action: Action) {
        let queue = match action {
            Action::AddVips { .. } | Action::RemoveVips { .. } => &mut self.addresses,
            _ => &mut self.urgent,
        };
        queue.push_back(action);
    }

    /// Has all `vips` of an instance announced `rounds` times.
    pub(crate) fn announce(&mut self, instance: InstanceId, vips: u32, rounds: u32) {
        self.announcer.begin(instance, vips, rounds);
    }

    /// Announces an instance no more; how many rounds were left.
    pub(crate) fn stop_announcing(&mut self, instance: InstanceId) -> u32 {
        self.announcer.cancel(instance)
    }

    /// Lets the announcements go whose time has come.
    pub(crate) fn release_announcements(&mut self, now: MonoNs) {
        self.announcer
            .release(now, |action| self.announcements.push_back(action));
    }

    /// When the next announcements may go.
    pub(crate) fn announcements_due(&self) -> Option<MonoNs> {
        self.announcer.due()
    }

    pub(crate) fn report(&mut self, transition: Transition) {
        self.words.push_back(Action::Report(transition));
    }

    pub(crate) fn note(&mut self, instance: InstanceId, sentence: String) {
        self.words.push_back(Action::Note { instance, sentence });
    }

    pub(crate) fn finish(&mut self) {
        self.words.push_back(Action::Finished);
    }

    pub(crate) fn pop(&mut self) -> Option<Action> {
        self.urgent
            .pop_front()
            .or_else(|| self.addresses.pop_front())
            .or_else(|| self.announcements.pop_front())
            .or_else(|| self.words.pop_front())
    }

    /// [`Self::pop`], if that is an advert.
    pub(crate) fn pop_advert(&mut self) -> Option<Action> {
        self.urgent
            .pop_front_if(|action| matches!(action, Action::SendAdvert { .. }))
    }

    #[cfg(feature = "sim")]
    pub(crate) fn is_empty(&self) -> bool {
        self.urgent.is_empty()
            && self.addresses.is_empty()
            && self.announcements.is_empty()
            && self.words.is_empty()
    }

    /// Takes back whatever an instance that lets go has not done yet: it must not advertise, renew its
    /// gate or add its addresses any more.
    pub(crate) fn take_back(&mut self, id: InstanceId) {
        self.urgent.retain(|action| match action {
            Action::SendAdvert {
                instance, priority, ..
            } => *instance != id || *priority == Priority::RELEASE,
            Action::SetLease { instance, .. }
            | Action::Act { instance }
            | Action::RenewAlone { instance, .. } => *instance != id,
            _ => true,
        });
        self.addresses
            .retain(|action| !matches!(action, Action::AddVips { instance } if *instance == id));
        self.announcements.retain(
            |action| !matches!(action, Action::Announce { instance, .. } if *instance == id),
        );
        self.announcer.cancel(id);
    }
}
