//! The process that fences.

#[cfg(test)]
mod tests;
mod ward;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ha_common::{MonoNs, Nanos};
use rustix::{
    net::{RecvFlags, recv},
    process::Signal,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::sleep,
};
use tracing::{error, info, warn};

use self::ward::{Silence, Ward, wards};
use super::message::{MAX_LEN, Message};
use crate::{
    config::{self, Config, ConfigError},
    runtime::lock,
    sys::{clock, readiness, realtime},
};

/// While something may have to be fenced, what the daemon says is read so often at least. To wait for each word would be
/// to wake for each pulse.
const READ_EACH: Nanos = Nanos::from_millis(100);
/// For so long a process without a daemon goes on trying: systemd starts the next daemon only once this one has ended.
const WITHOUT_DAEMON: Nanos = Nanos::from_secs(60);
/// By this part of a limit a turn may be late.
const LATE: u64 = 4;
/// Within this part of a limit a daemon that runs is heard.
const HEARD_WITHIN: u64 = 2;
/// For what blocks at the end, as on a disk that hangs.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Why the process ends before its daemon.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Something that every system has failed.
    #[error("the process that fences databases cannot go on: {0}")]
    System(#[from] io::Error),
}

/// Runs it, with the daemon's socket as standard input, until the daemon has ended and nothing is left to fence.
///
/// # Errors
/// See [`FenceError`].
pub fn run(file: &Path) -> Result<(), FenceError> {
    let config = config::load(file, &|_| None, &|_, _| false)?;
    if let Err(error) = realtime::lock_memory() {
        warn!("the memory of the process that fences databases is not locked: {error}");
    }
    let priority = config.dataplane.realtime_priority;
    if priority > 0
        && let Err(error) = realtime::schedule_fifo(priority)
    {
        warn!("no real-time priority for the process that fences databases: {error}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let watched = runtime.block_on(async {
        // It outlives a daemon that is told to end, for as long as that has something promoted. ABRT is what systemd
        // sends to all processes of a daemon that hangs.
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::from_raw(Signal::ABORT.as_raw()),
        ];
        let _ignored = kinds.map(signal);
        let inbox = io::stdin().as_fd().try_clone_to_owned()?;
        let daemon = lock::holder_of(&config.node.runtime_dir);
        // Before the daemon tells another edition: it may end before that is read.
        let first = wards(&config, 0);
        let silence = Silence::new(config.node.runtime_dir, daemon);
        Watch::new(inbox, file, silence, first)?.run().await
    });
    runtime.shutdown_timeout(LAST_WORDS);
    Ok(watched?)
}

struct Watch {
    inbox: AsyncFd<OwnedFd>,
    file: PathBuf,
    /// The configuration file's, as it was told last.
    edition: u64,
    /// That from which the wards are.
    loaded: u64,
    /// Those that are not being fenced just now.
    wards: Vec<Ward>,
    at_work: JoinSet<Ward>,
    armed: BTreeMap<String, Nanos>,
    silence: Arc<Silence>,
    /// A configuration that is being read, with its edition: not by this thread, for a disk may hang.
    loading: JoinSet<(u64, Result<Config, ConfigError>)>,
    /// Since when the daemon has ended.
    orphaned: Option<MonoNs>,
    /// When this process was held up last, and went on, and in which silence of the daemon.
    held_up: (MonoNs, MonoNs),
    /// When it is to go on at the latest.
    wakes_by: MonoNs,
}

impl Watch {
    fn new(inbox: OwnedFd, file: &Path, silence: Silence, wards: Vec<Ward>) -> io::Result<Self> {
        Ok(Self {
            inbox: readiness::of(inbox, Interest::READABLE)?,
            file: file.to_owned(),
            edition: 0,
            loaded: 0,
            wards,
            at_work: JoinSet::new(),
            armed: BTreeMap::new(),
            silence: Arc::new(silence),
            loading: JoinSet::new(),
            orphaned: None,
            held_up: (MonoNs::ZERO, MonoNs::ZERO),
            wakes_by: MonoNs(u64::MAX),
        })
    }

