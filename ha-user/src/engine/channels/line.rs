//! One channel as the engine thread carries it.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc};

use ha_common::{
    MonoNs,
    abi::bfd::{Event, Session as MapSession},
    wire::bfd::{MULTIHOP_PORT, PORT, State, TTL},
};
use ha_core::{
    ChannelState,
    bfd::{Action, Cause, Change, Input, Session, SessionConfig},
};

use super::{InletKey, News, World, inlet_key};
use crate::{
    config::{BfdChannel, Channel, ChannelKind},
    control::report::ChannelReport,
    dataplane::{Dataplane, Taken},
    engine::outbox::Level,
    events::Kind,
    net::bfd::Outlet,
    sys::clock,
};

/// One channel.
pub(super) struct Line {
    pub(super) name: Arc<str>,
    pub(super) config: Channel,
    /// In the dataplane's maps.
    pub(super) slot: u32,
    pub(super) discriminator: NonZeroU32,
    pub(super) session: Session,
    /// The interface on which it is set up; 0 = none.
    pub(super) ifindex: u32,
    outlet: Option<Outlet>,
    /// Why it is not set up, or why the last packet could not be sent.
    error: Option<String>,
    /// The kernel tells of silence, and takes repetitions without a word.
    watched: bool,
    /// The latest stamp that the session knows.
    heard: MonoNs,
    /// Packets from a socket.
    pub(super) packets: u64,
    /// What the engine was not told of yet.
    news: Vec<ChannelState>,
}

impl Line {
    pub(super) fn new(
        config: &Channel,
        slot: u32,
        discriminator: NonZeroU32,
        watched: bool,
        random: u32,
    ) -> Self {
        let session = session_config(config, discriminator, watched);
        Self {
            name: config.name.as_str().into(),
            config: config.clone(),
            slot,
            discriminator,
            session: Session::new(session, clock::now(), random),
            ifindex: 0,
            outlet: None,
            error: None,
            watched,
            heard: MonoNs::ZERO,
            packets: 0,
            news: Vec::new(),
        }
    }

    /// Whether it is the same session by another configuration: name and addresses stay.
    pub(super) fn can_become(&self, new: &Channel) -> bool {
        let old = &self.config;
        (&old.name, &old.interface, old.local, old.peer)
            == (&new.name, &new.interface, new.local, new.peer)
            && bfd(old).min_ttl == bfd(new).min_ttl
            && bfd(old).auth.is_some() == bfd(new).auth.is_some()
    }

    pub(super) fn become_like(&mut self, new: &Channel, random: u32, world: &mut World<'_>) {
        self.config = new.clone();
        let config = session_config(new, self.discriminator, self.watched);
        self.feed(Input::Configure(config), random);
        self.act(world);
    }

    pub(super) fn is_authenticated(&self) -> bool {
        bfd(&self.config).auth.is_some()
    }

    fn port(&self) -> u16 {
        match bfd(&self.config).min_ttl {
            Some(_) => MULTIHOP_PORT,
            None => PORT,
        }
    }

    /// Whether its packets may come through routers.
    pub(super) fn is_multihop(&self) -> bool {
        bfd(&self.config).min_ttl.is_some()
    }

    fn min_ttl(&self) -> u8 {
        bfd(&self.config).min_ttl.unwrap_or(TTL)
    }

    pub(super) fn inlet(&self) -> InletKey {
        inlet_key(self.ifindex, self.config.local, self.port(), self.min_ttl())
    }

    /// Sets it up on its interface, as soon as that is there. False: it failed, and is to be tried again.
    pub(super) fn follow(
        &mut self,
        ifindex: u32,
        random: impl FnMut() -> u16,
        world: &mut World<'_>,
    ) -> bool {
        if self.ifindex != ifindex {
            self.leave(world);
        }
        if ifindex == 0 || self.ifindex == ifindex {
            return true;
        }
        match self.set_up(ifindex, random, world) {
            Ok(outlet) => {
                self.outlet = Some(outlet);
                self.ifindex = ifindex;
                self.error = None;
                true
            }
            Err(error) => {
                self.fail(error, world);
                false
            }
        }
    }

