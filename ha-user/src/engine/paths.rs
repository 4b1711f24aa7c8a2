//! The paths on which leases are asked for and granted: each instance's own LAN, and channels of kind `lease`.
//!
//! The kernel answers the peers and takes their answers; here only this node's own echoes are sent. While the
//! peer's MAC address is known from its packets, they leave as whole frames: a neighbour entry that died while
//! a cable was cut would delay them by seconds.

mod identity;
mod packet;
mod way;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ha_common::{
    Address, MonoNs, Nanos,
    abi::lease::MAX_PATHS,
    gate::MAX_LEASES,
    lease::{Ask, PORT, Rank, Standing},
    wire::{
        arp,
        echo::{self, Entry, Head, Kind as Sort, MAX_ENTRIES, MAX_LEN, Route, Verdict},
        ethernet, ndp,
    },
};
use ha_core::{Alone, InstanceId, LeaseConfig, LeasePeer, PathConfig, PathId};
use socket2::{Domain, Protocol, Socket, Type};

use self::{
    identity::{boot_id, hash},
    packet::packet,
    way::{Way, channel_way, lan_ways},
};
use super::{
    outbox::{Level, Outbox},
    plan::Plan,
    seat::Seat,
    shell::Interface,
};
use crate::{
    config::{Instance, LeaseChannel},
    control::report::PathReport,
    dataplane::{Dataplane, Grantor, Grantors, PathSettings},
    events::Kind,
    net::{
        links::{Link, Table},
        options::REJECT_ALL,
        port::Port,
    },
    sys::clock,
};

/// Between two looks for the peer of a path that does not work.
const SEEK: Nanos = Nanos::from_secs(1);

/// One path.
struct Line {
    id: PathId,
    /// The channel's name; the interface's, of a LAN.
    name: String,
    way: Way,
    /// Interface index and this node's address as the dataplane knows them; `None` while it is not set up.
    place: Option<(u32, IpAddr)>,
    up: Option<bool>,
    since: MonoNs,
    /// When the peer's MAC address was asked for last.
    sought: MonoNs,
    sent: u64,
    error: Option<String>,
}

/// When a peer of an instance was heard last.
pub(super) struct Contact {
    pub(super) peer: IpAddr,
    /// By way: its name, and when anything came on it.
    pub(super) ways: Vec<(String, MonoNs)>,
    /// On the instance's own LAN.
    pub(super) lan: Option<MonoNs>,
    /// The longest lease on any way.
    pub(super) lease: Nanos,
}

/// What every packet has of its own, on whichever path it leaves.
#[derive(Default)]
struct Packets {
    count: u64,
    /// The send time of the last one.
    sent: MonoNs,
}

/// Every path.
pub(super) struct Paths {
    lines: Vec<Line>,
    /// This node and its boot, as in packets.
    node: u64,
    boot: u64,
    /// The kernel's name for it.
    boot_id: Option<String>,
    packets: Packets,
    /// So that the kernel answers no echo of an unknown path with an ICMP error.
    guards: Vec<Socket>,
    frame: Box<[u8; 2048]>,
}

impl Paths {
    /// Without a single one.
    pub(super) fn new() -> Self {
        Self {
            lines: Vec::new(),
            node: 0,
            boot: 0,
            boot_id: None,
            packets: Packets::default(),
            guards: Vec::new(),
            frame: Box::new([0; 2048]),
        }
    }

