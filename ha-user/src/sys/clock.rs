//! The two clocks: CLOCK_MONOTONIC for every decision, wall-clock time for people.

use std::time::{Duration, SystemTime};

use ha_common::{MonoNs, Nanos};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Readings of both clocks, of which the quickest counts.
const READINGS: u32 = 3;

/// The present time on CLOCK_MONOTONIC, the clock that the kernel's programs read too.
#[must_use]
pub fn now() -> MonoNs {
    MonoNs(nanos(clock_gettime(ClockId::Monotonic)))
}

/// The wall-clock time of an instant, by the difference between the two clocks at present.
#[must_use]
pub fn wall(at: MonoNs) -> SystemTime {
    let (now, wall_now) = both();
    if at > now {
        wall_now + Duration::from_nanos(at.since(now).0)
    } else {
        wall_now - Duration::from_nanos(now.since(at).0)
    }
}

/// Both clocks at one instant: read again when the engine thread came between, so that events keep their
/// order in wall-clock time.
fn both() -> (MonoNs, SystemTime) {
    let read = || {
        let before = now();
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that takes wall-clock time"
        )]
        let wall = SystemTime::now();
        (now().since(before), before, wall)
    };
    let tries = (0..READINGS).map(|_| read());
    let best = tries.reduce(|a, b| if b.0 < a.0 { b } else { a });
    let (took, before, wall) = best.unwrap_or_else(read);
    (before.after(Nanos(took.0 / 2)), wall)
}

/// An instant as RFC 3339 text with microseconds, in UTC.
#[must_use]
pub fn rfc3339(at: MonoNs) -> String {
    humantime::format_rfc3339_micros(wall(at)).to_string()
}

/// The instant on CLOCK_MONOTONIC of a kernel stamp on CLOCK_REALTIME. A stamp that a step of the wall
/// clock made absurd (in the future, or over ten seconds old) counts as now.
#[must_use]
pub fn from_realtime(stamp: Timespec) -> MonoNs {
    let now = now();
    let real_now = nanos(clock_gettime(ClockId::Realtime));
    match real_now.checked_sub(nanos(stamp)) {
        Some(age) if age < 10_000_000_000 => MonoNs(now.0.saturating_sub(age)),
        _ => now,
    }
}

fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_does_not_go_back() {
        let first = now();
        assert!(first > MonoNs::ZERO);
        assert!(now() >= first);
    }

    #[test]
    fn a_fresh_realtime_stamp_is_now_and_an_absurd_one_too() {
        let before = now();
        let fresh = from_realtime(clock_gettime(ClockId::Realtime));
        assert!(before.since(fresh).0 < 1_000_000_000 && fresh <= now());
        let before = now();
        let absurd = from_realtime(Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        });
        assert!(absurd >= before);
    }

    #[test]
    fn wall_time_keeps_the_distance() {
        let at = now();
        let later = MonoNs(at.0 + 5_000_000_000);
        let distance = wall(later)
            .duration_since(wall(at))
            .expect("later is later");
        assert!(distance.as_millis().abs_diff(5_000) < 1_000);
    }
}
