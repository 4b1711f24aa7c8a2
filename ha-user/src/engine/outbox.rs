//! What the engine thread tells the rest of the daemon, without ever waiting for it.

use std::{collections::VecDeque, sync::Arc};

use ha_common::{MonoNs, Nanos};
use ha_core::Manner;
use tokio::sync::mpsc::{Sender, error::TrySendError};

use crate::{
    events::{Event, Kind},
    sys::clock,
};

/// Until a question that did not fit is asked again.
const ASK_AGAIN: Nanos = Nanos::from_millis(5);
/// Questions that may wait for that: an instance each.
const QUESTIONS: usize = 256;

/// How loud a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the curious.
    Info,
    /// Somebody should look at it.
    Warn,
    /// Service is broken or unprotected.
    Error,
}

/// What the engine thread tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// For the history and the log.
    Event(Event),
    /// A check is to be looked at now; answered by [`super::Command::Confirmed`].
    Confirm {
        /// The check's name.
        check: String,
        /// To be handed back.
        round: MonoNs,
    },
    /// A group's roles are to be promoted; answered by [`super::Command::RolesPromoted`].
    PromoteRoles {
        /// The group's name.
        group: String,
        /// To be handed back.
        round: MonoNs,
        /// Whether the node that had it before did not let go, but fell silent.
        unplanned: bool,
    },
    /// A group's roles are to be demoted; answered by [`super::Command::RolesDemoted`]. What is under way for an
    /// earlier round is not asked for any more.
    DemoteRoles {
        /// The group's name.
        group: String,
        /// To be handed back.
        round: MonoNs,
        /// In which manner.
        manner: Manner,
    },
    /// For the log only.
    Log {
        /// How loud.
        level: Level,
        /// A sentence.
        text: String,
    },
}

impl Message {
    /// The group whose roles it concerns.
    fn group(&self) -> Option<&str> {
        match self {
            Self::PromoteRoles { group, .. } | Self::DemoteRoles { group, .. } => Some(group),
            _ => None,
        }
    }
}

/// The way out: bounded; what does not fit is counted and dropped, but for questions and orders, which are told again.
pub(super) struct Outbox {
    sender: Sender<Message>,
    lost: u64,
    questions: VecDeque<Message>,
    /// For each group the latest alone.
    orders: VecDeque<Message>,
    ask_at: Option<MonoNs>,
}

impl Outbox {
    pub(super) fn new(sender: Sender<Message>) -> Self {
        Self {
            sender,
            lost: 0,
            questions: VecDeque::new(),
            orders: VecDeque::new(),
            ask_at: None,
        }
    }

