//! The dataplane's programs: entry points, and which verdict each reason means.
//!
//! `had_ingress` (XDP) and `had_egress` (tc) decide who speaks for a VIP and take VRRP adverts;
//! `had_watch` is run by the daemon through `BPF_PROG_TEST_RUN` and arms a silence timer.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arp;
mod egress;
mod gate;
mod ipv4;
mod maps;
mod packet;
mod vrrp;
mod watch;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ha_common::{abi::Reason, wire::ethernet};

use crate::packet::Frame;

/// Ingress.
#[expect(
    clippy::cast_possible_truncation,
    reason = "`xdp_md` holds the index in 32 bits"
)]
#[xdp]
fn had_ingress(ctx: XdpContext) -> u32 {
    let frame = Frame::new(&ctx);
    let reason = ingress(&frame, ctx.ingress_ifindex() as u32);
    maps::count(reason);
    xdp_verdict(reason)
}

/// Egress.
#[classifier]
fn had_egress(ctx: TcContext) -> i32 {
    let reason = egress::judge(&ctx);
    maps::count(reason);
    match reason {
        Reason::EgressVipClosed | Reason::EgressArpClosed => TC_ACT_SHOT,
        // Whatever else is attached decides.
        _ => TC_ACT_UNSPEC,
    }
}

/// Arms the silence timer of the instance whose slot the first four bytes name; 1 if it runs.
#[xdp]
fn had_watch(ctx: XdpContext) -> u32 {
    match Frame::new(&ctx).bytes::<4>(0) {
        Some(slot) => watch::arm_now(u32::from_ne_bytes(*slot)) as u32,
        None => 0,
    }
}

#[inline(always)]
fn ingress(frame: &Frame, ifindex: u32) -> Reason {
    let Some(header) = frame.bytes::<{ ethernet::HEADER_LEN }>(0) else {
        return Reason::PassOther;
    };
    match ethernet::ether_type(header) {
        ethernet::IPV4 => ipv4::judge(frame, ifindex),
        ethernet::ARP => arp::judge(frame, ifindex, ethernet::destination(header)),
        ethernet::VLAN | ethernet::SERVICE_VLAN => Reason::PassVlan,
        _ => Reason::PassOther,
    }
}

#[inline(always)]
const fn xdp_verdict(reason: Reason) -> u32 {
    match reason {
        Reason::ArpAnswered => xdp_action::XDP_TX,
        Reason::DropArpClosed
        | Reason::DropArpElsewhere
        | Reason::DropVipClosed
        | Reason::AdvertTaken
        | Reason::AdvertOutranks
        | Reason::AdvertTtl
        | Reason::AdvertVersion
        | Reason::AdvertType
        | Reason::AdvertLength
        | Reason::AdvertChecksum
        | Reason::AdvertNoAddress
        | Reason::AdvertInterval
        | Reason::AdvertAuth
        | Reason::AdvertSender
        | Reason::AdvertOwn
        | Reason::AdvertFragment
        | Reason::AdvertDestination => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_PASS,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