    fn set_up(
        &self,
        ifindex: u32,
        random: impl FnMut() -> u16,
        world: &mut World<'_>,
    ) -> Result<Outlet, String> {
        let peer = SocketAddr::new(self.config.peer, self.port());
        let outlet = Outlet::open(ifindex, self.config.local, peer, random).map_err(|error| {
            format!(
                "packets cannot be sent from {} on {}: {error}",
                self.config.local, self.config.interface
            )
        })?;
        if let Some(dataplane) = world.dataplane.as_deref_mut() {
            let session = MapSession {
                ifindex,
                discriminator: self.discriminator.get(),
                port: self.port(),
                min_ttl: self.min_ttl(),
                authenticated: u8::from(self.is_authenticated()),
                local: self.config.local.into(),
                peer: self.config.peer.into(),
                ..MapSession::default()
            };
            dataplane
                .set_session(self.slot, &session)
                .map_err(|error| format!("the dataplane refused it: {error}"))?;
        }
        Ok(outlet)
    }

    /// Takes it off its interface. The session itself goes on: it finds silence.
    pub(super) fn leave(&mut self, world: &mut World<'_>) {
        if self.ifindex == 0 {
            return;
        }
        self.ifindex = 0;
        self.outlet = None;
        if let Some(dataplane) = world.dataplane.as_deref_mut()
            && let Err(error) = dataplane.clear_session(self.slot)
        {
            let text = format!("channel {} stays in the dataplane: {error}", self.name);
            world.out.log(Level::Error, text);
        }
    }

    fn fail(&mut self, error: String, world: &mut World<'_>) {
        if self.error.as_ref() != Some(&error) {
            let text = format!("channel {}: {error}", self.name);
            world.out.log(Level::Warn, text);
        }
        self.error = Some(error);
    }

    /// A packet that the dataplane told of.
    pub(super) fn hear(&mut self, event: &Event, random: u32) {
        // The stamp may have been read before the event was. One that is older is still answered, if it polls.
        if event.stamp() != self.heard {
            self.heard = self.heard.max(event.stamp());
            self.feed_taken(Taken::new(event.packet, event.stamp()), random);
        }
    }

    /// Takes in a packet that the kernel took without a word, or whose event was lost.
    pub(super) fn read_stamp(&mut self, random: u32, world: &World<'_>) {
        let Some(dataplane) = world.dataplane.as_deref() else {
            return;
        };
        let received = dataplane.session_received(self.slot);
        let stamp = MonoNs(received.last_ns);
        if self.ifindex != 0 && stamp > self.heard {
            self.heard = stamp;
            self.feed_taken(Taken::new(received.packet, stamp), random);
        }
    }

    fn feed_taken(&mut self, taken: Taken, random: u32) {
        let input = Input::Packet {
            payload: taken.payload,
            received_at: taken.received_at,
        };
        self.feed(input, random);
    }

    pub(super) fn feed(&mut self, input: Input, random: u32) {
        self.session.handle(input, clock::now(), random);
    }

    /// Serves its timers, if they are due.
    pub(super) fn serve(&mut self, random: u32) {
        let now = clock::now();
        if self.session.poll_timeout().is_some_and(|due| due <= now) {
            self.session.handle_timeout(now, random);
        }
    }

