//! Puts the parts together: start, the main task, reload, the end.
//!
//! Threads: the engine thread ([`crate::engine`]) and tokio with two workers for everything that may wait:
//! the control socket, signals, logging, systemd. The main task is the only one that receives the engine's
//! messages and that reloads; cancelling it is never done: it ends when the engine thread has ended.

mod active;
pub mod advice;
mod keeper;
mod machine;
mod reload;
mod start;

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ha_core::Mode;
use ipnet::IpNet;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tracing::{debug, error, info, warn};

use self::{
    active::Actives,
    keeper::{Keeper, Kept},
    reload::Applying,
};
use crate::{
    checks::Checks,
    config::{self, Config, ConfigError},
    control::{
        report::ModeReport,
        server::{self, Context, ReloadRequest},
    },
    dataplane::DataplaneError,
    engine::{self, Command, Handle, Level, Message, Unreachable},
    events::{Event, History, Kind},
    fence::Fence,
    link::{self, FromPeer, Link},
    net::links::Table,
    others::Others,
    roles::{self, Groups, JournalError, ModeReply, ModeRequest, mode::ModeError},
    runtime::{lock::LockError, memory::Memory},
    sys::signals,
};

/// Events and log lines that may wait for the main task.
const MESSAGES: usize = 4_096;
/// Reload requests that may wait.
const RELOADS: usize = 8;
/// Until the engine thread is told again what it could not take.
const TELL_AGAIN: Duration = Duration::from_millis(5);
/// Wishes for another mode that may wait.
const MODES: usize = 8;
/// How long the disk may take for the node's mode, at the end.
const KEEPING: Duration = Duration::from_secs(1);
/// How long the engine thread may take to hand everything over.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
/// What follows takes no longer: the guards of other interfaces are waited for.
const ENDING: Duration = Duration::from_secs(15);

/// How long a probe that blocks may go on when everything was handed over.
const BLOCKED_LIMIT: Duration = Duration::from_millis(500);

/// Why the daemon did not start, or ended. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The process may not do what it would have to.
    #[error(
        "had may not do its work as this user: it lacks {}. Run it as root, or give it these, as packaging/had.service does. With dataplane.mode = \"off\", and so without a gate, CAP_NET_ADMIN and CAP_NET_RAW are enough; --check needs none",
        .0.join(", ")
    )]
    Unprivileged(Vec<&'static str>),
    /// Another daemon is running.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A directory or file cannot be used.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The configured dataplane mode is impossible.
    #[error(
        "{0}. Choose dataplane.mode = \"auto\" to do without what this system lacks, or \"off\" for sockets alone"
    )]
    Dataplane(#[from] DataplaneError),
    /// Something that every system has failed.
    #[error("{what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A group's journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The node's mode is not known.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// The engine thread did not end.
    #[error("the engine thread did not hand over within {} s", .0.as_secs())]
    Hung(Duration),
}

