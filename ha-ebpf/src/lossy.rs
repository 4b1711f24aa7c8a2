//! For the lab: a port of its switch that passes every frame but those to the station that it is told to lose,
//! and counts the heartbeats of the node at its other end.

#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action, btf_maps::Array, helpers::bpf_ktime_get_ns, macros::btf_map, macros::xdp,
    programs::XdpContext,
};
use ha_common::{
    lease,
    wire::{echo::Kind, ethernet, udp, vrrp},
};

/// Bytes up to the kind of an echo, this included; the IP header has no options.
const HEAD_LEN: usize = 46;

/// The station to which frames are lost: its Ethernet address as a number. 0: none is lost.
#[btf_map]
static LOST_TO: Array<u64, 1> = Array::new();

/// Adverts, then echoes: how many passed, when the last one did, how many were lost, when the last one was. The
/// port has one queue, so that no two frames are here at a time.
#[btf_map]
static HEARTBEATS: Array<[u64; 4], 2> = Array::new();

/// Passes or drops.
#[xdp]
fn lossy(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + HEAD_LEN > end {
        return xdp_action::XDP_PASS;
    }
    // SAFETY: the bytes lie within the frame, which the verifier proves again.
    let head = unsafe { &*(start as *const [u8; HEAD_LEN]) };
    let [a, b, c, d, e, f, ..] = *head;
    let to = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    let lost = LOST_TO.get(0).is_some_and(|station| *station == to);
    if let Some(kind) = heartbeat(head)
        && let Some(counts) = HEARTBEATS.get_ptr_mut(kind)
    {
        let first = if lost { 2 } else { 0 };
        // SAFETY: a map value that is written by this program alone, one frame at a time; the helper has no
        // preconditions.
        unsafe {
            (*counts)[first] += 1;
            (*counts)[first + 1] = bpf_ktime_get_ns();
        }
    }
    if lost {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
}

/// Which of the heartbeats a frame is, if it is one. An answer to an echo is none.
#[inline(always)]
fn heartbeat(head: &[u8; HEAD_LEN]) -> Option<u32> {
    if u16::from_be_bytes([head[12], head[13]]) != ethernet::IPV4 {
        return None;
    }
    match head[23] {
        vrrp::PROTOCOL => Some(0),
        udp::PROTOCOL
            if u16::from_be_bytes([head[36], head[37]]) == lease::PORT
                && head[45] == Kind::Echo as u8 =>
        {
            Some(1)
        }
        _ => None,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
