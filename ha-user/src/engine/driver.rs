//! The thread's loop: wait, take in, look at the clock, let the engine decide, act.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io, iter,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    slice,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use ha_common::{MonoNs, abi::Event, wire::vrrp::MAX_PACKET_LEN};
use ha_core::{Action, Engine, Input, RolesConfig};
use ipnet::IpNet;
use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{
    COMMANDS, Command, Handle,
    channels::Channels,
    chores::Chores,
    debts::Debts,
    outbox::{Level, Message, Outbox},
    paths::Paths,
    plan::Plan,
    seat::{Seat, in_words},
    shell::{Locals, Shell, TrackedInterfaces},
    solicit::Solicitations,
    status::Vitals,
    wake_fd,
    warnings::Warnings,
};
use crate::{
    control::report::EngineReport,
    dataplane::Dataplane,
    fence::Pulse,
    net::{links::Links, netlink::AddressLane, port::Port},
    runtime::memory::Vip,
    sys::{clock, realtime},
};

/// What an epoll event concerns.
const TIMER: u64 = 0;
const WAKE: u64 = 1;
const LINKS: u64 = 2;
const RING: u64 = 3;
const SOCKET: u64 = 4;

/// From handing over to taking the programs off. They guard until the other node speaks; and taking them
/// off holds the kernel's RTNL lock for milliseconds and may reset the interface, in which time nobody on
/// this kernel (another namespace's node among them) can add an address.
const LINGER: Duration = Duration::from_millis(100);

/// Adverts that are sent before it is heard what arrived meanwhile, and their gates are renewed: some hundred
/// microseconds.
const ADVERTS_AT_ONCE: usize = 64;

/// What the thread is given.
pub struct Parts {
    /// The loaded programs; `None` = sockets alone.
    pub dataplane: Option<Dataplane>,
    /// Where events and log lines go.
    pub messages: mpsc::Sender<Message>,
    /// SCHED_FIFO priority; 0 = ordinary scheduling.
    pub realtime_priority: u32,
    /// CPUs to run on; none = any.
    pub cpu_affinity: Vec<u32>,
    /// Whether the process' memory was locked.
    pub memory_locked: bool,
    /// Where the dataplane is pinned.
    pub pin_dir: Option<PathBuf>,
    /// Whether those pins may go with this process ([`crate::runtime::bpffs::PinDir::fragile`]).
    pub fragile_pins: bool,
    /// Addresses of an earlier run that could not be taken off.
    pub left: Vec<Vip>,
    /// Beaten as long as the thread runs.
    pub pulse: Pulse,
    /// Told once the interfaces that are there are attached.
    pub ready: oneshot::Sender<()>,
    /// Told how the thread ended.
    pub ended: oneshot::Sender<io::Result<()>>,
}

/// Starts the thread.
///
/// # Errors
/// When the thread or a descriptor cannot be made.
pub fn spawn(parts: Parts, plan: Plan) -> io::Result<(Handle, JoinHandle<()>)> {
    let (commands, receiver) = sync_channel(COMMANDS);
    let wake = Arc::new(wake_fd()?);
    let handle = Handle {
        commands,
        wake: Arc::clone(&wake),
    };
    let thread = thread::Builder::new()
        .name("had-engine".to_owned())
        .spawn(move || {
            let Parts {
                dataplane,
                messages,
                realtime_priority,
                cpu_affinity,
                memory_locked,
                pin_dir,
                fragile_pins,
                left,
                pulse,
                ready,
                ended,
            } = parts;
            let mut out = Outbox::new(messages);
            let cpu_affinity = match realtime::pin(&cpu_affinity) {
                _ if cpu_affinity.is_empty() => cpu_affinity,
                Ok(()) => cpu_affinity,
                Err(error) => {
                    out.log(
                        Level::Warn,
                        format!(
                            "the engine thread runs on any CPU: dataplane.cpu_affinity names none that it may use: {error}"
                        ),
                    );
                    Vec::new()
                }
            };
            let realtime_priority = match realtime::schedule_fifo(realtime_priority) {
                _ if realtime_priority == 0 => 0,
                Ok(()) => realtime_priority,
                Err(error) => {
                    out.log(
                        Level::Warn,
                        format!(
                            "no real-time priority for the engine thread: {error}. Under load this node may be late and lose its role; give it CAP_SYS_NICE or LimitRTPRIO, or set dataplane.realtime_priority = 0"
                        ),
                    );
                    0
                }
            };
            let vitals = Vitals {
                node: plan.node.clone(),
                started: clock::now(),
                groups: plan.group_names(),
                pin_dir,
                fragile_pins,
                warnings: Warnings::default(),
                pulse,
                engine: EngineReport {
                    wakeups: 0,
                    timeouts: 0,
                    adverts: 0,
                    realtime_priority,
                    cpu_affinity,
                    memory_locked,
                    thread: rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs(),
                    lost_messages: 0,
                },
            };
            let result = Driver::open(dataplane, out, &plan, &left, vitals, receiver, &wake)
                .and_then(|driver| driver.run(ready));
            // Nobody listens when the process is ending anyway.
            let _ = ended.send(result);
        })?;
    Ok((handle, thread))
}