    async fn run(&mut self) -> io::Result<()> {
        loop {
            let late = self.is_late(clock::now());
            self.read()?;
            if self.orphaned.is_some() && self.silence.has_successor() {
                info!("another daemon runs, which demotes first");
                return Ok(());
            }
            // What was read last counts: this process may have been held up itself.
            let now = clock::now();
            if late {
                self.excuse(now);
            }
            self.fence_due(now);
            let due = self.wards.iter().filter_map(|ward| self.due(ward)).min();
            if let Some(since) = self.orphaned {
                // What is fenced may be in a configuration that is being read.
                let nothing_comes = self.loading.is_empty() || self.armed.is_empty();
                if due.is_none() && self.at_work.is_empty() && nothing_comes {
                    return Ok(());
                }
                if since.after(WITHOUT_DAEMON) <= now {
                    let groups: Vec<&str> = self.armed.keys().map(String::as_str).collect();
                    let groups = groups.join(", ");
                    error!(
                        "GIVEN UP after {WITHOUT_DAEMON} without a daemon: what is promoted may still be written to (groups: {groups})"
                    );
                    return Ok(());
                }
            }
            let idle = self.armed.is_empty() && self.at_work.is_empty();
            let wait = due.map_or(READ_EACH, |due| Nanos(due.since(now).0).min(READ_EACH));
            self.wakes_by = if idle {
                MonoNs(u64::MAX)
            } else {
                now.after(wait)
            };
            tokio::select! {
                Some(loaded) = self.loading.join_next() => {
                    let (edition, config) = loaded.map_err(io::Error::other)?;
                    self.take_up(edition, config);
                }
                Some(ward) = self.at_work.join_next() => {
                    let ward = ward.map_err(io::Error::other)?;
                    // Those of a configuration that has changed meanwhile are there already.
                    if ward.edition == self.loaded {
                        self.wards.push(ward);
                    }
                }
                ready = self.inbox.readable(), if idle => ready?.clear_ready(),
                () = sleep(Duration::from_nanos(wait.0)), if !idle => {}
            }
        }
    }

    /// Has those fenced whose time has come, side by side.
    fn fence_due(&mut self, now: MonoNs) {
        let (due, rest) = std::mem::take(&mut self.wards)
            .into_iter()
            .partition(|ward| self.due(ward).is_some_and(|due| due <= now));
        self.wards = rest;
        for ward in due {
            let heard_at = self.silence.heard_at();
            let orphaned = self.orphaned.is_some();
            if ward.done_for != Some(heard_at) {
                let silent = Nanos(now.since(heard_at).0);
                let how = if orphaned { "is gone" } else { "hangs" };
                error!(
                    "the daemon {how}, and said nothing for {silent}: {} is fenced",
                    ward.of.name
                );
            }
            let silence = Arc::clone(&self.silence);
            self.at_work.spawn(ward.fence(silence, orphaned));
        }
    }

    /// Whether this process was held up itself.
    fn is_late(&self, now: MonoNs) -> bool {
        let shortest = self.armed.values().min();
        shortest.is_some_and(|limit| self.wakes_by.after(Nanos(limit.0 / LATE)) < now)
    }

    /// The newest of what it was told meanwhile may have found no room: the daemon is given the time to be heard again,
    /// but once in a silence.
    fn excuse(&mut self, now: MonoNs) {
        let heard_at = self.silence.heard_at();
        if self.held_up.1 != heard_at {
            self.held_up = (now, heard_at);
        }
    }

    /// When it is to be fenced, as far as is known.
    fn due(&self, ward: &Ward) -> Option<MonoNs> {
        let limit = self.armed.get(&ward.of.group)?;
        let heard_at = self.silence.heard_at();
        if self.orphaned.is_none() {
            let silent = heard_at.after(*limit);
            let silent = silent.max(self.held_up.0.after(Nanos(limit.0 / HEARD_WITHIN)));
            return Some(ward.due(heard_at, silent));
        }
        (!ward.finished).then(|| ward.due(heard_at, MonoNs::ZERO))
    }

    fn read(&mut self) -> io::Result<()> {
        let mut packet = vec![0; MAX_LEN];
        while self.orphaned.is_none() {
            let len = match recv(self.inbox.get_ref(), &mut packet[..], RecvFlags::DONTWAIT) {
                Ok((len, _)) => len,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if len == 0 {
                self.orphaned = Some(clock::now());
                return Ok(());
            }
            self.take(Message::decode(packet.get(..len).unwrap_or_default())?);
        }
        Ok(())
    }

    fn take(&mut self, message: Message) {
        let at = match message {
            Message::Pulse { at_ns } => at_ns,
            Message::Orders {
                at_ns,
                edition,
                limits_ns,
            } => {
                let limits = limits_ns.into_iter();
                self.armed = limits.map(|(group, limit)| (group, Nanos(limit))).collect();
                if edition != self.edition {
                    self.edition = edition;
                    self.configure();
                }
                at_ns
            }
        };
        let heard_at = self.silence.heard_at();
        let was_fenced = |ward: &Ward| ward.done_for == Some(heard_at);
        if self.silence.hear(MonoNs(at)) && self.wards.iter().any(was_fenced) {
            info!("the daemon runs again");
        }
    }

    fn configure(&mut self) {
        let (file, edition) = (self.file.clone(), self.edition);
        self.loading.spawn_blocking(move || {
            let config = config::load(&file, &|_| None, &|_, _| false);
            (edition, config)
        });
    }

    fn take_up(&mut self, edition: u64, config: Result<Config, ConfigError>) {
        if edition < self.edition {
            // A newer one is on its way.
            return;
        }
        match config {
            Ok(config) => {
                self.loaded = edition;
                self.wards = wards(&config, self.loaded);
            }
            Err(error) => error!("what is fenced stays as it was: {error}"),
        }
    }
}
