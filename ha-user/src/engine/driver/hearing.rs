//! Taking in adverts and silence: from the ring buffer and the kernel's stamps, or from sockets.

use std::{io, ops::ControlFlow};

use ha_common::{
    MonoNs,
    abi::{Event, EventKind},
    wire::vrrp,
};
use ha_core::{Input, InstanceId, LeaseViews, State};

use super::Driver;
use crate::{
    dataplane::Dataplane,
    engine::{advert, outbox::Level},
    events::Kind,
    sys::clock,
};

/// Packets taken from a socket before the timers are looked at again.
const PACKETS_PER_TURN: u32 = 256;

impl Driver {
    /// What arrived while actions were carried out comes before their outcomes (the engine's contract): a
    /// promotion that another node's advert overtook must not be completed. More than one: of adverts.
    pub(super) fn hear_before(&mut self, outcomes: &[Input]) {
        let mut spoke: Vec<InstanceId> = Vec::new();
        let mut asked: Vec<InstanceId> = Vec::new();
        for outcome in outcomes {
            match outcome {
                Input::AdvertSent { instance, .. } | Input::VipsAdded { instance, .. } => {
                    spoke.push(*instance);
                }
                Input::Acted { instance, .. } => asked.push(*instance),
                Input::EchoSent { path, .. } => asked.extend(self.engine.users(*path)),
                _ => {}
            }
        }
        if spoke.is_empty() && asked.is_empty() {
            return;
        }
        self.drain_ring();
        if !spoke.is_empty() && self.shell.dataplane.is_none() {
            for name in self.names() {
                for input in self.packets(&name) {
                    self.tell(input);
                }
            }
        }
        for instance in &spoke {
            self.hear_of(*instance);
        }
        while let Some(input) = self.next_grant() {
            self.tell(input);
        }
        for instance in spoke.into_iter().chain(asked) {
            self.read_leases(instance);
        }
    }

    /// What the ring buffer told of leases next.
    fn next_grant(&mut self) -> Option<Input> {
        while let Some(event) = self.grants.pop_front() {
            let instance = InstanceId(event.instance);
            let peer = event.ask().peer();
            self.read_leases(instance);
            return Some(match EventKind::from_u32(event.kind)? {
                EventKind::Asked => Input::Asked {
                    instance,
                    peer,
                    ask: event.ask().ask(),
                },
                EventKind::Released => {
                    // Read afterwards, the last advert of who has let go would outrank this node.
                    self.hear_until(instance, event.stamp());
                    Input::Released {
                        instance,
                        peer,
                        received_at: event.stamp(),
                    }
                }
                EventKind::Yielded => Input::Yielded { instance, peer },
                EventKind::LeaseSilence => {
                    self.hear_of(instance);
                    self.note_lease_silence(&event);
                    Input::LeaseSilence { instance }
                }
                // It only wakes: the leases were read.
                _ => continue,
            });
        }
        None
    }

    /// Hands in the adverts that wait, and an instance's stamp: read after it was elected, the last advert of a
    /// dead router with a greater address would outrank it.
    fn hear_of(&mut self, instance: InstanceId) {
        self.hear_until(instance, MonoNs(u64::MAX));
    }

    /// The same of what came before a moment.
    fn hear_until(&mut self, instance: InstanceId, before: MonoNs) {
        while let Some(event) = self.adverts.pop_front_if(|event| event.stamp() < before) {
            for input in self.note_advert(&event) {
                self.tell(input);
            }
        }
        let seat = self.shell.index(instance);
        if let Some(input) = seat.and_then(|index| self.fresh_stamp(index, before)) {
            self.tell(input);
        }
    }

    fn note_lease_silence(&mut self, event: &Event) {
        let Some(index) = self.shell.index(InstanceId(event.instance)) else {
            return;
        };
        let made = MonoNs(event.made_ns);
        let promised = match event.stamp() {
            MonoNs::ZERO => String::new(),
            ended => format!("; the last promise ended {} earlier", made.since(ended)),
        };
        let sentence = format!("silence: nobody asks for leases any more{promised}");
        let name = &self.shell.seats[index].name;
        self.shell.out.event(made, name, Kind::Silence, sentence);
    }

