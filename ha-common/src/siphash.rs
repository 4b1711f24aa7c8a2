//! SipHash-2-4 (Aumasson and Bernstein, 2012) over whole words, one at a time: XDP reads a packet so.

/// A hash in progress. Words are what the message's bytes are in memory, read as little-endian numbers.
#[derive(Clone, Copy, Debug)]
pub struct SipHash {
    state: [u64; 4],
    words: u64,
}

impl SipHash {
    /// Under a key of 16 bytes, as its two little-endian words.
    #[must_use]
    pub const fn new(key: [u64; 2]) -> Self {
        let [k0, k1] = key;
        Self {
            state: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
            words: 0,
        }
    }

    /// Adds eight bytes, as they lie in memory.
    #[must_use]
    #[inline(always)]
    pub const fn word(self, word: u64) -> Self {
        Self {
            state: compressed(self.state, u64::from_le(word)),
            words: self.words + 1,
        }
    }

    /// Adds several words.
    #[must_use]
    #[inline(always)]
    pub const fn words<const N: usize>(self, words: &[u64; N]) -> Self {
        let mut hash = self;
        let mut at = 0;
        while at < N {
            hash = hash.word(words[at]);
            at += 1;
        }
        hash
    }

    /// The hash of everything added.
    #[must_use]
    #[inline(always)]
    pub const fn finish(self) -> u64 {
        // The last block holds the message's length in bytes, modulo 256, and no byte of its own here.
        let [v0, v1, v2, v3] = compressed(self.state, self.words << 59);
        let [v0, v1, v2, v3] = rounded(rounded(rounded(rounded([v0, v1, v2 ^ 0xff, v3]))));
        v0 ^ v1 ^ v2 ^ v3
    }
}

#[inline(always)]
const fn compressed([v0, v1, v2, v3]: [u64; 4], block: u64) -> [u64; 4] {
    let [v0, v1, v2, v3] = rounded(rounded([v0, v1, v2, v3 ^ block]));
    [v0 ^ block, v1, v2, v3]
}

#[inline(always)]
const fn rounded([mut v0, mut v1, mut v2, mut v3]: [u64; 4]) -> [u64; 4] {
    v0 = v0.wrapping_add(v1);
    v2 = v2.wrapping_add(v3);
    v1 = v1.rotate_left(13) ^ v0;
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.rotate_left(32);
    v2 = v2.wrapping_add(v1);
    v0 = v0.wrapping_add(v3);
    v1 = v1.rotate_left(17) ^ v2;
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.rotate_left(32);
    [v0, v1, v2, v3]
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::hash::Hasher as _;
    use std::vec::Vec;

    use proptest::prelude::*;
    use siphasher::sip::SipHasher24;

    use super::*;

    fn hash(key: [u64; 2], message: &[u8]) -> u64 {
        let (words, rest) = message.as_chunks::<8>();
        assert!(rest.is_empty());
        words
            .iter()
            .fold(SipHash::new(key), |hash, word| {
                hash.word(u64::from_ne_bytes(*word))
            })
            .finish()
    }

    #[test]
    fn vector_of_the_paper() {
        // Appendix A has 15 bytes; the authors' list of vectors gives this one for the first 8 of them.
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        assert_eq!(hash(key, &[0, 1, 2, 3, 4, 5, 6, 7]), 0x93f5_f579_9a93_2462);
    }

    proptest! {
        #[test]
        fn equals_the_library(key: [u64; 2], words in proptest::collection::vec(any::<u64>(), 0..80)) {
            let message: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let mut library = SipHasher24::new_with_keys(key[0], key[1]);
            library.write(&message);
            prop_assert_eq!(hash(key, &message), library.finish());
        }
    }
}
