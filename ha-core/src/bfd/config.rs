//! What a session is told to do: validated before it gets here.

use core::{fmt, num::NonZeroU32};

use ha_common::wire::bfd::{DIGEST_LEN, Sha1};

/// A secret of 1 to 20 bytes. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; DIGEST_LEN]);

impl Key {
    /// Zeroes follow a secret of less than 20 bytes (RFC 5880 section 6.7.4); `None` if it is empty or
    /// longer.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = [0; DIGEST_LEN];
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        (!secret.is_empty()).then_some(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; DIGEST_LEN] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// How packets are authenticated, both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Which of the two types.
    pub kind: Sha1,
    /// Auth Key ID.
    pub key_id: u8,
    /// The secret.
    pub key: Key,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// My Discriminator: unique on this node.
    pub local_discriminator: NonZeroU32,
    /// Desired Min TX Interval while Up, in microseconds, not 0. While not Up it is a second or more
    /// (RFC 5880 section 6.8.3).
    pub desired_min_tx_us: u32,
    /// Required Min RX Interval in microseconds, not 0.
    pub required_min_rx_us: u32,
    /// Detect Mult, not 0.
    pub multiplier: u8,
    /// Whether to wait for the peer's first packet (RFC 5880 section 6.1, Passive role).
    pub passive: bool,
    /// `None`: packets are not authenticated, and authenticated ones are discarded.
    pub auth: Option<Auth>,
    /// Whether the kernel takes repetitions while the session is Up and reports silence
    /// ([`super::Input::Silence`]); it does not with authentication, whatever this says.
    pub kernel_watch: bool,
}

impl SessionConfig {
    /// Whether repetitions are hidden while the session is Up.
    pub(super) const fn is_watched(&self) -> bool {
        self.kernel_watch && self.auth.is_none()
    }
}
