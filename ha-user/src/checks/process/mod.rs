//! `kind = "process"`: counts processes, and notices at once when one ends.

mod connector;
mod scan;

#[cfg(test)]
mod tests;

use std::{future::poll_fn, os::fd::OwnedFd, sync::Arc, task::Poll};

use ha_core::check::Observation;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{Interest, unix::AsyncFd};

use self::{
    connector::{Connector, News},
    scan::Found,
};
use super::{
    blocking::Blocking,
    probe::{Pending, Probe},
    words,
};
use crate::{config::Process, sys::readiness};

/// Processes whose end is noticed at once; that of more is found by the next probe.
const MOST_WATCHED: usize = 256;
/// Numbers that a sentence names.
const MOST_NAMED: usize = 3;
/// Not to wait.
const NO_TIME: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// See [`Process`].
pub(super) struct ProcessProbe {
    config: Arc<Process>,
    /// How sentences name it.
    label: String,
    looking: Blocking<Result<Found, String>>,
    /// Opened with the first probe; `None` where it cannot be had.
    connector: Option<Connector>,
    begun: bool,
    /// Those that ran when the last probe ended, and have not ended since.
    watched: Vec<Watched>,
    /// More of them.
    unwatched: usize,
    /// What the last probe ended with.
    enough: bool,
    /// One of enough that has ended for sure, which was not told yet: a probe came in between.
    ended: Option<i32>,
}

/// A process that runs.
struct Watched {
    pid: i32,
    handle: AsyncFd<OwnedFd>,
}

/// What a look for a process that was not there before has shown.
enum Look {
    /// There are as many as there must be.
    Enough,
    /// So many are left.
    Lacking,
}

impl ProcessProbe {
    pub(super) fn new(config: &Process) -> Self {
        let label = match (&config.process, &config.command, &config.pid_file) {
            (Some(name), _, _) => name.clone(),
            (None, Some(command), _) => command.words.clone(),
            (None, None, file) => {
                let file = file.as_ref().map(|file| file.display().to_string());
                format!("process of {}", file.unwrap_or_default())
            }
        };
        Self {
            config: Arc::new(config.clone()),
            label: words::clean(&label),
            looking: Blocking::new(),
            connector: None,
            begun: false,
            watched: Vec::new(),
            unwatched: 0,
            enough: false,
            ended: None,
        }
    }

