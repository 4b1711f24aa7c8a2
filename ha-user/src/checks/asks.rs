//! Who waits for the result of a check's probe.

use std::{collections::VecDeque, sync::Arc};

use ha_common::MonoNs;
use tokio::sync::mpsc;

use crate::engine::{Command, Handle, Message};

/// The questions that a check's task has to answer. When the task ends, those that are open are asked again, of the
/// task that has taken its place.
pub(super) struct Asks {
    check: Arc<str>,
    inbox: mpsc::Receiver<MonoNs>,
    open: VecDeque<MonoNs>,
    engine: Handle,
    messages: mpsc::Sender<Message>,
}

impl Asks {
    pub(super) fn new(
        check: &Arc<str>,
        inbox: mpsc::Receiver<MonoNs>,
        engine: Handle,
        messages: mpsc::Sender<Message>,
    ) -> Self {
        Self {
            check: Arc::clone(check),
            inbox,
            open: VecDeque::new(),
            engine,
            messages,
        }
    }

    /// Waits for the next one: since when it has to be looked at. For ever, where nobody can ask any more.
    pub(super) async fn next(&mut self) -> MonoNs {
        match self.inbox.recv().await {
            Some(round) => {
                self.open.push_back(round);
                round
            }
            None => std::future::pending().await,
        }
    }

    /// The next one, if it has come.
    pub(super) fn try_next(&mut self) -> Option<MonoNs> {
        let round = self.inbox.try_recv().ok()?;
        self.open.push_back(round);
        Some(round)
    }

    /// The first that is not answered.
    pub(super) fn first(&self) -> Option<MonoNs> {
        self.open.front().copied()
    }

    /// The first was answered.
    pub(super) fn answered(&mut self) {
        self.open.pop_front();
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        self.inbox.close();
        while self.try_next().is_some() {}
        for round in std::mem::take(&mut self.open) {
            let check = self.check.to_string();
            if let Err(error) = self.messages.try_send(Message::Confirm { check, round })
                && let Message::Confirm { check, round } = error.into_inner()
            {
                // If that fails as well, the engine gives up waiting.
                let _ = self.engine.send(Command::Confirmed {
                    check,
                    round,
                    result: Err("it has ended".to_owned()),
                });
            }
        }
    }
}
