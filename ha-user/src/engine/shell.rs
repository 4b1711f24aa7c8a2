//! Carries out what the engine decides, and tells it what became of the interfaces.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ha_common::{
    MonoNs, Nanos,
    abi::AdvertWord,
    gate::{Epoch, Lease},
    lease::{Rank, Standing},
    wire::{arp, ndp, vrrp::MAX_PACKET_LEN},
};
use ha_core::{Action, Input, InstanceId, InterfaceCondition, State, Transition};
use ipnet::IpNet;

use super::{
    channels::{Channels, World},
    chores::Chores,
    debts::Debts,
    outbox::{Level, Outbox},
    paths::{Paths, Surroundings},
    plan::Plan,
    seat::Seat,
    solicit::Solicitations,
};
use crate::{
    config::LeaseChannel,
    dataplane::{Attachment, Dataplane, Hook},
    events::Kind,
    net::{
        links::{Link, Links},
        netlink::AddressLane,
        port::Port,
    },
    sys::{self, clock},
};

/// How long until a failed attach, or a failed removal of VIPs, is tried again.
const RETRY: Nanos = Nanos::from_secs(1);

/// An interface that an instance or a channel names.
#[derive(Default)]
pub(super) struct Interface {
    /// 0 while it is not there.
    pub(super) ifindex: u32,
    pub(super) mac: [u8; 6],
    /// Whether this node forwards IPv6 there.
    pub(super) router: bool,
    pub(super) port: Option<Port>,
    /// Whether the port has the sockets and groups of IPv6 that the instances need.
    pub(super) has_groups: bool,
    pub(super) attachment: Option<Attachment>,
    /// Why nothing is attached.
    pub(super) error: Option<String>,
}

