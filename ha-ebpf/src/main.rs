//! The dataplane's programs: entry points, and which verdict each reason means.
//!
//! `had_ingress` (XDP) and `had_egress` (tc) decide who speaks for a VIP and take VRRP adverts and
//! BFD packets;
//! `had_watch` is run by the daemon through `BPF_PROG_TEST_RUN` and arms a silence timer.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arp;
mod bfd;
mod budget;
mod egress;
mod frame;
mod gate;
mod ipv4;
mod maps;
mod packet;
mod said;
mod vrrp;
mod watch;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ha_common::{abi::Reason, wire::ethernet};

use crate::{frame::Frame, packet::Span};

/// Ingress.
#[expect(
    clippy::cast_possible_truncation,
    reason = "`xdp_md` holds the index in 32 bits"
)]
#[xdp]
fn had_ingress(ctx: XdpContext) -> u32 {
    let frame = Span::new(ctx.data(), ctx.data_end());
    let reason = ingress(frame, ctx.ingress_ifindex() as u32);
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

/// Arms the silence timer whose index the first four bytes name; 1 if it runs.
#[xdp]
fn had_watch(ctx: XdpContext) -> u32 {
    match Span::new(ctx.data(), ctx.data_end()).bytes::<4>(0) {
        Some(slot) => watch::arm_now(u32::from_ne_bytes(*slot)) as u32,
        None => 0,
    }
}

#[inline(always)]
fn ingress(frame: Span, ifindex: u32) -> Reason {
    let frame = match Frame::parse(frame, ifindex) {
        Ok(frame) => frame,
        Err(reason) => return reason,
    };
    match frame.ether_type {
        ethernet::IPV4 => ipv4::judge(&frame),
        ethernet::ARP => arp::judge(&frame),
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
        | Reason::AdvertDestination
        | Reason::BfdTaken
        | Reason::BfdTtl
        | Reason::BfdVersion
        | Reason::BfdLength
        | Reason::BfdMultiplier
        | Reason::BfdMultipoint
        | Reason::BfdDiscriminator
        | Reason::BfdUnknownDiscriminator
        | Reason::BfdSource
        | Reason::BfdAuth => xdp_action::XDP_DROP,
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