    /// The interfaces that they use.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|line| line.way.interface.as_str())
    }

    /// The peers of those on the interface.
    pub(super) fn peers_on(&self, interface: &str) -> impl Iterator<Item = IpAddr> {
        let here = self.lines.iter();
        here.filter(move |line| line.way.interface == interface)
            .map(|line| line.way.peer)
    }

    /// Takes in what a plan needs; paths that stay what they are keep their numbers.
    pub(super) fn configure(
        &mut self,
        plan: &Plan,
        mut dataplane: Option<&mut Dataplane>,
        out: &mut Outbox,
    ) {
        let boot = self.boot_id.get_or_insert_with(|| boot_id(out));
        let (node, boot) = (hash(&plan.node), hash(&format!("{}\n{boot}", plan.node)));
        if (self.node, self.boot) != (node, boot) {
            (self.node, self.boot) = (node, boot);
            for line in &mut self.lines {
                line.place = None;
            }
        }
        let mut wanted: Vec<(String, Way)> = Vec::new();
        let mut want = |name: &str, way: Way| {
            if !wanted.iter().any(|(_, known)| *known == way) {
                wanted.push((name.to_owned(), way));
            }
        };
        for seat in &plan.seats {
            for way in lan_ways(&seat.instance) {
                want(&seat.instance.interface, way);
            }
        }
        for channel in &plan.lease_channels {
            want(&channel.name, channel_way(channel));
        }
        let is_kept = |line: &Line| wanted.iter().any(|(_, way)| *way == line.way);
        for line in self.lines.extract_if(.., |line| !is_kept(line)) {
            if let Some(dataplane) = dataplane.as_deref_mut()
                && let Err(error) = dataplane.clear_path(line.id.0)
            {
                out.log(Level::Error, format!("path {} stays: {error}", line.name));
            }
        }
        for (name, way) in wanted {
            if let Some(line) = self.lines.iter_mut().find(|line| line.way == way) {
                line.name = name;
                continue;
            }
            let free = (0..MAX_PATHS).find(|id| self.lines.iter().all(|line| line.id.0 != *id));
            let Some(id) = free else {
                let text = format!("there are more than {MAX_PATHS} paths: {name} is not used");
                out.log(Level::Error, text);
                continue;
            };
            self.lines.push(Line {
                id: PathId(id),
                name,
                way,
                place: None,
                up: None,
                since: clock::now(),
                sought: MonoNs::ZERO,
                sent: 0,
                error: None,
            });
        }
        if !self.lines.is_empty() && self.guards.is_empty() {
            self.guards = guards(out);
        }
    }

    /// Follows the interfaces and this node's addresses. Whether something failed that is to be tried again.
    pub(super) fn follow(
        &mut self,
        interfaces: &BTreeMap<String, Interface>,
        seats: &[Seat],
        dataplane: Option<&mut Dataplane>,
        out: &mut Outbox,
    ) -> bool {
        let Some(dataplane) = dataplane else {
            return false;
        };
        let mut failed = false;
        let places: Vec<_> = self
            .lines
            .iter()
            .map(|line| line.place_on(interfaces, seats))
            .collect();
        // What another path may get goes first.
        for (line, place) in self.lines.iter_mut().zip(&places) {
            if line.place.is_some() && line.place != *place {
                failed |= !line.move_to(None, dataplane, (self.node, self.boot), out);
            }
        }
        for (line, place) in self.lines.iter_mut().zip(places) {
            if line.place != place {
                failed |= !line.move_to(place, dataplane, (self.node, self.boot), out);
            }
        }
        failed
    }

    fn line(&self, way: &Way) -> Option<&Line> {
        self.lines.iter().find(|line| line.way == *way)
    }

    /// The paths to an instance's peers, in the order of its lease slots.
    fn to_peers<'a>(
        &'a self,
        instance: &'a Instance,
        plan_channels: &'a [LeaseChannel],
    ) -> impl Iterator<Item = (IpAddr, Vec<&'a Line>)> {
        let lan: Vec<Way> = lan_ways(instance).collect();
        instance
            .peers
            .iter()
            .take(MAX_LEASES)
            .zip(lan)
            .map(move |(peer, way)| {
                let own = self.line(&way);
                let channels = plan_channels.iter().filter(|channel| {
                    instance.channels.contains(&channel.name)
                        && channel.leads_to(instance) == Some(*peer)
                });
                let further = channels.filter_map(|channel| self.line(&channel_way(channel)));
                // A channel over the LAN is no further path.
                let further = further.filter(|line| own.is_none_or(|own| own.id != line.id));
                (*peer, own.into_iter().chain(further).collect())
            })
    }

    /// When an instance's peers were heard last, in the order of its lease slots.
    pub(super) fn contacts<'a>(
        &'a self,
        instance: &'a Instance,
        channels: &'a [LeaseChannel],
        dataplane: &'a Dataplane,
    ) -> impl Iterator<Item = Contact> {
        let heard_at = |line: &Line| dataplane.path_heard(line.id.0).0;
        self.to_peers(instance, channels)
            .map(move |(peer, lines)| Contact {
                peer,
                ways: lines
                    .iter()
                    .map(|line| (line.name.clone(), heard_at(line)))
                    .collect(),
                lan: lines
                    .iter()
                    .find(|line| line.way.interface == instance.interface)
                    .map(|line| heard_at(line)),
                lease: lines
                    .iter()
                    .map(|line| line.way.times.lease())
                    .max()
                    .unwrap_or_default(),
            })
    }

    /// For the engine; `None`: the instance relies on adverts alone.
    pub(super) fn lease_config(
        &self,
        instance: &Instance,
        channels: &[LeaseChannel],
    ) -> Option<LeaseConfig> {
        instance.heartbeat?;
        let peers = self
            .to_peers(instance, channels)
            .map(|(address, lines)| LeasePeer {
                address,
                paths: lines
                    .iter()
                    .map(|line| PathConfig {
                        id: line.id,
                        interval: line.way.times.interval,
                        multiplier: line.way.times.multiplier,
                    })
                    .collect(),
            });
        let stops = channels
            .iter()
            .any(|one| one.alone == Alone::Stop && instance.channels.contains(&one.name));
        Some(LeaseConfig {
            peers: peers.collect(),
            alone: if stops { Alone::Stop } else { Alone::Serve },
        })
    }

    /// For the dataplane.
    pub(super) fn grantors(
        &self,
        instance: &Instance,
        source: Option<IpAddr>,
        channels: &[LeaseChannel],
    ) -> Option<Grantors> {
        instance.heartbeat?;
        let mut lease = Nanos::ZERO;
        let mut peers = Vec::new();
        for (address, lines) in self.to_peers(instance, channels) {
            for line in &lines {
                lease = lease.max(line.way.times.lease());
            }
            let ours = source.map_or(Address::UNSPECIFIED, Address::from);
            peers.push(Grantor {
                address,
                is_greater: Address::from(address).exceeds(ours),
                paths: lines.iter().map(|line| line.id.0).collect(),
            });
        }
        Some(Grantors { peers, lease })
    }

    /// Sends one echo with an entry for every instance on the path that is asked for.
    pub(super) fn send_echo(
        &mut self,
        path: PathId,
        round: MonoNs,
        world: &Surroundings<'_>,
    ) -> Result<(), String> {
        let entries: Vec<Entry> = world
            .seats
            .iter()
            .filter(|seat| world.uses(seat, path))
            .filter_map(|seat| {
                let ask = match seat.standing {
                    Standing::Bystander => return None,
                    Standing::Candidate => {
                        let length = world.dataplane.lease_length(seat.id);
                        world
                            .dataplane
                            .set_candidate_until(seat.id, round.after(length));
                        Ask::Candidate
                    }
                    Standing::Active => Ask::Hold,
                    Standing::Lapsed => Ask::Resume,
                };
                Some(world.entry(seat, ask))
            })
            .collect();
        self.send(path, round, &entries, world)
    }

    /// Tells every peer of an instance, on every path, that it was let go of.
    pub(super) fn send_release(&mut self, id: InstanceId, round: MonoNs, world: &Surroundings<'_>) {
        let Some(seat) = world.seats.iter().find(|seat| seat.id == id) else {
            return;
        };
        let entry = world.entry(seat, Ask::Release);
        let paths: Vec<PathId> = self.lines.iter().map(|line| line.id).collect();
        for path in paths.into_iter().filter(|path| world.uses(seat, *path)) {
            // A peer that does not hear it waits for its promise's end.
            let _ = self.send(path, round, &[entry], world);
        }
    }

    fn send(
        &mut self,
        path: PathId,
        round: MonoNs,
        entries: &[Entry],
        world: &Surroundings<'_>,
    ) -> Result<(), String> {
        let Some(line) = self.lines.iter_mut().find(|line| line.id == path) else {
            return Err("there is no such path".to_owned());
        };
        let Self { node, boot, .. } = *self;
        let packets = &mut self.packets;
        let result = line.send(
            round,
            entries,
            world,
            (node, boot, packets),
            &mut self.frame,
        );
        if let Err(error) = &result
            && line.error.as_ref() != Some(error)
        {
            world
                .errors
                .borrow_mut()
                .push(format!("path {}: {error}", line.name));
        }
        line.error = result.as_ref().err().cloned();
        result
    }

    /// A path works, or no longer does.
    pub(super) fn report_change(
        &mut self,
        path: PathId,
        up: bool,
        heard_at: MonoNs,
        out: &mut Outbox,
    ) {
        let Some(line) = self.lines.iter_mut().find(|line| line.id == path) else {
            return;
        };
        let now = clock::now();
        line.up = Some(up);
        line.since = now;
        let peer = line.way.peer;
        let sentence = if up {
            format!("the path to {peer} works")
        } else if heard_at == MonoNs::ZERO {
            format!("nothing is heard from {peer} on this path")
        } else {
            format!(
                "nothing was heard from {peer} on this path for {}",
                now.since(heard_at)
            )
        };
        out.event(now, &line.name.as_str().into(), Kind::Channel, sentence);
    }

    /// Every path's number.
    pub(super) fn ids(&self) -> impl Iterator<Item = PathId> {
        self.lines.iter().map(|line| line.id)
    }

    /// For `hactl status`.
    pub(super) fn report(
        &self,
        dataplane: Option<&Dataplane>,
        links: &Table,
        now: MonoNs,
    ) -> Vec<PathReport> {
        self.lines
            .iter()
            .map(|line| {
                let state = dataplane.map(|dataplane| dataplane.path_state(line.id.0));
                let heard_at = dataplane.map(|dataplane| dataplane.path_heard(line.id.0).0);
                let heard_at = heard_at.filter(|at| *at != MonoNs::ZERO);
                let rtt = |permille: u64| {
                    let rtts = state.as_ref().map(|state| state.rtts)?;
                    percentile(&rtts, permille).map(|rtt| rtt.0 / 1_000)
                };
                PathReport {
                    name: line.name.clone(),
                    interface: line.way.interface.clone(),
                    local: line.place.map(|(_, local)| local),
                    peer: line.way.peer,
                    interval_us: line.way.times.interval.0 / 1_000,
                    multiplier: line.way.times.multiplier,
                    keyed: line.way.key.is_some(),
                    up: line.is_up(heard_at, links),
                    last_heard_us: heard_at.map(|at| now.since(at).0 / 1_000),
                    since: clock::rfc3339(line.since),
                    echoes_sent: line.sent,
                    echoes_answered: state.map_or(0, |state| state.echoes),
                    answers: state.map_or(0, |state| state.answers),
                    strangers: state.map_or(0, |state| state.strangers),
                    bad_tags: state.map_or(0, |state| state.bad_tags),
                    rtt_last_us: state
                        .filter(|state| state.answers > 0)
                        .map(|state| state.rtt_ns / 1_000),
                    rtt_median_us: rtt(500),
                    rtt_p99_us: rtt(990),
                    error: line.error.clone(),
                }
            })
            .collect()
    }
}

