//! The thread's loop: wait, take in, look at the clock, let the engine decide, act.

use std::{
    collections::VecDeque,
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use ha_common::{
    MonoNs,
    abi::{AdvertWord, Event, EventKind},
    wire::vrrp::{self, MAX_PACKET_LEN},
};
use ha_core::{Engine, Input, InstanceId, State, Target};
use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{
    COMMANDS, Command, Handle, advert,
    outbox::{Level, Message, Outbox},
    plan::Plan,
    seat::Seat,
    shell::Shell,
    status::{self, Vitals},
    wake_fd,
};
use crate::{
    control::report::{EngineReport, ExplainReport, SwitchoverReport},
    dataplane::Dataplane,
    events::Kind,
    net::{links::Links, netlink::AddressLane, port::Port},
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

/// What the thread is given.
pub struct Parts {
    /// The loaded programs; `None` = sockets alone.
    pub dataplane: Option<Dataplane>,
    /// Where events and log lines go.
    pub messages: mpsc::Sender<Message>,
    /// SCHED_FIFO priority; 0 = ordinary scheduling.
    pub realtime_priority: u32,
    /// Whether the process' memory was locked.
    pub memory_locked: bool,
    /// Where the dataplane is pinned.
    pub pin_dir: Option<PathBuf>,
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
                memory_locked,
                pin_dir,
                ready,
                ended,
            } = parts;
            let mut out = Outbox::new(messages);
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
                groups: plan.groups.clone(),
                pin_dir,
                engine: EngineReport {
                    wakeups: 0,
                    timeouts: 0,
                    adverts: 0,
                    realtime_priority,
                    memory_locked,
                    thread: rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs(),
                    lost_messages: 0,
                },
            };
            let result = Driver::open(dataplane, out, &plan, vitals, receiver, &wake)
                .and_then(|driver| driver.run(ready));
            // Nobody listens when the process is ending anyway.
            let _ = ended.send(result);
        })?;
    Ok((handle, thread))
}

struct Driver {
    engine: Engine,
    shell: Shell,
    vitals: Vitals,
    commands: Receiver<Command>,
    wake: Arc<OwnedFd>,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// Something was Active when the daemon was told to end.
    handed_over: bool,
    /// What the timer is set to; `None` = not set.
    armed: Option<MonoNs>,
    /// Adverts from the ring buffer that the engine was not yet told of.
    adverts: VecDeque<Event>,
    /// Silences likewise; told after the adverts.
    silences: VecDeque<Event>,
    packet: Box<[u8; MAX_PACKET_LEN]>,
}