    /// Does what the session decided.
    pub(super) fn act(&mut self, world: &mut World<'_>) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Transmit(payload) => {
                    let Some(outlet) = &self.outlet else {
                        continue;
                    };
                    match outlet.send(&payload) {
                        Ok(()) => self.error = None,
                        Err(error) => {
                            let text = format!("a packet could not be sent: {error}");
                            self.fail(text, world);
                        }
                    }
                }
                Action::Watch(span) => self.watch(span.map_or(0, |span| span.0), world),
                Action::Report(change) => self.tell(&change, world),
                Action::Note(sentence) => {
                    let now = clock::now();
                    world.out.event(now, &self.name, Kind::Note, sentence);
                }
            }
        }
    }

    fn watch(&self, down_ns: u64, world: &mut World<'_>) {
        if let Some(dataplane) = world.dataplane.as_deref_mut()
            && let Err(error) = dataplane.watch_session(self.slot, down_ns)
        {
            let text = format!(
                "channel {}: the kernel's silence timer could not be set; this node relies on its backstop: {error}",
                self.name
            );
            world.out.log(Level::Error, text);
        }
    }

    fn tell(&mut self, change: &Change, world: &mut World<'_>) {
        let sentence = format!(
            "channel {} to {} is {}: {}",
            self.name, self.config.peer, change.to, change.cause
        );
        let states = (change.from.name(), change.to.name());
        world.out.channel(change.at, &self.name, states, sentence);
        self.news.push(known_after(change));
    }

    /// What is known of it from now on, for the engine.
    pub(super) fn take_news(&mut self) -> impl Iterator<Item = News> {
        let name = &self.name;
        self.news.drain(..).map(|state| (Arc::clone(name), state))
    }

    /// Whether both ends hear each other.
    pub(super) fn is_up(&self) -> bool {
        self.session.status().state == State::Up
    }

    pub(super) fn report(
        &self,
        dataplane: Option<&Dataplane>,
        refused: Option<&String>,
        now: MonoNs,
    ) -> ChannelReport {
        let status = self.session.status();
        let taken = dataplane
            .filter(|_| !self.is_authenticated())
            .map(|dataplane| dataplane.session_received(self.slot));
        let heard = taken.map_or(status.heard, |taken| {
            status
                .heard
                .max((taken.last_ns > 0).then_some(MonoNs(taken.last_ns)))
        });
        ChannelReport {
            name: self.name.to_string(),
            kind: "bfd".to_owned(),
            interface: self.config.interface.clone(),
            local: self.config.local,
            peer: self.config.peer,
            state: status.state.name().to_owned(),
            since: clock::rfc3339(status.since),
            since_ns: status.since.0,
            cause: status.cause.to_string(),
            remote_state: status.remote_state.name().to_owned(),
            diagnostic: status.diagnostic.name().to_owned(),
            remote_diagnostic: status.remote_diagnostic.name().to_owned(),
            transmit_interval_us: status.transmit_interval.0 / 1_000,
            receive_interval_us: status.receive_interval.0 / 1_000,
            detection_time_us: status.detection_time.0 / 1_000,
            last_heard_us: heard.map(|heard| now.since(heard).0 / 1_000),
            authenticated: self.is_authenticated(),
            packets_sent: status.sent,
            packets_received: taken.map_or(self.packets, |taken| taken.packets),
            packets_rejected: status.rejected,
            flaps: status.flaps,
            error: self.error.as_ref().or(refused).cloned(),
        }
    }
}

/// Only silence after it was up says that the path, or the peer, is dead.
const fn known_after(change: &Change) -> ChannelState {
    match (change.from, change.to, change.cause) {
        (_, State::Up, _) => ChannelState::Up,
        (State::Up, _, Cause::Expired { .. }) => ChannelState::Dead,
        _ => ChannelState::Unknown,
    }
}

fn bfd(channel: &Channel) -> &BfdChannel {
    let ChannelKind::Bfd(bfd) = &channel.kind;
    bfd
}

fn session_config(channel: &Channel, discriminator: NonZeroU32, watched: bool) -> SessionConfig {
    let us = u32::try_from(channel.interval.0 / 1_000).unwrap_or(u32::MAX);
    SessionConfig {
        local_discriminator: discriminator,
        desired_min_tx_us: us,
        required_min_rx_us: us,
        multiplier: channel.multiplier,
        passive: bfd(channel).passive,
        auth: bfd(channel).auth.clone(),
        kernel_watch: watched,
    }
}
