//! The one clock of all measurements: CLOCK_MONOTONIC, the same in every namespace of this machine.

use std::time::Duration;

use ha_common::MonoNs;
use rustix::{
    thread::clock_nanosleep_absolute,
    time::{ClockId, Timespec, clock_gettime},
};

const NS_PER_SEC: u64 = 1_000_000_000;

/// The present time.
#[must_use]
pub fn now() -> MonoNs {
    MonoNs(nanos(clock_gettime(ClockId::Monotonic)))
}

/// A span as the standard library has it, in nanoseconds; saturates after 584 years.
#[must_use]
pub fn span(duration: Duration) -> ha_common::Nanos {
    ha_common::Nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// Sleeps until `at`; returns at once when that is past.
pub fn sleep_until(at: MonoNs) {
    let timespec = Timespec {
        tv_sec: i64::try_from(at.0 / NS_PER_SEC).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(at.0 % NS_PER_SEC).unwrap_or(0),
    };
    // Interrupted by a signal: sleep again. Any other failure cannot happen with a valid clock and time.
    while clock_nanosleep_absolute(ClockId::Monotonic, &timespec) == Err(rustix::io::Errno::INTR) {}
}

/// Converts a stamp of CLOCK_REALTIME, which is what the kernel puts on frames, to CLOCK_MONOTONIC.
///
/// Exact to about a microsecond as long as nobody sets the wall clock between stamp and call.
#[must_use]
pub fn from_realtime(stamp_ns: u64) -> MonoNs {
    let before = now();
    let wall = nanos(clock_gettime(ClockId::Realtime));
    let after = now();
    let middle = before.0 / 2 + after.0 / 2;
    MonoNs(middle.saturating_sub(wall.saturating_sub(stamp_ns)))
}

fn nanos(timespec: Timespec) -> u64 {
    let secs = u64::try_from(timespec.tv_sec).unwrap_or(0);
    let rest = u64::try_from(timespec.tv_nsec).unwrap_or(0);
    secs * NS_PER_SEC + rest
}
