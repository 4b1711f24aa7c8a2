//! How fast the clock of every decision runs: a daemon that keeps the time of day lets it run faster or slower
//! to make up for a difference, CLOCK_MONOTONIC with it.

use std::{io, mem::MaybeUninit};

/// Two clocks that run by so much too fast and too slow, in parts per million, differ by a fifth:
/// (1 + 1/11) / (1 − 1/11) = 1.2. A promise is by a third longer than the lease.
const LIMIT_PPM: u64 = 1_000_000 / 11;

/// `TICK_USEC`: microseconds in a tick of 100 Hz, if it is as long as it should be.
const TICK_US: i64 = 10_000;

/// What to say to a node that relies on leases, if anything.
#[must_use]
pub fn advice() -> Option<String> {
    warning(rate_ppm().ok()?)
}

fn warning(ppm: i64) -> Option<String> {
    let way = if ppm > 0 { "fast" } else { "slow" };
    (ppm.unsigned_abs() > LIMIT_PPM).then(|| {
        format!(
            "the clock is slewed: it runs {} % too {way}, and leases are safe up to {} % on each node; let the time daemon slew more slowly (chrony: maxslewrate), or set the clock at once while the node is in standby",
            ppm.unsigned_abs() / 10_000,
            LIMIT_PPM / 10_000
        )
    })
}

/// By how many parts per million CLOCK_MONOTONIC runs too fast at present; negative: too slow.
///
/// # Errors
/// EPERM where a sandbox forbids it (systemd's `ProtectClock`).
fn rate_ppm() -> io::Result<i64> {
    let mut timex = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all zeroes are a `timex`, of plain numbers, that asks for no change (`modes`); the kernel
    // fills it in.
    let timex = unsafe {
        if libc::adjtimex(timex.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        timex.assume_init()
    };
    let offset_us = if timex.status & libc::STA_NANO != 0 {
        timex.offset / 1_000
    } else {
        timex.offset
    };
    Ok(rate_of(timex.freq, timex.tick, offset_us, timex.constant))
}

/// From what adjtimex(2) tells: `frequency` in 65536ths of a part per million, `tick` in microseconds, the offset
/// that the kernel makes up for, a part of it each second (`SHIFT_PLL` and the time constant say which).
fn rate_of(frequency: i64, tick: i64, offset_us: i64, constant: i64) -> i64 {
    const SHIFT_PLL: i64 = 2;
    let shift = u32::try_from(SHIFT_PLL + constant).unwrap_or(0).min(62);
    frequency / (1 << 16) + (tick - TICK_US) * (1_000_000 / TICK_US) + offset_us / (1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells() {
        match rate_ppm() {
            Ok(ppm) => assert!(ppm.unsigned_abs() <= 250_000, "{ppm}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }

    #[test]
    fn the_parts_add_up() {
        assert_eq!(rate_of(0, 10_000, 0, 0), 0);
        assert_eq!(rate_of(500 << 16, 10_000, 0, 2), 500);
        assert_eq!(rate_of(-(500 << 16), 9_000, 0, 2), -100_500);
        assert_eq!(rate_of(0, 10_000, 500_000, 0), 125_000);
        assert_eq!(rate_of(0, 10_000, -500_000, 10), -122);
    }

    #[test]
    fn what_the_margin_covers_is_no_warning() {
        // chrony's default, the fastest that it slews.
        assert_eq!(warning(83_333), None);
        assert_eq!(warning(-90_000), None);
        let said = warning(-100_500).expect("more than an eleventh");
        assert!(said.contains("10 % too slow"), "{said}");
        assert!(warning(125_000).is_some_and(|said| said.contains("12 % too fast")));
    }
}