    /// Messages lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn event(
        &mut self,
        at: MonoNs,
        instance: &Arc<str>,
        kind: Kind,
        sentence: impl Into<String>,
    ) {
        self.push(Message::Event(Event {
            at,
            instance: Arc::clone(instance),
            kind,
            states: None,
            sentence: sentence.into(),
        }));
    }

    pub(super) fn transition(
        &mut self,
        at: MonoNs,
        instance: &Arc<str>,
        states: (&'static str, &'static str),
        sentence: String,
    ) {
        self.push(Message::Event(Event {
            at,
            instance: Arc::clone(instance),
            kind: Kind::Transition,
            states: Some(states),
            sentence,
        }));
    }

    /// A channel's session, or a path, changed its state.
    pub(super) fn channel(
        &mut self,
        at: MonoNs,
        channel: &Arc<str>,
        states: (&'static str, &'static str),
        sentence: String,
    ) {
        self.push(Message::Event(Event {
            at,
            instance: Arc::clone(channel),
            kind: Kind::Channel,
            states: Some(states),
            sentence,
        }));
    }

    /// A check is to be looked at now.
    pub(super) fn confirm(&mut self, check: String, round: MonoNs) {
        if self.questions.len() == QUESTIONS {
            // The newest are those that somebody waits for.
            self.questions.pop_front();
            self.lost = self.lost.saturating_add(1);
        }
        self.questions.push_back(Message::Confirm { check, round });
        self.ask();
    }

    /// A group's roles are to be promoted or demoted: what was ordered for it before and is not taken up counts no
    /// more.
    pub(super) fn order(&mut self, order: Message) {
        self.orders.retain(|one| one.group() != order.group());
        self.orders.push_back(order);
        self.ask();
    }

    /// When to call [`Self::ask`] again.
    pub(super) fn next_due(&self) -> Option<MonoNs> {
        self.ask_at
    }

    /// Tells what has not been taken up yet: orders first.
    pub(super) fn ask(&mut self) {
        self.ask_at = None;
        for waiting in [&mut self.orders, &mut self.questions] {
            while let Some(message) = waiting.pop_front() {
                match self.sender.try_send(message) {
                    Ok(()) => {}
                    Err(TrySendError::Full(message)) => {
                        waiting.push_front(message);
                        self.ask_at = Some(clock::now().after(ASK_AGAIN));
                        return;
                    }
                    // The daemon ends.
                    Err(TrySendError::Closed(_)) => {}
                }
            }
        }
    }

    pub(super) fn log(&mut self, level: Level, text: impl Into<String>) {
        self.push(Message::Log {
            level,
            text: text.into(),
        });
    }

    fn push(&mut self, message: Message) {
        if self.sender.try_send(message).is_err() {
            self.lost = self.lost.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn a_question_that_does_not_fit_is_asked_later() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut out = Outbox::new(sender);
        out.log(Level::Info, "first");
        out.log(Level::Info, "lost");
        out.confirm("gateway".to_owned(), MonoNs(7));
        out.confirm("gateway".to_owned(), MonoNs(8));
        assert_eq!(out.lost(), 1);
        assert!(out.next_due().is_some());
        out.ask();
        assert!(matches!(receiver.try_recv(), Ok(Message::Log { .. })));
        for round in [7, 8].map(MonoNs) {
            assert!(receiver.try_recv().is_err());
            out.ask();
            let check = "gateway".to_owned();
            assert_eq!(receiver.try_recv(), Ok(Message::Confirm { check, round }));
        }
        out.ask();
        assert_eq!(out.next_due(), None);
        drop(receiver);
        out.confirm("gateway".to_owned(), MonoNs(9));
        assert_eq!(out.next_due(), None);
    }

    #[test]
    fn the_latest_order_for_a_group_is_told_however_full_the_way_is() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut out = Outbox::new(sender);
        let promote = |group: &str, round| Message::PromoteRoles {
            group: group.to_owned(),
            round: MonoNs(round),
            unplanned: true,
        };
        let demote = |group: &str, round| Message::DemoteRoles {
            group: group.to_owned(),
            round: MonoNs(round),
            manner: Manner::Forced,
        };
        out.log(Level::Info, "first");
        out.confirm("gateway".to_owned(), MonoNs(1));
        out.order(promote("db", 2));
        out.order(promote("files", 3));
        out.order(demote("db", 4));
        assert!(out.next_due().is_some());
        assert!(matches!(receiver.try_recv(), Ok(Message::Log { .. })));
        for order in [promote("files", 3), demote("db", 4)] {
            out.ask();
            assert_eq!(receiver.try_recv(), Ok(order));
        }
        out.ask();
        assert!(matches!(receiver.try_recv(), Ok(Message::Confirm { .. })));
        assert_eq!(out.next_due(), None);
    }

    #[test]
    fn no_more_questions_wait_than_there_are_instances() {
        let (sender, _receiver) = mpsc::channel(1);
        let mut out = Outbox::new(sender);
        out.log(Level::Info, "first");
        for round in 0..1_000 {
            out.confirm("gateway".to_owned(), MonoNs(round));
        }
        assert_eq!(out.questions.len(), QUESTIONS);
        assert!(
            matches!(out.questions.back(), Some(Message::Confirm { round, .. }) if round.0 == 999)
        );
    }
}
