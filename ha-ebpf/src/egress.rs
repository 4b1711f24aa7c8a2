//! The egress guard: nothing speaks for a VIP while its gate is closed, and what does while it is open leaves from the
//! virtual MAC address where the instance has one.

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

use crate::{frame::MAX_TAGS, gate, maps, skb, virtual_mac};

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
    let source = Address::v4(header.source);
    if header.protocol == vrrp::PROTOCOL {
        let head = start + header.header_len as usize;
        return virtual_mac::advertise(ctx, source, head, ipv4::VERSION);
    }
    from(ctx, source).unwrap_or(Reason::EgressOther)
}

#[inline(always)]
fn packet_v6(ctx: &TcContext, start: usize) -> Reason {
    let Ok(header) = ctx.load::<[u64; ipv6::HEADER_LEN / 8]>(start) else {
        return Reason::EgressOther;
    };
    let Some(header) = ipv6::Header::from_words(header) else {
        return Reason::EgressOther;
    };
    if header.next_header == vrrp::PROTOCOL {
        let head = start + ipv6::HEADER_LEN;
        return virtual_mac::advertise(ctx, header.source, head, ipv6::VERSION);
    }
    let subject = if header.next_header == ndp::ICMPV6 {
        subject(ctx, start, &header)
    } else {
        None
    };
    let advertised = match &subject {
        Some(subject) if subject.kind == ndp::ADVERTISEMENT => Some(subject.target),
        _ => None,
    };
    let reason = match (from(ctx, header.source), advertised) {
        (Some(reason), _) => reason,
        // A solicitation from another address than the VIP claims nothing.
        (None, None) => return Reason::EgressOther,
        (None, Some(target)) => match maps::instance_of_vip(target) {
            Some(instance) => guard(ctx, instance, Reason::EgressNdpClosed),
            None => return Reason::EgressOther,
        },
    };
    if subject.is_some() && reason as u32 == Reason::EgressVipOpen as u32 {
        let named = advertised.unwrap_or(header.source);
        return virtual_mac::name_v6(ctx, named, start + ipv6::HEADER_LEN);
    }
    reason
}

#[inline(always)]
fn subject(ctx: &TcContext, start: usize, header: &ipv6::Header) -> Option<Subject> {
    let head = ctx.load::<[u64; ndp::HEAD_LEN / 8]>(start + ipv6::HEADER_LEN);
    Subject::of(header, head.ok()?)
}

/// A packet with this source; `None`: it is no VIP's.
#[inline(always)]
fn from(ctx: &TcContext, source: Address) -> Option<Reason> {
    let instance = maps::instance_of_vip(source)?;
    let reason = guard(ctx, instance, Reason::EgressVipClosed);
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
        Some(instance) => match guard(ctx, instance, Reason::EgressArpClosed) {
            Reason::EgressVipOpen => virtual_mac::name_v4(ctx, instance.1, start),
            reason => reason,
        },
    }
}

/// Whether the gate is open; then the frame leaves from the MAC address of the VIPs.
#[inline(always)]
fn guard(ctx: &TcContext, (slot, config): (u32, &InstanceConfig), closed: Reason) -> Reason {
    if gate::is_open(slot, config.leases, gate::now()) {
        virtual_mac::leave(ctx, config)
    } else {
        closed
    }
}
