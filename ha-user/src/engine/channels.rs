//! The channels of this node: their BFD sessions, with the sockets and the map slots that they use.
//!
//! Packets come from the dataplane's ring buffer; authenticated ones, and all where there is no dataplane,
//! from sockets. As with adverts, what was received is taken in before a timer is served, and the kernel's
//! stamps are read again before silence is believed.

mod line;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ha_common::{
    MonoNs,
    abi::bfd::{Event, EventKind},
    wire::bfd::{MAX_LEN, Payload},
};
use ha_core::{ChannelState, bfd::Input};

use self::line::Line;
use super::{
    difference,
    outbox::{Level, Outbox},
    shell::Interface,
};
use crate::{
    config::Channel, control::report::ChannelReport, dataplane::Dataplane, net::bfd::Inlet,
    sys::clock,
};

/// Packets taken from a socket before the timers are looked at again.
const PACKETS_PER_TURN: u32 = 256;

/// What the channels act with.
pub(super) struct World<'a> {
    pub(super) dataplane: Option<&'a mut Dataplane>,
    pub(super) out: &'a mut Outbox,
}

/// Which packets a socket receives.
type InletKey = (u32, SocketAddr, u8);

/// All channels.
pub(super) struct Channels {
    lines: Vec<Line>,
    inlets: BTreeMap<InletKey, Inlet>,
    /// Errors of sockets that could not be opened.
    refused: BTreeMap<InletKey, String>,
    random: fastrand::Rng,
    /// Whether epoll has to be told of new sockets.
    pub(super) inlets_changed: bool,
    /// Silences from the ring buffer, told after the packets.
    silences: VecDeque<Event>,
    /// What the engine was not told of yet.
    news: VecDeque<News>,
}

/// What is known of a channel from now on.
pub(super) type News = (Arc<str>, ChannelState);

