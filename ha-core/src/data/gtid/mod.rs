//! Global transaction identifiers: what a database has written, applied or received.
//!
//! Everything here comes from a server or from another node as text. It is read within [`TEXT_LIMIT`], and rubbish is
//! an error, never a panic.

pub mod mariadb;
pub mod mysql;

use core::fmt;

/// Bytes of the longest text that is read: some thousand domains, servers or intervals.
pub const TEXT_LIMIT: usize = 1 << 16;

/// Why a text is no set of identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GtidError {
    /// Longer than [`TEXT_LIMIT`].
    TooLong,
    /// A part of it is not what it should be; its number, from 0.
    Malformed(usize),
    /// It names one domain, or one domain and server, twice.
    Twice,
}

impl fmt::Display for GtidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "longer than {TEXT_LIMIT} bytes"),
            Self::Malformed(part) => write!(f, "its part {} is no identifier", part + 1),
            Self::Twice => f.write_str("it names one source twice"),
        }
    }
}

impl core::error::Error for GtidError {}

/// A number of transactions as a position for [`ha_common::lease::Rank`]. It never turns an order round. Up to 2³¹
/// each transaction counts; beyond, numbers that differ by less than a 2²⁶th of themselves may be equal. No server counts
/// beyond 2⁶³.
#[must_use]
pub const fn rank_position(transactions: u64) -> u32 {
    const EXACT_BITS: u32 = 31;
    const KEPT_BITS: u32 = 26;
    let transactions = if transactions > i64::MAX.unsigned_abs() {
        i64::MAX.unsigned_abs()
    } else {
        transactions
    };
    let bits = u64::BITS - transactions.leading_zeros();
    if bits <= EXACT_BITS {
        let [.., a, b, c, d] = transactions.to_be_bytes();
        return u32::from_be_bytes([a, b, c, d]);
    }
    // As a floating-point number has it: the exponent, then the highest bits after the leading one.
    let exponent = bits - EXACT_BITS - 1;
    let kept = (transactions >> (bits - 1 - KEPT_BITS)) & ((1 << KEPT_BITS) - 1);
    let [.., a, b, c, d] = kept.to_be_bytes();
    (1 << EXACT_BITS) + (exponent << KEPT_BITS) + u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_numbers_count_exactly_and_the_greatest_fits() {
        for exact in [0, 1, 806, (1 << 31) - 1] {
            assert_eq!(u64::from(rank_position(exact)), exact);
        }
        assert_eq!(rank_position(1 << 31), 1 << 31);
        assert_eq!(rank_position(u64::MAX), u32::MAX);
    }

    proptest! {
        #[test]
        fn an_order_is_never_turned_round(a: u64, b: u64, shift in 0_u32..64) {
            let (a, b) = ((a >> shift) >> 1, (b >> shift) >> 1);
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(rank_position(low) <= rank_position(high));
            if high - low > high >> 26 {
                prop_assert!(rank_position(low) < rank_position(high));
            }
        }
    }
}
