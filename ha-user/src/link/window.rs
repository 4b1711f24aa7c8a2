//! Which numbers have come before: every message goes out on every path, and counts once.

/// Numbers behind the highest one that are still told apart.
const BITS: u64 = 1_024;
const WORDS: usize = 16;

/// A window over the numbers that came, as in RFC 4303 section 3.4.3.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    highest: u64,
    /// Bit `n % BITS`: whether `n` came, for the last `BITS` numbers up to the highest.
    seen: [u64; WORDS],
}

impl Window {
    /// Whether a number comes for the first time. One that is too old to be known counts as seen.
    pub(super) fn is_new(&mut self, number: u64) -> bool {
        if number > self.highest {
            if number - self.highest >= BITS {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.highest + 1..number {
                    self.set(skipped, false);
                }
            }
            self.highest = number;
            self.set(number, true);
            return true;
        }
        if number == 0 || self.highest - number >= BITS || self.is_set(number) {
            return false;
        }
        self.set(number, true);
        true
    }

    fn place(number: u64) -> (usize, u64) {
        let bit = number % BITS;
        let word = usize::try_from(bit / 64).unwrap_or(0);
        (word % WORDS, 1 << (bit % 64))
    }

    fn is_set(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.seen[word] & bit != 0
    }

    fn set(&mut self, number: u64, came: bool) {
        let (word, bit) = Self::place(number);
        if came {
            self.seen[word] |= bit;
        } else {
            self.seen[word] &= !bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_number_counts_once_in_any_order() {
        let mut window = Window::default();
        assert!(!window.is_new(0), "nobody counts from 0");
        for number in [1, 3, 2, 1_024, 4] {
            assert!(window.is_new(number) && !window.is_new(number), "{number}");
        }
        assert!(window.is_new(2_000) && !window.is_new(976), "too old");
        assert!(window.is_new(977) && window.is_new(1_500));
        assert!(window.is_new(u64::MAX) && !window.is_new(2_000));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in proptest::collection::vec((any::<bool>(), 0_u64..1_500), 1..300)) {
            let mut window = Window::default();
            let mut all = BTreeSet::new();
            let mut highest = 0_u64;
            for (forward, step) in steps {
                let number = if forward { highest + step } else { highest.saturating_sub(step) };
                let known = number != 0 && number + BITS > highest;
                prop_assert_eq!(window.is_new(number), known && all.insert(number));
                highest = highest.max(number);
            }
        }
    }
}
