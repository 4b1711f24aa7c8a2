//! The maps of BFD sessions. They are each daemon's own: nothing of them outlives it.

use super::MAX_INSTANCES;
use crate::{Address, units::MonoNs, wire::bfd::HEADER_LEN};

/// Sessions.
pub const MAX_SESSIONS: u32 = 256;

/// Bytes of the ring buffer for [`Event`]s.
pub const EVENT_RING_BYTES: u32 = 64 * 1024;

/// Authenticated packets per session and [`super::EVENT_WINDOW_NS`] that reach the daemon, which computes a
/// digest for each: more than twice as many as a peer sends at 1 ms.
pub const AUTH_BUDGET: u64 = 256;

/// The index of a session's silence timer.
#[must_use]
pub const fn watch(slot: u32) -> u32 {
    MAX_INSTANCES + slot
}

/// Key of `BFD_PEERS`: where a packet without Your Discriminator comes from (RFC 5881 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PeerKey {
    /// Interface index.
    pub ifindex: u32,
    /// UDP destination port: single-hop and multihop sessions are apart.
    pub port: u32,
    /// Source address.
    pub address: Address,
}

/// Value of `BFD_SESSIONS`, written by the daemon only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Session {
    /// Interface index; 0 = slot not in use.
    pub ifindex: u32,
    /// My Discriminator.
    pub discriminator: u32,
    /// UDP destination port.
    pub port: u16,
    /// TTL or hop limit that a packet must have at least; 255 but for multihop sessions.
    pub min_ttl: u8,
    /// 1: packets must be authenticated, and the daemon's socket takes them; 0: they must not be.
    pub authenticated: u8,
    /// Zero.
    pub _pad: [u8; 4],
    /// This node's address.
    pub local: Address,
    /// The peer's.
    pub peer: Address,
}

impl Session {
    /// The key that leads to it.
    #[must_use]
    pub const fn key(&self) -> PeerKey {
        PeerKey {
            ifindex: self.ifindex,
            port: self.port as u32,
            address: self.peer,
        }
    }
}

/// Value of `BFD_RECEIVED`, one cache line, written by XDP, read by the daemon through its mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Received {
    /// When the last valid packet came; later than the packet beside it was written.
    pub last_ns: u64,
    /// The last valid packet.
    pub packet: Words,
    /// Valid packets so far (of several CPUs at once: approximate).
    pub packets: u64,
    /// Start of the event budget's window.
    pub window_ns: u64,
    /// Events reported in that window.
    pub window_events: u64,
    /// Zero.
    pub _pad: u64,
}

/// The fixed part of a BFD packet as it lies in memory, in words that are compared and stored at once.
pub type Words = [u64; 3];

/// The bytes of those words.
#[must_use]
pub const fn bytes(words: Words) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    let mut index = 0;
    while index < HEADER_LEN {
        bytes[index] = words[index / 8].to_ne_bytes()[index % 8];
        index += 1;
    }
    bytes
}

/// An entry of the ring buffer `BFD_EVENTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// A [`EventKind`].
    pub kind: u32,
    /// The session's slot.
    pub session: u32,
    /// When the packet arrived, or the last one had arrived.
    pub stamp_ns: u64,
    /// When the event was made.
    pub made_ns: u64,
    /// The packet; zero for silence.
    pub packet: Words,
}

/// What a [`Event`] reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A packet that says something new, polls, or answers a poll; any while the session is not watched.
    Packet = 1,
    /// No packet for the watched time.
    Silence = 2,
}

impl EventKind {
    /// `None` for a number of another ABI.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Packet),
            2 => Some(Self::Silence),
            _ => None,
        }
    }
}

impl Event {
    /// When the packet arrived, or the last one had arrived.
    #[must_use]
    pub const fn stamp(&self) -> MonoNs {
        MonoNs(self.stamp_ns)
    }

    /// Reads an entry of the ring buffer; `None` if it has another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; size_of::<Self>()] = bytes.try_into().ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let &[first, stamp, made, a, b, c] = words else {
            return None;
        };
        let [k0, k1, k2, k3, s0, s1, s2, s3] = first;
        Some(Self {
            kind: u32::from_ne_bytes([k0, k1, k2, k3]),
            session: u32::from_ne_bytes([s0, s1, s2, s3]),
            stamp_ns: u64::from_ne_bytes(stamp),
            made_ns: u64::from_ne_bytes(made),
            packet: [a, b, c].map(u64::from_ne_bytes),
        })
    }
}

const _: () = {
    assert!(size_of::<PeerKey>() == 24);
    assert!(size_of::<Session>() == 48);
    assert!(size_of::<Received>() == 64);
    assert!(size_of::<Event>() == 48);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_they_lie_in_memory() {
        let mut bytes = [0; 48];
        bytes[..4].copy_from_slice(&1_u32.to_ne_bytes());
        bytes[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        bytes[8..16].copy_from_slice(&11_u64.to_ne_bytes());
        bytes[16..24].copy_from_slice(&12_u64.to_ne_bytes());
        for (byte, value) in bytes[24..].iter_mut().zip(1..) {
            *byte = value;
        }
        let event = Event::from_bytes(&bytes).unwrap();
        assert_eq!(EventKind::from_u32(event.kind), Some(EventKind::Packet));
        assert_eq!((event.session, event.stamp_ns, event.made_ns), (7, 11, 12));
        assert_eq!(super::bytes(event.packet), bytes[24..]);
        assert_eq!(Event::from_bytes(&bytes[..47]), None);
    }
}