/// The addresses on the interfaces, looked up once for all instances.
struct Found {
    /// Addresses that are no host's first one: VIPs of ours, and another owner's; not our own as an owner.
    vips: BTreeSet<IpAddr>,
    /// What is on each interface that is there.
    there: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// Everything that the engine thread acts with.
pub(super) struct Shell {
    pub(super) dataplane: Option<Dataplane>,
    pub(super) lane: AddressLane,
    pub(super) links: Links,
    pub(super) interfaces: BTreeMap<String, Interface>,
    pub(super) seats: Vec<Seat>,
    pub(super) channels: Channels,
    pub(super) paths: Paths,
    /// The channels for leases.
    pub(super) lease_channels: Vec<LeaseChannel>,
    pub(super) out: Outbox,
    /// Addresses that are being put on and taken off.
    pub(super) chores: Chores,
    /// Until when this turn may do that; `None` = it did not begin to.
    pub(super) work_until: Option<MonoNs>,
    /// Addresses that could not be taken off.
    pub(super) debts: Debts,
    /// Peers whose MAC addresses are asked for.
    pub(super) solicitations: Solicitations,
    /// Interfaces, by index, that are to be let go of.
    pub(super) unused: BTreeSet<u32>,
    /// When to try again what failed.
    pub(super) retry_at: Option<MonoNs>,
    /// The engine has handed everything over.
    pub(super) finished: bool,
    /// Sockets to be watched were opened or closed (mode `off`).
    pub(super) ports_changed: bool,
    pub(super) buffer: Box<[u8; MAX_PACKET_LEN]>,
}

impl Shell {
    /// Carries out one action; the outcome, where the engine asks for one.
    pub(super) fn execute(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::SetEpoch { instance, epoch } => self.set_epoch(instance, epoch),
            Action::SetLease {
                instance,
                slot,
                lease,
            } => self.set_lease(instance, slot, lease),
            Action::SetRank { instance, priority } => {
                if let Some(seat) = self.seat_mut(instance) {
                    seat.rank = priority;
                }
                if let Some(dataplane) = &mut self.dataplane {
                    let position = 0;
                    let priority = priority.0;
                    dataplane.set_lease_rank(instance, Rank { position, priority });
                }
                if let Some(dataplane) = &mut self.dataplane
                    && let Err(error) = dataplane.set_priority(instance, priority.0)
                {
                    self.out.log(
                        Level::Error,
                        format!("the dataplane did not take the priority: {error}"),
                    );
                }
            }
            Action::Watch { instance, down } => self.watch(instance, down),
            Action::SendAdvert { .. } => return self.advertise(&[action]).pop(),
            Action::AddVips { instance } => return self.add_vips(instance),
            Action::RemoveVips { instance } => {
                self.remove_vips(instance);
                return self.work();
            }
            Action::Announce {
                instance,
                first,
                count,
            } => {
                let result = self.announce(instance, first, count)?;
                return Some(Input::Announced { instance, result });
            }
            Action::Report(transition) => self.report(&transition),
            Action::Note { instance, sentence } => {
                if let Some(index) = self.index(instance) {
                    let name = &self.seats[index].name;
                    self.out.event(clock::now(), name, Kind::Note, sentence);
                }
            }
            Action::Finished => self.finished = true,
            Action::Stand { instance, standing } => self.stand(instance, standing),
            Action::Act { instance } => {
                let result = match &self.dataplane {
                    Some(dataplane) => dataplane.act(instance, clock::now()),
                    None => Err(MonoNs(u64::MAX)),
                };
                return Some(Input::Acted { instance, result });
            }
            Action::LetGo { instance } => {
                if let Some(dataplane) = &self.dataplane {
                    dataplane.let_go(instance);
                }
            }
            Action::SendEcho { path, round } => {
                let result = self.with_paths(|paths, world| paths.send_echo(path, round, world));
                let result = result.unwrap_or_else(|| Err("there is no dataplane".to_owned()));
                return Some(Input::EchoSent {
                    path,
                    round,
                    result,
                });
            }
            Action::SendRelease { instance, round } => {
                self.with_paths(|paths, world| paths.send_release(instance, round, world));
            }
            Action::RenewAlone {
                instance,
                peer,
                lease,
                heard_at,
            } => {
                if let Some(dataplane) = &self.dataplane {
                    dataplane.renew_alone(instance, peer, lease, heard_at);
                }
            }
            Action::PathReport { path, up, heard_at } => {
                self.paths.report_change(path, up, heard_at, &mut self.out);
            }
        }
        None
    }