    async fn count(&mut self) -> Result<String, String> {
        if !self.begun {
            self.begun = true;
            self.connector = Connector::open().ok();
        }
        // What came before the look is in it.
        if let Some(connector) = &self.connector {
            connector.drain();
        }
        let config = Arc::clone(&self.config);
        let look = self
            .looking
            .call("the look at /proc", move || scan::all(&config));
        let found = look.await.and_then(|found| found);
        if std::mem::take(&mut self.enough) {
            let ended = self.watched.iter().find(|one| one.has_ended());
            self.ended = ended.map(|one| one.pid).or(self.ended);
        }
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.watched.clear();
                self.unwatched = 0;
                return Err(error);
            }
        };
        let stopped = found.stopped.clone();
        let running = found.running.len();
        let pids: Vec<i32> = found.running.iter().map(|(pid, _)| *pid).collect();
        self.unwatched = running.saturating_sub(MOST_WATCHED);
        self.watched = watched(found);
        let result = self.judge(running, &pids, &stopped);
        self.enough = result.is_ok();
        if self.enough || self.left() >= count(self.config.min) {
            self.ended = None;
        }
        result
    }

    fn judge(&self, running: usize, pids: &[i32], stopped: &[i32]) -> Result<String, String> {
        let (label, min) = (&self.label, self.config.min);
        let halted = match stopped.first() {
            None => String::new(),
            Some(_) => format!("{} stopped by a signal (state T)", named(stopped)),
        };
        if running < count(min) {
            return Err(match (running, halted.is_empty()) {
                (0, true) => format!("no {label} runs"),
                (0, false) => format!("{label} hangs: {halted}"),
                (_, true) => format!("{running} of {label} run, fewer than {min}"),
                (_, false) => format!("{running} of {label} run, fewer than {min}; {halted}"),
            });
        }
        if let Some(max) = self.config.max
            && running + stopped.len() > count(max)
        {
            let all = running + stopped.len();
            return Err(format!("{all} of {label} run, more than {max}"));
        }
        let end = self.when_noticed();
        let halted = match halted.as_str() {
            "" => String::new(),
            halted => format!("; {halted}"),
        };
        Ok(match running {
            1 => format!("{label} runs ({}{end}){halted}", named(pids)),
            _ => format!("{running} of {label} run ({}{end}){halted}", named(pids)),
        })
    }

    /// What is worth saying of how the next one is found.
    fn when_noticed(&self) -> &'static str {
        match self.connector {
            Some(_) => "",
            None => "; the beginning of others is not told by the kernel here",
        }
    }

    /// Whether others have taken the place of one that ended, or one that was missing has begun.
    async fn look_again(&mut self, news: News) -> Result<Look, String> {
        let config = Arc::clone(&self.config);
        let everywhere = self.connector.is_none() || news.lost;
        let known: Vec<i32> = self.watched.iter().map(|watched| watched.pid).collect();
        let look = self.looking.call("the look at /proc", move || {
            if everywhere {
                scan::all(&config)
            } else {
                scan::among(&config, &news.pids)
            }
        });
        let mut found = look.await??;
        found.running.retain(|(pid, _)| !known.contains(pid));
        // A process may have forked, become another program and taken another name.
        found.running.sort_by_key(|(pid, _)| *pid);
        found.running.dedup_by_key(|(pid, _)| *pid);
        let room = MOST_WATCHED.saturating_sub(self.watched.len());
        found.running.truncate(room);
        self.watched.extend(watched(found));
        if self.left() < count(self.config.min) {
            return Ok(Look::Lacking);
        }
        Ok(Look::Enough)
    }

    fn left(&self) -> usize {
        self.watched.len() + self.unwatched
    }

    async fn news(&mut self) -> Observation {
        loop {
            if let Some(pid) = self.ended {
                let news = self.connector.as_ref().map(Connector::drain);
                let look = self.look_again(news.unwrap_or_default()).await;
                self.ended = None;
                self.enough = matches!(look, Ok(Look::Enough));
                return match self.enough {
                    true => Observation::Changed,
                    false => Observation::Failed(self.lost(pid)),
                };
            }
            let enough = self.enough;
            let ended = tokio::select! {
                biased;
                ended = end_of_any(&mut self.watched) => Ok(ended),
                news = begun(self.connector.as_ref(), enough) => Err(news),
            };
            match ended {
                Ok(pid) => {
                    if self.enough && self.left() < count(self.config.min) {
                        // Kept until it is told, since this may be given up for a probe.
                        self.ended = Some(pid);
                    }
                }
                Err(news) => {
                    if let Ok(Look::Enough) = self.look_again(news).await {
                        self.enough = true;
                        return Observation::Changed;
                    }
                }
            }
        }
    }

    fn lost(&self, pid: i32) -> String {
        let (label, min) = (&self.label, self.config.min);
        match self.left() {
            0 => format!("{label} ended (process {pid})"),
            left => {
                format!("one of {label} ended (process {pid}): {left} left, fewer than {min}")
            }
        }
    }
}

impl Watched {
    /// As the kernel has it now: what it told the runtime may not have come yet.
    fn has_ended(&self) -> bool {
        let mut handle = [PollFd::new(self.handle.get_ref(), PollFlags::IN)];
        matches!(poll(&mut handle, Some(&NO_TIME)), Ok(1))
    }
}

impl Probe for ProcessProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(self.count())
    }

    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(self.news())
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn watched(found: Found) -> Vec<Watched> {
    let running = found.running.into_iter().take(MOST_WATCHED);
    running
        .filter_map(|(pid, handle)| {
            let handle = readiness::of(handle, Interest::READABLE).ok()?;
            Some(Watched { pid, handle })
        })
        .collect()
}

/// Waits until one of them has ended, and takes it out.
async fn end_of_any(watched: &mut Vec<Watched>) -> i32 {
    let index = poll_fn(|context| {
        let ended = watched
            .iter()
            .position(|one| one.handle.poll_read_ready(context).is_ready());
        ended.map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    watched.swap_remove(index).pid
}

/// Waits for the beginning of processes, where one is missing.
async fn begun(connector: Option<&Connector>, enough: bool) -> News {
    match connector {
        Some(connector) if !enough => connector.news().await,
        _ => std::future::pending().await,
    }
}

/// As `process 7`, or `processes 7, 8, 9, …`.
fn named(pids: &[i32]) -> String {
    let mut shown: Vec<String> = pids
        .iter()
        .take(MOST_NAMED)
        .map(ToString::to_string)
        .collect();
    if pids.len() > MOST_NAMED {
        shown.push("…".to_owned());
    }
    let word = if pids.len() == 1 {
        "process"
    } else {
        "processes"
    };
    format!("{word} {}", shown.join(", "))
}