/// What echoes are made of.
pub(super) struct Surroundings<'a> {
    pub(super) dataplane: &'a Dataplane,
    pub(super) interfaces: &'a BTreeMap<String, Interface>,
    pub(super) seats: &'a [Seat],
    /// What could not be sent, in words.
    pub(super) errors: std::cell::RefCell<Vec<String>>,
}

impl Surroundings<'_> {
    fn uses(&self, seat: &Seat, path: PathId) -> bool {
        self.dataplane.is_on_path(seat.id, path.0)
    }

    fn entry(&self, seat: &Seat, ask: Ask) -> Entry {
        Entry {
            vrid: seat.config.vrid.get(),
            family: seat.config.family().number(),
            ask,
            verdict: Verdict::None,
            epoch: self.dataplane.epoch(seat.id),
            rank: Rank {
                position: 0,
                priority: seat.rank.0,
            },
        }
    }
}

impl Packets {
    /// The next one's number and send time: that of its round, unless one has left with it already. A peer takes
    /// none on a path that is not later than the one before, and orders requests and releases of all paths by it.
    fn next(&mut self, round: MonoNs) -> (u64, MonoNs) {
        self.count += 1;
        self.sent = round.max(self.sent.after(Nanos(1)));
        (self.count, self.sent)
    }
}

