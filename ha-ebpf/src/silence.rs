//! Silence of an instance with leases: one `bpf_timer` per instance, armed by a grant.
//!
//! A node that promised does not act before its promise has run out, so that is the moment at which the
//! daemon is to be told that nobody asks any more. The callback looks at the promises, and starts the timer
//! again for what is left. `armed` is 1 while the timer runs; both sides change it by exchange, and the proof
//! is that of [`crate::watch`], with the promise in the place of the stamp. A promise is made by
//! compare-and-exchange, a full barrier itself: after it, reading that the timer runs is enough.
//!
//! A round of softirqs serves the receive queues of its CPU before the timers, so that what came to those before
//! the callback was mostly judged before it. Of the queues of other CPUs and of NAPI threads nothing is known: what
//! the peer asked may be lost or still in one. What protects from taking that for silence is
//! `ha_common::lease::Vigil`, which tells by when the callbacks ran whether this machine was held up.

use core::ffi::c_void;

use aya_ebpf::{bindings::bpf_timer, btf_maps::Array, macros::btf_map};
use ha_common::{
    Address, MonoNs, Nanos,
    abi::{Event, EventKind, MAX_INSTANCES, Reason},
    lease::{Look, Promise, Vigil},
};

use crate::{
    gate::{self, SLOTS},
    maps::{self, INSTANCES, LEASE_CONFIG, PROMISES},
    timer,
};

/// A timer. User space never writes this map: an update would cancel the timer.
#[repr(C)]
pub(crate) struct SilenceTimer {
    timer: bpf_timer,
    armed: u64,
    /// Written by whoever set `armed`.
    vigil: Vigil,
}

/// Slot → timer.
#[btf_map]
static SILENCE_TIMERS: Array<SilenceTimer, { MAX_INSTANCES as usize }> = Array::new();

/// For the daemon: takes a timer's memory ([`timer::prepare`]). 0 also where there is no such timer.
#[inline(always)]
pub(crate) fn prepare(slot: u32) -> u32 {
    match SILENCE_TIMERS.get_ptr_mut(slot) {
        // SAFETY: the timer lies in a value of the map that is named.
        Some(cell) => unsafe {
            timer::prepare(
                &raw mut (*cell).timer,
                (&raw const SILENCE_TIMERS).cast_mut().cast(),
            )
        },
        None => 0,
    }
}

/// A promise until `ends` was made: makes sure that the timer runs.
#[inline(always)]
pub(crate) fn promised(slot: u32, ends: MonoNs, now: MonoNs) {
    if let Some(cell) = SILENCE_TIMERS.get_ptr_mut(slot)
        && !runs(cell)
    {
        arm(cell, &Vigil::begin(ends, now));
    }
}

#[inline(always)]
fn runs(cell: *const SilenceTimer) -> bool {
    // SAFETY: a field's address within a map value.
    maps::load(unsafe { &raw const (*cell).armed }) == 1
}

/// Starts the timer for the next look, unless it runs.
#[inline(always)]
fn arm(cell: *mut SilenceTimer, vigil: &Vigil) {
    if runs(cell) || exchange(cell, 1) == 1 {
        return;
    }
    let wait = Nanos(vigil.wait.0.max(1));
    // SAFETY: field addresses within a map value; the callback has the signature that the kernel calls.
    let started = unsafe {
        keep(&raw mut (*cell).vigil, vigil);
        timer::start(&raw mut (*cell).timer, fired as *mut c_void, wait)
    };
    if !started {
        exchange(cell, 0);
    }
}

/// The timer's callback.
extern "C" fn fired(_map: *mut c_void, slot: *const u32, cell: *mut SilenceTimer) -> i64 {
    // SAFETY: the kernel passes the key of the map value that holds the timer.
    let slot = unsafe { *slot };
    // SAFETY: a field's address within a map value.
    let vigil = kept(unsafe { &raw const (*cell).vigil });
    exchange(cell, 0);
    let Some(config) = LEASE_CONFIG.get_ptr(slot) else {
        return 0;
    };
    let Some(ends) = promised_until(slot) else {
        return 0;
    };
    // SAFETY: as above.
    let lease = Nanos(maps::load(unsafe { &raw const (*config).again_ns }));
    let now = gate::now();
    match vigil.look(ends, lease, now) {
        Look::Wait(next) => arm(cell, &next),
        Look::HeldUp(next) => {
            maps::count(Reason::OwnStall);
            arm(cell, &next);
        }
        Look::Silence => {
            maps::count(Reason::LeaseSilence);
            maps::report(Event {
                kind: EventKind::LeaseSilence as u32,
                instance: slot,
                stamp_ns: ends.0,
                word: 0,
                made_ns: now.0,
                sender: Address::UNSPECIFIED,
            });
        }
    }
    0
}

#[inline(always)]
fn keep(place: *mut Vigil, vigil: &Vigil) {
    // SAFETY: field addresses within a map value.
    unsafe {
        maps::store(&raw mut (*place).due.0, vigil.due.0);
        maps::store(&raw mut (*place).wait.0, vigil.wait.0);
        maps::store(&raw mut (*place).seen.0, vigil.seen.0);
        maps::store(&raw mut (*place).listens.0, vigil.listens.0);
    }
}

#[inline(always)]
fn kept(place: *const Vigil) -> Vigil {
    // SAFETY: as above.
    unsafe {
        Vigil {
            due: MonoNs(maps::load(&raw const (*place).due.0)),
            wait: Nanos(maps::load(&raw const (*place).wait.0)),
            seen: MonoNs(maps::load(&raw const (*place).seen.0)),
            listens: MonoNs(maps::load(&raw const (*place).listens.0)),
        }
    }
}

/// When the last promise ends; `None`: this node acts, or the instance has no peers.
#[inline(always)]
fn promised_until(slot: u32) -> Option<MonoNs> {
    let leases = INSTANCES.get(slot)?.leases;
    let mut last = None;
    for peer in 0..SLOTS {
        if peer >= leases {
            break;
        }
        let cell = PROMISES.get_ptr(slot * SLOTS + peer)?;
        // SAFETY: a field's address within a map value.
        let promise = Promise::from_word(maps::load(unsafe { &raw const (*cell).word }));
        if promise.is_acting() {
            return None;
        }
        let ends = promise.ends();
        if last.is_none_or(|last| ends > last) {
            last = Some(ends);
        }
    }
    last
}

/// Exchanges `armed`, with a full barrier. Returns what it was.
#[inline(always)]
fn exchange(cell: *mut SilenceTimer, value: u64) -> u64 {
    // SAFETY: a field's address within a map value.
    maps::exchange(unsafe { &raw mut (*cell).armed }, value)
}
