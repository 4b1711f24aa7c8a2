//! What this node sends on its paths: echoes, and that it let go.

use std::{collections::BTreeMap, net::IpAddr};

use ha_common::{
    Address, MonoNs, Nanos,
    lease::{Ask, Rank, Standing},
    wire::{
        arp,
        echo::{self, Entry, Head, Kind, MAX_ENTRIES, MAX_LEN, Route, Verdict},
        ethernet, ndp,
    },
};
use ha_core::{InstanceId, PathId};

use super::{Paths, line::Line, packet::packet};
use crate::{
    dataplane::Dataplane,
    engine::{seat::Seat, shell::Interface},
    net::port::Port,
};

/// Between two looks for the peer of a path that does not work.
const SEEK: Nanos = Nanos::from_secs(1);

/// What every packet has of its own, on whichever path it leaves.
#[derive(Default)]
pub(super) struct Packets {
    count: u64,
    /// The send time of the last one.
    sent: MonoNs,
}

/// What echoes are made of.
pub(crate) struct Surroundings<'a> {
    pub(crate) dataplane: &'a Dataplane,
    pub(crate) interfaces: &'a BTreeMap<String, Interface>,
    pub(crate) seats: &'a [Seat],
    /// What could not be sent, in words.
    pub(crate) errors: std::cell::RefCell<Vec<String>>,
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

impl Paths {
    /// Sends one echo with an entry for every instance on the path that is asked for.
    pub(crate) fn send_echo(
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
    pub(crate) fn send_release(&mut self, id: InstanceId, round: MonoNs, world: &Surroundings<'_>) {
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
}

impl Line {
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
                kind: Kind::Echo,
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
