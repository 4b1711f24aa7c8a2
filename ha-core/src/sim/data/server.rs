//! A database server, as far as replication goes: what it has written, received and applied, and whom it waits for.

use std::{collections::VecDeque, format, string::String, vec::Vec};

use crate::plan::Position;

/// Transactions that it applies at a time, at most.
pub(super) const APPLIES: usize = 8;

/// A server with semi-synchronous replication. A transaction is a number that no other has.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) up: bool,
    /// Until when it is stopped by a signal.
    pub(super) stopped_until: u64,
    /// When a start that is under way is complete.
    pub(super) starts_at: Option<u64>,
    pub(super) writable: bool,
    /// Writes are about to be forbidden: none begins.
    pub(super) closing: bool,
    /// Whether writes are acknowledged although no replica has received them.
    pub(super) solo: bool,
    /// The epoch in which it became writable last.
    pub(super) epoch: u64,
    /// What is committed, in order.
    pub(super) log: Vec<u64>,
    /// What was sent to the replica, and waits for it before it is committed.
    pub(super) waiting: VecDeque<u64>,
    /// What was received and is not applied.
    pub(super) relay: VecDeque<u64>,
    /// Whom it follows.
    pub(super) source: Option<usize>,
    pub(super) receives: bool,
    pub(super) acknowledges: bool,
    /// Until when nothing is applied.
    pub(super) lags_until: u64,
    /// As a replica: whether it received at the last look.
    pub(super) connected: bool,
}

impl Server {
    pub(super) fn runs(&self, now: u64) -> bool {
        self.up && now >= self.stopped_until
    }

    /// All that it has, applied or not, or sent to its replica.
    pub(super) fn len(&self) -> usize {
        self.log.len() + self.waiting.len() + self.relay.len()
    }

    pub(super) fn at(&self, index: usize) -> Option<u64> {
        let rest = index.checked_sub(self.log.len());
        match rest {
            None => self.log.get(index).copied(),
            Some(index) if index < self.waiting.len() => self.waiting.get(index).copied(),
            Some(index) => self.relay.get(index - self.waiting.len()).copied(),
        }
    }

    /// Whether all that it has is a part of what another one has.
    pub(super) fn is_part_of(&self, other: &Self) -> bool {
        match self.len().checked_sub(1) {
            None => true,
            Some(last) => self.at(last) == other.at(last),
        }
    }

    pub(super) fn position(&self) -> Position {
        Position {
            rank: self.len() as u64,
            text: format!("{}", self.len()),
        }
    }

    pub(super) fn history(&self) -> String {
        let last = self.len().checked_sub(1).and_then(|last| self.at(last));
        format!("{}:{}", self.len(), last.unwrap_or(0))
    }

    /// It ends at once. What waits for a replica was never committed; what was received is fetched again.
    pub(super) fn crash(&mut self) {
        self.up = false;
        self.starts_at = None;
        self.stopped_until = 0;
        self.writable = false;
        self.closing = false;
        self.waiting.clear();
        self.relay.clear();
        self.source = None;
        self.receives = false;
        self.acknowledges = false;
        self.connected = false;
    }

    /// It is there again, as a replica of nobody.
    pub(super) fn start(&mut self) {
        self.starts_at = None;
        self.up = true;
        self.solo = false;
    }

    /// Applies some of what it has received.
    pub(super) fn apply(&mut self, count: usize, now: u64) {
        if self.runs(now) && now >= self.lags_until {
            let count = count.min(self.relay.len());
            self.log.extend(self.relay.drain(..count));
        }
    }

    /// Receives what another one has beyond that.
    pub(super) fn receive(&mut self, from: usize, source: &Self) {
        self.relay
            .extend((from..source.len()).filter_map(|index| source.at(index)));
    }

    /// Commits what a replica has received: the transactions.
    pub(super) fn acknowledged(&mut self, until: usize) -> Vec<u64> {
        let count = until.saturating_sub(self.log.len()).min(self.waiting.len());
        let done: Vec<u64> = self.waiting.drain(..count).collect();
        self.log.extend(&done);
        done
    }
}
