//! Neighbour Discovery for IPv6 over Ethernet (RFC 4861): solicitations and advertisements.

use super::{
    checksum::{self, Sum},
    ethernet,
    ipv6::{self, Header},
};
use crate::Address;

/// Next header of ICMPv6.
pub const ICMPV6: u8 = 58;

/// ICMPv6 type: who has the target address?
pub const SOLICITATION: u8 = 135;

/// ICMPv6 type: the sender has.
pub const ADVERTISEMENT: u8 = 136;

/// Bytes of either message without options.
pub const HEAD_LEN: usize = 24;

/// Where a message's checksum stands.
pub const CHECKSUM: usize = 2;

/// Bytes of a link-layer address option; nonces are as long (RFC 7527 section 4.1).
pub const OPTION_LEN: usize = 8;

/// Bytes of a message with one such option, as the kernel and most others send it.
pub const MESSAGE_LEN: usize = HEAD_LEN + OPTION_LEN;

const MESSAGE_LEN_16: u16 = 32;

/// Bytes of the packet.
pub const PACKET_LEN: usize = ipv6::HEADER_LEN + MESSAGE_LEN;

/// Bytes of a frame with one.
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + PACKET_LEN;

const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// What a message is about, before its checksum and its options are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// [`SOLICITATION`] or [`ADVERTISEMENT`].
    pub kind: u8,
    /// The address that it is about.
    pub target: Address,
}

impl Subject {
    /// From the first bytes of an ICMPv6 message as they lie in memory. `None`: not such a message, or from
    /// beyond the link (hop limit other than 255).
    #[must_use]
    pub const fn of(header: &Header, head: [u64; HEAD_LEN / 8]) -> Option<Self> {
        let [first, target @ ..] = head;
        let [kind, code, ..] = first.to_ne_bytes();
        let proper = header.next_header == ICMPV6
            && header.hop_limit == ipv6::MAX_HOP_LIMIT
            && matches!(kind, SOLICITATION | ADVERTISEMENT)
            && code == 0;
        if !proper {
            return None;
        }
        Some(Self {
            kind,
            target: Address::from_words(target),
        })
    }
}

/// An option as it lies in memory, with another MAC address; `None`: it is no link-layer address's.
#[must_use]
pub const fn with_mac(option: u64, mac: [u8; 6]) -> Option<u64> {
    let [m0, m1, m2, m3, m4, m5] = mac;
    match option.to_ne_bytes() {
        [
            kind @ (SOURCE_LINK_LAYER_ADDRESS | TARGET_LINK_LAYER_ADDRESS),
            1,
            ..,
        ] => Some(u64::from_ne_bytes([kind, 1, m0, m1, m2, m3, m4, m5])),
        _ => None,
    }
}

/// A message with one option, as it lies in memory.
pub type Message = [u64; MESSAGE_LEN / 8];

/// A packet with one.
pub type Packet = [u64; PACKET_LEN / 8];

/// The answer to a solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The station that it is for.
    pub station: [u8; 6],
    /// From the IPv6 header on.
    pub packet: Packet,
}

/// The answer of `mac` to a solicitation with one option.
///
/// A node that asks for the address before it takes it for itself (source `::`) is answered by a multicast to
/// all nodes, others at the link-layer address that they name (RFC 4861 section 7.2.4, RFC 4862 section 5.4).
/// `None`: broken, or of a rarer kind. The kernel, which has the address as well while the gate is open,
/// judges those.
#[must_use]
pub const fn answer(
    header: &Header,
    message: Message,
    mac: [u8; 6],
    router: bool,
) -> Option<Answer> {
    let [first, t0, t1, option] = message;
    let ([SOLICITATION, 0, ..], [option, 1, asker @ ..]) =
        (first.to_ne_bytes(), option.to_ne_bytes())
    else {
        return None;
    };
    let target = Address::from_words([t0, t1]);
    let names_itself = option == SOURCE_LINK_LAYER_ADDRESS;
    let probe = header.source.is(Address::UNSPECIFIED);
    if header.payload_len != MESSAGE_LEN_16
        || probe == names_itself
        || probe && !header.destination.is(ipv6::solicited_node(target))
        || header.source.is_multicast()
        || sum(header.source, header.destination, message).folded() != checksum::VALID
    {
        return None;
    }
    let (station, destination, flags) = if probe {
        let all = ipv6::ALL_NODES;
        (ipv6::multicast_mac(all), all, OVERRIDE)
    } else {
        (asker, header.source, OVERRIDE | SOLICITED)
    };
    Some(Answer {
        station,
        packet: advertisement(target, destination, mac, flags | router_flag(router)),
    })
}

