//! What the engine thread tells the rest of the daemon, without ever waiting for it.

use std::sync::Arc;

use ha_common::MonoNs;
use tokio::sync::mpsc::Sender;

use crate::events::{Event, Kind};

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
    /// For the log only.
    Log {
        /// How loud.
        level: Level,
        /// A sentence.
        text: String,
    },
}

/// The way out: bounded; what does not fit is counted and dropped.
pub(super) struct Outbox {
    sender: Sender<Message>,
    lost: u64,
}

impl Outbox {
    pub(super) fn new(sender: Sender<Message>) -> Self {
        Self { sender, lost: 0 }
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
        self.push(Message::Confirm { check, round });
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