impl Channels {
    /// Without a single one.
    pub(super) fn new() -> Self {
        let mut seed = [0; 8];
        // Without the kernel's randomness the clock has to do; it is needed for jitter above all.
        let seeded = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::NONBLOCK);
        let seed = match seeded {
            Ok(8) => u64::from_ne_bytes(seed),
            _ => clock::now().0,
        };
        Self {
            lines: Vec::new(),
            inlets: BTreeMap::new(),
            refused: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
            inlets_changed: false,
            silences: VecDeque::new(),
            news: VecDeque::new(),
        }
    }

    /// The interfaces that they use.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|line| line.config.interface.as_str())
    }

    /// This node's addresses to which packets of one hop come, with their interfaces.
    pub(super) fn locals(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        let single = |line: &&Line| !line.is_multihop();
        let lines = self.lines.iter().filter(single);
        lines.map(|line| (line.config.interface.as_str(), line.config.local))
    }

    /// Applies a configuration: channels that stay what they are keep their sessions. What changed, in words.
    pub(super) fn configure(&mut self, wanted: &[Channel], world: &mut World<'_>) -> Vec<String> {
        let mut changes = Vec::new();
        let is_kept = |line: &Line| wanted.iter().any(|new| line.can_become(new));
        for mut line in self.lines.extract_if(.., |line| !is_kept(line)) {
            changes.push(format!("channel {}: ends", line.name));
            line.feed(Input::Disable, self.random.u32(..));
            line.act(world);
            line.leave(world);
        }
        for new in wanted {
            if let Some(line) = self.lines.iter_mut().find(|line| line.can_become(new)) {
                if line.config != *new {
                    let changed = difference::of_channel(&line.config, new);
                    changes.push(format!("channel {}: {changed}", line.name));
                    line.become_like(new, self.random.u32(..), world);
                }
                continue;
            }
            changes.push(format!("channel {}: begins", new.name));
            let free = (0..).find(|slot| self.lines.iter().all(|line| line.slot != *slot));
            let discriminator = self.free_discriminator();
            let watched = world.dataplane.as_deref().is_some_and(Dataplane::has_watch);
            self.lines.push(Line::new(
                new,
                free.unwrap_or(u32::MAX),
                discriminator,
                watched,
                self.random.u32(..),
            ));
        }
        self.lines
            .sort_by_key(|line| wanted.iter().position(|new| *new.name == *line.name));
        changes
    }

    /// Random, unique on this node and not zero (RFC 5880 section 6.8.1).
    fn free_discriminator(&mut self) -> std::num::NonZeroU32 {
        loop {
            let random = std::num::NonZeroU32::new(self.random.u32(..));
            if let Some(random) =
                random.filter(|random| self.lines.iter().all(|line| line.discriminator != *random))
            {
                return random;
            }
        }
    }

    /// Follows the interfaces: sockets are opened on those that came, and closed on those that went. Whether
    /// something failed that is to be tried again.
    pub(super) fn follow(
        &mut self,
        interfaces: &BTreeMap<String, Interface>,
        world: &mut World<'_>,
    ) -> bool {
        let mut failed = false;
        for line in &mut self.lines {
            let ifindex = interfaces
                .get(&line.config.interface)
                .filter(|interface| interface.port.is_some())
                .map_or(0, |interface| interface.ifindex);
            let random = &mut self.random;
            failed |= !line.follow(ifindex, || random.u16(..), world);
        }
        self.match_inlets(world) || failed
    }

    /// Whether a receiving socket is missing.
    fn match_inlets(&mut self, world: &mut World<'_>) -> bool {
        let dataplane = world.dataplane.is_some();
        let wanted: Vec<InletKey> = self
            .lines
            .iter()
            .filter(|line| line.ifindex != 0 && (!dataplane || line.is_authenticated()))
            .map(Line::inlet)
            .collect();
        self.inlets.retain(|key, _| wanted.contains(key));
        self.refused.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if self.inlets.contains_key(&key) {
                continue;
            }
            let (ifindex, local, min_ttl) = key;
            match Inlet::open(ifindex, local, min_ttl) {
                Ok(inlet) => {
                    self.inlets.insert(key, inlet);
                    self.refused.remove(&key);
                    self.inlets_changed = true;
                }
                Err(error) => {
                    let text = format!("BFD packets to {local} cannot be received: {error}");
                    if self.refused.get(&key) != Some(&text) {
                        world.out.log(Level::Error, text.clone());
                    }
                    self.refused.insert(key, text);
                }
            }
        }
        !self.refused.is_empty()
    }

    /// The receiving sockets, for epoll.
    pub(super) fn inlets(&self) -> impl Iterator<Item = &Inlet> {
        self.inlets.values()
    }

    /// When to call [`Self::serve`].
    pub(super) fn next_due(&self) -> Option<MonoNs> {
        self.lines
            .iter()
            .filter_map(|line| line.session.poll_timeout())
            .min()
    }

    /// Takes in everything that was received.
    pub(super) fn take_in(&mut self, world: &mut World<'_>) {
        self.drain_ring(world);
        self.drain_inlets(world);
        while let Some(event) = self.silences.pop_front() {
            let random = self.random.u32(..);
            if let Some(line) = self
                .lines
                .iter_mut()
                .find(|line| line.slot == event.session)
            {
                line.read_stamp(random, world);
                line.feed(Input::Silence, random);
            }
        }
        self.act(world);
    }

    fn drain_ring(&mut self, world: &mut World<'_>) {
        while let Some(event) = world
            .dataplane
            .as_deref_mut()
            .and_then(Dataplane::next_session_event)
        {
            match EventKind::from_u32(event.kind) {
                Some(EventKind::Packet) => {
                    let random = self.random.u32(..);
                    let line = self
                        .lines
                        .iter_mut()
                        .find(|line| line.slot == event.session);
                    if let Some(line) = line {
                        line.hear(&event, random);
                    }
                }
                Some(EventKind::Silence) => self.silences.push_back(event),
                None => {}
            }
        }
    }

    fn drain_inlets(&mut self, world: &mut World<'_>) {
        let mut buffer = [0; MAX_LEN + 1];
        for (key, inlet) in &self.inlets {
            for _ in 0..PACKETS_PER_TURN {
                let (length, stamp, source) = match inlet.receive(&mut buffer) {
                    Ok(received) => received,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // The error that waited (the interface went down) is taken in by being told.
                    Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
                    Err(error) => {
                        let text = format!("BFD packets cannot be received: {error}");
                        world.out.log(Level::Error, text);
                        break;
                    }
                };
                let line = self
                    .lines
                    .iter_mut()
                    .find(|line| line.inlet() == *key && source == Some(line.config.peer));
                let payload = buffer.get(..length).and_then(Payload::received);
                if let (Some(line), Some(payload)) = (line, payload) {
                    line.packets += 1;
                    let input = Input::Packet {
                        payload,
                        received_at: stamp,
                    };
                    line.feed(input, self.random.u32(..));
                }
            }
        }
    }

    /// Serves what is due by the clock; what was received comes first. Whether anything was.
    pub(super) fn serve(&mut self, world: &mut World<'_>) -> bool {
        if self.next_due().is_none_or(|due| due > clock::now()) {
            return false;
        }
        self.take_in(world);
        for line in &mut self.lines {
            let random = self.random.u32(..);
            line.read_stamp(random, world);
            line.serve(random);
            line.act(world);
            self.news.extend(line.take_news());
        }
        true
    }

    /// Takes every session down on purpose: the peers are told (RFC 5880 section 6.8.16).
    pub(super) fn disable(&mut self, world: &mut World<'_>) {
        for line in &mut self.lines {
            line.feed(Input::Disable, self.random.u32(..));
        }
        self.act(world);
    }

    /// The next news for the engine.
    pub(super) fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Tells the engine anew of the channels that are up: it may have instances that do not know.
    pub(super) fn tell_again(&mut self) {
        let up = self.lines.iter().filter(|line| line.is_up());
        self.news
            .extend(up.map(|line| (Arc::clone(&line.name), ChannelState::Up)));
    }

    /// For `hactl status`.
    pub(super) fn report(&self, dataplane: Option<&Dataplane>, now: MonoNs) -> Vec<ChannelReport> {
        self.lines
            .iter()
            .map(|line| {
                let refused = self.refused.get(&line.inlet());
                line.report(dataplane, refused, now)
            })
            .collect()
    }

    fn act(&mut self, world: &mut World<'_>) {
        for line in &mut self.lines {
            line.act(world);
            self.news.extend(line.take_news());
        }
    }
}

/// Where the packets of a session arrive.
fn inlet_key(ifindex: u32, local: IpAddr, port: u16, min_ttl: u8) -> InletKey {
    (ifindex, SocketAddr::new(local, port), min_ttl)
}
