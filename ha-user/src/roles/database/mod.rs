//! What the kinds of roles have in common whose system is a MariaDB or MySQL server: its process, the sessions with
//! it, and how it is asked between the steps.

mod accounts;
mod audit;
mod failure;
mod glance;
mod listener;
mod process;
mod runs;
mod server;
mod sessions;

use std::time::Duration;

use ha_common::{MonoNs, Nanos};
use ha_core::plan::Done;
use tokio::time::sleep;

pub(crate) use self::failure::Failure;
pub(super) use self::{
    accounts::who_may_write,
    audit::Audit,
    glance::{Glance, Taken, without},
    process::{Presence, Process},
    runs::{Runs, Sighting},
    server::{Asked, Server},
    sessions::end_sessions,
};
use crate::{checks::mysql::statement::Answer, sys::clock};

/// How often something is looked at that is waited for.
const POLL: Duration = Duration::from_millis(10);

/// The outcome of a step.
pub(super) type Outcome = Result<Done, Failure>;

/// Before its deadline a step says why it has not ended: it is given up then without a word.
const MARGIN: Nanos = Nanos::from_millis(50);

/// Waits a little, if there is time.
pub(super) async fn pause(deadline: MonoNs) -> bool {
    if clock::now().after(MARGIN) >= deadline {
        return false;
    }
    sleep(POLL).await;
    true
}

/// The time until a deadline.
pub(super) fn left(deadline: MonoNs) -> Duration {
    Duration::from_nanos(deadline.since(clock::now()).0)
}

/// A step that has nothing to say but this.
pub(super) fn done(text: impl Into<String>) -> Done {
    Done {
        text: text.into(),
        ..Done::default()
    }
}

/// A text as a literal, in a session whose `sql_mode` is empty.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A column of the first row; nothing where it is NULL.
pub(super) fn value(answer: &Answer, column: usize) -> String {
    let row = answer.rows.first();
    let value = row.and_then(|row| row.get(column)).cloned().flatten();
    value.unwrap_or_default()
}

/// The first two columns: a variable and its value.
pub(super) fn pairs(answer: &Answer) -> impl Iterator<Item = (String, String)> {
    let text = |row: &[Option<String>], column: usize| {
        row.get(column).cloned().flatten().unwrap_or_default()
    };
    let rows = answer.rows.iter();
    rows.map(move |row| (text(row, 0), text(row, 1)))
}