    /// The paths, with what echoes are made of; `None` without a dataplane.
    fn with_paths<T>(
        &mut self,
        send: impl FnOnce(&mut Paths, &Surroundings<'_>) -> T,
    ) -> Option<T> {
        let world = Surroundings {
            dataplane: self.dataplane.as_ref()?,
            interfaces: &self.interfaces,
            seats: &self.seats,
            errors: RefCell::default(),
        };
        let result = send(&mut self.paths, &world);
        for error in world.errors.into_inner() {
            self.out.log(Level::Warn, error);
        }
        Some(result)
    }

    /// What this node is for an instance that relies on leases: as Active its gate opens.
    fn stand(&mut self, id: InstanceId, standing: Standing) {
        let Some(index) = self.index(id) else {
            return;
        };
        self.seats[index].standing = standing;
        let Some(dataplane) = &self.dataplane else {
            return;
        };
        let length = dataplane.lease_length(id);
        dataplane.set_candidate_until(id, clock::now().after(length));
        dataplane.set_standing(id, standing);
        match standing {
            Standing::Active => {
                let lease = dataplane.first_lease(id);
                if dataplane.gate_open(id, clock::now()) {
                    self.note_open(index, lease);
                } else {
                    // What closed it is about to be taken in: a report of the kernel, or the lease's end.
                    let name = &self.seats[index].name;
                    let text = format!("{name}: its leases were granted, but its gate is closed");
                    self.out.log(Level::Warn, text);
                }
            }
            Standing::Candidate | Standing::Lapsed => {
                let sentence = match standing {
                    Standing::Lapsed => "this node asks its peers whether it may go on",
                    _ => "this node asks its peers for leases",
                };
                let sentence = sentence.to_owned();
                let name = &self.seats[index].name;
                self.out
                    .event(clock::now(), name, Kind::Candidate, sentence);
            }
            Standing::Bystander => {}
        }
    }

    /// An instance's place in the list: as long as no reload changed their order, its slot.
    pub(super) fn index(&self, id: InstanceId) -> Option<usize> {
        let slot = usize::try_from(id.0).ok()?;
        match self.seats.get(slot) {
            Some(seat) if seat.id == id => Some(slot),
            _ => self.seats.iter().position(|seat| seat.id == id),
        }
    }

    pub(super) fn seat_mut(&mut self, id: InstanceId) -> Option<&mut Seat> {
        let index = self.index(id)?;
        self.seats.get_mut(index)
    }

    /// What the last advert said.
    pub(super) fn last_word(&self, id: InstanceId) -> AdvertWord {
        match &self.dataplane {
            Some(dataplane) => AdvertWord(dataplane.received(id).last_word),
            None => self
                .index(id)
                .map_or(AdvertWord(0), |index| self.seats[index].said.word),
        }
    }

    fn set_epoch(&mut self, id: InstanceId, epoch: Epoch) {
        let ends = self.gate_ends(id);
        if let Some(dataplane) = &self.dataplane {
            // One that was raised behind the engine's back may be superseded before the engine comes to it.
            debug_assert_eq!(dataplane.epoch(id).raised(), epoch);
            dataplane.set_epoch(id, epoch);
        }
        let now = clock::now();
        let Some(index) = self.index(id) else {
            return;
        };
        let seat = &mut self.seats[index];
        seat.announced = false;
        // A gate that ran out while this thread was held up closed at its deadline, not now.
        seat.gate = None;
        if let Some(ends) = ends {
            let (at, how) = if ends <= now {
                (ends, "closed by itself: its lease ran out")
            } else {
                (now, "was closed")
            };
            let gate = match &self.dataplane {
                Some(_) => format!("the gate {how}; "),
                None => String::new(),
            };
            let sentence = format!(
                "{gate}this node no longer speaks for {}",
                seat.vips_in_words()
            );
            self.out.event(at, &seat.name, Kind::GateClosed, sentence);
        }
    }

    /// When an open gate closes by itself. Leases that peers grant were renewed by the kernel since it opened.
    fn gate_ends(&self, id: InstanceId) -> Option<MonoNs> {
        let seat = &self.seats[self.index(id)?];
        let opened = seat.gate?;
        let renewed = self
            .dataplane
            .as_ref()
            .filter(|_| seat.config.heartbeat.is_some())
            .map(|dataplane| dataplane.first_lease(id))
            .filter(|lease| lease.epoch() == opened.epoch());
        Some(renewed.unwrap_or(opened).deadline())
    }

    fn set_lease(&mut self, id: InstanceId, slot: usize, lease: Lease) {
        if let Some(dataplane) = &self.dataplane {
            dataplane.set_lease(id, slot, lease);
        }
        let Some(index) = self.index(id) else {
            return;
        };
        self.note_open(index, lease);
    }

    fn note_open(&mut self, index: usize, lease: Lease) {
        let seat = &mut self.seats[index];
        if seat.gate.replace(lease).is_none() {
            let gate = match &self.dataplane {
                Some(_) => "the gate opened; ",
                None => "",
            };
            let sentence = format!("{gate}this node speaks for {}", seat.vips_in_words());
            self.out
                .event(clock::now(), &seat.name, Kind::GateOpen, sentence);
        }
    }

    fn watch(&mut self, id: InstanceId, down: Option<Nanos>) {
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        if let Err(error) = dataplane.watch(id, down.map_or(0, |down| down.0)) {
            self.out.log(
                Level::Error,
                format!("the kernel's silence timer could not be set; this node relies on its backstop: {error}"),
            );
        }
    }

    /// Sends one gratuitous ARP or unsolicited neighbour advertisement for each of
    /// `count` VIPs, from the `first` on.
    fn announce(&mut self, id: InstanceId, first: u32, count: u32) -> Option<Result<(), String>> {
        let index = self.index(id)?;
        let seat = &mut self.seats[index];
        let Some(interface) = self.interfaces.get(&seat.config.interface) else {
            return Some(Err(format!(
                "there is no interface {}",
                seat.config.interface
            )));
        };
        let Some(port) = &interface.port else {
            return Some(Err(format!("{} has no socket", seat.config.interface)));
        };
        let mut result = Ok(());
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let is_last = seat.config.vips.len().saturating_sub(first) <= count;
        for vip in seat.config.vips.iter().skip(first).take(count) {
            let sent = match vip.addr() {
                IpAddr::V4(address) => {
                    port.send_arp(&arp::announcement(address.octets(), interface.mac))
                }
                IpAddr::V6(address) => port.send_ndp(&ndp::announcement(
                    address.into(),
                    interface.mac,
                    interface.router,
                )),
            };
            if let Err(error) = sent {
                result = Err(format!("{}: {error}", vip.addr()));
            }
        }
        if result.is_ok() && is_last && !std::mem::replace(&mut seat.announced, true) {
            let sentence = format!(
                "{} announced by {}",
                seat.vips_in_words(),
                seat.announcement_in_words()
            );
            self.out
                .event(clock::now(), &seat.name, Kind::Announced, sentence);
        }
        Some(result)
    }

    fn report(&mut self, transition: &Transition) {
        if let Some(seat) = self.seat_mut(transition.instance) {
            seat.state = transition.to;
            seat.active_since = (transition.to == State::Active).then_some(transition.at);
        }
        let sentence = format!(
            "{} is {}: {}",
            transition.name, transition.to, transition.cause
        );
        self.out.transition(
            transition.at,
            &transition.name.as_str().into(),
            (transition.from.name(), transition.to.name()),
            sentence,
        );
    }

    /// Tells the dataplane what an instance is, once its interface is there.
    pub(super) fn configure(&mut self, id: InstanceId) {
        let Some(index) = self.index(id) else {
            return;
        };
        let seat = &self.seats[index];
        let Some(interface) = self.interfaces.get_mut(&seat.config.interface) else {
            return;
        };
        if interface.ifindex == 0 {
            return;
        }
        interface.router = sys::forwards_v6(&seat.config.interface);
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        let vips: Vec<IpAddr> = seat.config.vips.iter().map(IpNet::addr).collect();
        let config = seat.map_config(interface.ifindex, interface.mac, interface.router);
        let grantors = self
            .paths
            .grantors(&seat.config, seat.source, &self.lease_channels);
        let result = dataplane
            .set_instance(id, &config, &vips, &seat.config.peers)
            .and_then(|()| dataplane.set_grantors(id, grantors.as_ref(), clock::now()));
        let rank = Rank {
            position: 0,
            priority: seat.rank.0,
        };
        dataplane.set_lease_rank(id, rank);
        self.seats[index].refused = result.is_err();
        if let Err(error) = result {
            let text = format!(
                "{}: the dataplane refused its configuration: {error}",
                self.seats[index].name
            );
            self.out.log(Level::Error, text);
            self.retry_soon();
        }
    }

    /// Reads what changed on the interfaces; whether anything did.
    pub(super) fn update_links(&mut self) -> bool {
        self.links.update().unwrap_or_else(|error| {
            let text = format!("the interfaces cannot be watched: {error}");
            self.out.log(Level::Error, text);
            false
        })
    }

    /// Compares the interfaces with what is attached, and tells what changed for the engine.
    pub(super) fn follow_links(&mut self, inputs: &mut Vec<Input>) {
        let names: Vec<String> = self.interfaces.keys().cloned().collect();
        for name in names {
            self.follow_link(&name);
        }
        self.make_room();
        let found = self.found();
        for index in 0..self.seats.len() {
            self.follow_seat(index, &found, inputs);
        }
        let (channels, interfaces, mut world) = self.channels();
        if channels.follow(interfaces, &mut world) {
            self.retry_soon();
        }
        let Self {
            paths,
            interfaces,
            seats,
            dataplane,
            out,
            ..
        } = self;
        if paths.follow(interfaces, seats, dataplane.as_mut(), out) {
            self.retry_soon();
        }
    }

    /// Takes in a plan's paths.
    pub(super) fn configure_paths(&mut self, plan: &Plan) {
        self.lease_channels.clone_from(&plan.lease_channels);
        self.paths
            .configure(plan, self.dataplane.as_mut(), &mut self.out);
    }

    /// The channels, the interfaces, and what the channels act with.
    pub(super) fn channels(&mut self) -> (&mut Channels, &BTreeMap<String, Interface>, World<'_>) {
        let world = World {
            dataplane: self.dataplane.as_mut(),
            out: &mut self.out,
        };
        (&mut self.channels, &self.interfaces, world)
    }

    fn found(&self) -> Found {
        let vips = self
            .seats
            .iter()
            .filter(|seat| !seat.is_owner())
            .flat_map(|seat| seat.config.vips.iter().map(IpNet::addr))
            .chain(self.debts.iter().map(|debt| debt.vip.addr()))
            .collect();
        let table = self.links.table();
        let there = self
            .interfaces
            .keys()
            .filter_map(|name| Some((name.clone(), table.by_name(name)?.set())))
            .collect();
        Found { vips, there }
    }

    fn follow_link(&mut self, name: &str) {
        let link = self.links.table().by_name(name).cloned();
        let Some(interface) = self.interfaces.get_mut(name) else {
            return;
        };
        let found = link.as_ref().map_or(0, |link| link.ifindex);
        let gone = interface.ifindex;
        if gone != 0 && gone != found {
            *interface = Interface::default();
            self.ports_changed = true;
            // Renamed, it has the VIPs until the engine has let go of them.
            self.unused.insert(gone);
            self.retry_soon();
            self.out
                .log(Level::Warn, format!("interface {name} is gone"));
        }
        let Some(link) = link else {
            return;
        };
        let Some(interface) = self.interfaces.get_mut(name) else {
            return;
        };
        // What guards the VIPs is in place before the programs are, so that no VIP is without its gate.
        if (interface.ifindex, interface.mac) != (link.ifindex, link.mac) {
            interface.ifindex = link.ifindex;
            interface.mac = link.mac;
            self.configure_all(name);
        }
        let Some(interface) = self.interfaces.get_mut(name) else {
            return;
        };
        if interface.port.is_none() {
            match open(&mut self.dataplane, &link) {
                Ok((port, attachment)) => {
                    self.out
                        .log(Level::Info, attached(name, attachment.as_ref()));
                    interface.port = Some(port);
                    interface.has_groups = false;
                    interface.attachment = attachment;
                    interface.error = None;
                    self.ports_changed = true;
                }
                Err(error) => {
                    if interface.error.as_ref() != Some(&error) {
                        self.out.log(Level::Error, format!("{name}: {error}"));
                    }
                    interface.error = Some(error);
                    self.retry_soon();
                    return;
                }
            }
        }
        self.follow_v6(name);
    }

    /// Opens the sockets of IPv6 where an instance needs them, and joins the groups of the VIPs.
    fn follow_v6(&mut self, name: &str) {
        let Some(interface) = self.interfaces.get_mut(name) else {
            return;
        };
        let Some(port) = interface.port.as_mut().filter(|_| !interface.has_groups) else {
            return;
        };
        let here = || {
            self.seats
                .iter()
                .filter(|seat| seat.config.interface == name)
        };
        let vips = here()
            .flat_map(|seat| &seat.config.vips)
            .filter_map(|vip| match vip.addr() {
                IpAddr::V6(vip) => Some(vip),
                IpAddr::V4(_) => None,
            });
        let opened = !port.has_v6();
        let result = if here().any(|seat| seat.config.uses_v6())
            || self.paths.peers_on(name).any(|peer| peer.is_ipv6())
        {
            port.open_v6()
        } else {
            Ok(())
        };
        self.ports_changed |= opened && port.has_v6();
        match result.and_then(|()| port.hear_solicitations(vips)) {
            Ok(()) => interface.has_groups = true,
            Err(error) => {
                let text = format!("{name}: not everything of IPv6 can be heard: {error}");
                self.out.log(Level::Error, text);
                self.retry_soon();
            }
        }
    }

    /// Lets the sockets hold what waits for the peers' MAC addresses.
    fn make_room(&mut self) {
        for (name, interface) in &mut self.interfaces {
            let Some(port) = &mut interface.port else {
                continue;
            };
            let here = self
                .seats
                .iter()
                .filter(|seat| seat.config.interface == *name);
            let peers = here.flat_map(|seat| seat.config.peers.iter().copied());
            let peers = peers.chain(self.paths.peers_on(name)).collect();
            if let Err(error) = port.make_room(name, &peers) {
                let text = format!(
                    "{name}: while the kernel asks for a peer's MAC address, packets to the others may not leave: \
                     {error}"
                );
                self.out.log(Level::Warn, text);
            }
        }
    }

    fn configure_all(&mut self, interface: &str) {
        let ids: Vec<InstanceId> = self
            .seats
            .iter()
            .filter(|seat| seat.config.interface == interface)
            .map(|seat| seat.id)
            .collect();
        for id in ids {
            self.configure(id);
        }
    }

    fn follow_seat(&mut self, index: usize, found: &Found, inputs: &mut Vec<Input>) {
        let seat = &self.seats[index];
        let id = seat.id;
        let name = &seat.config.interface;
        let failed = seat.refused
            || (seat.config.heartbeat.is_some() && self.dataplane.is_none())
            || self
                .interfaces
                .get(name)
                .is_none_or(|interface| interface.port.is_none());
        let link = self.links.table().by_name(name);
        let condition = match link {
            None => InterfaceCondition::Absent,
            Some(link) => match link.condition(seat.config.source, |address| {
                seat.config.suits_as_source(address) && !found.vips.contains(&address)
            }) {
                InterfaceCondition::Ready { .. } if failed => InterfaceCondition::NoDataplane,
                condition => condition,
            },
        };
        let mut missing: BTreeSet<IpAddr> = BTreeSet::new();
        if let Some(there) = found.there.get(name).filter(|_| seat.holds_vips) {
            let vips = seat.config.vips.iter().map(IpNet::addr);
            missing.extend(vips.filter(|vip| !there.contains(vip)));
        }
        let lost = seat.holds_vips
            && self.chores.addition(id).is_none()
            && missing.iter().any(|vip| !seat.unseen.contains(vip));
        let own: Vec<IpNet> = match link {
            Some(link) if seat.is_owner() && !seat.holds_vips => seat
                .config
                .vips
                .iter()
                .filter(|vip| link.addresses.contains(vip))
                .copied()
                .collect(),
            _ => seat.own.clone(),
        };
        let seat = &mut self.seats[index];
        seat.own = own;
        seat.unseen.retain(|vip| missing.contains(vip));
        if seat.condition.as_ref() != Some(&condition) {
            seat.condition = Some(condition);
            if let InterfaceCondition::Ready { source } = condition
                && seat.source.replace(source) != Some(source)
            {
                self.configure(id);
            }
            let seat = &self.seats[index];
            if matches!(condition, InterfaceCondition::Ready { .. }) {
                if !seat.config.peers.is_empty() {
                    self.solicitations.begin(id);
                }
            } else {
                self.solicitations.end(id);
                let sentence = format!("waits for {}: {condition}", seat.config.interface);
                self.out
                    .event(clock::now(), &seat.name, Kind::Note, sentence);
            }
            inputs.push(Input::Interface {
                instance: id,
                condition,
            });
        }
        if lost {
            let seat = &self.seats[index];
            let sentence = format!(
                "somebody else took {} off {}",
                seat.vips_in_words(),
                seat.config.interface
            );
            self.out
                .log(Level::Warn, format!("{}: {sentence}", seat.name));
            inputs.push(Input::VipLost { instance: id });
        }
    }

    pub(super) fn retry_soon(&mut self) {
        let at = clock::now().after(RETRY);
        self.retry_at = Some(self.retry_at.map_or(at, |set| set.min(at)));
    }

    /// Tries again what failed: attaching, and removing VIPs.
    pub(super) fn retry(&mut self, inputs: &mut Vec<Input>) {
        self.retry_at = None;
        self.pay_debts();
        self.let_go();
        let refused: Vec<InstanceId> = self
            .seats
            .iter()
            .filter(|seat| seat.refused)
            .map(|seat| seat.id)
            .collect();
        for id in refused {
            self.configure(id);
        }
        self.follow_links(inputs);
    }

    /// Drops the interfaces that neither instance nor channel names any more, and takes in new ones.
    pub(super) fn match_interfaces(&mut self) {
        let wanted: Vec<String> = self
            .seats
            .iter()
            .map(|seat| seat.config.interface.as_str())
            .chain(self.channels.interfaces())
            .chain(self.paths.interfaces())
            .map(str::to_owned)
            .collect();
        let unused: Vec<String> = self
            .interfaces
            .keys()
            .filter(|name| !wanted.contains(name))
            .cloned()
            .collect();
        for name in unused {
            let gone = self.interfaces.remove(&name).unwrap_or_default();
            self.ports_changed = true;
            self.unused.insert(gone.ifindex);
        }
        for name in wanted {
            self.interfaces.entry(name).or_default().has_groups = false;
        }
        self.let_go();
    }

    /// Takes the programs off the interfaces that nothing names any more, but for those on which an
    /// address is owed.
    fn let_go(&mut self) {
        let Self {
            unused,
            interfaces,
            debts,
            ..
        } = self;
        let used = |ifindex: u32| interfaces.values().any(|one| one.ifindex == ifindex);
        unused.retain(|ifindex| !used(*ifindex));
        for ifindex in unused.extract_if(.., |ifindex| !debts.concern(*ifindex)) {
            // One that is gone took its programs along; what is left are pins.
            if let Some(dataplane) = &mut self.dataplane
                && let Err(error) = dataplane.detach(ifindex)
            {
                let text = format!("interface {ifindex} could not be let go of: {error}");
                self.out.log(Level::Warn, text);
            }
        }
    }
}

fn open(
    dataplane: &mut Option<Dataplane>,
    link: &Link,
) -> Result<(Port, Option<Attachment>), String> {
    let attachment = match dataplane {
        Some(dataplane) => Some(
            dataplane
                .attach(&link.name, link.ifindex)
                .map_err(|error| format!("the dataplane could not be attached: {error}"))?,
        ),
        None => None,
    };
    let port = Port::open(link.ifindex, dataplane.is_none())
        .map_err(|error| format!("the sockets could not be opened: {error}"))?;
    Ok((port, attachment))
}

fn attached(name: &str, attachment: Option<&Attachment>) -> String {
    match attachment {
        None => format!("{name}: adverts by sockets alone, no gate"),
        Some(attachment) => format!(
            "{name}: {} {}, egress guard by {}",
            match attachment.hook {
                Hook::Native => "XDP in native mode",
                Hook::Generic => "XDP in generic mode",
                Hook::Tc => "tc ingress",
            },
            if attachment.adopted {
                "adopted"
            } else {
                "attached"
            },
            if attachment.tcx { "tcx" } else { "clsact" },
        ),
    }
}
