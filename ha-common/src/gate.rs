//! The gate: who may speak for a VIP, and until when (docs/architecture.md, "The gate").
//!
//! Per instance an [`Epoch`]; per (instance, lease slot) one 64-bit word, `[epoch:16 | deadline in µs:48]`.
//! The gate is open while every configured lease is later than now and carries the open epoch, and
//! that epoch is not superseded. Closing raises the epoch, so that nothing in flight can reopen.
//!
//! XDP, tc, the engine and the simulator all decide with [`is_open`].

use crate::units::MonoNs;

/// Lease slots per instance: one per peer; a node that relies on adverts alone uses slot 0.
pub const MAX_LEASES: usize = 8;

/// The slot of the lease that a node's own adverts give it (case A: adverts alone).
pub const ADVERT_SLOT: usize = 0;

const DEADLINE_BITS: u32 = 48;
const DEADLINE_MASK: u64 = (1 << DEADLINE_BITS) - 1;

/// Identifies one continuous time in which an instance may hold its gate open. Never zero once raised:
/// zero is what a fresh map holds, and opens nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Epoch(pub u16);

impl Epoch {
    /// What a fresh map holds; no lease can carry it.
    pub const NONE: Self = Self(0);

    /// The next epoch, which closes whatever the present one had open.
    #[must_use]
    pub const fn raised(self) -> Self {
        match self.0.wrapping_add(1) {
            0 => Self(1),
            next => Self(next),
        }
    }

    /// As the 64-bit word that the maps hold.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.0 as u64
    }

    /// From the 64-bit word that the maps hold.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the upper 48 bits are never set"
    )]
    pub const fn from_word(word: u64) -> Self {
        Self(word as u16)
    }
}

/// One lease: the epoch that it belongs to, and its deadline in whole microseconds (rounded down).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Lease(u64);

impl Lease {
    /// A lease of `epoch` until `deadline`.
    #[must_use]
    pub const fn new(epoch: Epoch, deadline: MonoNs) -> Self {
        Self(((epoch.0 as u64) << DEADLINE_BITS) | ((deadline.0 / 1_000) & DEADLINE_MASK))
    }

    /// From the 64-bit word that the maps hold.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// As the 64-bit word that the maps hold.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// The epoch that it belongs to.
    #[must_use]
    pub const fn epoch(self) -> Epoch {
        Epoch((self.0 >> DEADLINE_BITS) as u16)
    }

    /// The first instant at which it no longer holds.
    #[must_use]
    pub const fn deadline(self) -> MonoNs {
        MonoNs((self.0 & DEADLINE_MASK).saturating_mul(1_000))
    }

    /// Whether it holds at `now` for `epoch`.
    #[must_use]
    pub const fn holds(self, epoch: Epoch, now: MonoNs) -> bool {
        self.epoch().0 == epoch.0 && now.0 < self.deadline().0
    }
}

/// The gate's rule for a single lease slot; a gate with several is open when this is true of each.
#[must_use]
pub const fn is_open(epoch: Epoch, superseded: Epoch, lease: Lease, now: MonoNs) -> bool {
    epoch.0 != Epoch::NONE.0 && epoch.0 != superseded.0 && lease.holds(epoch, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonoNs = MonoNs(5_000_000);
    const LATER: MonoNs = MonoNs(6_000_000);

    #[test]
    fn a_fresh_map_is_closed() {
        assert!(!is_open(
            Epoch::from_word(0),
            Epoch::from_word(0),
            Lease::from_word(0),
            MonoNs::ZERO
        ));
        assert!(!is_open(
            Epoch::NONE,
            Epoch::NONE,
            Lease::new(Epoch::NONE, LATER),
            NOW
        ));
    }

    #[test]
    fn open_until_the_deadline_and_not_at_it() {
        let epoch = Epoch(7);
        let lease = Lease::new(epoch, LATER);
        assert!(is_open(epoch, Epoch(6), lease, NOW));
        assert!(is_open(epoch, Epoch(6), lease, MonoNs(LATER.0 - 1)));
        assert!(!is_open(epoch, Epoch(6), lease, LATER));
    }

    #[test]
    fn raising_or_superseding_the_epoch_closes() {
        let epoch = Epoch(7);
        let lease = Lease::new(epoch, LATER);
        assert!(!is_open(epoch.raised(), Epoch::NONE, lease, NOW));
        assert!(!is_open(epoch, epoch, lease, NOW));
    }

    #[test]
    fn epochs_wrap_past_zero() {
        assert_eq!(Epoch(u16::MAX).raised(), Epoch(1));
    }

    #[test]
    fn deadlines_are_rounded_down() {
        assert_eq!(
            Lease::new(Epoch(1), MonoNs(1_999)).deadline(),
            MonoNs(1_000)
        );
    }
}
