//! Adverts, both ways: building what is sent, and (mode `off`) checking what a socket received.

use std::{collections::BTreeMap, net::IpAddr};

use ha_common::{
    Address, Centis, MonoNs, Nanos, Priority,
    abi::{AdvertWord, Said},
    wire::vrrp::{self, AdvertSpec, Dialect, MAX_PACKET_LEN},
};
use ha_core::{Action, Advert, Input, InstanceId, Version};

use super::{
    seat::{Seat, centis},
    shell::{Interface, Shell},
};
use crate::config::{Checksum, Family};

/// The adverts of an instance as they were built last: from one round to the next nothing in them changes.
#[derive(Default)]
pub(super) struct Prepared {
    contents: Option<Contents>,
    /// To each peer, or to the group.
    packets: Vec<(Vec<u8>, IpAddr)>,
}

/// What an advert says beside what is configured, whose change discards what was prepared.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Contents {
    version: vrrp::Version,
    priority: Priority,
    interval: Nanos,
    source: IpAddr,
}

/// An advert that is being sent.
struct Sending {
    /// Whose, by its place in the list.
    seat: usize,
    round: MonoNs,
    result: Result<(), String>,
}

impl Shell {
    /// Sends adverts that are due together, each to every peer or to the group. What became of them, in
    /// the same order.
    pub(super) fn advertise(&mut self, adverts: &[Action]) -> Vec<Input> {
        let mut sending = Vec::with_capacity(adverts.len());
        for advert in adverts {
            let Action::SendAdvert {
                instance,
                priority,
                interval,
                round,
            } = *advert
            else {
                continue;
            };
            let heard = self.last_word(instance);
            let Some(seat) = self.index(instance) else {
                continue;
            };
            let result = prepare(
                &mut self.seats[seat],
                heard,
                priority,
                interval,
                &mut self.buffer,
            );
            sending.push(Sending {
                seat,
                round,
                result,
            });
        }
        let Self {
            seats, interfaces, ..
        } = self;
        let interface = |one: &Sending| seats[one.seat].config.interface.as_str();
        for run in sending.chunk_by_mut(|one, next| interface(one) == interface(next)) {
            transmit(run, seats, interfaces);
        }
        sending
            .into_iter()
            .map(|one| {
                let seat = &mut self.seats[one.seat];
                seat.adverts_sent += u64::from(one.result.is_ok());
                Input::AdvertSent {
                    instance: seat.id,
                    round: one.round,
                    result: one.result,
                }
            })
            .collect()
    }
}

/// Sends adverts by the interface of all of them.
fn transmit(run: &mut [Sending], seats: &[Seat], interfaces: &BTreeMap<String, Interface>) {
    let Some(name) = run.first().map(|one| &seats[one.seat].config.interface) else {
        return;
    };
    let port = interfaces
        .get(name)
        .and_then(|interface| interface.port.as_ref());
    let Some(port) = port else {
        for one in run {
            one.result = Err(format!("{name} has no socket"));
        }
        return;
    };
    let (senders, packets): (Vec<usize>, Vec<_>) = run
        .iter()
        .enumerate()
        .filter(|(_, one)| one.result.is_ok())
        .flat_map(|(place, one)| {
            let packets = seats[one.seat].prepared.packets.iter();
            packets.map(move |(packet, destination)| (place, (packet.as_slice(), *destination)))
        })
        .unzip();
    port.send_adverts(&packets, |at, error| {
        let result = &mut run[senders[at]].result;
        if result.is_ok() {
            *result = Err(format!("to {}: {error}", packets[at].1));
        }
    });
}

/// Builds an instance's adverts, unless they are what was built last.
fn prepare(
    seat: &mut Seat,
    heard: AdvertWord,
    priority: Priority,
    interval: Nanos,
    buffer: &mut [u8; MAX_PACKET_LEN],
) -> Result<(), String> {
    let Some(source) = seat.source else {
        return Err("the source address is not known".to_owned());
    };
    let contents = Contents {
        version: match seat.config.version {
            Version::V2 => vrrp::Version::V2,
            Version::V3 => vrrp::Version::V3(dialect(seat.config.checksum, heard)),
        },
        priority,
        interval,
        source,
    };
    if seat.prepared.contents == Some(contents) {
        return Ok(());
    }
    seat.prepared = Prepared::default();
    let addresses: Vec<Address> = seat
        .config
        .named_in_adverts()
        .map(|vip| vip.addr().into())
        .collect();
    let group = [match seat.config.family() {
        Family::V4 => IpAddr::from(vrrp::GROUP),
        Family::V6 => IpAddr::from(vrrp::GROUP_V6),
    }];
    let destinations = match seat.config.peers.as_slice() {
        [] => &group,
        peers => peers,
    };
    let mut packets = Vec::with_capacity(destinations.len());
    for destination in destinations {
        let spec = AdvertSpec {
            version: contents.version,
            vrid: seat.config.vrid,
            priority,
            interval: Centis(centis(interval.0)),
            source: source.into(),
            destination: (*destination).into(),
            addresses: &addresses,
        };
        let packet = vrrp::build_advert(&spec, buffer).map_err(|error| error.to_string())?;
        packets.push((packet.to_vec(), *destination));
    }
    seat.prepared = Prepared {
        contents: Some(contents),
        packets,
    };
    Ok(())
}

/// Without a choice in the configuration, the dialect of the peer; before it was heard, the one that
/// keepalived and FRR expect as they come: they drop the other one, this node accepts both.
fn dialect(checksum: Checksum, heard: AdvertWord) -> Dialect {
    match checksum {
        Checksum::Rfc9568 => Dialect::Plain,
        Checksum::PseudoHeader => Dialect::PseudoHeader,
        Checksum::Auto if heard.is_valid() && !heard.has_pseudo_header() => Dialect::Plain,
        Checksum::Auto => Dialect::PseudoHeader,
    }
}

/// What an advert said, for the engine.
pub(super) fn input(instance: InstanceId, said: Said, received_at: MonoNs) -> Input {
    let word = said.word;
    Input::Advert {
        instance,
        advert: Advert {
            sender: said.sender.into(),
            priority: Priority(word.priority()),
            interval: Centis(word.interval_centis()).to_nanos(),
            from_had: word.from_had(),
        },
        received_at,
    }
}

/// Checks a received packet as XDP does. `None`: not for this instance, or not valid.
pub(super) fn check(seat: &Seat, packet: &[u8]) -> Option<Said> {
    let rules = seat.map_config(0, [0; 6], false).rules();
    let allowed = |sender: Address| seat.config.peers.contains(&sender.into());
    let advert = vrrp::parse(packet, &rules, allowed).ok()?;
    Some(advert.said())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_answers_in_the_dialect_of_the_peer() {
        let nothing = AdvertWord(0);
        let plain = AdvertWord::new(100, 1, false);
        let pseudo = plain.with_pseudo_header();
        assert_eq!(dialect(Checksum::Auto, nothing), Dialect::PseudoHeader);
        assert_eq!(dialect(Checksum::Auto, plain), Dialect::Plain);
        assert_eq!(dialect(Checksum::Auto, pseudo), Dialect::PseudoHeader);
        assert_eq!(dialect(Checksum::Rfc9568, pseudo), Dialect::Plain);
        assert_eq!(
            dialect(Checksum::PseudoHeader, plain),
            Dialect::PseudoHeader
        );
    }
}
