//! Telling the runs of a server apart.

use std::sync::{Mutex, PoisonError};

use ha_common::MonoNs;
use mysql_async::Error;

use crate::checks::mysql::session::Session;

/// More than there can be in a second.
const IN_A_SECOND: u64 = 1_000;

/// A session that answered, and what it says of the server.
#[derive(Clone, Copy, Debug)]
pub(in crate::roles) struct Sighting {
    /// When the server was started, in whole seconds.
    pub(in crate::roles) started: u64,
    /// The session's number: a server counts from when it was started.
    pub(in crate::roles) id: u32,
    /// When it was opened.
    pub(in crate::roles) opened: MonoNs,
}

impl Sighting {
    /// Of a session that is open.
    pub(in crate::roles) async fn of(session: &mut Session) -> Result<Self, Error> {
        Ok(Self {
            started: session.started().await?,
            id: session.id(),
            opened: session.opened(),
        })
    }
}

/// Gives each run a number that no other one has. Two runs may begin within one second: then a session that was opened
/// later has a lower number than one before.
#[derive(Debug, Default)]
pub(in crate::roles) struct Runs(Mutex<Option<(Sighting, u64)>>);

impl Runs {
    /// The number of the run that this was seen of.
    pub(in crate::roles) fn number(&self, seen: Sighting) -> u64 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let again = match &*known {
            Some((last, again)) if last.started == seen.started => {
                if seen.opened <= last.opened {
                    return last.started * IN_A_SECOND + again;
                }
                again + u64::from(seen.id < last.id)
            }
            _ => 0,
        };
        *known = Some((seen, again));
        seen.started * IN_A_SECOND + again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_a_number_of_its_own() {
        let runs = Runs::default();
        let number = |started, id, opened| {
            runs.number(Sighting {
                started,
                id,
                opened: MonoNs(opened),
            })
        };
        let first = number(100, 5, 1);
        assert_eq!(number(100, 6, 2), first, "another session of it");
        assert_eq!(
            number(100, 5, 1),
            first,
            "the one before, which is still open"
        );
        let second = number(100, 4, 3);
        assert_ne!(second, first, "numbers begin anew within the second");
        assert_eq!(number(100, 9, 4), second);
        let third = number(101, 3, 5);
        assert!(third != first && third != second);
    }
}
