//! Self-fencing of databases by a process of their own.
//!
//! A daemon that hangs renews no gate, so nobody reaches a VIP any more, and another node takes over. But a database
//! server has addresses of its own, and clients on its host: for them it would go on as a primary beside the other one.
//! A process that is stopped cannot see to that. So another one, which does nothing else, is told which groups are
//! promoted, and hears the engine thread's [pulse](Pulse). Once that stops for as long as the gate stays open, or the
//! daemon is gone, it carries out what a forced demotion begins with: no more writes, or the end of the server.

mod message;
mod process;

use std::{
    collections::BTreeMap,
    fmt, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ha_common::{MonoNs, Nanos};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tracing::{error, warn};

use self::message::{MAX_LEN, Message};
pub use self::process::{FenceError, run};
use crate::sys::clock;

/// Until the process is started again that has ended: at first, and at most.
const START_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Which ran for that long was all right.
const RAN_WELL: Duration = Duration::from_secs(60);
/// It is told again so often what is to be fenced.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// Pulses while the gate stays open, at most. It may have run for so much longer than was told, which is waited for too.
const PULSES: u64 = 8;
/// The engine thread is woken for a pulse only where it has not run for so many of them: it runs three times while the gate
/// stays open, at least, as long as it keeps that open.
const MISSED: u64 = 4;

/// The daemon's side. Clones are the same one.
#[derive(Clone)]
pub struct Fence(Arc<Shared>);

struct Shared {
    ours: OwnedFd,
    /// The other end, which each process is given a copy of.
    theirs: OwnedFd,
    orders: Mutex<Orders>,
    /// From one pulse to the next, in nanoseconds; 0: nobody listens.
    every: AtomicU64,
    started: AtomicBool,
    /// When the engine thread ran last; 0: not yet.
    beaten_at: AtomicU64,
    /// When it ran again after a silence in which something was to be fenced; 0: there was none.
    resumed_at: AtomicU64,
}

/// How the engine thread was heard of last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Since when it was not silent for so long that something had to be fenced.
    pub since: MonoNs,
    /// When it ran last.
    pub last: MonoNs,
}

#[derive(Clone, Debug, Default)]
struct Orders {
    /// By group: how long the engine thread may be silent.
    armed: BTreeMap<String, Nanos>,
    changed_at: MonoNs,
    edition: u64,
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fence").field(&self.0.orders).finish()
    }
}

