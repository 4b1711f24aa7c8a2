//! The egress guard: nothing speaks for a VIP while its gate is closed.

use aya_ebpf::programs::TcContext;
use ha_common::{
    abi::{InstanceConfig, Reason},
    wire::{
        arp::{self, Arp},
        ethernet,
        ipv4::{self, Header},
        vrrp,
    },
};

use crate::{gate, maps};

/// Judges a frame on its way out. The bytes are copied, since they need not be linear in the buffer.
#[inline(always)]
pub(crate) fn judge(ctx: &TcContext) -> Reason {
    // SAFETY: the context is valid for the program's run. A tag in the metadata: the frame belongs to
    // a VLAN interface, whose own guard has seen it.
    if unsafe { (*ctx.skb.skb).vlan_present } != 0 {
        return Reason::EgressOther;
    }
    let Ok(header) = ctx.load::<[u8; ethernet::HEADER_LEN]>(0) else {
        return Reason::EgressOther;
    };
    match ethernet::ether_type(&header) {
        ethernet::IPV4 => packet(ctx),
        ethernet::ARP => claim(ctx),
        _ => Reason::EgressOther,
    }
}

#[inline(always)]
fn packet(ctx: &TcContext) -> Reason {
    let Ok(header) = ctx.load::<[u8; ipv4::HEADER_LEN]>(ethernet::HEADER_LEN) else {
        return Reason::EgressOther;
    };
    let Some(header) = Header::parse(&header) else {
        return Reason::EgressOther;
    };
    match maps::instance_of_vip(header.source) {
        None => Reason::EgressOther,
        // An address owner's adverts have the VIP as source, and are how it gets the gate open.
        Some(_) if header.protocol == vrrp::PROTOCOL => Reason::EgressOther,
        Some(instance) => guard(instance, Reason::EgressVipClosed),
    }
}

#[inline(always)]
fn claim(ctx: &TcContext) -> Reason {
    let Ok(bytes) = ctx.load::<[u8; arp::PACKET_LEN]>(ethernet::HEADER_LEN) else {
        return Reason::EgressOther;
    };
    match Arp::parse(&bytes).and_then(|arp| maps::instance_of_vip(arp.sender_ip)) {
        None => Reason::EgressOther,
        Some(instance) => guard(instance, Reason::EgressArpClosed),
    }
}

#[inline(always)]
fn guard((slot, config): (u32, &InstanceConfig), closed: Reason) -> Reason {
    if gate::is_open(slot, config.leases, gate::now()) {
        Reason::EgressVipOpen
    } else {
        closed
    }
}
