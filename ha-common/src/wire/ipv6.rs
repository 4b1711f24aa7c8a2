//! The IPv6 header (RFC 8200).

use super::checksum::Sum;
use crate::Address;

/// The header's version, by which maps and settings name the family.
pub const VERSION: u8 = 6;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

/// All nodes of a link (RFC 4291 section 2.7.1).
pub const ALL_NODES: Address = Address::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// The hop limit that proves a sender on the same link.
pub const MAX_HOP_LIMIT: u8 = 255;

/// What matters here of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Bytes after this header, as it says.
    pub payload_len: u16,
    /// What follows: a protocol, or an extension header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}

impl Header {
    /// Reads the fixed header; see [`Self::from_words`].
    #[must_use]
    pub const fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let mut words = [0; HEADER_LEN / 8];
        let (chunks, _) = bytes.as_chunks();
        let mut index = 0;
        while index < words.len() {
            words[index] = u64::from_ne_bytes(chunks[index]);
            index += 1;
        }
        Self::from_words(words)
    }

    /// Reads the fixed header from its bytes as they lie in memory; `None` for another version and for
    /// IPv4-mapped addresses, which no packet has and the kernel does not take either.
    #[must_use]
    pub const fn from_words(words: [u64; HEADER_LEN / 8]) -> Option<Self> {
        let [first, s0, s1, d0, d1] = words;
        let [v, c, f, g, p, q, next_header, hop_limit] = first.to_ne_bytes();
        let source = Address::from_words([s0, s1]);
        let destination = Address::from_words([d0, d1]);
        if v >> 4 != VERSION || source.is_v4() || destination.is_v4() {
            return None;
        }
        Some(Self {
            flow_label: u32::from_be_bytes([0, c & 0x0f, f, g]),
            payload_len: u16::from_be_bytes([p, q]),
            next_header,
            hop_limit,
            source,
            destination,
        })
    }

    /// A header with Traffic Class 0xC0 (CS6, network control), as it lies in memory.
    #[must_use]
    pub const fn to_words(&self) -> [u64; HEADER_LEN / 8] {
        let [_, c, f, g] = self.flow_label.to_be_bytes();
        let [p, q] = self.payload_len.to_be_bytes();
        let first = [0x6c, c & 0x0f, f, g, p, q, self.next_header, self.hop_limit];
        let ([s0, s1], [d0, d1]) = (self.source.words(), self.destination.words());
        [u64::from_ne_bytes(first), s0, s1, d0, d1]
    }

    /// The same as bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let (chunks, _) = bytes.as_chunks_mut();
        for (chunk, word) in chunks.iter_mut().zip(self.to_words()) {
            *chunk = word.to_ne_bytes();
        }
        bytes
    }
}

/// The sum over the pseudo-header (RFC 8200 section 8.1). For IPv4 addresses it is that of IPv4's: what an
/// IPv4-mapped address has before the four bytes is zeros and 0xffff, and 0xffff is another zero.
#[must_use]
pub const fn pseudo_header(source: Address, destination: Address, len: u16, protocol: u8) -> Sum {
    let [high, low] = len.to_be_bytes();
    Sum::ZERO
        .address(source)
        .address(destination)
        .word([0, protocol, high, low])
}

/// The solicited-node multicast group of an address (RFC 4291 section 2.7.1).
#[must_use]
pub const fn solicited_node(address: Address) -> Address {
    let [.., x, y, z] = address.words()[1].to_ne_bytes();
    Address::from_words([
        u64::from_ne_bytes([0xff, 2, 0, 0, 0, 0, 0, 0]),
        u64::from_ne_bytes([0, 0, 0, 1, 0xff, x, y, z]),
    ])
}

/// The Ethernet address of a multicast group (RFC 2464 section 7).
#[must_use]
pub const fn multicast_mac(group: Address) -> [u8; 6] {
    let [.., w, x, y, z] = group.words()[1].to_ne_bytes();
    [0x33, 0x33, w, x, y, z]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An advert's header, from fe80::1 to ff02::12.
    const BYTES: [u8; HEADER_LEN] = [
        0x6c, 0x00, 0x68, 0x41, 0x00, 0x28, 0x70, 0xff, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 1, 0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12,
    ];

    const HEADER: Header = Header {
        flow_label: 0x6841,
        payload_len: 40,
        next_header: 112,
        hop_limit: 255,
        source: Address::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        destination: Address::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12]),
    };

    #[test]
    fn parse() {
        assert_eq!(Header::parse(&BYTES), Some(HEADER));
    }

    #[test]
    fn emit() {
        assert_eq!(HEADER.emit(), BYTES);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let mut version = BYTES;
        version[0] = 0x4c;
        assert_eq!(Header::parse(&version), None);
        for start in [8, 24] {
            let mut mapped = BYTES;
            mapped[start..start + 16].copy_from_slice(&Address::v4([192, 168, 0, 1]).octets());
            assert_eq!(Header::parse(&mapped), None);
        }
    }

    #[test]
    fn groups() {
        let address = Address::v6([
            0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xcd, 0xef, 0x12,
        ]);
        let group = solicited_node(address);
        let expected = [
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xcd, 0xef, 0x12,
        ];
        assert_eq!(group.octets(), expected);
        assert_eq!(multicast_mac(group), [0x33, 0x33, 0xff, 0xcd, 0xef, 0x12]);
    }

    proptest! {
        #[test]
        fn ipv4_has_the_same_pseudo_header(source: [u8; 4], destination: [u8; 4], len: u16, protocol: u8) {
            let [high, low] = len.to_be_bytes();
            let plain = Sum::ZERO.word(source).word(destination).word([0, protocol, high, low]);
            let sum = pseudo_header(Address::v4(source), Address::v4(destination), len, protocol);
            // A sum of nothing has two forms, and no message adds up to nothing.
            let with = |sum: Sum| sum.word([0, 0, 0, 1]).folded();
            prop_assert_eq!(with(sum), with(plain));
        }

        #[test]
        fn what_parses_is_emitted_alike(mut bytes: [u8; HEADER_LEN]) {
            bytes[0] = 0x6c;
            bytes[1] &= 0x0f;
            if let Some(header) = Header::parse(&bytes) {
                prop_assert_eq!(header.emit(), bytes);
            }
        }
    }
}
