//! `bpf_timer` (kernel 5.15).
//!
//! A timer's memory is taken when it is prepared, which the daemon does when it has loaded the programs: since Linux
//! 6.18 `bpf_timer_init` gives up where the CPU has none at hand, and on one that only receives adverts that can
//! last. A packet starts what is there.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_timer,
    helpers::{bpf_timer_init, bpf_timer_set_callback, bpf_timer_start},
};
use ha_common::{Nanos, abi::TimerTask};

const CLOCK_MONOTONIC: u64 = 1;

/// It has its memory from before.
const EBUSY: i64 = 16;

/// Takes a timer's memory. Returns 0, or the error number.
///
/// # Safety
///
/// The timer lies in a value of `map`.
#[inline(always)]
pub(crate) unsafe fn prepare(timer: *mut bpf_timer, map: *mut c_void) -> u32 {
    // SAFETY: what the helper demands is what the caller promises.
    let error = -unsafe { bpf_timer_init(timer, map, CLOCK_MONOTONIC) };
    if error == EBUSY {
        return 0;
    }
    u32::try_from(error).unwrap_or(TimerTask::NOT_DONE)
}

/// Starts a timer that was prepared, anew if it runs.
///
/// # Safety
///
/// The timer lies in a map's value, and `callback` has the signature that the kernel calls.
#[inline(always)]
pub(crate) unsafe fn start(timer: *mut bpf_timer, callback: *mut c_void, after: Nanos) -> bool {
    // SAFETY: what the helpers demand is what the caller promises.
    unsafe {
        bpf_timer_set_callback(timer, callback) == 0 && bpf_timer_start(timer, after.0, 0) == 0
    }
}