const fn router_flag(router: bool) -> u8 {
    if router { ROUTER } else { 0 }
}

/// The sum over a message and its pseudo-header.
const fn sum(source: Address, destination: Address, message: Message) -> Sum {
    let [a, b, c, d] = message;
    ipv6::pseudo_header(source, destination, MESSAGE_LEN_16, ICMPV6)
        .long(a)
        .long(b)
        .long(c)
        .long(d)
}

/// A neighbour advertisement of `target`, sent from it, with the target link-layer address option.
const fn advertisement(target: Address, destination: Address, mac: [u8; 6], flags: u8) -> Packet {
    let head = [ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    packet(
        target,
        destination,
        head,
        target,
        TARGET_LINK_LAYER_ADDRESS,
        mac,
    )
}

/// A packet with a message about `target`; `head` are the message's first bytes without its checksum.
const fn packet(
    source: Address,
    destination: Address,
    head: [u8; 8],
    target: Address,
    option: u8,
    mac: [u8; 6],
) -> Packet {
    let [t0, t1] = target.words();
    let [m0, m1, m2, m3, m4, m5] = mac;
    // The option's length is in units of eight bytes.
    let option = u64::from_ne_bytes([option, 1, m0, m1, m2, m3, m4, m5]);
    let blank = u64::from_ne_bytes(head);
    let [high, low] = sum(source, destination, [blank, t0, t1, option])
        .checksum()
        .to_be_bytes();
    let [kind, code, _, _, rest @ ..] = head;
    let [f0, f1, f2, f3] = rest;
    let first = u64::from_ne_bytes([kind, code, high, low, f0, f1, f2, f3]);
    let header = Header {
        flow_label: 0,
        payload_len: MESSAGE_LEN_16,
        next_header: ICMPV6,
        hop_limit: ipv6::MAX_HOP_LIMIT,
        source,
        destination,
    };
    let [h0, h1, h2, h3, h4] = header.to_words();
    [h0, h1, h2, h3, h4, first, t0, t1, option]
}

/// The frame that announces `vip` at `mac`: an unsolicited neighbour advertisement to all nodes with the
/// Override flag (RFC 4861 section 7.2.6, RFC 9568 section 6.4.2).
#[must_use]
pub fn announcement(vip: Address, mac: [u8; 6], router: bool) -> [u8; FRAME_LEN] {
    let all = ipv6::ALL_NODES;
    let packet = advertisement(vip, all, mac, OVERRIDE | router_flag(router));
    to_group(all, mac, packet)
}

/// The frame by which `source` at `mac` asks for `target` (RFC 4861 section 7.2.2).
#[must_use]
pub fn solicitation(source: Address, mac: [u8; 6], target: Address) -> [u8; FRAME_LEN] {
    let group = ipv6::solicited_node(target);
    let head = [SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    let option = SOURCE_LINK_LAYER_ADDRESS;
    to_group(group, mac, packet(source, group, head, target, option, mac))
}

fn to_group(group: Address, mac: [u8; 6], packet: Packet) -> [u8; FRAME_LEN] {
    let mut frame = [0; FRAME_LEN];
    let (header, rest) = frame.split_at_mut(ethernet::HEADER_LEN);
    header.copy_from_slice(&ethernet::build(
        ipv6::multicast_mac(group),
        mac,
        ethernet::IPV6,
    ));
    let (chunks, _) = rest.as_chunks_mut();
    for (chunk, word) in chunks.iter_mut().zip(packet) {
        *chunk = word.to_ne_bytes();
    }
    frame
}

#[cfg(test)]
mod tests;
