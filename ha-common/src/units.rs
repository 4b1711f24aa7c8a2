//! Newtypes for everything that has a unit or a legal range.

use core::{fmt, num::NonZeroU8};

/// A point on `CLOCK_MONOTONIC` in nanoseconds: the same clock as `bpf_ktime_get_ns`.
///
/// No node compares its own with another node's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct MonoNs(pub u64);

impl MonoNs {
    /// The clock's origin, used as "never".
    pub const ZERO: Self = Self(0);

    /// `self + span`, saturating at the end of time.
    #[must_use]
    pub const fn after(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// `self - span`, saturating at the clock's origin.
    #[must_use]
    pub const fn before(self, span: Nanos) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// Time since `earlier`; zero if `earlier` is later, as a stamp from another CPU may be.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A span of whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// A span of whole milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// A span of whole microseconds.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    /// `self × factor`, saturating.
    #[must_use]
    pub const fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    /// `self + other`, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Nanos {
    /// Milliseconds with three digits below one second, else seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1_000;
        if micros < 1_000_000 {
            write!(f, "{}.{:03} ms", micros / 1_000, micros % 1_000)
        } else {
            write!(f, "{}.{:03} s", micros / 1_000_000, micros / 1_000 % 1_000)
        }
    }
}

/// A span in centiseconds, the unit of VRRPv3's `Max Advertise Interval` (RFC 9568 section 5.2.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Centis(pub u16);

impl Centis {
    /// The same span in nanoseconds.
    #[must_use]
    pub const fn to_nanos(self) -> Nanos {
        Nanos(self.0 as u64 * 10_000_000)
    }
}

/// A Virtual Router Identifier, 1 to 255 (RFC 9568 section 5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Vrid(pub NonZeroU8);

impl Vrid {
    /// `None` for 0, which no virtual router may have.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        match NonZeroU8::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number as it stands in a packet.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A VRRP priority as it stands in a packet (RFC 9568 section 5.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Priority(pub u8);

impl Priority {
    /// "I no longer take part": sent by an Active router that lets go.
    pub const RELEASE: Self = Self(0);
    /// Of a router that goes last.
    pub const LEAST: Self = Self(1);
    /// The router that owns the addresses.
    pub const OWNER: Self = Self(255);
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