fn system(what: &'static str) -> impl Fn(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

/// Reads and validates a file, against the addresses that this node's interfaces have at present.
///
/// # Errors
/// Every mistake.
pub fn check(file: &Path) -> Result<Config, ConfigError> {
    let config = config::load(file, &|_| None, &|_, _| false)?;
    match Memory::load(&config.node.runtime_dir) {
        Ok(memory) => check_beside(file, &memory),
        // Whose the addresses are is not for this user to know.
        Err(_) => {
            let table = Table::read().unwrap_or_default();
            config::load(file, &live(&table), &|_, _| false)
        }
    }
}

/// As [`check`], beside a daemon that remembers what it may have put on the interfaces.
fn check_beside(file: &Path, memory: &Memory) -> Result<Config, ConfigError> {
    let table = Table::read().unwrap_or_default();
    config::load(file, &live(&table), &taken(&table, memory))
}

/// The addresses of an interface, if it is there.
fn live(table: &Table) -> impl Fn(&str) -> Option<Vec<IpNet>> {
    |interface| table.by_name(interface).map(|link| link.addresses.clone())
}

/// Whether an interface has an address that no run of this daemon may have put there.
fn taken(table: &Table, memory: &Memory) -> impl Fn(&str, IpAddr) -> bool {
    |interface, address| {
        let link = table.by_name(interface);
        link.is_some_and(|link| link.has(address)) && !memory.has(interface, address)
    }
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// See [`DaemonError`].
pub fn run(file: &Path) -> Result<(), DaemonError> {
    // Before there is a second thread, for all of them inherit the mask.
    signals::unblock_all().map_err(system("the signal mask cannot be cleared"))?;
    let started = start::prepare(file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(system("tokio cannot be started"))?;
    let result = runtime.block_on(Daemon::begin(file, started));
    // A look at a file system that hangs may never come back.
    runtime.shutdown_timeout(BLOCKED_LIMIT);
    result
}

struct Daemon {
    file: PathBuf,
    config: Config,
    memory: Memory,
    engine: Handle,
    history: Arc<Mutex<History>>,
    fence: Fence,
    checks: Checks,
    link: Link,
    actives: Actives,
    others: Others,
    groups: Groups,
    mode: Mode,
    keeper: Keeper,
    /// What a reload gave the engine thread, as long as that is at it.
    applying: Option<Applying>,
}

impl Daemon {
    async fn begin(file: &Path, started: start::Started) -> Result<(), DaemonError> {
        let start::Started {
            config,
            memory,
            plan,
            left,
            dataplane,
            guards,
            pins,
            memory_locked,
            locks,
            groups: opened,
            mode,
        } = started;
        let mut terminate =
            signal(SignalKind::terminate()).map_err(system("SIGTERM cannot be handled"))?;
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(system("SIGINT cannot be handled"))?;
        let mut hangup =
            signal(SignalKind::hangup()).map_err(system("SIGHUP cannot be handled"))?;
        let listener = server::listen(&config.control).map_err(|source| DaemonError::File {
            what: "the control socket cannot be opened at",
            path: config.control.clone(),
            source,
        })?;

        let gate_dir = pins
            .as_ref()
            .filter(|_| dataplane.is_some())
            .map(|pins| pins.path.clone());
        let (sender, mut messages) = mpsc::channel(MESSAGES);
        let (ready, is_ready) = oneshot::channel();
        let (ended, mut has_ended) = oneshot::channel();
        let others = Others::spawn(&config, dataplane.is_some(), guards)
            .map_err(system("the other interfaces cannot be watched"))?;
        let others_state = others.state();
        let fence = Fence::new().map_err(system("no socket can be made"))?;
        let parts = engine::Parts {
            pulse: fence.pulse(),
            dataplane,
            messages: sender.clone(),
            realtime_priority: config.dataplane.realtime_priority,
            cpu_affinity: config.dataplane.cpu_affinity.clone(),
            memory_locked,
            fragile_pins: gate_dir.is_some() && pins.as_ref().is_some_and(|pins| pins.fragile),
            left,
            pin_dir: gate_dir,
            ready,
            ended,
        };
        let (engine, thread) =
            engine::spawn(parts, plan).map_err(system("the engine thread cannot be started"))?;
        let history = Arc::new(Mutex::new(History::default()));
        let keeper = Keeper::new(config.node.state_dir.clone());
        let (wish, mut modes) = mpsc::channel(MODES);
        let checks = Checks::new(engine.clone(), sender.clone());
        let (link, mut from_peers) = Link::start(&config.node.name, sender.clone());
        let groups = Groups::new(
            engine.clone(),
            sender,
            wish.clone(),
            Arc::new(link.clone()),
            fence.clone(),
        );
        let (reload, mut reloads) = mpsc::channel::<ReloadRequest>(RELOADS);
        tokio::spawn(server::serve(
            listener,
            Arc::new(Context {
                engine: engine.clone(),
                history: Arc::clone(&history),
                checks: checks.clone(),
                link: link.clone(),
                others: others_state,
                groups: groups.clone(),
                reload,
                modes: wish,
            }),
        ));
        let mut daemon = Self {
            file: file.to_owned(),
            config,
            memory,
            engine,
            history,
            fence,
            checks,
            link,
            actives: Actives::default(),
            others,
            groups,
            mode,
            keeper,
            applying: None,
        };
        daemon
            .fence
            .configure(file, roles::any_fenced(&daemon.config));
        daemon.groups.start(opened, &daemon.config, mode);
        daemon.checks.configure(&daemon.config);
        daemon.link.set_mode(mode.name());
        daemon.link.configure(&daemon.config);
        // An error means that the thread ended first; its result comes below.
        if is_ready.await.is_ok() {
            info!(
                node = daemon.config.node.name,
                instances = daemon.config.instances.len(),
                "had is running"
            );
            notify(&[NotifyState::Ready]);
            feed_watchdog(daemon.engine.clone());
        }

        let result = loop {
            tokio::select! {
                Some(message) = messages.recv() => daemon.take(&message),
                result = &mut has_ended => break result,
                Some(reply) = reloads.recv() => {
                    let _ = reply.send(daemon.reload().await);
                }
                Some(request) = modes.recv() => daemon.set_mode(request),
                kept = daemon.keeper.next() => daemon.kept(kept),
                Some(word) = from_peers.recv() => daemon.hear(word),
                result = reload::applied(&mut daemon.applying) => daemon.finish_reload(result),
                Some(()) = hangup.recv() => {
                    // The log says what came of it.
                    let _ = daemon.reload().await;
                }
                Some(()) = terminate.recv() => break daemon.end(&mut messages, &mut has_ended).await?,
                Some(()) = interrupt.recv() => break daemon.end(&mut messages, &mut has_ended).await?,
            }
        };
        while let Ok(message) = messages.try_recv() {
            daemon.take(&message);
        }
        result
            .unwrap_or_else(|_| Err(io::Error::other("it left no result")))
            .map_err(system("the engine thread failed"))?;
        // It has told its result: there is nothing left that it could wait for.
        let _ = thread.join();
        daemon
            .groups
            .retire(roles::longest_demotion(&daemon.config))
            .await;
        let kept = async {
            while !daemon.keeper.is_idle() {
                let kept = daemon.keeper.next().await;
                daemon.kept(kept);
            }
        };
        if timeout(KEEPING, kept).await.is_err() {
            error!("the node's mode is not on the disk, which does not answer");
        }
        if let Err(error) = daemon.others.undo().await {
            warn!("{error}");
        }
        start::clean_up(&daemon.config, pins.as_ref());
        drop(locks);
        info!("had has ended");
        Ok(())
    }

    /// Hands everything over.
    async fn end(
        &mut self,
        messages: &mut mpsc::Receiver<Message>,
        has_ended: &mut oneshot::Receiver<io::Result<()>>,
    ) -> Result<Result<io::Result<()>, oneshot::error::RecvError>, DaemonError> {
        info!("handing over and ending");
        let limit = self.shutdown_limit();
        notify(&[NotifyState::Stopping]);
        if let Ok(micros) = u32::try_from((limit + ENDING).as_micros()) {
            notify(&[NotifyState::ExtendTimeoutUsec(micros)]);
        }
        self.others.stop();
        if let Err(error) = self.engine.send(Command::Shutdown) {
            warn!(%error, "the engine thread cannot be told to end");
        }
        timeout(limit, async {
            loop {
                tokio::select! {
                    Some(message) = messages.recv() => self.take(&message),
                    result = &mut *has_ended => return result,
                }
            }
        })
        .await
        .map_err(|_| DaemonError::Hung(limit))
    }

    /// How long handing over may take: the slowest demotion of roles, all of which are demoted at once, comes first.
    fn shutdown_limit(&self) -> Duration {
        SHUTDOWN_LIMIT + roles::longest_demotion(&self.config)
    }

    /// Another node says something.
    fn hear(&self, from: FromPeer) {
        if let link::message::Message::Group(word) = from.message {
            let group = word.group.clone();
            if let Some(word) = word.said_by(&from.node) {
                self.groups.hear(&group, word);
            }
        }
    }

    /// Sets the node's mode, if it is to be set, and tells it. An operator's is on the disk first, so that a reboot does
    /// not bring the former one back; what a conductor decided holds at once, for it has acted upon it.
    fn set_mode(&mut self, request: ModeRequest) {
        let ModeRequest { mode, reply } = request;
        let Some(mode) = mode else {
            self.tell_mode(reply, Ok(()));
            return;
        };
        if reply.is_none() {
            self.adopt(mode);
        }
        self.keeper.keep(mode, reply);
    }

    /// A mode is on the disk, or could not be written.
    fn kept(&mut self, Kept { mode, reply, saved }: Kept) {
        match &saved {
            // In the order in which they are on the disk.
            Ok(()) => self.adopt(mode),
            Err(error) => error!("{error}"),
        }
        self.tell_mode(reply, saved);
    }

    fn tell_mode(&self, reply: Option<ModeReply>, saved: Result<(), String>) {
        let report = saved.map(|()| ModeReport {
            node: self.config.node.name.clone(),
            mode: self.mode.name().to_owned(),
        });
        if let Some(reply) = reply {
            let _ = reply.send(report);
        }
    }

    fn adopt(&mut self, mode: Mode) {
        if mode == self.mode {
            return;
        }
        info!(from = %self.mode, to = %mode, "the node's mode");
        self.mode = mode;
        self.groups.set_mode(mode);
        self.link.set_mode(mode.name());
        tokio::spawn(tell_engine_of(self.engine.clone(), mode));
    }

    /// Logs and remembers what the engine thread tells.
    fn take(&mut self, message: &Message) {
        match message {
            Message::Event(event) => {
                log_event(event);
                if let (Kind::Transition, Some((_, to))) = (event.kind, event.states) {
                    self.link.note_instance(&event.instance, to);
                    self.actives.note(&event.instance, to);
                    self.actives.tell(&self.config, &self.checks);
                    self.groups.note(&event.instance, to);
                }
                self.history
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .record(event);
            }
            Message::Confirm { check, round } => self.checks.ask(check, *round),
            Message::PromoteRoles {
                group,
                round,
                unplanned,
            } => self.groups.promote(group, *round, *unplanned),
            Message::DemoteRoles {
                group,
                round,
                manner,
            } => self.groups.demote(group, *round, *manner),
            Message::Log { level, text } => match level {
                Level::Info => info!("{text}"),
                Level::Warn => warn!("{text}"),
                Level::Error => error!("{text}"),
            },
        }
    }
}

/// The engine thread may be busy for a while; what it is told is not lost.
async fn tell_engine_of(engine: Handle, mode: Mode) {
    while let Err(Unreachable::Busy) = engine.send(Command::Mode(mode)) {
        sleep(TELL_AGAIN).await;
    }
}

fn log_event(event: &Event) {
    let instance = &*event.instance;
    let at_ns = event.at.0;
    let sentence = &event.sentence;
    match (event.kind, event.states) {
        (Kind::Transition, Some((from, to @ "fault"))) => {
            warn!(instance, from, to, at_ns, "{sentence}");
        }
        (Kind::Transition, Some((from, to))) => {
            info!(instance, from, to, at_ns, "{sentence}");
        }
        (Kind::Channel, Some((from @ "up", to))) => {
            warn!(channel = instance, from, to, at_ns, "{sentence}");
        }
        (Kind::Channel, Some((from, to))) => {
            info!(channel = instance, from, to, at_ns, "{sentence}");
        }
        (Kind::Check, Some((from, to @ "down"))) => {
            warn!(check = instance, from, to, at_ns, "{sentence}");
        }
        (Kind::Check, Some((from, to))) => {
            info!(check = instance, from, to, at_ns, "{sentence}");
        }
        (Kind::Link, Some((from @ "up", to))) => {
            warn!(path = instance, from, to, at_ns, "{sentence}");
        }
        (Kind::Link, Some((from, to))) => {
            info!(path = instance, from, to, at_ns, "{sentence}");
        }
        (Kind::Link, None) => warn!(path = instance, at_ns, "{sentence}"),
        (Kind::Check, None) => info!(check = instance, at_ns, "{sentence}"),
        (Kind::Roles, _) => info!(group = instance, at_ns, "{sentence}"),
        (Kind::Transition | Kind::Note, _) => info!(instance, at_ns, "{sentence}"),
        (kind, _) => debug!(instance, kind = kind.name(), at_ns, "{sentence}"),
    }
}

/// Tells systemd, where it listens.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "systemd cannot be told");
    }
}

/// Tells systemd's watchdog that the engine thread lives, after each full turn that it was asked for.
fn feed_watchdog(engine: Handle) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(limit / 2);
        loop {
            ticks.tick().await;
            match timeout(limit / 2, engine.ask(Command::Ping)).await {
                Ok(Ok(())) => notify(&[NotifyState::Watchdog]),
                Ok(Err(error)) => warn!(%error, "the watchdog is not fed"),
                Err(_) => warn!("the watchdog is not fed: the engine thread does not answer"),
            }
        }
    });
}
