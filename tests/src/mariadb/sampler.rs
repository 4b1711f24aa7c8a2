//! Whether a server lets clients write, asked all the time and directly: by its own socket, beside any VIP.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use ha_common::{MonoNs, Nanos};

use super::{
    DATABASE, Server, WRITER,
    session::{Place, Session, opts},
};
use crate::{clock::sleep_until, now};

/// Between two questions.
const PERIOD: Nanos = Nanos::from_millis(3);

/// Without an answer by then a new session is opened.
const LIMIT: Duration = Duration::from_secs(2);

/// A question and its answer: at some instant between them it was so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was asked.
    pub sent: MonoNs,
    /// When it was answered, or given up.
    pub done: MonoNs,
    /// Whether the server was writable.
    pub writable: bool,
}

/// What was seen of one server.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Whether `read_only` was off.
    pub flags: Vec<Sample>,
    /// Whether a write was acknowledged.
    pub attempts: Vec<Sample>,
}

impl Samples {
    /// Whether both questions found it writable at least once: it was asked in earnest.
    #[must_use]
    pub fn saw_it_writable(&self) -> bool {
        let saw = |samples: &[Sample]| samples.iter().any(|sample| sample.writable);
        saw(&self.flags) && saw(&self.attempts)
    }
}

/// Asks one server, by two sessions, until it is dropped.
pub struct Sampler {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    paused: AtomicBool,
    seen: Mutex<Samples>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Samples> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sampler {
    /// Makes the table for the attempts; it must be writable at `server`.
    pub fn prepare(server: &Server) -> Result<()> {
        server.session_of(WRITER)?.ask(&format!(
            "CREATE TABLE {DATABASE}.attempts (server INT UNSIGNED PRIMARY KEY, count BIGINT UNSIGNED NOT NULL) \
             ENGINE = InnoDB"
        ))?;
        Ok(())
    }

    /// Begins to ask.
    pub fn start(server: &Server) -> Result<Self> {
        let place = Place::Socket(server.socket());
        let password = server.password(WRITER)?;
        let attempt = format!(
            "INSERT INTO {DATABASE}.attempts VALUES (@@server_id, 1) ON DUPLICATE KEY UPDATE count = count + 1"
        );
        // As clients do: root would not be stopped by `read_only`.
        let opts = opts(&place, WRITER.user, Some(&password));
        let shared = Arc::new(Shared::default());
        let ask = |look: fn(&mut Session, &str) -> bool, statement: String, flags: bool| {
            let (shared, opts) = (Arc::clone(&shared), opts.clone());
            thread::spawn(move || {
                let mut session = None;
                while !shared.stop.load(Ordering::Relaxed) {
                    let sent = now();
                    if shared.paused.load(Ordering::Relaxed) {
                        sleep_until(sent.after(PERIOD));
                        continue;
                    }
                    let mut open = match session.take() {
                        Some(open) => Some(open),
                        None => Session::connect(&opts, LIMIT).ok(),
                    };
                    let writable = open
                        .as_mut()
                        .is_some_and(|session| look(session, &statement));
                    let sample = Sample {
                        sent,
                        done: now(),
                        writable,
                    };
                    session = open.filter(Session::is_open);
                    let mut seen = shared.seen();
                    if flags {
                        seen.flags.push(sample);
                    } else {
                        seen.attempts.push(sample);
                    }
                    drop(seen);
                    sleep_until(sent.after(PERIOD));
                }
            })
        };
        let flag = |session: &mut Session, statement: &str| {
            let rows = session.ask_within(LIMIT, statement);
            rows.is_ok_and(|rows| rows == [[Some("0".to_owned())]])
        };
        let write =
            |session: &mut Session, statement: &str| session.ask_within(LIMIT, statement).is_ok();
        let threads = vec![
            ask(flag, "SELECT @@GLOBAL.read_only".to_owned(), true),
            ask(write, attempt, false),
        ];
        Ok(Self { shared, threads })
    }

    /// Asks nothing more, but for what is under way.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::Relaxed);
    }

    /// Asks again.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::Relaxed);
    }

    /// What was seen since the last time.
    #[must_use]
    pub fn take(&self) -> Samples {
        std::mem::take(&mut *self.shared.seen())
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// For how long both servers certainly were writable; more than nothing is a proof, nothing is none.
///
/// A server was writable from the answer of one question to the sending of a later one if all answers from the
/// one to the other say so.
#[must_use]
pub fn overlap(one: &[Sample], other: &[Sample]) -> Nanos {
    let (one_runs, other_runs) = (runs(one), runs(other));
    let mut longest = Nanos::ZERO;
    for (from, to) in &one_runs {
        for (other_from, other_to) in &other_runs {
            let (begin, end) = (*from.max(other_from), *to.min(other_to));
            longest = longest.max(end.since(begin));
        }
    }
    // One answer in the middle of the other server's run: an instant at least.
    for (samples, runs) in [(one, &other_runs), (other, &one_runs)] {
        for sample in samples.iter().filter(|sample| sample.writable) {
            let inside = |(from, to): &(MonoNs, MonoNs)| *from <= sample.sent && sample.done <= *to;
            if runs.iter().any(inside) {
                longest = longest.max(Nanos(1));
            }
        }
    }
    longest
}

fn runs(samples: &[Sample]) -> Vec<(MonoNs, MonoNs)> {
    samples
        .chunk_by(|one, next| one.writable && next.writable)
        .filter_map(|run| {
            let (first, last) = (run.first()?, run.last()?);
            (first.writable && last.sent > first.done).then_some((first.done, last.sent))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(times: &[(u64, u64, bool)]) -> Vec<Sample> {
        let sample = |&(sent, done, writable)| Sample {
            sent: MonoNs(sent),
            done: MonoNs(done),
            writable,
        };
        times.iter().map(sample).collect()
    }

    #[test]
    fn one_after_the_other_is_no_overlap() {
        let one = samples(&[(0, 1, true), (10, 11, true), (20, 21, false)]);
        let other = samples(&[(0, 1, false), (12, 13, true), (30, 31, true)]);
        assert_eq!(overlap(&one, &other), Nanos::ZERO);
        // An answer that came late proves nothing.
        let late = samples(&[(0, 1, true), (10, 25, true), (26, 27, false)]);
        assert_eq!(overlap(&late, &other), Nanos::ZERO);
    }

    #[test]
    fn both_at_once_is_found_and_measured() {
        let one = samples(&[(0, 1, true), (20, 21, true), (22, 23, false)]);
        let other = samples(&[(0, 1, false), (10, 11, true), (30, 31, true)]);
        assert_eq!(overlap(&one, &other), Nanos(9));
        // A single write between two of the other server.
        let single = samples(&[(5, 6, true), (7, 8, false)]);
        assert_eq!(overlap(&one, &single), Nanos(1));
        assert_eq!(overlap(&single, &one), Nanos(1));
    }
}