impl Driver {
    fn open(
        dataplane: Option<Dataplane>,
        out: Outbox,
        plan: &Plan,
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
        }
        let mut shell = Shell {
            dataplane,
            lane: AddressLane::open()?,
            links,
            interfaces: Default::default(),
            seats: plan.seats.iter().map(Seat::new).collect(),
            out,
            retry_at: None,
            finished: false,
            ports_changed: false,
            buffer: Box::new([0; MAX_PACKET_LEN]),
        };
        // The interfaces that are there are attached before the first decision.
        shell.match_interfaces();
        let mut inputs = Vec::new();
        shell.follow_links(&mut inputs);
        if let Some(dataplane) = &mut shell.dataplane
            && let Err(error) = dataplane.forget_leftovers()
        {
            let text = format!("what an earlier daemon left in the dataplane stays: {error}");
            shell.out.log(Level::Error, text);
        }
        let kernel_watch = shell.dataplane.as_ref().is_some_and(Dataplane::has_watch);
        let config = plan.engine_config(kernel_watch, |id| {
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
            handed_over: false,
            armed: None,
            adverts: VecDeque::with_capacity(64),
            silences: VecDeque::with_capacity(64),
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
            self.watch_ports()?;
            self.arm()?;
            let count = match epoll::wait(&self.epoll, &mut list, None) {
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            self.vitals.engine.wakeups += 1;
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
                    // The ring buffer and the sockets are drained in every turn.
                    _ => {}
                }
            }
            self.take_in();
            if links {
                self.follow_links();
            }
            if commands {
                self.obey();
            }
            self.serve_timers();
            // Found while acting: the ring buffer will not wake us for these.
            while let Some(event) = self.silences.pop_front() {
                self.silence(&event);
            }
        }
        self.finish()
    }

    /// Hands something to the engine, and does what it decides.
    fn handle(&mut self, input: Input) {
        self.engine.handle(input, clock::now());
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            if let Some(outcome) = self.shell.execute(action) {
                self.hear_before(&outcome);
                self.engine.handle(outcome, clock::now());
            }
        }
    }

    /// What arrived while an action was carried out comes before its outcome (the engine's contract): a
    /// promotion that another node's advert overtook must not be completed.
    fn hear_before(&mut self, outcome: &Input) {
        let (Input::AdvertSent { instance, .. } | Input::VipsAdded { instance, .. }) = outcome
        else {
            return;
        };
        self.drain_ring();
        while let Some(event) = self.adverts.pop_front() {
            for input in self.note_advert(&event) {
                self.engine.handle(input, clock::now());
            }
        }
        let seat = self
            .shell
            .seats
            .iter()
            .position(|seat| seat.id == *instance);
        if let Some(input) = seat.and_then(|index| self.fresh_stamp(index, MonoNs(u64::MAX))) {
            self.engine.handle(input, clock::now());
        }
    }

    /// Takes in everything that was received.
    fn take_in(&mut self) {
        self.take_events();
        if self.shell.dataplane.is_none() {
            self.take_packets();
        }
    }

    /// First the adverts that wait, then silence: an advert that came after the silence was found is not
    /// forgotten.
    fn take_events(&mut self) {
        self.drain_ring();
        while let Some(event) = self.adverts.pop_front() {
            for input in self.note_advert(&event) {
                self.handle(input);
            }
        }
        while let Some(event) = self.silences.pop_front() {
            self.silence(&event);
        }
    }

    fn drain_ring(&mut self) {
        let Some(dataplane) = &mut self.shell.dataplane else {
            return;
        };
        while let Some(event) = dataplane.next_event() {
            match EventKind::from_u32(event.kind) {
                Some(EventKind::Advert) => self.adverts.push_back(event),
                Some(EventKind::Silence) => self.silences.push_back(event),
                None => {}
            }
        }
    }

    /// What an advert means to the engine: an unreported one before a priority 0 comes first, for
    /// afterwards it would undo it.
    fn note_advert(&mut self, event: &Event) -> impl Iterator<Item = Input> + use<> {
        let id = InstanceId(event.instance);
        let word = AdvertWord(event.word);
        self.vitals.engine.adverts += 1;
        let mut before = None;
        if let Some(index) = self.shell.seats.iter().position(|seat| seat.id == id) {
            if word.priority() == 0 {
                before = self.fresh_stamp(index, event.stamp());
            }
            let seat = &mut self.shell.seats[index];
            seat.heard = seat.heard.max(event.stamp());
            seat.word = word;
        }
        before
            .into_iter()
            .chain([advert::input(id, word, event.stamp())])
    }

    fn silence(&mut self, event: &Event) {
        let id = InstanceId(event.instance);
        let made = MonoNs(event.made_ns);
        if let Some(index) = self.shell.seats.iter().position(|seat| seat.id == id) {
            let seat = &self.shell.seats[index];
            let word = AdvertWord(event.word);
            let sentence = if word.is_valid() {
                format!(
                    "silence: the last advert, from {}, came {} earlier",
                    Ipv4Addr::from(word.sender()),
                    made.since(event.stamp())
                )
            } else {
                "silence: no advert was heard".to_owned()
            };
            self.shell
                .out
                .event(made, &seat.name, Kind::Silence, sentence);
        }
        self.feed_stamps();
        self.handle(Input::Silence {
            instance: id,
            last_received_at: event.stamp(),
        });
    }

    /// Tells the engine of adverts that the kernel took without an event, or whose event was lost. Stamps
    /// that it knows are not told again: a release that came after them would be undone.
    fn feed_stamps(&mut self) {
        for index in 0..self.shell.seats.len() {
            if let Some(input) = self.fresh_stamp(index, MonoNs(u64::MAX)) {
                self.handle(input);
            }
        }
    }

    /// A seat's stamp, if it is later than what the engine knows, and earlier than `before`.
    fn fresh_stamp(&mut self, index: usize, before: MonoNs) -> Option<Input> {
        let seat = self.shell.seats.get_mut(index)?;
        let id = seat.id;
        let received = self.shell.dataplane.as_ref()?.received(id);
        let stamp = MonoNs(received.last_ns);
        if stamp <= seat.heard || stamp >= before {
            return None;
        }
        seat.heard = stamp;
        let word = AdvertWord(received.last_word);
        // A Backup knows what the Active router says, unless the event was lost or went to the daemon
        // before this one. Priority 0 moves the word, not the stamp.
        let told = seat.state == State::Backup && seat.word == word;
        Some(if told || !word.is_valid() || word.priority() == 0 {
            Input::Heard {
                instance: id,
                received_at: seat.heard,
            }
        } else {
            seat.word = word;
            advert::input(id, word, seat.heard)
        })
    }

    /// Mode `off`: reads the receiving sockets dry.
    fn take_packets(&mut self) {
        let names: Vec<String> = self.shell.interfaces.keys().cloned().collect();
        for name in names {
            while self.take_packet(&name) {}
        }
    }

    /// Takes one packet from an interface's socket; whether there may be more.
    fn take_packet(&mut self, name: &str) -> bool {
        let Some(port) = self
            .shell
            .interfaces
            .get(name)
            .and_then(|interface| interface.port.as_ref())
        else {
            return false;
        };
        let (length, stamp) = match port.receive(self.packet.as_mut_slice()) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            // The error that waited (the interface went down) is taken in by being told.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => return true,
            Err(error) => {
                let text = format!("{name}: adverts cannot be received: {error}");
                self.shell.out.log(Level::Error, text);
                return false;
            }
        };
        // A longer packet than any advert is none.
        let Some(packet) = self.packet.get(..length) else {
            return true;
        };
        let Ok(vrid) = vrrp::vrid_of(packet) else {
            return true;
        };
        let found = self.shell.seats.iter_mut().find_map(|seat| {
            let here = seat.config.interface == name && seat.config.vrid.get() == vrid;
            let word = here.then(|| advert::check(seat, packet)).flatten()?;
            seat.word = word;
            seat.adverts_received += 1;
            Some(advert::input(seat.id, word, stamp))
        });
        if let Some(input) = found {
            self.vitals.engine.adverts += 1;
            self.handle(input);
        }
        true
    }

    fn follow_links(&mut self) {
        let mut inputs = Vec::new();
        match self.shell.links.update() {
            Ok(true) => self.shell.follow_links(&mut inputs),
            Ok(false) => {}
            Err(error) => {
                let text = format!("the interfaces cannot be watched: {error}");
                self.shell.out.log(Level::Error, text);
            }
        }
        for input in inputs {
            self.handle(input);
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
            self.feed_stamps();
            self.engine.handle_timeout(clock::now());
            self.act();
        }
        if self.shell.retry_at.is_some_and(|due| due <= clock::now()) {
            let mut inputs = Vec::new();
            if let Err(error) = self.shell.links.update() {
                let text = format!("the interfaces cannot be watched: {error}");
                self.shell.out.log(Level::Error, text);
            }
            self.shell.retry(&mut inputs);
            for input in inputs {
                self.handle(input);
            }
        }
    }

    fn obey(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            // An answer nobody waits for any more is dropped.
            match command {
                Command::Status(reply) => {
                    self.feed_stamps();
                    let report =
                        status::report(&self.engine, &self.shell, &self.vitals, clock::now());
                    let _ = reply.send(report);
                }
                Command::Explain { instance, reply } => {
                    self.feed_stamps();
                    let _ = reply.send(self.explain(&instance));
                }
                Command::Switchover { target, to, reply } => {
                    let _ = reply.send(self.switch_over(&target, to.as_deref()));
                }
                Command::Counters(reply) => {
                    let _ = reply.send(status::counters(&self.shell));
                }
                Command::Reload { plan, reply } => {
                    let _ = reply.send(self.reload(&plan));
                }
                Command::Ping(reply) => {
                    let _ = reply.send(());
                }
                Command::Shutdown => {
                    self.handed_over = self.shell.seats.iter().any(|seat| speaking(seat.state));
                    self.handle(Input::Shutdown);
                }
            }
        }
    }

    fn explain(&self, name: &str) -> Result<ExplainReport, String> {
        self.engine
            .status(clock::now())
            .into_iter()
            .find(|status| status.name == name)
            .map(|status| {
                let seat = self
                    .shell
                    .seats
                    .iter()
                    .find(|seat| seat.id == status.instance);
                let mut sentences = status.explanation;
                sentences.extend(seat.map(Seat::in_words));
                ExplainReport {
                    name: status.name,
                    state: status.state.name().to_owned(),
                    sentences,
                }
            })
            .ok_or_else(|| self.unknown("instance", name))
    }

    fn unknown(&self, what: &str, name: &str) -> String {
        let names: Vec<&str> = self.shell.seats.iter().map(|seat| &*seat.name).collect();
        let mut message = format!(
            "there is no {what} \"{name}\". Instances: {}",
            names.join(", ")
        );
        if !self.vitals.groups.is_empty() {
            message.push_str(&format!("; groups: {}", self.vitals.groups.join(", ")));
        }
        message
    }

    fn switch_over(&mut self, name: &str, to: Option<&str>) -> Result<SwitchoverReport, String> {
        let group = self.vitals.groups.iter().position(|group| group == name);
        let seat = self.shell.seats.iter().find(|seat| &*seat.name == name);
        let (target, group) = match (group, seat) {
            (Some(group), _) => (Target::Group(group), Some(group)),
            (None, Some(seat)) => (Target::Instance(seat.id), seat.config.group),
            (None, None) => return Err(self.unknown("group or instance", name)),
        };
        let members: Vec<&Seat> = self
            .shell
            .seats
            .iter()
            .filter(|seat| match group {
                Some(group) => seat.config.group == Some(group),
                None => &*seat.name == name,
            })
            .collect();
        if let Some(to) = to {
            let wanted: Option<Ipv4Addr> = to.parse().ok();
            if !members
                .iter()
                .all(|seat| wanted.is_some_and(|wanted| seat.config.peers == [wanted]))
            {
                return Err(format!(
                    "--to is possible only with the address of the sole configured peer, which takes over anyway; {name} has {}. Leave --to out",
                    peers(&members)
                ));
            }
        }
        if !members.iter().any(|seat| speaking(seat.state)) {
            let state = members.first().map_or(State::Initialize, |seat| seat.state);
            let peer = self
                .engine
                .status(clock::now())
                .into_iter()
                .find(|status| members.iter().any(|seat| seat.id == status.instance))
                .and_then(|status| status.active_peer);
            return Err(match peer {
                Some(peer) => format!(
                    "{name} is {state} on this node; {peer} is Active: run `hactl switchover {name}` there"
                ),
                None => format!(
                    "{name} is {state} on this node, and no other node was heard to be Active: `hactl explain` says why"
                ),
            });
        }
        let released = members
            .iter()
            .filter(|seat| speaking(seat.state))
            .map(|seat| seat.name.to_string())
            .collect();
        self.handle(Input::Switchover(target));
        Ok(SwitchoverReport { released })
    }

    /// Sets the timer to the next deadline, unless it stands there.
    fn arm(&mut self) -> io::Result<()> {
        let due = [
            self.engine.poll_timeout().map(|(due, _)| due),
            self.shell.retry_at,
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

    /// Mode `off`: lets epoll know the receiving sockets. Closed ones leave by themselves.
    fn watch_ports(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.shell.ports_changed) || self.shell.dataplane.is_some() {
            return Ok(());
        }
        let ports = self
            .shell
            .interfaces
            .values()
            .filter_map(|interface| interface.port.as_ref());
        for port in ports {
            match add::<&Port>(&self.epoll, port, SOCKET) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Everything is handed over: the programs go, once the other node speaks.
    fn finish(mut self) -> io::Result<()> {
        let mut inputs = Vec::new();
        if self.shell.retry_at.is_some() {
            self.shell.retry(&mut inputs);
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

mod reload;

fn speaking(state: State) -> bool {
    matches!(state, State::Active | State::Promoting)
}

fn peers(members: &[&Seat]) -> String {
    let mut peers: Vec<String> = members
        .iter()
        .flat_map(|seat| &seat.config.peers)
        .map(ToString::to_string)
        .collect();
    peers.sort_unstable();
    peers.dedup();
    match peers.as_slice() {
        [] => "no configured peers (multicast)".to_owned(),
        [peer] => format!("the peer {peer}"),
        peers => format!("the peers {}", peers.join(", ")),
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