mod commands;
mod hearing;
mod links;
mod reload;

struct Driver {
    engine: Engine,
    shell: Shell,
    vitals: Vitals,
    commands: Receiver<Command>,
    wake: Arc<OwnedFd>,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// How long the roles of groups may take, by the group's name.
    limits: BTreeMap<String, RolesConfig>,
    /// Something was Active when the daemon was told to end.
    handed_over: bool,
    /// When netlink is read again, while the kernel is left to fail a bond over.
    settled_at: Option<MonoNs>,
    /// What the timer is set to; `None` = not set.
    armed: Option<MonoNs>,
    /// Adverts from the ring buffer that the engine was not yet told of.
    adverts: VecDeque<Event>,
    /// Silences likewise; told after the adverts.
    silences: VecDeque<Event>,
    /// What concerns leases, likewise.
    grants: VecDeque<Event>,
    packet: Box<[u8; MAX_PACKET_LEN]>,
}

impl Driver {
    fn open(
        dataplane: Option<Dataplane>,
        out: Outbox,
        plan: &Plan,
        left: &[Vip],
        vitals: Vitals,
        commands: Receiver<Command>,
        wake: &Arc<OwnedFd>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        let links = Links::open()?;
        add(&epoll, &timer, TIMER)?;
        add(&epoll, wake, WAKE)?;
        add(&epoll, &links, LINKS)?;
        if let Some(dataplane) = &dataplane {
            add(&epoll, dataplane.events_fd(), RING)?;
            add(&epoll, dataplane.session_events_fd(), RING)?;
        }
        let mut shell = Shell {
            dataplane,
            lane: AddressLane::open()?,
            links,
            interfaces: Default::default(),
            seats: plan.seats.iter().map(Seat::new).collect(),
            channels: Channels::new(),
            paths: Paths::new(),
            lease_channels: plan.lease_channels.clone(),
            chores: Chores::default(),
            work_until: None,
            debts: Debts::default(),
            locals: Locals::default(),
            solicitations: Solicitations::default(),
            min_up_slaves: plan.min_up_slaves(),
            tracked: TrackedInterfaces::of(plan),
            unused: BTreeSet::new(),
            out,
            retry_at: None,
            finished: false,
            ports_changed: false,
            buffer: Box::new([0; MAX_PACKET_LEN]),
        };
        let (channels, _, mut world) = shell.channels();
        channels.configure(&plan.channels, &mut world);
        shell.configure_paths(plan);
        // The interfaces that are there are attached before the first decision.
        shell.match_interfaces();
        let mut inputs = Vec::new();
        shell.follow_links(&mut inputs);
        for vip in left {
            if let Some(link) = shell.links.table().by_name(&vip.interface) {
                shell
                    .debts
                    .add(link.ifindex, &vip.interface, &[vip.address]);
                shell.retry_soon();
            }
        }
        shell.guard_owed();
        let owed: Vec<(u32, IpAddr)> = shell
            .debts
            .iter()
            .map(|debt| (debt.ifindex, debt.vip.addr()))
            .collect();
        if let Some(dataplane) = &mut shell.dataplane
            && let Err(error) = dataplane.forget_leftovers(&owed)
        {
            let text = format!("what an earlier daemon left in the dataplane stays: {error}");
            shell.out.log(Level::Error, text);
        }
        let kernel_watch = shell.dataplane.as_ref().is_some_and(Dataplane::has_watch);
        let config = plan.engine_config(kernel_watch, &shell.paths, |id| {
            shell.dataplane.as_ref().map_or_else(
                || ha_common::gate::Epoch::NONE,
                |dataplane| dataplane.epoch(id),
            )
        });
        let mut driver = Self {
            engine: Engine::new(config, clock::now()),
            shell,
            vitals,
            commands,
            wake: Arc::clone(wake),
            epoll,
            timer,
            limits: plan.roles.clone(),
            handed_over: false,
            settled_at: None,
            armed: None,
            adverts: VecDeque::with_capacity(64),
            silences: VecDeque::with_capacity(64),
            grants: VecDeque::with_capacity(64),
            packet: Box::new([0; MAX_PACKET_LEN]),
        };
        driver.act();
        for input in inputs {
            driver.handle(input);
        }
        Ok(driver)
    }

