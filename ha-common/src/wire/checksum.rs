//! The Internet checksum (RFC 1071).

use crate::Address;

/// A one's complement sum in progress. 32-bit words are added as they are: 2^16 is 1 modulo 0xffff, so
/// that folding gives the sum of the 16-bit words. And they are added as they lie in memory: the sum of words
/// whose bytes are swapped is the sum with its bytes swapped (RFC 1071 section 2 (B)).
///
/// Of words of eight bytes the upper halves are summed, and the whole words modulo 2^64: what these have more than
/// the lower halves is known in the end. So no word is taken apart, which is an instruction each on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Of everything, modulo 2^64.
    whole: u64,
    /// Of what stands in the upper 32 bits there.
    upper: u64,
}

/// What the folded sum over data and its own checksum field is when the checksum is right.
pub const VALID: u16 = 0xffff;

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self { whole: 0, upper: 0 };

    /// What the sum over data was whose checksum is `field`, before some of it is [`Self::replaced`].
    #[must_use]
    pub const fn of_checksum(field: [u8; 2]) -> Self {
        Self::ZERO.low(u16::from_ne_bytes(field) as u64 ^ 0xffff)
    }

    /// Takes eight bytes that stand at an even offset out, and adds others in their place, both as they lie in
    /// memory (RFC 1624).
    #[must_use]
    pub const fn replaced(self, before: u64, after: u64) -> Self {
        self.long(!before).long(after)
    }

    /// Adds four bytes that stand at an even offset.
    #[must_use]
    pub const fn word(self, bytes: [u8; 4]) -> Self {
        self.low(u32::from_ne_bytes(bytes) as u64)
    }

    /// Adds two bytes that stand at an even offset.
    #[must_use]
    pub const fn half(self, bytes: [u8; 2]) -> Self {
        self.low(u16::from_ne_bytes(bytes) as u64)
    }

    /// Adds an address.
    #[must_use]
    pub const fn address(self, address: Address) -> Self {
        let [high, low] = address.words();
        self.long(high).long(low)
    }

    /// Adds eight bytes that stand at an even offset, as they lie in memory.
    #[must_use]
    pub const fn long(self, bytes: u64) -> Self {
        Self {
            whole: self.whole.wrapping_add(bytes),
            upper: self.upper + (bytes >> 32),
        }
    }

    /// Adds a number below 2^32.
    const fn low(self, number: u64) -> Self {
        Self {
            whole: self.whole.wrapping_add(number),
            ..self
        }
    }

    /// Adds a slice that starts at an even offset; an odd last byte is padded with zero.
    #[must_use]
    pub fn slice(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        let sum = words.iter().fold(self, |sum, word| sum.word(*word));
        match *rest {
            [] => sum,
            [a] => sum.half([a, 0]),
            [a, b] => sum.half([a, b]),
            [a, b, c, ..] => sum.word([a, b, c, 0]),
        }
    }

    /// The sum in 16 bits.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "four folds bring any 64-bit sum below 2^16"
    )]
    pub const fn folded(self) -> u16 {
        let sum = self.whole.wrapping_sub(self.upper << 32) + self.upper;
        let sum = (sum & 0xffff_ffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        u16::from_be(sum as u16)
    }

    /// The checksum field for the data summed, whose own field was zero.
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.folded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 as it stands in the text: 16-bit words, carries added at the end.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    #[test]
    fn example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::ZERO.slice(&bytes).folded(), 0xddf2);
    }

    proptest! {
        #[test]
        fn equals_the_reference(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
            prop_assert_eq!(Sum::ZERO.slice(&bytes).folded(), reference(&bytes));
        }

        #[test]
        fn data_with_its_checksum_is_valid(mut bytes in proptest::collection::vec(any::<u8>(), 2..200)) {
            bytes[0] = 0;
            bytes[1] = 0;
            // A sum of zero exists only for data that is all zero, which no header is.
            bytes.push(1);
            bytes.push(1);
            if bytes.len() % 2 == 1 {
                bytes.push(1);
            }
            let checksum = Sum::ZERO.slice(&bytes).checksum();
            bytes[..2].copy_from_slice(&checksum.to_be_bytes());
            prop_assert_eq!(Sum::ZERO.slice(&bytes).folded(), VALID);
        }

        #[test]
        fn what_is_replaced_counts_no_more(words: [u64; 4], after: u64, at in 0..4_usize) {
            let sum = |words: [u64; 4]| words.into_iter().fold(Sum::ZERO, Sum::long);
            let mut changed = words;
            changed[at] = after;
            let field = sum(words).checksum().to_be_bytes();
            let replaced = Sum::of_checksum(field).replaced(words[at], after);
            // Nothing but zeroes has a sum of zero, but what is replaced by zeroes leaves the other form of it.
            let expected = sum(changed).folded() % VALID;
            prop_assert_eq!(replaced.folded() % VALID, expected);
        }
    }
}