impl Line {
    /// Where it is to be set up; `None` while its interface is not ready, or has no address for it.
    fn place_on(
        &self,
        interfaces: &BTreeMap<String, Interface>,
        seats: &[Seat],
    ) -> Option<(u32, IpAddr)> {
        let ifindex = interfaces
            .get(&self.way.interface)
            .filter(|interface| interface.port.is_some())
            .map(|interface| interface.ifindex)?;
        let shares = |seat: &&Seat| {
            seat.source.is_some() && lan_ways(&seat.config).any(|way| way == self.way)
        };
        let local = self
            .way
            .local
            .or_else(|| seats.iter().find(shares)?.source)?;
        (ifindex != 0).then_some((ifindex, local))
    }

    /// Whether it works, as far as that can be told at once: the engine looks when an echo is due.
    fn is_up(&self, heard_at: Option<MonoNs>, links: &Table) -> Option<bool> {
        let carries = |link: &Link| link.up && link.carrier;
        if !links.by_name(&self.way.interface).is_some_and(carries) {
            return Some(false);
        }
        let heard = heard_at.is_some_and(|at| at >= self.since);
        self.up.or(heard.then_some(true))
    }

    /// Sets it up, or takes it off. Whether that was done.
    fn move_to(
        &mut self,
        place: Option<(u32, IpAddr)>,
        dataplane: &mut Dataplane,
        (node, boot): (u64, u64),
        out: &mut Outbox,
    ) -> bool {
        let result = match place {
            Some((ifindex, local)) => dataplane.set_path(
                self.id.0,
                &PathSettings {
                    ifindex,
                    local,
                    peer: self.way.peer,
                    key: self.way.key,
                    node,
                    boot,
                },
            ),
            None => dataplane.clear_path(self.id.0),
        };
        match result {
            Ok(()) => {
                self.place = place;
                true
            }
            Err(error) => {
                out.log(Level::Error, format!("path {}: {error}", self.name));
                false
            }
        }
    }

