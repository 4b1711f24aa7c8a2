//! The gate, as the maps hold it (`ha_common::gate` has the rule).

use aya_ebpf::helpers::bpf_ktime_get_ns;
use ha_common::{
    MonoNs,
    gate::{self, Epoch, Lease, MAX_LEASES},
    lease::Standing,
};

use crate::maps::{self, GATES, LEASES};

#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
pub(crate) const SLOTS: u32 = MAX_LEASES as u32;

/// How often the epoch is looked at while it is superseded: the daemon raises it no faster than it elects itself.
const SUPERSEDING_TRIES: u32 = 4;

/// CLOCK_MONOTONIC.
#[inline(always)]
pub(crate) fn now() -> MonoNs {
    // SAFETY: the helper has no arguments and no preconditions.
    MonoNs(unsafe { bpf_ktime_get_ns() })
}

/// Whether an instance's gate is open at `now`: this node stands as Active, and each of its lease slots holds.
/// An instance without any is closed.
#[inline(always)]
pub(crate) fn is_open(slot: u32, leases: u32, now: MonoNs) -> bool {
    had_is_open(slot, leases, now.0) != 0
}

/// [`is_open`] as a function of its own, which the verifier follows once and not wherever it is asked.
// SAFETY: no other object defines the name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn had_is_open(slot: u32, leases: u32, now: u64) -> u32 {
    u32::from(holds(slot, leases, MonoNs(now)))
}

#[inline(always)]
fn holds(slot: u32, leases: u32, now: MonoNs) -> bool {
    let Some(gate) = GATES.get_ptr(slot) else {
        return false;
    };
    // SAFETY: field addresses within a map value.
    let (epoch, superseded, standing) = unsafe {
        (
            &raw const (*gate).epoch,
            &raw const (*gate).superseded,
            &raw const (*gate).standing,
        )
    };
    if !matches!(Standing::from_word(maps::load(standing)), Standing::Active) {
        return false;
    }
    let epoch = Epoch::from_word(maps::load(epoch));
    let superseded = Epoch::from_word(maps::load(superseded));
    let mut open = false;
    for index in 0..SLOTS {
        if index >= leases {
            break;
        }
        let Some(cell) = LEASES.get_ptr(slot * SLOTS + index) else {
            return false;
        };
        // SAFETY: as above.
        let word = maps::load(unsafe { &raw const (*cell).word });
        if !gate::is_open(epoch, superseded, Lease::from_word(word), now) {
            return false;
        }
        open = true;
    }
    open
}

/// Closes the gate until the daemon raises the epoch, whether it is open by now or about to be opened.
/// Whether this is the packet that did it.
///
/// The superseded epoch only follows the present one: a processor that read an older epoch, and is slower than
/// the daemon and another processor, changes nothing.
#[inline(always)]
pub(crate) fn supersede(slot: u32) -> bool {
    had_supersede(slot) != 0
}

/// [`supersede`] as a function of its own, which the verifier follows once and not wherever it is called.
// SAFETY: no other object defines the name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn had_supersede(slot: u32) -> u32 {
    let Some(gate) = GATES.get_ptr_mut(slot) else {
        return 0;
    };
    // SAFETY: field addresses within a map value.
    let (epoch, superseded) = unsafe { (&raw const (*gate).epoch, &raw mut (*gate).superseded) };
    let mut first = 0;
    for _ in 0..SUPERSEDING_TRIES {
        let before = maps::load(superseded);
        let present = maps::load(epoch);
        if before == present {
            break;
        }
        if maps::compare_exchange(superseded, before, present) == before {
            first = 1;
        }
    }
    first
}
