//! Adverts, both ways: building what is sent, and (mode `off`) checking what a socket received.

use std::net::IpAddr;

use ha_common::{
    Address, Centis, MonoNs, Nanos, Priority,
    abi::{AdvertWord, Said},
    wire::vrrp::{self, AdvertSpec, Dialect, MAX_PACKET_LEN},
};
use ha_core::{Advert, Input, InstanceId, Version};

use super::seat::{Seat, centis};
use crate::{
    config::{Checksum, Family},
    net::port::Port,
};

/// Sends an advert to every peer, or to the group.
pub(super) fn send(
    seat: &Seat,
    port: &Port,
    heard: AdvertWord,
    priority: Priority,
    interval: Nanos,
    buffer: &mut [u8; MAX_PACKET_LEN],
) -> Result<(), String> {
    let Some(source) = seat.source else {
        return Err("the source address is not known".to_owned());
    };
    let mut addresses = [Address::UNSPECIFIED; 255];
    let count = addresses
        .iter_mut()
        .zip(seat.config.named_in_adverts())
        .map(|(slot, vip)| *slot = vip.addr().into())
        .count();
    let group = [match seat.config.family() {
        Family::V4 => IpAddr::from(vrrp::GROUP),
        Family::V6 => IpAddr::from(vrrp::GROUP_V6),
    }];
    let destinations = match seat.config.peers.as_slice() {
        [] => &group,
        peers => peers,
    };
    let mut result = Ok(());
    for destination in destinations {
        let spec = AdvertSpec {
            version: match seat.config.version {
                Version::V2 => vrrp::Version::V2,
                Version::V3 => vrrp::Version::V3(dialect(seat.config.checksum, heard)),
            },
            vrid: seat.config.vrid,
            priority,
            interval: Centis(centis(interval.0)),
            source: source.into(),
            destination: (*destination).into(),
            addresses: addresses.get(..count).unwrap_or_default(),
        };
        let sent = vrrp::build_advert(&spec, buffer)
            .map_err(|error| error.to_string())
            .and_then(|packet| {
                port.send_advert(packet, *destination)
                    .map_err(|error| format!("to {destination}: {error}"))
            });
        result = result.and(sent);
    }
    result
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
