//! The silence watch: one `bpf_timer` per instance and per BFD session (kernel 5.15).
//!
//! An advert only stamps `RECEIVED`, a BFD packet `BFD_RECEIVED`; the timer is started by the first one and then by itself: its
//! callback looks at the stamp, and starts the timer again for what is left, or reports the silence
//! once and lies down until the next advert. So there is about one callback per watched time, and none
//! per advert.
//!
//! `armed` holds the watched time for which the timer runs, 0 if it does not. Both sides change it by
//! exchange, a full barrier: an advert stamps first and exchanges then, the callback exchanges first and
//! reads the stamp then, so that one of the two sees the other.

use core::ffi::c_void;

use aya_ebpf::{bindings::bpf_timer, btf_maps::Array, macros::btf_map};
use ha_common::{
    MonoNs, Nanos,
    abi::{Event, EventKind, MAX_INSTANCES, MAX_WATCHES, Reason, bfd},
};

use crate::{
    gate,
    maps::{self, BFD_RECEIVED, RECEIVED, WATCH_CONFIG},
    said, timer,
};

/// A stamp older than the watched time by more than this is history (of an earlier run, say), and not
/// watched; the engine's own timers cover it.
const STALE: Nanos = Nanos::from_secs(1);

/// A timer. User space never writes this map: an update would cancel the timer.
#[repr(C)]
pub(crate) struct WatchTimer {
    timer: bpf_timer,
    armed: u64,
}

/// Index ([`MAX_WATCHES`]) → timer; the last one is for the daemon to see at its start whether timers work.
#[btf_map]
static WATCH_TIMERS: Array<WatchTimer, { MAX_WATCHES as usize + 1 }> = Array::new();

/// A packet was stamped: makes sure that its timer runs for the time now configured.
#[inline(always)]
pub(crate) fn heard(index: u32) {
    let down = watched(index);
    if down.0 != 0 {
        let _ = arm(index, down, down);
    }
}

/// Whether silence is to be reported.
#[inline(always)]
pub(crate) fn is_watched(index: u32) -> bool {
    watched(index).0 != 0
}

/// For the daemon: takes a timer's memory ([`timer::prepare`]). 0 also where there is no such timer.
#[inline(always)]
pub(crate) fn prepare(index: u32) -> u32 {
    match WATCH_TIMERS.get_ptr_mut(index) {
        // SAFETY: the timer lies in a value of the map that is named.
        Some(cell) => unsafe {
            timer::prepare(
                &raw mut (*cell).timer,
                (&raw const WATCH_TIMERS).cast_mut().cast(),
            )
        },
        None => 0,
    }
}

/// For the daemon: starts the timer for a packet that came before the watch was set, and tries the last
/// timer. Whether a timer runs.
#[inline(always)]
pub(crate) fn arm_now(index: u32) -> bool {
    if index == MAX_WATCHES {
        return arm(index, Nanos(1), Nanos(1));
    }
    let down = watched(index);
    let Some(last) = last_heard(index) else {
        return false;
    };
    let silent = gate::now().since(last);
    if down.0 == 0 || last == MonoNs::ZERO || silent.0 > down.plus(STALE).0 {
        return false;
    }
    // At least a nanosecond: a timer of 0 is a timer, but not on every kernel.
    arm(index, down, Nanos(down.0.saturating_sub(silent.0).max(1)))
}

/// The configured time; zero = not watched.
#[inline(always)]
fn watched(index: u32) -> Nanos {
    match WATCH_CONFIG.get_ptr(index) {
        // SAFETY: a field's address within a map value.
        Some(config) => Nanos(maps::load(unsafe { &raw const (*config).down_ns })),
        None => Nanos::ZERO,
    }
}

#[inline(always)]
fn last_heard(index: u32) -> Option<MonoNs> {
    // SAFETY: field addresses within map values.
    let stamp = unsafe {
        match index.checked_sub(MAX_INSTANCES) {
            None => &raw const (*RECEIVED.get_ptr(index)?).last_ns,
            Some(session) => &raw const (*BFD_RECEIVED.get_ptr(session)?).last_ns,
        }
    };
    Some(MonoNs(maps::load(stamp)))
}

/// Starts the timer for `rest`, unless it runs for `down` already.
#[inline(always)]
fn arm(index: u32, down: Nanos, rest: Nanos) -> bool {
    let Some(cell) = WATCH_TIMERS.get_ptr_mut(index) else {
        return false;
    };
    if exchange(cell, down.0) == down.0 {
        return true;
    }
    if start(cell, rest) {
        return true;
    }
    exchange(cell, 0);
    false
}

#[inline(always)]
fn start(cell: *mut WatchTimer, rest: Nanos) -> bool {
    // SAFETY: the timer lies in a map's value; the callback has the signature that the kernel calls.
    unsafe { timer::start(&raw mut (*cell).timer, fired as *mut c_void, rest) }
}

/// The timer's callback.
extern "C" fn fired(_map: *mut c_void, index: *const u32, cell: *mut WatchTimer) -> i64 {
    // SAFETY: the kernel passes the key of the map value that holds the timer.
    let index = unsafe { *index };
    exchange(cell, 0);
    let down = watched(index);
    if down.0 == 0 {
        return 0;
    }
    let Some(last) = last_heard(index) else {
        return 0;
    };
    let now = gate::now();
    // Saturating: the stamp may be another CPU's, and later than `now` was read.
    let silent = now.since(last);
    if silent < down {
        if exchange(cell, down.0) == 0 && !start(cell, Nanos(down.0 - silent.0)) {
            exchange(cell, 0);
        }
        return 0;
    }
    maps::count(Reason::SilenceReported);
    report(index, last, now);
    0
}

#[inline(always)]
fn report(index: u32, last: MonoNs, now: MonoNs) {
    let Some(session) = index.checked_sub(MAX_INSTANCES) else {
        return report_instance(index, last, now);
    };
    maps::report_bfd(bfd::Event {
        kind: bfd::EventKind::Silence as u32,
        session,
        stamp_ns: last.0,
        made_ns: now.0,
        packet: [0; 3],
    });
}

#[inline(always)]
fn report_instance(slot: u32, last: MonoNs, now: MonoNs) {
    let Some(received) = RECEIVED.get_ptr(slot) else {
        return;
    };
    let said = said::read(received);
    maps::report(Event {
        kind: EventKind::Silence as u32,
        instance: slot,
        stamp_ns: last.0,
        word: said.word.0,
        made_ns: now.0,
        sender: said.sender,
    });
}

/// Exchanges `armed`, with a full barrier. Returns what it was.
#[inline(always)]
fn exchange(cell: *mut WatchTimer, value: u64) -> u64 {
    // SAFETY: a field's address within a map value.
    maps::exchange(unsafe { &raw mut (*cell).armed }, value)
}
