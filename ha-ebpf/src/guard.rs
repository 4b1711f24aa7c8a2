//! The guard of the host's other interfaces, which no instance names: the kernel answers there for any address of
//! the host, and takes packets to it.
//!
//! Only the instance's own interface answers for its VIPs, and for the address to which its peers send. Packets to a
//! VIP meet its gate, and where that is closed
//! they may still be sent on: this node may be the router between the sender and the Active one.

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        BPF_FIB_LKUP_RET_UNSUPP_LWT, bpf_fib_lookup,
    },
    helpers,
    programs::TcContext,
};
use ha_common::{
    Address,
    abi::{InstanceConfig, Reason},
    lease,
    wire::{
        arp::{self, Arp},
        bfd, ethernet, ipv4, ipv6,
        ndp::{self, Subject},
        udp, vrrp,
    },
};

use crate::{gate, local, maps, skb};

/// `AF_INET` and `AF_INET6` of linux/socket.h.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Judges a frame on its way in. The bytes are copied, since they need not be linear in the buffer.
#[inline(always)]
pub(crate) fn judge(ctx: &TcContext) -> Reason {
    if skb::has_vlan(ctx) {
        return Reason::PassVlan;
    }
    let Ok(header) = ctx.load::<[u8; ethernet::HEADER_LEN]>(0) else {
        return Reason::PassOther;
    };
    let start = ethernet::HEADER_LEN;
    match ethernet::ether_type(&header) {
        ethernet::IPV4 => packet_v4(ctx, start),
        ethernet::IPV6 => packet_v6(ctx, start),
        ethernet::ARP => arp(ctx, start),
        // The kernel takes the outermost tag off before: what is behind it belongs to another interface.
        other if ethernet::is_tag(other) => Reason::PassVlan,
        _ => Reason::PassOther,
    }
}

#[inline(always)]
fn arp(ctx: &TcContext, start: usize) -> Reason {
    let Ok(bytes) = ctx.load::<[u8; arp::PACKET_LEN]>(start) else {
        return Reason::PassOther;
    };
    let Some(arp) = Arp::parse(&bytes) else {
        return Reason::PassOther;
    };
    // Nobody answers an announcement.
    if arp.operation == arp::REQUEST
        && arp.sender_ip != arp.target_ip
        && maps::instance_of_vip(Address::v4(arp.target_ip)).is_some()
    {
        return Reason::DropArpElsewhere;
    }
    if local::is_asked_elsewhere(&arp, skb::ifindex(ctx)) {
        return Reason::DropArpLocal;
    }
    Reason::PassArp
}

#[inline(always)]
fn packet_v4(ctx: &TcContext, start: usize) -> Reason {
    let Ok(header) = ctx.load::<[u32; ipv4::HEADER_WORDS]>(start) else {
        return Reason::PassOther;
    };
    let Some(header) = ipv4::Header::from_words(header) else {
        return Reason::PassOther;
    };
    match maps::instance_of_vip(Address::v4(header.destination)) {
        None if is_heartbeat(ctx, &header, start)
            && local::came_elsewhere(&header, skb::ifindex(ctx)) =>
        {
            Reason::HeartbeatElsewhere
        }
        None => Reason::PassOther,
        Some(instance) => packet(ctx, instance, || {
            let mut route = route(ctx, AF_INET);
            route.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(header.source);
            route.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(header.destination);
            route
        }),
    }
}

/// Whether it is an advert, a BFD packet of a single hop, or an echo or its answer.
#[inline(always)]
fn is_heartbeat(ctx: &TcContext, header: &ipv4::Header, start: usize) -> bool {
    if header.protocol != udp::PROTOCOL || header.fragment {
        return header.protocol == vrrp::PROTOCOL;
    }
    let start = start + header.header_len as usize;
    match ctx
        .load::<[u8; udp::HEADER_LEN]>(start)
        .ok()
        .and_then(|bytes| udp::Header::parse(&bytes))
    {
        Some(header) => matches!(header.destination, lease::PORT | bfd::PORT),
        None => false,
    }
}

#[inline(always)]
fn packet_v6(ctx: &TcContext, start: usize) -> Reason {
    let Ok(header) = ctx.load::<[u64; ipv6::HEADER_LEN / 8]>(start) else {
        return Reason::PassOther;
    };
    let Some(header) = ipv6::Header::from_words(header) else {
        return Reason::PassOther;
    };
    if header.next_header == ndp::ICMPV6
        && let Ok(head) = ctx.load::<[u64; ndp::HEAD_LEN / 8]>(start + ipv6::HEADER_LEN)
        && let Some(subject) = Subject::of(&header, head)
    {
        return if subject.kind == ndp::SOLICITATION
            && maps::instance_of_vip(subject.target).is_some()
        {
            Reason::DropNdpElsewhere
        } else {
            Reason::PassNdp
        };
    }
    match maps::instance_of_vip(header.destination) {
        None => Reason::PassOther,
        Some(instance) => packet(ctx, instance, || {
            let mut route = route(ctx, AF_INET6);
            route.__bindgen_anon_3.ipv6_src = words(header.source);
            route.__bindgen_anon_4.ipv6_dst = words(header.destination);
            route
        }),
    }
}

/// A packet to a VIP.
#[inline(always)]
fn packet(
    ctx: &TcContext,
    (slot, config): (u32, &InstanceConfig),
    route: impl FnOnce() -> bpf_fib_lookup,
) -> Reason {
    if gate::is_open(slot, config.leases, gate::now()) {
        return Reason::PassVipOpen;
    }
    if is_forwarded(ctx, route()) {
        Reason::PassVipForwarded
    } else {
        Reason::DropVipClosed
    }
}

/// What to ask the kernel's routes about a packet that came in by the interface.
#[inline(always)]
fn route(ctx: &TcContext, family: u8) -> bpf_fib_lookup {
    // SAFETY: a structure of numbers, all of which may be zero.
    let mut route: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    route.family = family;
    route.ifindex = skb::ifindex(ctx);
    route
}

/// Whether the kernel would send the packet on to another host, and not take it itself.
#[inline(always)]
fn is_forwarded(ctx: &TcContext, mut route: bpf_fib_lookup) -> bool {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "64 bytes"
    )]
    const LEN: i32 = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: the context is valid for the program's run, and the length is the structure's.
    let found = unsafe { helpers::bpf_fib_lookup(ctx.skb.skb.cast(), &raw mut route, LEN, 0) };
    matches!(
        u32::try_from(found),
        Ok(BPF_FIB_LKUP_RET_SUCCESS
            | BPF_FIB_LKUP_RET_NO_NEIGH
            | BPF_FIB_LKUP_RET_FRAG_NEEDED
            | BPF_FIB_LKUP_RET_UNSUPP_LWT)
    )
}

#[inline(always)]
fn words(address: Address) -> [u32; 4] {
    let [high, low] = address.words().map(u64::to_ne_bytes);
    let [a, b, c, d, e, f, g, h] = high;
    let [i, j, k, l, m, n, o, p] = low;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes)
}
