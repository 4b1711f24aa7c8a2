//! A node's clock: its own origin and its own rate.

use ha_common::MonoNs;

/// CLOCK_MONOTONIC of one node, as a function of the simulator's true time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    offset: u64,
    /// How much faster it runs, in millionths; negative: slower.
    ppm: i64,
}

impl Clock {
    pub(crate) const fn new(offset: u64, ppm: i64) -> Self {
        Self { offset, ppm }
    }

    /// What it shows at a true time.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "simulated times are seconds, far from the limits"
    )]
    pub(crate) const fn show(self, time: u64) -> MonoNs {
        let gained = time as i128 * self.ppm as i128 / 1_000_000;
        MonoNs((time as i128 + gained) as u64 + self.offset)
    }

    /// The first true time at which it shows `local` or later.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "simulated times are seconds, far from the limits"
    )]
    pub(crate) const fn when(self, local: MonoNs) -> u64 {
        let elapsed = local.0.saturating_sub(self.offset);
        let mut time = (elapsed as i128 * 1_000_000 / (1_000_000 + self.ppm) as i128) as u64;
        while self.show(time).0 < local.0 {
            time += 1;
        }
        while time > 0 && self.show(time - 1).0 >= local.0 {
            time -= 1;
        }
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_at_the_first_true_time_that_shows_it() {
        for ppm in [-1_000, -1, 0, 7, 1_000] {
            let clock = Clock::new(5_000_000_000, ppm);
            for local in [5_000_000_000, 5_036_093_000, 9_123_456_789] {
                let time = clock.when(MonoNs(local));
                assert!(clock.show(time).0 >= local);
                assert!(time == 0 || clock.show(time - 1).0 < local);
            }
        }
    }
}
