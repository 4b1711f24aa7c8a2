//! The actions that wait for the shell.

use alloc::{collections::VecDeque, string::String};

use ha_common::Priority;

use crate::{
    event::{Action, InstanceId},
    status::Transition,
};

/// Two queues: what is said about a transition never delays the transition.
///
/// Bounded by the machine: one call adds at most a few actions for each instance, and the shell drains
/// the queue between calls (an outcome is handed in while the rest of the same call's actions wait).
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    urgent: VecDeque<Action>,
    words: VecDeque<Action>,
}

impl Outbox {
    pub(crate) fn push(&mut self, action: Action) {
        self.urgent.push_back(action);
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
        self.urgent.pop_front().or_else(|| self.words.pop_front())
    }

    /// Takes back whatever an instance that lets go has not done yet: it must not advertise, renew its
    /// gate or add its addresses any more.
    pub(crate) fn take_back(&mut self, id: InstanceId) {
        self.urgent.retain(|action| match action {
            Action::SendAdvert {
                instance, priority, ..
            } => *instance != id || *priority == Priority::RELEASE,
            Action::SetLease { instance, .. }
            | Action::AddVips { instance }
            | Action::Announce { instance } => *instance != id,
            _ => true,
        });
    }
}
