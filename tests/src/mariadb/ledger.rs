//! What clients know of their writes.

use ha_common::{MonoNs, Nanos};

use super::session::Failure;

/// What became of a write, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server said that it is done: it must be there for ever.
    Acknowledged,
    /// The server said that it is not done, with this error: it must never be there.
    Refused(u16),
    /// The connection ended, or the client gave up: it may be there, on all servers or on none.
    Unknown,
}

impl Outcome {
    pub(super) fn of<T>(result: &Result<T, Failure>) -> Self {
        match result {
            Ok(_) => Self::Acknowledged,
            Err(Failure::Refused { code, .. }) => Self::Refused(*code),
            Err(Failure::Unknown(_)) => Self::Unknown,
        }
    }
}

/// One write of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Not another write's; the later one of two of a client has the higher one.
    pub id: u64,
    /// Whose it is.
    pub client: u32,
    /// When it was sent.
    pub sent: MonoNs,
    /// When its outcome was known.
    pub done: MonoNs,
    /// What became of it.
    pub outcome: Outcome,
    /// The server that acknowledged it, by its `server_id`.
    pub server: Option<u32>,
}

/// All writes of some clients, in the order in which their outcomes were known.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The writes.
    pub writes: Vec<Write>,
}

impl Ledger {
    /// How many had an outcome like this.
    #[must_use]
    pub fn count(&self, like: impl Fn(Outcome) -> bool) -> usize {
        let outcomes = self.writes.iter().map(|write| write.outcome);
        outcomes.filter(|outcome| like(*outcome)).count()
    }

    /// Those that were acknowledged.
    pub fn acknowledged(&self) -> impl DoubleEndedIterator<Item = &Write> {
        self.writes
            .iter()
            .filter(|write| write.outcome == Outcome::Acknowledged)
    }

    /// When `server` first acknowledged a write that was sent at `from` or later.
    #[must_use]
    pub fn first_acknowledged(&self, server: u32, from: MonoNs) -> Option<MonoNs> {
        self.acknowledged()
            .filter(|write| write.server == Some(server) && write.sent >= from)
            .map(|write| write.done)
            .min()
    }

    /// From the first server that acknowledged a write of this ledger to the last one: a write that was sent to one
    /// of them after a later one had acknowledged, and is acknowledged, is a proof that both were writable. Those are
    /// counted.
    #[must_use]
    pub fn acknowledged_by_the_former(&self) -> usize {
        let mut latest: Option<(u32, MonoNs)> = None;
        let mut former = std::collections::BTreeSet::new();
        let mut count = 0;
        for write in self.acknowledged() {
            let Some(server) = write.server else { continue };
            match latest {
                Some((current, _)) if current == server => {}
                Some((_, since)) if former.contains(&server) => {
                    // What was sent before may have been carried out before.
                    count += usize::from(write.sent > since);
                }
                _ => {
                    former.extend(latest.map(|(server, _)| server));
                    latest = Some((server, write.done));
                }
            }
        }
        count
    }

    /// The longest time between two acknowledgements, of those since `from`.
    #[must_use]
    pub fn longest_gap(&self, from: MonoNs) -> Option<Nanos> {
        let times: Vec<MonoNs> = self
            .acknowledged()
            .map(|write| write.done)
            .filter(|done| *done >= from)
            .collect();
        times.windows(2).map(|pair| pair[1].since(pair[0])).max()
    }

    /// Acknowledgements a second, between the first and the last one.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let mut times = self.acknowledged().map(|write| write.done);
        let (Some(first), Some(last)) = (times.next(), times.next_back()) else {
            return 0.0;
        };
        let count = self.acknowledged().count();
        let seconds = std::time::Duration::from_nanos(last.since(first).0).as_secs_f64();
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds.max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(id: u64, sent: u64, done: u64, outcome: Outcome) -> Write {
        Write {
            id,
            client: 0,
            sent: MonoNs(sent),
            done: MonoNs(done),
            outcome,
            server: (outcome == Outcome::Acknowledged).then_some(if id < 4 { 1 } else { 2 }),
        }
    }

    #[test]
    fn what_was_sent_before_the_fault_is_no_answer_to_it() {
        let ledger = Ledger {
            writes: vec![
                write(1, 10, 20, Outcome::Acknowledged),
                write(2, 90, 110, Outcome::Acknowledged),
                write(3, 101, 150, Outcome::Refused(1290)),
                write(4, 120, 160, Outcome::Acknowledged),
            ],
        };
        assert_eq!(ledger.first_acknowledged(2, MonoNs(100)), Some(MonoNs(160)));
        assert_eq!(ledger.first_acknowledged(1, MonoNs(100)), None);
        assert_eq!(ledger.longest_gap(MonoNs(0)), Some(Nanos(90)));
        assert_eq!(ledger.count(|outcome| outcome == Outcome::Acknowledged), 3);
    }

    #[test]
    fn a_former_server_that_goes_on_is_found() {
        let by = |server, sent, done| Write {
            server: Some(server),
            ..write(1, sent, done, Outcome::Acknowledged)
        };
        let count = |writes: &[Write]| {
            Ledger {
                writes: writes.to_vec(),
            }
            .acknowledged_by_the_former()
        };
        assert_eq!(count(&[by(1, 1, 2), by(2, 3, 4), by(2, 5, 6)]), 0);
        // Its answer was late.
        assert_eq!(count(&[by(1, 1, 2), by(2, 4, 5), by(1, 3, 6)]), 0);
        assert_eq!(
            count(&[by(1, 1, 2), by(2, 4, 5), by(1, 6, 7), by(1, 8, 9)]),
            2
        );
    }
}