    /// Hands in what the maps hold about an instance's leases.
    pub(super) fn read_leases(&mut self, id: InstanceId) {
        if self.relies_on_leases(id) {
            self.read_leases_at(id, clock::now());
        }
    }

    fn relies_on_leases(&self, id: InstanceId) -> bool {
        let seat = self.shell.index(id).map(|at| &self.shell.seats[at]);
        seat.is_some_and(|seat| seat.config.heartbeat.is_some())
    }

    /// The same, as of a moment that has just passed.
    pub(super) fn read_leases_at(&mut self, id: InstanceId, now: MonoNs) {
        if !self.relies_on_leases(id) {
            return;
        }
        let dataplane = self.shell.dataplane.as_ref();
        let views = dataplane.map_or_else(LeaseViews::default, |dataplane| dataplane.views(id));
        self.engine.read_leases(id, &views, now);
    }

    /// The same of every instance of which a timer is due, and what was heard on the paths; what follows is done
    /// at once.
    pub(super) fn feed_leases(&mut self) {
        while let Some(input) = self.next_grant() {
            self.handle(input);
        }
        let due: Vec<InstanceId> = self.engine.due(clock::now()).collect();
        for instance in due {
            self.read_leases(instance);
        }
        self.act();
        if !self.engine.is_echo_due(clock::now()) {
            return;
        }
        let Some(dataplane) = &self.shell.dataplane else {
            return;
        };
        let heard = self.shell.paths.ids().map(|path| {
            let (heard_at, round_trip) = dataplane.path_heard(path.0);
            Input::PathHeard {
                path,
                heard_at,
                round_trip,
            }
        });
        for input in heard.collect::<Vec<_>>() {
            self.tell(input);
        }
        self.act();
    }

    /// Takes in everything that was received.
    pub(super) fn take_in(&mut self) {
        self.take_events();
        if self.shell.dataplane.is_none() {
            self.take_packets();
        }
        let (channels, _, mut world) = self.shell.channels();
        channels.take_in(&mut world);
        self.tell_of_channels();
    }

    /// Tells the engine what became of channels, after what was received: an advert disproves a peer's death.
    pub(super) fn tell_of_channels(&mut self) {
        while let Some((channel, state)) = self.shell.channels.next_news() {
            self.take_adverts();
            self.feed_stamps();
            let concerned: Vec<InstanceId> = self
                .shell
                .seats
                .iter()
                .filter(|seat| seat.config.channels.iter().any(|name| **name == *channel))
                .map(|seat| seat.id)
                .collect();
            for instance in concerned {
                self.handle(Input::Channel {
                    instance,
                    channel: channel.to_string(),
                    state,
                });
            }
        }
    }

    /// Whether something taken from the ring buffer waits for the engine.
    pub(super) fn has_events(&self) -> bool {
        !(self.adverts.is_empty() && self.grants.is_empty() && self.silences.is_empty())
    }

    /// First the adverts that wait, then silence: an advert that came after the silence was found is not
    /// forgotten.
    pub(super) fn take_events(&mut self) {
        self.take_adverts();
        while let Some(input) = self.next_grant() {
            self.handle(input);
        }
        while let Some(event) = self.silences.pop_front() {
            self.silence(&event);
        }
    }

    /// The adverts in the ring buffer; silences found there wait.
    pub(super) fn take_adverts(&mut self) {
        self.drain_ring();
        while let Some(event) = self.adverts.pop_front() {
            for input in self.note_advert(&event) {
                self.handle(input);
            }
        }
    }

    fn drain_ring(&mut self) {
        let next = Dataplane::next_event;
        while let Some(event) = self.shell.dataplane.as_mut().and_then(next) {
            match EventKind::from_u32(event.kind) {
                Some(EventKind::Advert) => self.adverts.push_back(event),
                Some(EventKind::Silence) => self.silences.push_back(event),
                Some(EventKind::Elsewhere) => self.shell.announce_local(event.sender),
                Some(_) => self.grants.push_back(event),
                None => {}
            }
        }
    }