    /// More entries than a packet may have go in several.
    fn send(
        &mut self,
        round: MonoNs,
        entries: &[Entry],
        world: &Surroundings<'_>,
        (node, boot, packets): (u64, u64, &mut Packets),
        frame: &mut [u8; 2048],
    ) -> Result<(), String> {
        let (Some((_, local)), Some(port)) = (
            self.place,
            world
                .interfaces
                .get(&self.way.interface)
                .and_then(|interface| interface.port.as_ref()),
        ) else {
            return Err(format!("{} is not ready", self.way.interface));
        };
        let source_mac = world.interfaces[&self.way.interface].mac;
        let route = Route {
            source: Address::from(local).words(),
            destination: Address::from(self.way.peer).words(),
            key: self.way.key,
        };
        let times = self.way.times;
        let empty: &[Entry] = &[];
        let chunks = entries
            .chunks(MAX_ENTRIES)
            .chain(entries.is_empty().then_some(empty));
        for chunk in chunks {
            let (sequence, sent) = packets.next(round);
            let head = Head {
                kind: Sort::Echo,
                count: 0,
                node,
                boot,
                challenge: world.dataplane.their_challenge(self.id.0),
                sequence,
                sent,
                lease: times.lease(),
            };
            let mut payload = [0; MAX_LEN];
            let payload = echo::build(&head, chunk, &route, &mut payload);
            let packet = packet(local, self.way.peer, payload, frame)
                .ok_or_else(|| "the addresses are of different families".to_owned())?;
            let sent = match world.dataplane.peer_mac(self.id.0) {
                Some(mac) => {
                    if self.up != Some(true) && sent.since(self.sought) >= SEEK {
                        self.sought = sent;
                        let whole = &frame[ethernet::HEADER_LEN..ethernet::HEADER_LEN + packet];
                        seek(port, whole, (local, source_mac), self.way.peer);
                    }
                    let kind = if local.is_ipv4() {
                        ethernet::IPV4
                    } else {
                        ethernet::IPV6
                    };
                    frame[..ethernet::HEADER_LEN]
                        .copy_from_slice(&ethernet::build(mac, source_mac, kind));
                    port.send_frame(&frame[..ethernet::HEADER_LEN + packet], kind)
                }
                None => {
                    let whole = &frame[ethernet::HEADER_LEN..ethernet::HEADER_LEN + packet];
                    port.send_advert(whole, self.way.peer)
                }
            };
            sent.map_err(|error| format!("to {}: {error}", self.way.peer))?;
            self.sent += 1;
        }
        Ok(())
    }
}