impl Fence {
    /// Nothing is armed, and no process runs.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(Self(Arc::new(Shared {
            ours,
            theirs,
            orders: Mutex::default(),
            every: AtomicU64::new(0),
            started: AtomicBool::new(false),
            beaten_at: AtomicU64::new(0),
            resumed_at: AtomicU64::new(0),
        })))
    }

    /// How the engine thread was heard of last; `None`: it was not yet.
    #[must_use]
    pub fn heard(&self) -> Option<Heard> {
        // In this order: of a silence that ends meanwhile both are told, or neither.
        let last = self.0.beaten_at.load(Ordering::Acquire);
        let since = self.0.resumed_at.load(Ordering::Acquire);
        (last > 0).then_some(Heard {
            since: MonoNs(since),
            last: MonoNs(last),
        })
    }

    /// From now on a group's databases are fenced when the engine thread is silent for longer than `limit`.
    pub fn arm(&self, group: &str, limit: Nanos) {
        self.change(|orders| orders.armed.insert(group.to_owned(), limit) != Some(limit));
    }

    /// From now on they are not.
    pub fn disarm(&self, group: &str) {
        self.change(|orders| orders.armed.remove(group).is_some());
    }

    fn change(&self, change: impl FnOnce(&mut Orders) -> bool) {
        let mut orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut orders) {
            orders.changed_at = clock::now();
            let shortest = orders.armed.values().min().map_or(0, |limit| limit.0);
            self.0.every.store(shortest / PULSES, Ordering::Relaxed);
            self.0.tell(&orders);
        }
    }

    /// What the engine thread beats.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse {
            shared: Arc::clone(&self.0),
            ran_at: MonoNs::ZERO,
            beaten_at: MonoNs::ZERO,
        }
    }

    /// Has the process running that fences the databases of a configuration file, if there are any; one that runs reads
    /// the file again.
    pub fn configure(&self, file: &Path, is_needed: bool) {
        self.change(|orders| {
            orders.edition += 1;
            true
        });
        if is_needed && !self.0.started.swap(true, Ordering::Relaxed) {
            tokio::spawn(self.clone().keep(file.to_owned()));
        }
    }

    async fn keep(self, file: PathBuf) {
        let [first, longest] = START_AGAIN;
        let mut wait = first;
        loop {
            let began = Instant::now();
            match self.start(&file) {
                Ok(mut child) => {
                    let ended = self.attend(&mut child).await;
                    warn!(
                        "the process that fences the databases of a daemon that hangs has ended ({}), and is started again",
                        ended.map_or_else(|error| error.to_string(), |status| status.to_string())
                    );
                }
                Err(error) => error!(
                    "the process that fences the databases of a daemon that hangs cannot be started: {error}"
                ),
            }
            if began.elapsed() >= RAN_WELL {
                wait = first;
            }
            sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }

    fn start(&self, file: &Path) -> io::Result<Child> {
        // What the one before has not read.
        let mut rest = [0; MAX_LEN];
        while recv(&self.0.theirs, &mut rest[..], RecvFlags::DONTWAIT).is_ok() {}
        Command::new("/proc/self/exe")
            .arg("--fence")
            .arg("--config")
            .arg(file)
            .stdin(Stdio::from(self.0.theirs.try_clone()?))
            .stdout(Stdio::null())
            // Neither a terminal nor whoever ends the daemon's group ends this one before it.
            .process_group(0)
            .spawn()
    }

    /// Until it ends.
    async fn attend(&self, child: &mut Child) -> io::Result<std::process::ExitStatus> {
        loop {
            {
                let orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
                self.0.tell(&orders);
            }
            if let Ok(ended) = timeout(TELL_AGAIN, child.wait()).await {
                return ended;
            }
        }
    }
}

impl Shared {
    /// One that does not fit is told again.
    fn tell(&self, orders: &Orders) {
        let limits = orders.armed.iter();
        let message = Message::Orders {
            at_ns: orders.changed_at.0,
            edition: orders.edition,
            limits_ns: limits
                .map(|(group, limit)| (group.clone(), limit.0 + limit.0 / PULSES))
                .collect(),
        };
        // Without a process nobody reads.
        if let Err(error) = self.send(&message)
            && self.started.load(Ordering::Relaxed)
        {
            warn!(
                "the process that fences databases has not taken up yet what is to be fenced: {error}"
            );
        }
    }

    fn send(&self, message: &Message) -> io::Result<()> {
        let text = message.encode()?;
        send(&self.ours, &text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// The engine thread's side: that it runs.
pub struct Pulse {
    shared: Arc<Shared>,
    ran_at: MonoNs,
    /// When it was told last to the process that fences.
    beaten_at: MonoNs,
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pulse").field(&self.beaten_at).finish()
    }
}

impl Pulse {
    /// The engine thread runs at `now`. Nothing waits, and nothing is sent while nothing is armed.
    pub fn beat(&mut self, now: MonoNs) {
        let every = self.shared.every.load(Ordering::Relaxed);
        if every > 0 && self.ran_at.after(Nanos(every).times(PULSES)) <= now {
            self.shared.resumed_at.store(now.0, Ordering::Release);
        }
        self.ran_at = now;
        self.shared.beaten_at.store(now.0, Ordering::Release);
        if every == 0 || self.beaten_at.after(Nanos(every)) > now {
            return;
        }
        self.beaten_at = now;
        // A process that is behind has many more to read.
        let _ = self.shared.send(&Message::Pulse { at_ns: now.0 });
    }

    /// When the engine thread is to run for that alone.
    #[must_use]
    pub fn due(&self) -> Option<MonoNs> {
        let every = self.shared.every.load(Ordering::Relaxed);
        (every > 0).then(|| self.beaten_at.after(Nanos(every).times(MISSED)))
    }
}
