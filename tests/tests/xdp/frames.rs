//! Frames, right and wrong.

use ha_common::{
    Address, Centis, Priority, Vrid,
    wire::{
        arp::Arp,
        checksum::Sum,
        ethernet,
        vrrp::{self, AdvertSpec, Dialect, MAX_PACKET_LEN, Version},
    },
};
use ha_core::InstanceId;

use crate::fixture::{self, OURS, PEER, UNICAST, V2, vip};

/// The station that sends.
pub(crate) const SENDER: [u8; 6] = [0x02, 0, 0, 0, 2, 1];

/// Where the IP header begins.
pub(crate) const IP: usize = ethernet::HEADER_LEN;

/// Where the VRRP message begins, if there are no options.
pub(crate) const VRRP: usize = IP + 20;

/// An Ethernet frame.
pub(crate) fn frame(destination: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [
        &ethernet::build(destination, SENDER, ether_type)[..],
        payload,
    ]
    .concat()
}

/// An ARP frame, padded as Ethernet does.
pub(crate) fn arp(destination: [u8; 6], arp: Arp) -> Vec<u8> {
    let mut frame = frame(destination, ethernet::ARP, &arp.emit());
    frame.resize(60, 0xee);
    frame
}

/// A request by [`SENDER`].
pub(crate) fn request(sender_ip: [u8; 4], target_ip: [u8; 4]) -> Arp {
    Arp {
        operation: ha_common::wire::arp::REQUEST,
        sender_mac: SENDER,
        sender_ip,
        target_mac: [0; 6],
        target_ip,
    }
}

/// A UDP packet with a few bytes.
pub(crate) fn udp(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 32, 0, 1, 0x40, 0, 64, 17, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    packet.extend([0x30, 0x39, 0, 9, 0, 12, 0, 0, b'a', b'b', b'c', b'd']);
    seal_header(&mut packet);
    let mut frame = frame([0x02, 0, 0, 0, 1, 1], ethernet::IPV4, &packet);
    frame.resize(60, 0);
    frame
}

/// A valid advert of the peer for one of the fixture's instances.
pub(crate) fn advert(id: InstanceId, priority: u8) -> Vec<u8> {
    advert_with(id, |spec| spec.priority = Priority(priority))
}

/// The same, changed before it is built.
pub(crate) fn advert_with(id: InstanceId, change: impl FnOnce(&mut AdvertSpec<'_>)) -> Vec<u8> {
    let mut spec = AdvertSpec {
        version: if id == V2 {
            Version::V2
        } else {
            Version::V3(Dialect::Plain)
        },
        vrid: Vrid::new(fixture::vrid(id)).unwrap(),
        priority: Priority(50),
        interval: Centis(if id == V2 { 100 } else { 1 }),
        source: Address::v4(PEER),
        destination: Address::v4(if id == UNICAST { OURS } else { vrrp::GROUP }),
        addresses: &[Address::v4(vip(id))],
    };
    change(&mut spec);
    let mut buffer = [0; MAX_PACKET_LEN];
    let packet = vrrp::build_advert(&spec, &mut buffer).unwrap();
    let mut frame = frame([0x01, 0, 0x5e, 0, 0, 0x12], ethernet::IPV4, packet);
    frame.resize(frame.len().max(60), 0xee);
    frame
}

/// A valid advert, changed afterwards, with both checksums right again.
pub(crate) fn forged(id: InstanceId, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = advert(id, 50);
    change(&mut frame);
    seal(&mut frame);
    frame
}

/// Puts both checksums right.
pub(crate) fn seal(frame: &mut [u8]) {
    let packet = &mut frame[IP..];
    seal_header(packet);
    let header_len = usize::from(packet[0] & 15) * 4;
    let total_len = usize::from(u16::from_be_bytes([packet[2], packet[3]])).min(packet.len());
    if total_len < header_len + 8 {
        return;
    }
    let message = &mut packet[header_len..total_len];
    message[6..8].fill(0);
    let sum = Sum::ZERO.slice(message).checksum();
    message[6..8].copy_from_slice(&sum.to_be_bytes());
}

pub(crate) fn seal_header(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let header_len = (usize::from(packet[0] & 15) * 4).min(packet.len());
    let sum = Sum::ZERO.slice(&packet[..header_len]).checksum();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Puts IP options (Router Alert and padding) into an IPv4 frame, header checksum right.
pub(crate) fn with_options(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(VRRP..VRRP, [0x94, 0x04, 0, 0]);
    frame[IP] = 0x46;
    let total_len = u16::from_be_bytes([frame[IP + 2], frame[IP + 3]]) + 4;
    frame[IP + 2..IP + 4].copy_from_slice(&total_len.to_be_bytes());
    seal_header(&mut frame[IP..]);
    frame
}

/// Puts an IEEE 802.1Q tag of a VLAN without an interface into a frame.
pub(crate) fn tagged(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0x00, 0x00, 0x09]);
    frame
}