/// Lets the kernel find a peer that may have another MAC address by now: a question of its own would come seconds
/// later, as long as it takes the one that it knows for right. A peer that gets the packet twice takes it once.
fn seek(port: &Port, packet: &[u8], (local, mac): (IpAddr, [u8; 6]), peer: IpAddr) {
    // What cannot be sent is tried again.
    let _ = match (local, peer) {
        (IpAddr::V4(local), IpAddr::V4(peer)) => {
            port.send_arp(&arp::request(local.octets(), mac, peer.octets()))
        }
        (IpAddr::V6(local), IpAddr::V6(peer)) => {
            port.send_ndp(&ndp::solicitation(local.into(), mac, peer.into()))
        }
        _ => Ok(()),
    };
    let _ = port.send_advert(packet, peer);
}

/// Sockets for the port, from which nothing is read.
fn guards(out: &mut Outbox) -> Vec<Socket> {
    let open = |address: IpAddr| -> io::Result<Socket> {
        let address = SocketAddr::new(address, PORT);
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        socket.attach_filter(&[REJECT_ALL])?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    all.into_iter()
        .filter_map(|address| match open(address) {
            Ok(socket) => Some(socket),
            Err(error) => {
                // A system without IPv6 gets no echoes over it either.
                if address.is_ipv4() {
                    let text = format!(
                        "UDP port {PORT} is somebody else's ({error}): who sends echoes of unknown paths \
                         may get answers"
                    );
                    out.log(Level::Warn, text);
                }
                None
            }
        })
        .collect()
}

/// The round trip below which so many of a thousand are.
fn percentile(rtts: &[u64], permille: u64) -> Option<Nanos> {
    let total: u64 = rtts.iter().sum();
    let rank = (total * permille).div_ceil(1_000);
    let mut seen = 0;
    let bucket = rtts.iter().position(|count| {
        seen += count;
        seen >= rank
    });
    (total > 0)
        .then_some(bucket)
        .flatten()
        .map(ha_common::abi::lease::rtt_bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_sent_later_than_the_one_before() {
        let mut packets = Packets::default();
        let mut sent = |round| packets.next(MonoNs(round)).1.0;
        assert_eq!([sent(100), sent(100), sent(100)], [100, 101, 102]);
        assert_eq!(sent(90), 103, "of a round that began before");
        assert_eq!(sent(200), 200);
    }
}
