//! Writes a journal without making anybody wait for the disk.

use std::{collections::VecDeque, future::pending, time::Duration};

use ha_core::plan::Record;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};

use super::journal::Journal;

/// How long the disk may take before a record counts as not written.
const LIMIT: Duration = Duration::from_secs(1);

/// What became of a record: its serial, and why it is not on disk, if so.
pub(super) type Outcome = (u64, Result<(), String>);

/// See the module.
pub(super) struct Scribe {
    /// `None`: it is being written to.
    journal: Option<Journal>,
    under_way: Option<JoinHandle<(Journal, Result<(), String>)>>,
    /// Records that are being written, and when somebody began to wait.
    writing: Vec<(u64, Instant)>,
    waiting: VecDeque<(u64, Record, Instant)>,
    outcomes: VecDeque<Outcome>,
}

impl Scribe {
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            journal: Some(journal),
            under_way: None,
            writing: Vec::new(),
            waiting: VecDeque::new(),
            outcomes: VecDeque::new(),
        }
    }

    /// Has a record written, behind those before it.
    pub(super) fn write(&mut self, serial: u64, record: Record) {
        self.waiting.push_back((serial, record, Instant::now()));
        self.begin();
    }

    /// Whether nothing is to be written, nor to be told.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty() && self.outcomes.is_empty()
    }

    /// What became of the next record. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Outcome {
        loop {
            self.begin();
            if let Some(outcome) = self.outcomes.pop_front() {
                return outcome;
            }
            let waits = self.writing.iter().map(|(_, since)| *since);
            let waits = waits.chain(self.waiting.iter().map(|(_, _, since)| *since));
            let deadline = waits.min().map(|since| since + LIMIT);
            let late = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => pending().await,
                }
            };
            let end = async {
                match &mut self.under_way {
                    Some(handle) => handle.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                ended = end => {
                    self.under_way = None;
                    let result = match ended {
                        Ok((journal, result)) => {
                            self.journal = Some(journal);
                            result
                        }
                        Err(_) => Err("the daemon ends".to_owned()),
                    };
                    let told = self.writing.drain(..).map(|(serial, _)| (serial, result.clone()));
                    self.outcomes.extend(told);
                }
                () = late => self.give_up(),
            }
        }
    }

    fn begin(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let Some(mut journal) = self.journal.take() else {
            return;
        };
        let mut records = Vec::new();
        for (serial, record, since) in self.waiting.drain(..) {
            self.writing.push((serial, since));
            records.push(record);
        }
        self.under_way = Some(spawn_blocking(move || {
            let result = journal.append(&records);
            (journal, result.map_err(|error| error.to_string()))
        }));
    }

    /// The disk does not answer. What comes of it later says nothing any more.
    fn give_up(&mut self) {
        let now = Instant::now();
        let late = |since: &Instant| *since + LIMIT <= now;
        let mut given_up: Vec<u64> = Vec::new();
        self.writing.retain(|(serial, since)| {
            if late(since) {
                given_up.push(*serial);
            }
            !late(since)
        });
        // They are written all the same, once it answers: those that follow would make no sense without them.
        for (serial, _, since) in &mut self.waiting {
            if late(since) {
                given_up.push(*serial);
                *since = now + LIMIT * 3_600;
            }
        }
        let why = "the disk does not answer".to_owned();
        let told = given_up
            .into_iter()
            .map(|serial| (serial, Err(why.clone())));
        self.outcomes.extend(told);
    }
}
