//! For measurements: a program that puts a frame back as it was and jumps into the program under test, so
//! that one that rewrites its frame gets the same each time that `BPF_PROG_TEST_RUN` repeats it; one that only
//! reads the clock; one that sends each frame; and one that drops each.

#![no_std]
#![no_main]

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

/// The frame.
#[btf_map]
static FRAME: Array<[u64; FRAME_LEN / CHUNK], 1> = Array::new();

/// What changes from run to run, so that each frame is a new one: where a word rises by one, and where one
/// falls, which leaves a checksum over both as it was; and the runs until now. Nowhere, if both are zero.
#[btf_map]
static STEPS: Array<[u64; 3], 1> = Array::new();

/// The program under test.
#[btf_map]
static TESTED: ProgramArray<1> = ProgramArray::new();

/// Puts the frame back and jumps.
#[xdp]
fn restore(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    let Some(frame) = FRAME.get(0) else {
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
    if let Some(steps) = STEPS.get_ptr_mut(0) {
        // SAFETY: a map value that no other program uses.
        let [up, down, runs] = unsafe { &mut *steps };
        if *up != *down {
            *runs += 1;
            add(start, end, *up, *runs);
            add(start, end, *down, 0_u64.wrapping_sub(*runs));
        }
    }
    // SAFETY: the jump leaves this program, which holds nothing; it returns only where it failed.
    unsafe { TESTED.tail_call(&ctx, 0) };
    xdp_action::XDP_ABORTED
}

/// Adds to the word at `offset`, which is in network order.
#[expect(
    clippy::cast_possible_truncation,
    reason = "pointers have 64 bits in BPF"
)]
#[inline(always)]
fn add(start: usize, end: usize, offset: u64, number: u64) {
    let at = start + (offset as usize & (FRAME_LEN - 1));
    if at + CHUNK > end {
        return;
    }
    let word = at as *mut u64;
    // SAFETY: the word lies within the frame, which the verifier proves again.
    unsafe {
        let risen = u64::from_be(word.read_unaligned()).wrapping_add(number);
        word.write_unaligned(risen.to_be());
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
