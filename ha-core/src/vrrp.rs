//! The arithmetic of the election: intervals and rank (RFC 9568 section 6.1, RFC 3768 section 6.1).

use core::net::IpAddr;

use ha_common::{Nanos, Priority};

use crate::config::Version;

/// Adverts that must be missing in a row before a Backup takes over, and for as many intervals an
/// advert keeps the gate open.
pub const MISSED_ADVERTS: u64 = 3;

/// Skew_Time: the lower the priority, the longer.
///
/// RFC 9568: `(256 − Priority) × Active_Adver_Interval / 256`. RFC 3768: `(256 − Priority) / 256`
/// seconds, whatever the interval. In nanoseconds, so nothing is rounded to zero.
#[must_use]
pub const fn skew_time(version: Version, priority: Priority, interval: Nanos) -> Nanos {
    let share = 256 - priority.0 as u64;
    match version {
        Version::V2 => Nanos(1_000_000_000 * share / 256),
        Version::V3 => Nanos(interval.0.saturating_mul(share) / 256),
    }
}

/// Active_Down_Interval (RFC 9568), Master_Down_Interval (RFC 3768): three intervals of the Active
/// router and Skew_Time.
#[must_use]
pub const fn active_down_interval(version: Version, priority: Priority, interval: Nanos) -> Nanos {
    interval
        .times(MISSED_ADVERTS)
        .plus(skew_time(version, priority, interval))
}

/// How long an advert keeps its sender's gate open, from the time sample before it was sent.
#[must_use]
pub const fn gate_time(interval: Nanos) -> Nanos {
    interval.times(MISSED_ADVERTS)
}

/// Who is Active when two routers both want to be: higher priority, then greater address
/// (RFC 9568 section 6.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Priority, 1 to 255.
    pub priority: Priority,
    /// Source address of the adverts, compared as an unsigned number in network order.
    pub address: IpAddr,
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    #[test]
    fn version_3_scales_the_skew_with_the_interval() {
        let ten_ms = Nanos::from_millis(10);
        assert_eq!(
            skew_time(Version::V3, Priority(100), ten_ms),
            Nanos(6_093_750)
        );
        assert_eq!(
            active_down_interval(Version::V3, Priority(100), ten_ms),
            Nanos(36_093_750)
        );
        // The example of RFC 9568: 10 centiseconds at priority 100.
        assert_eq!(
            active_down_interval(Version::V3, Priority(100), Nanos::from_millis(100)),
            Nanos(360_937_500)
        );
    }

    #[test]
    fn version_2_has_its_skew_in_seconds() {
        for seconds in [1, 5] {
            assert_eq!(
                skew_time(Version::V2, Priority(128), Nanos::from_secs(seconds)),
                Nanos::from_millis(500)
            );
        }
        assert_eq!(
            active_down_interval(Version::V2, Priority::OWNER, Nanos::from_secs(1)),
            Nanos(3_003_906_250)
        );
    }

    #[test]
    fn priority_comes_before_address() {
        let rank = |priority, last| Rank {
            priority: Priority(priority),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)),
        };
        assert!(rank(101, 1) > rank(100, 9));
        assert!(rank(100, 200) > rank(100, 9));
        assert!(rank(100, 9) == rank(100, 9));
    }
}
