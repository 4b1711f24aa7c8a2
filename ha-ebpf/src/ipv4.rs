//! IPv4: adverts, BFD packets, echoes and answers are taken, and only an open gate lets packets to a VIP in.

use ha_common::{
    Address,
    abi::Reason,
    wire::{ipv4::Header, udp, vrrp},
};

use crate::{frame::Frame, gate, local, maps, udp::Datagram};

/// Judges an IPv4 packet. Fragments and packets with options meet the gate as any other.
#[inline(always)]
pub(crate) fn judge(frame: &Frame) -> Reason {
    let Some(header) = frame.half_words(0).and_then(Header::from_words) else {
        return Reason::PassOther;
    };
    let mut otherwise = Reason::PassOther;
    if header.protocol == vrrp::PROTOCOL {
        match crate::vrrp::judge_v4(frame, &header) {
            Ok(reason) => return reason,
            Err(reason) => otherwise = reason,
        }
    }
    if header.protocol == udp::PROTOCOL && !header.fragment {
        let datagram = Datagram {
            ifindex: frame.ifindex,
            source: Address::v4(header.source),
            destination: Address::v4(header.destination),
            ttl: header.ttl,
            start: header.header_len as usize,
            len: header.payload_len(),
        };
        match crate::udp::judge(frame, &datagram) {
            Ok(reason) => return reason,
            Err(reason) => otherwise = reason,
        }
    }
    match maps::instance_of_vip(Address::v4(header.destination)) {
        None if is_unknown(otherwise) && local::came_elsewhere(&header, frame.ifindex) => {
            Reason::HeartbeatElsewhere
        }
        None => otherwise,
        Some((slot, config)) if gate::is_open(slot, config.leases, gate::now()) => {
            Reason::PassVipOpen
        }
        Some(_) => Reason::DropVipClosed,
    }
}

/// Whether it is a packet of ours that nothing on this interface is for.
#[inline(always)]
const fn is_unknown(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::PassUnknownVrid | Reason::PassEchoUnknown | Reason::PassBfdUnknown
    )
}