    fn run(mut self, ready: oneshot::Sender<()>) -> io::Result<()> {
        let _ = ready.send(());
        let mut list = [epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; 16];
        while !self.shell.finished {
            // Found while acting: the ring buffer will not wake us for these.
            while self.has_events() {
                self.take_events();
            }
            self.watch_ports()?;
            self.arm()?;
            let count = match epoll::wait(&self.epoll, &mut list, None) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            self.vitals.engine.wakeups += 1;
            self.vitals.pulse.beat(clock::now());
            self.shell.work_until = None;
            let mut commands = false;
            let mut links = false;
            for event in list.get(..count).unwrap_or_default() {
                match event.data.u64() {
                    TIMER => {
                        clear(&self.timer);
                        self.armed = None;
                    }
                    WAKE => {
                        clear(&self.wake);
                        commands = true;
                    }
                    LINKS => links = true,
                    // The ring buffers and the sockets are drained in every turn.
                    _ => {}
                }
            }
            self.take_in();
            if links {
                self.hear_of_links()?;
            }
            self.settle()?;
            if commands {
                self.obey();
            }
            self.serve_timers();
            self.work();
            self.look_for_warnings();
        }
        self.finish()
    }

    /// Hands something to the engine, and does what it decides.
    fn handle(&mut self, input: Input) {
        self.tell(input);
        self.act();
    }

    /// Hands something to the engine. If this node was held up, it knows how its gates stand by then.
    fn tell(&mut self, input: Input) {
        let now = clock::now();
        for instance in self.engine.unread(&input, now) {
            self.read_leases_at(instance, now);
        }
        self.engine.handle(input, now);
    }

