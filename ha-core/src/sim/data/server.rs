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
    /// What clients find was judged since they can write.
    pub(super) judged: bool,
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
    /// How often it was started.
    pub(super) starts: u64,
    /// So much of what is committed stays so if it ends now: at its start it takes the rest back.
    pub(super) durable: usize,
    /// It was started again as a replica, and has not read what it had received, which is this.
    pub(super) unread: Option<VecDeque<u64>>,
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

    /// It ends at once. It will start as a replica: what waits for a replica it takes back, and the last of what it
    /// committed. What it had received lies in its files.
    pub(super) fn crash(&mut self) {
        self.up = false;
        self.starts_at = None;
        self.stopped_until = 0;
        self.writable = false;
        self.closing = false;
        self.waiting.clear();
        let kept = self.durable.min(self.log.len());
        let taken_back = self.log.split_off(kept);
        let received = taken_back.into_iter().chain(self.relay.drain(..));
        if self.source.is_some() {
            let unread = self.unread.take().unwrap_or_default();
            self.unread = Some(received.chain(unread).collect());
        }
        self.receives = false;
        self.acknowledges = false;
        self.connected = false;
    }

    /// It is there again, and receives from nobody.
    pub(super) fn start(&mut self) {
        self.starts_at = None;
        self.up = true;
        self.starts += 1;
        self.solo = false;
    }

    /// What it had received before it was started is applied.
    pub(super) fn salvage(&mut self) {
        self.log.extend(self.unread.take().unwrap_or_default());
    }

    /// All that is committed stays so.
    pub(super) const fn flush(&mut self) {
        self.durable = self.log.len();
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
