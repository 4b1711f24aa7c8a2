//! How far apart adverts were.

use std::fmt;

use ha_common::{MonoNs, Nanos};

/// Upper ends of the buckets, in percent of the interval; the last bucket is what is longer.
const PERCENT: [u64; 7] = [50, 90, 105, 110, 150, 200, 300];

/// A histogram of the gaps between adverts that should come each interval.
#[derive(Debug)]
pub struct Gaps {
    interval: Nanos,
    counts: [u64; PERCENT.len() + 1],
    longest: Nanos,
}

impl Gaps {
    /// Of adverts in the order in which they came.
    #[must_use]
    pub fn of(adverts: &[(MonoNs, u8)], interval: Nanos) -> Self {
        let mut this = Self {
            interval,
            counts: [0; PERCENT.len() + 1],
            longest: Nanos::ZERO,
        };
        for pair in adverts.windows(2) {
            let gap = pair[1].0.since(pair[0].0);
            let bucket = PERCENT
                .iter()
                .position(|percent| gap <= this.edge(*percent))
                .unwrap_or(PERCENT.len());
            this.counts[bucket] += 1;
            this.longest = this.longest.max(gap);
        }
        this
    }

    fn edge(&self, percent: u64) -> Nanos {
        Nanos(self.interval.0.saturating_mul(percent) / 100)
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> Nanos {
        self.longest
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} gaps between adverts each {}, the longest {}:",
            self.count(),
            self.interval,
            self.longest
        )?;
        for (percent, count) in PERCENT.iter().zip(self.counts) {
            writeln!(
                f,
                "  up to {:>10} {count:>6}",
                self.edge(*percent).to_string()
            )?;
        }
        write!(f, "  longer           {:>6}", self.counts[PERCENT.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gap_is_in_the_first_bucket_that_holds_it() {
        let at = [0, 100, 205, 310, 700].map(|ms| (MonoNs(ms * 1_000_000), 100));
        let gaps = Gaps::of(&at, Nanos::from_millis(100));
        assert_eq!(gaps.counts, [0, 0, 3, 0, 0, 0, 0, 1]);
        assert_eq!(gaps.count(), 4);
        assert_eq!(gaps.longest(), Nanos::from_millis(390));
        assert!(
            gaps.to_string().contains("longer                1"),
            "{gaps}"
        );
        assert_eq!(Gaps::of(&at[..1], Nanos::from_millis(100)).count(), 0);
    }
}
