//! A small generator of its own, so that a seed means the same for ever (SplitMix64, public domain).

use std::boxed::Box;

/// Bytes of a tape for one choice.
const CHOICE: usize = 4;

/// Pseudo-random numbers: from a tape while it lasts, then from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
    tape: Box<[u8]>,
    at: usize,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of_tape(&[], seed)
    }

    pub(crate) fn of_tape(tape: &[u8], seed: u64) -> Self {
        Self {
            state: seed ^ 0x6a09_e667_f3bc_c908,
            tape: tape.into(),
            at: 0,
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        if let Some(choice) = self.tape.get(self.at..).and_then(<[u8]>::first_chunk) {
            self.at += CHOICE;
            return u32::from_le_bytes(*choice).into();
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True in `permille` of 1000 cases.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.next() % 1_000 < permille
    }

    /// An index below `len`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below a length"
    )]
    pub(crate) fn index(&mut self, len: usize) -> usize {
        (self.next() % len as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}
