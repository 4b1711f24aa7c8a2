//! The virtual MAC address (RFC 9568 section 7.3), without an interface of its own: what comes to it is handed to the
//! kernel as if it had come to the interface's, and what speaks for the VIPs leaves from it.
//!
//! Only an open gate has anything to do with it, so that switches learn it from one node at a time.

use aya_ebpf::programs::TcContext;
use ha_common::{
    Address,
    abi::{InstanceConfig, Reason, VridKey},
    wire::{arp, checksum::Sum, ndp, virtual_mac, vrrp},
};

use crate::{
    gate,
    maps::{INSTANCES, VRIDS, instance_of_vip},
    packet::Span,
    skb,
};

/// Where the source stands in a frame.
const SOURCE: usize = 6;

/// The instance of a virtual router on an interface, if it has the virtual MAC address and its gate is open.
#[inline(always)]
fn open_instance(ifindex: u32, vrid: u8, family: u8) -> Option<&'static InstanceConfig> {
    let key = VridKey {
        ifindex,
        vrid,
        family,
        _pad: [0; 2],
    };
    // SAFETY: the value is copied at once; the daemon may replace it meanwhile, and a slot is one word.
    let slot = *unsafe { VRIDS.get(key) }?;
    let config = INSTANCES.get(slot)?;
    (config.virtual_mac != 0 && gate::is_open(slot, config.leases, gate::now())).then_some(config)
}

/// Turns a frame to the virtual MAC address of an instance whose gate is open into one to the interface's. That
/// goes for what is only to be forwarded, too: the VIP may be somebody's router. Whether it was one.
#[inline(always)]
pub(crate) fn receive(data: usize, data_end: usize, ifindex: u32) -> bool {
    matches!(
        Span::new(data, data_end).half_words(0),
        Some([virtual_mac::PREFIX])
    ) && receive_one(data, data_end, ifindex)
}

/// A function of its own, which the verifier leaves as it entered it.
#[inline(never)]
fn receive_one(data: usize, data_end: usize, ifindex: u32) -> bool {
    let link = Span::new(data, data_end);
    let Some((vrid, family)) = link.bytes(0).copied().and_then(virtual_mac::parse) else {
        return false;
    };
    match open_instance(ifindex, vrid, family) {
        Some(config) => link.overwrite(&config.mac),
        None => false,
    }
}

/// Lets a frame that speaks for a VIP, whose gate is open, leave from the virtual MAC address.
#[inline(always)]
pub(crate) fn leave(ctx: &TcContext, config: &InstanceConfig) -> Reason {
    if is_here(ctx, config) && ctx.store(SOURCE, &config.vip_mac(), 0).is_err() {
        return Reason::DropNoMemory;
    }
    Reason::EgressVipOpen
}

/// Lets an advert of this node leave from it, its VRRP message at `head`.
#[inline(always)]
pub(crate) fn advertise(ctx: &TcContext, source: Address, head: usize, family: u8) -> Reason {
    if let Ok(bytes) = ctx.load::<[u8; vrrp::HEAD_LEN]>(head)
        && let Some(config) = open_instance(skb::ifindex(ctx), vrrp::vrid(&bytes), family)
        && config.source.is(source)
        && ctx.store(SOURCE, &config.vip_mac(), 0).is_err()
    {
        return Reason::DropNoMemory;
    }
    Reason::EgressOther
}

/// Names it in ARP at `start` that claims a VIP: the kernel's own names the interface's.
#[inline(always)]
pub(crate) fn name_v4(ctx: &TcContext, config: &InstanceConfig, start: usize) -> Reason {
    let sender = start + arp::SENDER_MAC;
    if is_here(ctx, config) && ctx.store(sender, &config.vip_mac(), 0).is_err() {
        return Reason::DropNoMemory;
    }
    Reason::EgressVipOpen
}

/// Names it in the link-layer address option of a message of Neighbour Discovery at `start`, if that comes
/// first, as the kernel has it.
#[inline(always)]
pub(crate) fn name_v6(ctx: &TcContext, vip: Address, start: usize) -> Reason {
    match rename(ctx, vip, start) {
        Some(Err(_)) => Reason::DropNoMemory,
        Some(Ok(())) | None => Reason::EgressVipOpen,
    }
}

/// `None`: there is nothing to name.
#[inline(always)]
fn rename(ctx: &TcContext, vip: Address, start: usize) -> Option<Result<(), i64>> {
    let (_, config) = instance_of_vip(vip)?;
    if !is_here(ctx, config) {
        return None;
    }
    let option = start + ndp::HEAD_LEN;
    let field = start + ndp::CHECKSUM;
    let before = ctx.load::<u64>(option).ok()?;
    let after = ndp::with_mac(before, config.vip_mac())?;
    let sum = Sum::of_checksum(ctx.load(field).ok()?).replaced(before, after);
    let stored = ctx
        .store(field, &sum.checksum().to_be_bytes(), 0)
        .and_then(|()| ctx.store(option, &after, 0));
    Some(stored)
}

/// Whether a frame leaves by the instance's own interface, and that answers at the virtual MAC address.
#[inline(always)]
fn is_here(ctx: &TcContext, config: &InstanceConfig) -> bool {
    config.virtual_mac != 0 && skb::ifindex(ctx) == config.ifindex
}
