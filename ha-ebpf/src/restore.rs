//! For measurements: a program that puts a frame in the place of the one that was rewritten and jumps into the
//! program under test, so that this gets what it is to get each time that `BPF_PROG_TEST_RUN` repeats it; one that
//! only reads the clock; one that sends each frame; and one that drops each.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use core::arch::asm;

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, ProgramArray},
    helpers::bpf_ktime_get_ns,
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// Bytes of the longest frame.
const FRAME_LEN: usize = 256;

/// Bytes that are copied at once; a frame's length is a multiple of them.
const CHUNK: usize = 8;

/// Frames at most that take turns.
const MAX_FRAMES: usize = 2048;

/// The frames.
#[btf_map]
static FRAMES: Array<[u64; FRAME_LEN / CHUNK], MAX_FRAMES> = Array::new();

/// How many frames there are, and whose turn it is.
#[btf_map]
static CYCLE: Array<[u64; 2], 1> = Array::new();

/// The program under test.
#[btf_map]
static TESTED: ProgramArray<1> = ProgramArray::new();

/// Puts the next frame in place and jumps.
#[xdp]
fn restore(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    let Some(cycle) = CYCLE.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: a map value that no other program uses.
    let [count, turn] = unsafe { *cycle };
    let Some(frame) = u32::try_from(turn).ok().and_then(|turn| FRAMES.get(turn)) else {
        return xdp_action::XDP_ABORTED;
    };
    for (index, chunk) in frame.iter().enumerate() {
        let at = start + index * CHUNK;
        if at + CHUNK > end {
            break;
        }
        // SAFETY: `at..at + CHUNK` lies within the frame, which the verifier proves again.
        unsafe { (at as *mut u64).write_unaligned(*chunk) };
    }
    let next = if turn + 1 < count { turn + 1 } else { 0 };
    // SAFETY: as above.
    exchange(unsafe { &raw mut (*cycle)[1] }, next);
    // SAFETY: the jump leaves this program, which holds nothing; it returns only where it failed.
    unsafe { TESTED.tail_call(&ctx, 0) };
    xdp_action::XDP_ABORTED
}

/// Writes a word, and waits until this and all that was written before is in the cache, where a frame lies that a
/// network card has written: the program under test would else wait for it, where it reads other words than were
/// written here.
#[inline(always)]
fn exchange(word: *mut u64, value: u64) {
    // SAFETY: the caller passes an aligned word of a map value.
    unsafe {
        asm!(
            "{value} = xchg_64({word} + 0, {value})",
            word = in(reg) word,
            value = inout(reg) value => _,
        );
    }
}

/// Sends the frame by the interface that it came in by.
#[xdp]
fn reflect(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// Drops the frame.
#[xdp]
fn discard(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Reads the clock.
#[xdp]
fn clock(_ctx: XdpContext) -> u32 {
    // SAFETY: the helper has no arguments and no preconditions.
    match unsafe { bpf_ktime_get_ns() } {
        0 => xdp_action::XDP_ABORTED,
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
