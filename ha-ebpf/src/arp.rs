//! ARP: only an open gate answers for a VIP (RFC 826, RFC 5227).

use ha_common::{
    Address,
    abi::Reason,
    wire::{
        arp::{self, Arp},
        ethernet,
    },
};

use crate::{frame::Frame, gate, local, maps};

/// Judges an ARP frame, and turns a request for a VIP into its answer where the gate is open.
#[inline(always)]
pub(crate) fn judge(frame: &Frame) -> Reason {
    let Some(arp) = frame.bytes(0).and_then(Arp::parse) else {
        return Reason::PassOther;
    };
    // Sender and target alike: an announcement. Nobody answers it, and the neighbour table learns.
    let announcement = arp.sender_ip == arp.target_ip;
    if !announcement && let Some((slot, config)) = maps::instance_of_vip(Address::v4(arp.target_ip))
    {
        if arp.operation != arp::REQUEST {
            return if gate::is_open(slot, config.leases, gate::now()) {
                Reason::PassVipOpen
            } else {
                Reason::DropArpClosed
            };
        }
        let station = frame.station();
        if frame.ifindex != config.ifindex
            || (station != ethernet::BROADCAST && station != config.mac)
        {
            return Reason::DropArpElsewhere;
        }
        if !gate::is_open(slot, config.leases, gate::now()) {
            return Reason::DropArpClosed;
        }
        return answer(frame, &arp, config.vip_mac());
    }
    if local::is_asked_elsewhere(&arp, frame.ifindex) {
        return Reason::DropArpLocal;
    }
    if maps::instance_of_vip(Address::v4(arp.sender_ip)).is_some() {
        return Reason::PassArpFromVip;
    }
    Reason::PassArp
}

#[inline(always)]
fn answer(frame: &Frame, request: &Arp, mac: [u8; 6]) -> Reason {
    let reply = request.answer(mac).emit();
    if frame.answer(request.sender_mac, mac, &reply) {
        Reason::ArpAnswered
    } else {
        Reason::PassOther
    }
}
