//! How long a refusal can be on its way: the longest round trip of late on a path.

use crate::units::{MonoNs, Nanos};

/// Nanoseconds of a window as a power of two: 4.3 s, so that the pace of hellos fills one, too.
const WINDOW_LOG: u32 = 32;

/// The longest round trip of the present window and of the one before it, which is the last one in which there was
/// an answer: while a path does not work, nothing is forgotten.
///
/// One of a lease or longer is that of an echo that had to wait for a neighbour's address, or of a node that was
/// held up: no refusal that matters is on its way for so long. A path whose every round trip is such a one has none
/// of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrips {
    /// The longest one of the present window; zero if there is none.
    pub longest: Nanos,
    /// That of the window before.
    pub before: Nanos,
    /// Which window is the present one.
    pub window: u64,
}

impl RoundTrips {
    /// One more, of an echo that asked for leases of `lease`; its answer came at `now`.
    #[must_use]
    #[inline(always)]
    pub const fn taken(self, rtt: Nanos, lease: Nanos, now: MonoNs) -> Self {
        let window = now.0 >> WINDOW_LOG;
        let turned = if window == self.window {
            self
        } else {
            Self {
                longest: Nanos::ZERO,
                before: self.longest,
                window,
            }
        };
        if rtt.0 >= lease.0 || rtt.0 <= turned.longest.0 {
            return turned;
        }
        Self {
            longest: rtt,
            ..turned
        }
    }

    /// The longest one of both windows, if there is any.
    #[must_use]
    pub fn of_late(self) -> Option<Nanos> {
        Some(self.longest.max(self.before)).filter(|longest| *longest > Nanos::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Nanos = Nanos::from_millis(9);
    const SHORT: Nanos = Nanos::from_millis(1);
    const LONG: Nanos = Nanos::from_millis(8);
    const WINDOW: Nanos = Nanos(1 << WINDOW_LOG);

    /// What is known of late after each of some round trips.
    fn known<const N: usize>(trips: [(Nanos, MonoNs); N]) -> [Option<Nanos>; N] {
        let mut known = RoundTrips::default();
        trips.map(|(rtt, at)| {
            known = known.taken(rtt, LEASE, at);
            known.of_late()
        })
    }

    fn in_window(number: u64) -> MonoNs {
        MonoNs::ZERO.after(WINDOW.times(number)).after(Nanos(5))
    }

    #[test]
    fn a_long_round_trip_is_forgotten_when_the_window_has_turned_twice() {
        let (first, second) = (in_window(7), in_window(8));
        let last = MonoNs(WINDOW.times(9).0 - 1);
        let trips = [
            (SHORT, first),
            (LONG, first),
            (SHORT, first),
            (SHORT, second),
            (SHORT, last),
            (SHORT, last.after(Nanos(1))),
        ];
        let expected = [SHORT, LONG, LONG, LONG, LONG, SHORT];
        assert_eq!(known(trips), expected.map(Some));
    }

    #[test]
    fn nothing_is_forgotten_while_nothing_comes() {
        let trips = [(LONG, in_window(7)), (SHORT, in_window(900))];
        assert_eq!(known(trips), [Some(LONG); 2]);
    }

    #[test]
    fn one_of_a_lease_is_left_out() {
        let at = in_window(7);
        let below = Nanos(LEASE.0 - 1);
        let trips = [(LEASE, at), (SHORT, at), (LEASE, at), (below, at)];
        assert_eq!(known(trips), [None, Some(SHORT), Some(SHORT), Some(below)]);
    }

    #[test]
    fn a_path_that_has_become_slower_than_a_lease_has_none_of_late() {
        let trips = [
            (SHORT, in_window(7)),
            (LEASE, in_window(8)),
            (LEASE, in_window(9)),
            (SHORT, in_window(9)),
        ];
        assert_eq!(known(trips), [Some(SHORT), Some(SHORT), None, Some(SHORT)]);
    }
}