    fn act(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            if matches!(action, Action::SendAdvert { .. }) {
                self.advertise(action);
                continue;
            }
            let renewed = match action {
                Action::RenewAlone { instance, .. } => Some(instance),
                _ => None,
            };
            if let Some(outcome) = self.shell.execute(action) {
                self.hear_before(slice::from_ref(&outcome));
                self.tell(outcome);
            } else if let Some(instance) = renewed {
                self.read_leases(instance);
            }
        }
    }

    /// Sends an advert, and those that follow it.
    fn advertise(&mut self, first: Action) {
        let others = iter::from_fn(|| self.engine.poll_advert());
        let adverts: Vec<Action> = iter::once(first)
            .chain(others)
            .take(ADVERTS_AT_ONCE)
            .collect();
        let outcomes = self.shell.advertise(&adverts);
        self.hear_before(&outcomes);
        for outcome in outcomes {
            self.tell(outcome);
        }
    }

    /// Goes on with putting addresses on and taking them off.
    fn work(&mut self) {
        while let Some(outcome) = self.shell.work() {
            self.hear_before(slice::from_ref(&outcome));
            self.tell(outcome);
            self.act();
        }
    }

    /// Serves what is due by the clock.
    fn serve_timers(&mut self) {
        if self
            .engine
            .poll_timeout()
            .is_some_and(|(due, _)| due <= clock::now())
        {
            self.vitals.engine.timeouts += 1;
            // What came while something else was done in this turn is older than this moment.
            self.take_adverts();
            self.feed_stamps();
            self.feed_leases();
            self.engine.handle_timeout(clock::now());
            self.act();
        }
        let (channels, _, mut world) = self.shell.channels();
        if channels.serve(&mut world) {
            self.vitals.engine.timeouts += 1;
            self.tell_of_channels();
        }
        self.shell.solicit();
        if self
            .shell
            .out
            .next_due()
            .is_some_and(|due| due <= clock::now())
        {
            self.shell.out.ask();
        }
        if self.shell.retry_at.is_some_and(|due| due <= clock::now()) {
            let mut inputs = Vec::new();
            self.shell.update_links();
            self.shell.retry(&mut inputs);
            for input in inputs {
                self.handle(input);
            }
        }
    }

    /// Looks now and then whether the counters tell of a mistake.
    fn look_for_warnings(&mut self) {
        let now = clock::now();
        if !self.vitals.warnings.is_due(now) {
            return;
        }
        let Some(Ok(counts)) = self.shell.dataplane.as_ref().map(Dataplane::counters) else {
            return;
        };
        let since: Option<Vec<MonoNs>> = self
            .shell
            .seats
            .iter()
            .map(|seat| seat.active_since)
            .collect();
        let alone_since = since.and_then(|since| since.into_iter().max());
        for news in self.vitals.warnings.look(now, counts, alone_since) {
            self.shell.out.log(Level::Warn, news);
        }
    }

    /// Sets the timer to the next deadline, unless it stands there.
    fn arm(&mut self) -> io::Result<()> {
        let due = [
            self.engine.poll_timeout().map(|(due, _)| due),
            self.shell.retry_at,
            self.settled_at(),
            self.shell.channels.next_due(),
            self.shell.solicitations.next_due(),
            self.shell.out.next_due(),
            self.vitals.pulse.due(),
            (!self.shell.chores.is_empty()).then_some(MonoNs::ZERO),
        ]
        .into_iter()
        .flatten()
        .min();
        if due == self.armed {
            return Ok(());
        }
        // Zero would disarm: a deadline at the clock's origin is as past as any other.
        let nanos = due.map_or(0, |due| due.0.max(1));
        let value = Timespec {
            tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
        };
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        self.armed = due;
        Ok(())
    }

    /// Lets epoll know the receiving sockets: those of BFD, and (mode `off`) of adverts. Closed ones leave by
    /// themselves.
    fn watch_ports(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.shell.channels.inlets_changed) {
            for inlet in self.shell.channels.inlets() {
                match add(&self.epoll, inlet, SOCKET) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    result => result?,
                }
            }
        }
        if !std::mem::take(&mut self.shell.ports_changed) || self.shell.dataplane.is_some() {
            return Ok(());
        }
        let ports = self
            .shell
            .interfaces
            .values()
            .filter_map(|interface| interface.port.as_ref());
        for socket in ports.flat_map(Port::receivers) {
            match add(&self.epoll, socket, SOCKET) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Everything is handed over: the programs go, once the other node speaks.
    fn finish(mut self) -> io::Result<()> {
        while !self.shell.chores.is_empty() {
            self.shell.work_until = None;
            self.shell.work();
        }
        self.shell.pay_debts();
        if !self.shell.debts.is_empty() {
            let owed: Vec<IpNet> = self.shell.debts.iter().map(|debt| debt.vip).collect();
            // Dropped and not closed: what is pinned stays in place.
            let guarded = if self.vitals.pin_dir.is_some() {
                "the programs stay attached, and no packet for it passes"
            } else {
                "NOTHING GUARDS IT NOW"
            };
            return Err(io::Error::other(format!(
                "{} could not be taken off: {guarded}. Start had to try again, or use `ip address del`",
                in_words(&owed)
            )));
        }
        match self.shell.dataplane.take() {
            Some(dataplane) => {
                if self.handed_over {
                    thread::sleep(LINGER);
                }
                dataplane.close().map_err(io::Error::other)
            }
            None => Ok(()),
        }
    }
}

fn add<F: AsFd>(epoll: &OwnedFd, fd: F, token: u64) -> io::Result<()> {
    epoll::add(epoll, fd, EventData::new_u64(token), EventFlags::IN)?;
    Ok(())
}

/// Reads the counter of a timerfd or eventfd, so that it wakes no more.
fn clear(fd: &OwnedFd) {
    let mut counter = [0_u8; 8];
    let _ = rustix::io::read(fd, &mut counter);
}