    /// What an advert means to the engine: an unreported one before a priority 0 comes first, for
    /// afterwards it would undo it.
    fn note_advert(&mut self, event: &Event) -> impl Iterator<Item = Input> + use<> {
        let id = InstanceId(event.instance);
        let said = event.said();
        self.vitals.engine.adverts += 1;
        let mut before = None;
        if let Some(index) = self.shell.index(id) {
            if said.word.priority() == 0 {
                before = self.fresh_stamp(index, event.stamp());
            }
            let seat = &mut self.shell.seats[index];
            seat.heard = seat.heard.max(event.stamp());
            seat.said = said;
        }
        before
            .into_iter()
            .chain([advert::input(id, said, event.stamp())])
    }

    fn silence(&mut self, event: &Event) {
        let id = InstanceId(event.instance);
        let made = MonoNs(event.made_ns);
        if let Some(index) = self.shell.index(id) {
            let seat = &self.shell.seats[index];
            let said = event.said();
            let sentence = if said.word.is_valid() {
                format!(
                    "silence: the last advert, from {}, came {} earlier",
                    said.sender,
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
    pub(super) fn feed_stamps(&mut self) {
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
        let said = received.said();
        // A Backup knows what the Active router says, unless the event was lost or went to the daemon
        // before this one. Priority 0 moves the word, not the stamp.
        let told = seat.state == State::Backup && seat.said == said;
        Some(
            if told || !said.word.is_valid() || said.word.priority() == 0 {
                Input::Heard {
                    instance: id,
                    received_at: seat.heard,
                }
            } else {
                seat.said = said;
                advert::input(id, said, seat.heard)
            },
        )
    }

    /// Mode `off`: reads the receiving sockets.
    fn take_packets(&mut self) {
        for name in self.names() {
            for input in self.packets(&name) {
                self.handle(input);
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.shell.interfaces.keys().cloned().collect()
    }

    /// The adverts in an interface's socket: all, unless somebody floods it; epoll tells of the rest.
    fn packets(&mut self, name: &str) -> Vec<Input> {
        let mut inputs = Vec::new();
        for _ in 0..PACKETS_PER_TURN {
            match self.packet(name) {
                ControlFlow::Continue(input) => inputs.extend(input),
                ControlFlow::Break(()) => break,
            }
        }
        inputs
    }

    /// Takes one packet from an interface's socket, if there is one: an advert, or nothing of interest.
    fn packet(&mut self, name: &str) -> ControlFlow<(), Option<Input>> {
        let Some(port) = self
            .shell
            .interfaces
            .get(name)
            .and_then(|interface| interface.port.as_ref())
        else {
            return ControlFlow::Break(());
        };
        let (length, stamp) = match port.receive(self.packet.as_mut_slice()) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return ControlFlow::Break(());
            }
            // The error that waited (the interface went down) is taken in by being told.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                return ControlFlow::Continue(None);
            }
            Err(error) => {
                let text = format!("{name}: adverts cannot be received: {error}");
                self.shell.out.log(Level::Error, text);
                return ControlFlow::Break(());
            }
        };
        // A longer packet than any advert is none.
        let packet = self.packet.get(..length);
        let Some((packet, vrid)) =
            packet.and_then(|bytes| Some((bytes, vrrp::vrid_of(bytes).ok()?)))
        else {
            return ControlFlow::Continue(None);
        };
        let found = self.shell.seats.iter_mut().find_map(|seat| {
            let here = seat.config.interface == name && seat.config.vrid.get() == vrid;
            let said = here.then(|| advert::check(seat, packet)).flatten()?;
            seat.said = said;
            seat.adverts_received += 1;
            Some(advert::input(seat.id, said, stamp))
        });
        self.vitals.engine.adverts += u64::from(found.is_some());
        ControlFlow::Continue(found)
    }
}
