//! The gate: who may speak for a VIP, and until when (docs/architecture.md, "The gate").
//!
//! Per instance an [`Epoch`]; per (instance, lease slot) one 64-bit word,
//! `[self-renewed:1 | epoch:15 | deadline in µs:48]`.
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
const SELF_RENEWED: u64 = 1 << 63;

/// Identifies one continuous time in which an instance may hold its gate open; 15 bits. Never zero once
/// raised: zero is what a fresh map holds, and opens nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Epoch(pub u16);

impl Epoch {
    /// What a fresh map holds; no lease can carry it.
    pub const NONE: Self = Self(0);

    /// After this one they begin again with 1.
    pub const LAST: Self = Self(0x7fff);

    /// The next epoch, which closes whatever the present one had open.
    #[must_use]
    pub const fn raised(self) -> Self {
        match self.0.wrapping_add(1) & Self::LAST.0 {
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
        reason = "the upper 49 bits are never set"
    )]
    pub const fn from_word(word: u64) -> Self {
        Self(word as u16 & Self::LAST.0)
    }
}

/// One lease: the epoch that it belongs to, its deadline in whole microseconds (rounded down), and whether
/// the peer granted it or this node renewed it alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Lease(u64);

impl Lease {
    /// A lease of `epoch` until `deadline`.
    #[must_use]
    pub const fn new(epoch: Epoch, deadline: MonoNs) -> Self {
        let epoch = (epoch.0 & Epoch::LAST.0) as u64;
        Self((epoch << DEADLINE_BITS) | ((deadline.0 / 1_000) & DEADLINE_MASK))
    }

    /// The same, renewed by this node itself because nothing is heard from the peer: the peer's request
    /// ends it.
    #[must_use]
    pub const fn self_renewed(self) -> Self {
        Self(self.0 | SELF_RENEWED)
    }

    /// Whether this node renewed it itself.
    #[must_use]
    pub const fn is_self_renewed(self) -> bool {
        self.0 & SELF_RENEWED != 0
    }

    /// What a grant leaves in the slot: it only ever lengthens a lease of the same epoch, and at the same
    /// deadline replaces one that was self-renewed.
    #[must_use]
    pub const fn extended(self, grant: Self) -> Self {
        if self.epoch().0 == grant.epoch().0 && self.deadline().0 > grant.deadline().0 {
            self
        } else {
            grant
        }
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
        Epoch((self.0 >> DEADLINE_BITS) as u16 & Epoch::LAST.0)
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
        assert_eq!(Epoch::LAST.raised(), Epoch(1));
    }

    #[test]
    fn a_grant_only_lengthens_and_ends_a_self_renewal() {
        let epoch = Epoch(7);
        let granted = |ns| Lease::new(epoch, MonoNs(ns));
        let alone = granted(6_000_000).self_renewed();
        assert!(alone.is_self_renewed() && alone.holds(epoch, NOW));
        assert_eq!(alone.epoch(), epoch);
        assert_eq!(alone.extended(granted(5_000_000)), alone);
        assert_eq!(alone.extended(granted(6_000_000)), granted(6_000_000));
        assert_eq!(
            granted(6_000_000).extended(granted(5_000_000)),
            granted(6_000_000)
        );
        let newer = Lease::new(epoch.raised(), NOW);
        assert_eq!(alone.extended(newer), newer);
    }

    #[test]
    fn deadlines_are_rounded_down() {
        assert_eq!(
            Lease::new(Epoch(1), MonoNs(1_999)).deadline(),
            MonoNs(1_000)
        );
    }
}
