//! The dataplane's programs: entry points, and which verdict each reason means.
//!
//! `had_ingress` (XDP), or `had_ingress_tc` where XDP is taken, and `had_egress` (tc) decide who speaks for
//! a VIP, take VRRP adverts and BFD packets, and answer echoes; `had_guard` (tc) keeps the host's other interfaces
//! from answering for a VIP; `had_watch` is run by the daemon through
//! `BPF_PROG_TEST_RUN`: it takes the silence timers' memory, and starts one.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arp;
mod bfd;
mod budget;
mod echo;
mod egress;
mod frame;
mod gate;
mod guard;
mod ipv4;
mod ipv6;
mod lease;
mod local;
mod maps;
mod ndp;
mod packet;
mod said;
mod silence;
mod skb;
mod timer;
mod udp;
mod virtual_mac;
mod vrrp;
mod watch;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::bpf_redirect,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ha_common::{
    abi::{Reason, TimerTask},
    wire::ethernet,
};

use crate::{
    echo::{Asked, Echo},
    frame::Frame,
    packet::Span,
};

/// Ingress.
#[expect(
    clippy::cast_possible_truncation,
    reason = "`xdp_md` holds the index in 32 bits"
)]
#[xdp]
fn had_ingress(ctx: XdpContext) -> u32 {
    match ingress(ctx.data(), ctx.data_end(), ctx.ingress_ifindex() as u32) {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Answer => xdp_action::XDP_TX,
    }
}

/// Ingress where XDP is taken: the same.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the helper's result is a `TC_ACT_*`"
)]
#[classifier]
fn had_ingress_tc(ctx: TcContext) -> i32 {
    let ifindex = skb::ifindex(&ctx);
    let verdict = match skb::prepare(&ctx) {
        Ok(()) => {
            let (data, data_end) = (ctx.data(), ctx.data_end());
            // Else the kernel drops it, which has looked at the station before.
            if virtual_mac::receive(data, data_end, ifindex) {
                skb::keep(&ctx);
            }
            ingress(data, data_end, ifindex)
        }
        Err(reason) => counted(reason),
    };
    match verdict {
        Verdict::Pass => TC_ACT_UNSPEC,
        Verdict::Drop => TC_ACT_SHOT,
        // SAFETY: the helper takes two numbers.
        Verdict::Answer => unsafe { bpf_redirect(ifindex, 0) as i32 },
    }
}

/// Ingress of the interfaces that no instance names.
#[classifier]
fn had_guard(ctx: TcContext) -> i32 {
    match counted(guard::judge(&ctx)) {
        Verdict::Drop => TC_ACT_SHOT,
        // Whatever else is attached decides.
        Verdict::Pass | Verdict::Answer => TC_ACT_UNSPEC,
    }
}

/// Egress.
#[classifier]
fn had_egress(ctx: TcContext) -> i32 {
    let reason = egress::judge(&ctx);
    maps::count(reason);
    match reason {
        Reason::EgressVipClosed
        | Reason::EgressArpClosed
        | Reason::EgressNdpClosed
        | Reason::DropNoMemory => TC_ACT_SHOT,
        // Whatever else is attached decides.
        _ => TC_ACT_UNSPEC,
    }
}

/// Does to a timer what the frame's first word says ([`TimerTask`]); the second is the timer's index.
#[xdp]
fn had_watch(ctx: XdpContext) -> u32 {
    let frame = Span::new(ctx.data(), ctx.data_end());
    let (Some(task), Some(index)) = (frame.bytes::<4>(0), frame.bytes::<4>(4)) else {
        return TimerTask::NOT_DONE;
    };
    let index = u32::from_ne_bytes(*index);
    match TimerTask::from_u32(u32::from_ne_bytes(*task)) {
        Some(TimerTask::Prepare) => match watch::prepare(index) {
            0 => silence::prepare(index),
            error => error,
        },
        Some(TimerTask::Arm) if watch::arm_now(index) => 0,
        Some(TimerTask::Arm) | None => TimerTask::NOT_DONE,
    }
}

/// What both programs of ingress do. A function of its own for both: LLVM would else make such of parts of
/// it, whose types the kernel's BTF has no words for.
#[inline(never)]
fn ingress(data: usize, data_end: usize, ifindex: u32) -> Verdict {
    let judged = judged(data, data_end, ifindex);
    let Some(echo) = Echo::from_word(judged) else {
        return verdict_of(judged);
    };
    let taken = echo::take(data, data_end, echo.to_word());
    match Asked::from_word(taken) {
        Some(asked) => counted(echo::answer(
            data,
            data_end,
            echo.to_word(),
            asked.to_word(),
        )),
        None => verdict_of(taken),
    }
}

/// The verdict, or what is left to be done about an echo: the stack of this function is free for that by then.
#[inline(never)]
fn judged(data: usize, data_end: usize, ifindex: u32) -> u64 {
    let frame = match Frame::parse(Span::new(data, data_end), ifindex) {
        Ok(frame) => frame,
        Err(reason) => return counted(reason) as u64,
    };
    virtual_mac::receive(data, data_end, frame.ifindex);
    let reason = match frame.ether_type {
        ethernet::IPV4 => ipv4::judge(&frame),
        ethernet::IPV6 => ipv6::judge(&frame),
        ethernet::ARP => arp::judge(&frame),
        _ => Reason::PassOther,
    };
    match frame.echo.get().to_word() {
        0 => counted(reason) as u64,
        echo => echo,
    }
}

#[inline(always)]
const fn verdict_of(word: u64) -> Verdict {
    match word {
        1 => Verdict::Drop,
        2 => Verdict::Answer,
        _ => Verdict::Pass,
    }
}

#[inline(always)]
fn counted(reason: Reason) -> Verdict {
    maps::count(reason);
    verdict(reason)
}

/// What becomes of a frame on its way in.
#[repr(u32)]
enum Verdict {
    Pass,
    Drop,
    /// It leaves by the interface by which it came.
    Answer,
}

#[inline(always)]
const fn verdict(reason: Reason) -> Verdict {
    match reason {
        Reason::ArpAnswered | Reason::NdpAnswered | Reason::EchoAnswered | Reason::EchoStranger => {
            Verdict::Answer
        }
        Reason::DropArpClosed
        | Reason::DropArpElsewhere
        | Reason::DropArpLocal
        | Reason::DropNdpClosed
        | Reason::DropNdpElsewhere
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
        | Reason::HeartbeatElsewhere
        | Reason::BfdTaken
        | Reason::BfdTtl
        | Reason::BfdVersion
        | Reason::BfdLength
        | Reason::BfdMultiplier
        | Reason::BfdMultipoint
        | Reason::BfdDiscriminator
        | Reason::BfdUnknownDiscriminator
        | Reason::BfdSource
        | Reason::BfdAuth
        | Reason::BfdAuthBudget
        | Reason::EchoAnswer
        | Reason::EchoTtl
        | Reason::EchoFormat
        | Reason::EchoChecksum
        | Reason::EchoTag
        | Reason::EchoOwn
        | Reason::EchoOld
        | Reason::EchoForeign
        | Reason::DropNoMemory => Verdict::Drop,
        _ => Verdict::Pass,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
