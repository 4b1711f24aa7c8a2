//! The egress guard: nothing speaks for a VIP while its gate is closed.

use aya_ebpf::programs::TcContext;
use ha_common::{
    Address,
    abi::{InstanceConfig, Reason},
    wire::{
        arp::{self, Arp},
        ethernet, ipv4, ipv6,
        ndp::{self, Subject},
        vrrp,
    },
};

use crate::{frame::MAX_TAGS, gate, maps, skb};

/// Judges a frame on its way out. The bytes are copied, since they need not be linear in the buffer.
#[inline(always)]
pub(crate) fn judge(ctx: &TcContext) -> Reason {
    if skb::has_vlan(ctx) {
        return Reason::EgressOther;
    }
    let Ok(header) = ctx.load::<[u8; ethernet::HEADER_LEN]>(0) else {
        return Reason::EgressOther;
    };
    let mut start = ethernet::HEADER_LEN;
    let mut ether_type = ethernet::ether_type(&header);
    for _ in 0..MAX_TAGS {
        if !ethernet::is_tag(ether_type) {
            break;
        }
        let Ok(tag) = ctx.load::<[u8; ethernet::TAG_LEN]>(start) else {
            return Reason::EgressOther;
        };
        start += ethernet::TAG_LEN;
        ether_type = ethernet::tagged_type(&tag);
    }
    match ether_type {
        ethernet::IPV4 => packet_v4(ctx, start),
        ethernet::IPV6 => packet_v6(ctx, start),
        ethernet::ARP => claim(ctx, start),
        _ => Reason::EgressOther,
    }
}

#[inline(always)]
fn packet_v4(ctx: &TcContext, start: usize) -> Reason {
    let Ok(header) = ctx.load::<[u32; ipv4::HEADER_WORDS]>(start) else {
        return Reason::EgressOther;
    };
    let Some(header) = ipv4::Header::from_words(header) else {
        return Reason::EgressOther;
    };
    from(ctx, Address::v4(header.source), header.protocol).unwrap_or(Reason::EgressOther)
}

#[inline(always)]
fn packet_v6(ctx: &TcContext, start: usize) -> Reason {
    let Ok(header) = ctx.load::<[u64; ipv6::HEADER_LEN / 8]>(start) else {
        return Reason::EgressOther;
    };
    let Some(header) = ipv6::Header::from_words(header) else {
        return Reason::EgressOther;
    };
    if let Some(reason) = from(ctx, header.source, header.next_header) {
        return reason;
    }
    if header.next_header != ndp::ICMPV6 {
        return Reason::EgressOther;
    }
    let Ok(head) = ctx.load::<[u64; ndp::HEAD_LEN / 8]>(start + ipv6::HEADER_LEN) else {
        return Reason::EgressOther;
    };
    // A solicitation from another address than the VIP claims nothing.
    match Subject::of(&header, head) {
        Some(subject) if subject.kind == ndp::ADVERTISEMENT => {
            match maps::instance_of_vip(subject.target) {
                Some(instance) => guard(instance, Reason::EgressNdpClosed),
                None => Reason::EgressOther,
            }
        }
        _ => Reason::EgressOther,
    }
}

/// A packet with this source; `None`: it is no VIP's.
#[inline(always)]
fn from(ctx: &TcContext, source: Address, protocol: u8) -> Option<Reason> {
    let instance = maps::instance_of_vip(source)?;
    // An address owner's adverts have the VIP as source, and are how it gets the gate open.
    if protocol == vrrp::PROTOCOL {
        return Some(Reason::EgressOther);
    }
    let reason = guard(instance, Reason::EgressVipClosed);
    let elsewhere = skb::ifindex(ctx) != instance.1.ifindex;
    Some(
        if reason as u32 == Reason::EgressVipClosed as u32 && elsewhere && skb::came_in(ctx) {
            Reason::EgressForwarded
        } else {
            reason
        },
    )
}

#[inline(always)]
fn claim(ctx: &TcContext, start: usize) -> Reason {
    let Ok(bytes) = ctx.load::<[u8; arp::PACKET_LEN]>(start) else {
        return Reason::EgressOther;
    };
    match Arp::parse(&bytes).and_then(|arp| maps::instance_of_vip(Address::v4(arp.sender_ip))) {
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
