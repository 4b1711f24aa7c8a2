//! The IPv4 header (RFC 791).

use super::checksum::Sum;

/// The header's version, by which maps and settings name the family.
pub const VERSION: u8 = 4;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// 32-bit words of a header without options.
pub const HEADER_WORDS: usize = HEADER_LEN / 4;

/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// What matters here of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the header with its options, 20 to 60.
    pub header_len: u8,
    /// Bytes of the packet with its header, as the header says.
    pub total_len: u16,
    /// Identification.
    pub identification: u16,
    /// Whether it must not be fragmented.
    pub dont_fragment: bool,
    /// Whether it is a fragment: not the whole of a packet.
    pub fragment: bool,
    /// Time to live.
    pub ttl: u8,
    /// Number of the next protocol.
    pub protocol: u8,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

impl Header {
    /// Reads the fixed part; `None` for another version or an impossible header length.
    ///
    /// The header's checksum is not looked at: that takes the options.
    #[must_use]
    pub const fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let mut words = [0; HEADER_WORDS];
        let (chunks, _) = bytes.as_chunks::<4>();
        let mut at = 0;
        while at < HEADER_WORDS {
            words[at] = u32::from_ne_bytes(chunks[at]);
            at += 1;
        }
        Self::from_words(words)
    }

    /// The same from words, as they lie in memory.
    #[must_use]
    #[inline(always)]
    pub const fn from_words(words: [u32; HEADER_WORDS]) -> Option<Self> {
        let [first, second, third, source, destination] = words;
        let [version, _, t0, t1] = first.to_ne_bytes();
        let [i0, i1, f0, f1] = second.to_ne_bytes();
        let [ttl, protocol, _, _] = third.to_ne_bytes();
        let header_len = (version & 0x0f) * 4;
        if version >> 4 != VERSION || header_len < 20 {
            return None;
        }
        let flags = u16::from_be_bytes([f0, f1]);
        Some(Self {
            header_len,
            total_len: u16::from_be_bytes([t0, t1]),
            identification: u16::from_be_bytes([i0, i1]),
            dont_fragment: flags & DONT_FRAGMENT != 0,
            fragment: flags & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0,
            ttl,
            protocol,
            source: source.to_ne_bytes(),
            destination: destination.to_ne_bytes(),
        })
    }

    /// Bytes after the header, as the header says; zero if the total is shorter than the header.
    #[must_use]
    pub const fn payload_len(&self) -> u16 {
        self.total_len.saturating_sub(self.header_len as u16)
    }

    /// A header without options, Type of Service 0xC0 (Internetwork Control) and DF set.
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = 0x45;
        bytes[1] = 0xc0;
        bytes[2..4].copy_from_slice(&self.total_len.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.identification.to_be_bytes());
        if self.dont_fragment {
            bytes[6..8].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
        }
        bytes[8] = self.ttl;
        bytes[9] = self.protocol;
        bytes[12..16].copy_from_slice(&self.source);
        bytes[16..20].copy_from_slice(&self.destination);
        let checksum = Sum::ZERO.slice(&bytes).checksum();
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum;

    /// An advert's header, from 192.168.0.1 to 224.0.0.18.
    const BYTES: [u8; HEADER_LEN] = [
        0x45, 0xc0, 0x00, 0x20, 0x68, 0x41, 0x40, 0x00, 0xff, 0x70, 0x71, 0xb0, 0xc0, 0xa8, 0x00,
        0x01, 0xe0, 0x00, 0x00, 0x12,
    ];

    const HEADER: Header = Header {
        header_len: 20,
        total_len: 32,
        identification: 0x6841,
        dont_fragment: true,
        fragment: false,
        ttl: 255,
        protocol: 112,
        source: [192, 168, 0, 1],
        destination: [224, 0, 0, 18],
    };

    #[test]
    fn parse() {
        assert_eq!(Header::parse(&BYTES), Some(HEADER));
        assert_eq!(Sum::ZERO.slice(&BYTES).folded(), checksum::VALID);
        assert_eq!(HEADER.payload_len(), 12);
    }

    #[test]
    fn emit() {
        assert_eq!(HEADER.emit(), BYTES);
    }

    #[test]
    fn fragments_are_seen() {
        for flags in [[0x20, 0x00], [0x00, 0x01], [0x3f, 0xff]] {
            let mut bytes = BYTES;
            bytes[6..8].copy_from_slice(&flags);
            assert!(Header::parse(&bytes).unwrap().fragment, "{flags:02x?}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for first in [0x44, 0x40, 0x65, 0x00] {
            let mut bytes = BYTES;
            bytes[0] = first;
            assert_eq!(Header::parse(&bytes), None, "{first:02x}");
        }
    }

    #[test]
    fn a_total_below_the_header_leaves_no_payload() {
        let short = Header {
            total_len: 19,
            ..HEADER
        };
        assert_eq!(short.payload_len(), 0);
    }
}
