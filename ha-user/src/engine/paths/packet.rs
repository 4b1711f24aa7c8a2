//! A payload as an IP packet with UDP.

use std::net::IpAddr;

use ha_common::{
    Address,
    lease::PORT,
    wire::{ethernet, ipv4, ipv6, udp},
};

/// Puts an IP packet behind where the Ethernet header goes; how long it is.
pub(super) fn packet(
    local: IpAddr,
    peer: IpAddr,
    payload: &[u8],
    frame: &mut [u8; 2048],
) -> Option<usize> {
    let len = udp::HEADER_LEN + payload.len();
    let short = u16::try_from(len).ok()?;
    let (source, destination) = (Address::from(local), Address::from(peer));
    let mut head = [0; udp::HEADER_LEN];
    let [p0, p1] = PORT.to_be_bytes();
    let [l0, l1] = short.to_be_bytes();
    head[..6].copy_from_slice(&[p0, p1, p0, p1, l0, l1]);
    // Over IPv4-mapped addresses the sum comes to the same.
    let sum = ipv6::pseudo_header(source, destination, short, udp::PROTOCOL)
        .slice(&head)
        .slice(payload);
    let checksum = match sum.checksum() {
        0 => u16::MAX,
        checksum => checksum,
    };
    head[6..].copy_from_slice(&checksum.to_be_bytes());
    let rest = frame.get_mut(ethernet::HEADER_LEN..)?;
    let header_len = match (local, peer) {
        (IpAddr::V4(local), IpAddr::V4(peer)) => {
            let header = ipv4::Header {
                header_len: 20,
                total_len: short + 20,
                identification: 0,
                dont_fragment: true,
                fragment: false,
                ttl: u8::MAX,
                protocol: udp::PROTOCOL,
                source: local.octets(),
                destination: peer.octets(),
            };
            rest.get_mut(..ipv4::HEADER_LEN)?
                .copy_from_slice(&header.emit());
            ipv4::HEADER_LEN
        }
        (IpAddr::V6(_), IpAddr::V6(_)) => {
            let header = ipv6::Header {
                flow_label: 0,
                payload_len: short,
                next_header: udp::PROTOCOL,
                hop_limit: u8::MAX,
                source,
                destination,
            };
            rest.get_mut(..ipv6::HEADER_LEN)?
                .copy_from_slice(&header.emit());
            ipv6::HEADER_LEN
        }
        _ => return None,
    };
    let rest = rest.get_mut(header_len..)?;
    rest.get_mut(..udp::HEADER_LEN)?.copy_from_slice(&head);
    rest.get_mut(udp::HEADER_LEN..len)?.copy_from_slice(payload);
    Some(header_len + len)
}
