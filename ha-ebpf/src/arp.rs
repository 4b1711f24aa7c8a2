//! ARP: only an open gate answers for a VIP (RFC 826, RFC 5227).

use ha_common::{
    abi::Reason,
    wire::{
        arp::{self, Arp},
        ethernet,
    },
};

use crate::{gate, maps, packet::Frame};

/// Judges an ARP frame, and turns a request for a VIP into its answer where the gate is open.
#[inline(always)]
pub(crate) fn judge(frame: &Frame, ifindex: u32, station: [u8; 6]) -> Reason {
    let Some(arp) = frame.bytes(ethernet::HEADER_LEN).and_then(Arp::parse) else {
        return Reason::PassOther;
    };
    // Sender and target alike: an announcement. Nobody answers it, and the neighbour table learns.
    let announcement = arp.sender_ip == arp.target_ip;
    if !announcement && let Some((slot, config)) = maps::instance_of_vip(arp.target_ip) {
        if arp.operation != arp::REQUEST {
            return if gate::is_open(slot, config.leases, gate::now()) {
                Reason::PassVipOpen
            } else {
                Reason::DropArpClosed
            };
        }
        if ifindex != config.ifindex || (station != ethernet::BROADCAST && station != config.mac) {
            return Reason::DropArpElsewhere;
        }
        if !gate::is_open(slot, config.leases, gate::now()) {
            return Reason::DropArpClosed;
        }
        return answer(frame, &arp, config.mac);
    }
    if maps::instance_of_vip(arp.sender_ip).is_some() {
        return Reason::PassArpFromVip;
    }
    Reason::PassArp
}

/// In place; what pads the frame stays as it came.
#[inline(always)]
fn answer(frame: &Frame, request: &Arp, mac: [u8; 6]) -> Reason {
    let mut reply = [0; arp::FRAME_LEN];
    let (header, packet) = reply.split_at_mut(ethernet::HEADER_LEN);
    header.copy_from_slice(&ethernet::build(request.sender_mac, mac, ethernet::ARP));
    packet.copy_from_slice(&request.answer(mac).emit());
    if frame.overwrite(&reply) {
        Reason::ArpAnswered
    } else {
        Reason::PassOther
    }
}
