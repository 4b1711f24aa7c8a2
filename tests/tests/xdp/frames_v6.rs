//! IPv6 frames, right and wrong.

use ha_common::{
    Address, Centis, Priority, Vrid,
    wire::{
        checksum::Sum,
        ethernet, ipv6,
        vrrp::{self, AdvertSpec, Dialect, MAX_PACKET_LEN, Version},
    },
};
use ha_core::InstanceId;

use crate::{
    fixture::{self, OURS_V6, PEER_V6, UNICAST_V6, vip_v6},
    frames::{IP, SENDER, frame},
};

/// Where what follows the IPv6 header begins.
pub(crate) const BODY: usize = IP + ipv6::HEADER_LEN;

pub(crate) const SOLICITATION: u8 = 135;
pub(crate) const ADVERTISEMENT: u8 = 136;

/// Where neighbour solicitations of an address go.
pub(crate) fn group_mac(target: Address) -> [u8; 6] {
    ipv6::multicast_mac(ipv6::solicited_node(target))
}

/// A packet to `station`.
pub(crate) fn packet(
    station: [u8; 6],
    (source, destination): (Address, Address),
    next_header: u8,
    body: &[u8],
) -> Vec<u8> {
    let header = ipv6::Header {
        flow_label: 0,
        payload_len: u16::try_from(body.len()).unwrap(),
        next_header,
        hop_limit: 255,
        source,
        destination,
    };
    let bytes = [&header.emit()[..], body].concat();
    frame(station, ethernet::IPV6, &bytes)
}

/// A UDP packet with a few bytes.
pub(crate) fn udp(source: Address, destination: Address) -> Vec<u8> {
    let body = [0x30, 0x39, 0, 9, 0, 12, 0, 0, b'a', b'b', b'c', b'd'];
    packet([0x02, 0, 0, 0, 1, 1], (source, destination), 17, &body)
}

/// A neighbour solicitation or advertisement, with the checksum right.
pub(crate) fn neighbor(
    station: [u8; 6],
    addresses: (Address, Address),
    (kind, flags): (u8, u8),
    target: Address,
    option: &[u8],
) -> Vec<u8> {
    let body = [
        &[kind, 0, 0, 0, flags, 0, 0, 0],
        &target.octets()[..],
        option,
    ]
    .concat();
    let mut frame = packet(station, addresses, 58, &body);
    seal(&mut frame);
    frame
}

/// [`SENDER`]'s address as an option, of the source (1) or of the target (2).
pub(crate) fn link_layer(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

/// Who has `target`? asks [`SENDER`] at `source`.
pub(crate) fn solicitation(source: Address, target: Address) -> Vec<u8> {
    neighbor(
        group_mac(target),
        (source, ipv6::solicited_node(target)),
        (SOLICITATION, 0),
        target,
        &link_layer(1, SENDER),
    )
}

/// [`SENDER`] wants `target` for itself (with a nonce, as Linux).
pub(crate) fn probe(target: Address) -> Vec<u8> {
    neighbor(
        group_mac(target),
        (Address::UNSPECIFIED, ipv6::solicited_node(target)),
        (SOLICITATION, 0),
        target,
        &[14, 1, 1, 2, 3, 4, 5, 6],
    )
}

/// A valid advert of the peer for one of the fixture's instances.
pub(crate) fn advert(id: InstanceId, priority: u8) -> Vec<u8> {
    advert_with(id, |spec| spec.priority = Priority(priority))
}

/// The same, changed before it is built.
pub(crate) fn advert_with(id: InstanceId, change: impl FnOnce(&mut AdvertSpec<'_>)) -> Vec<u8> {
    let mut spec = AdvertSpec {
        version: Version::V3(Dialect::PseudoHeader),
        vrid: Vrid::new(fixture::vrid(id)).unwrap(),
        priority: Priority(50),
        interval: Centis(1),
        source: PEER_V6,
        destination: if id == UNICAST_V6 {
            OURS_V6
        } else {
            Address::v6(vrrp::GROUP_V6)
        },
        addresses: &[vip_v6(id)],
    };
    change(&mut spec);
    let mut buffer = [0; MAX_PACKET_LEN];
    let packet = vrrp::build_advert(&spec, &mut buffer).unwrap();
    frame([0x33, 0x33, 0, 0, 0, 0x12], ethernet::IPV6, packet)
}

/// A frame changed afterwards, with its checksum right again.
pub(crate) fn forged(mut frame: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut frame);
    seal(&mut frame);
    frame
}

/// Puts the checksum of ICMPv6 or VRRP right, over what the header says or there is.
pub(crate) fn seal(frame: &mut [u8]) {
    let Some(header) = frame[IP..].first_chunk().and_then(ipv6::Header::parse) else {
        return;
    };
    let at = match header.next_header {
        58 => 2,
        _ => 6,
    };
    let len = usize::from(header.payload_len).min(frame.len() - BODY);
    let body = &mut frame[BODY..BODY + len];
    if len < 8 {
        return;
    }
    body[at..at + 2].fill(0);
    let sum: Sum = ipv6::pseudo_header(
        header.source,
        header.destination,
        header.payload_len,
        header.next_header,
    );
    let checksum = sum.slice(body).checksum();
    body[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}
