//! IPv6: adverts, BFD packets, echoes and answers are taken, neighbour discovery is judged, and only an open
//! gate lets packets to a VIP in.

use ha_common::{
    abi::Reason,
    wire::{
        ipv6::{self, Header},
        udp, vrrp,
    },
};

use crate::{frame::Frame, gate, maps, ndp, udp::Datagram};

/// Judges an IPv6 packet. Those with extension headers, fragments among them, meet the gate as any other.
#[inline(always)]
pub(crate) fn judge(frame: &Frame) -> Reason {
    let Some(header) = frame.words(0).and_then(Header::from_words) else {
        return Reason::PassOther;
    };
    let judged = match header.next_header {
        vrrp::PROTOCOL => crate::vrrp::judge_v6(frame, &header),
        ndp::ICMPV6 => ndp::judge(frame, &header),
        udp::PROTOCOL => {
            let datagram = Datagram {
                ifindex: frame.ifindex,
                source: header.source,
                destination: header.destination,
                ttl: header.hop_limit,
                start: ipv6::HEADER_LEN,
                len: header.payload_len,
            };
            crate::udp::judge(frame, &datagram)
        }
        _ => Err(Reason::PassOther),
    };
    let otherwise = match judged {
        Ok(reason) => return reason,
        Err(reason) => reason,
    };
    match maps::instance_of_vip(header.destination) {
        None => otherwise,
        Some((slot, config)) if gate::is_open(slot, config.leases, gate::now()) => {
            Reason::PassVipOpen
        }
        Some(_) => Reason::DropVipClosed,
    }
}
