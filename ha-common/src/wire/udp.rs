//! The UDP header (RFC 768).

/// IP protocol number.
pub const PROTOCOL: u8 = 17;

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// What matters here of a header. The checksum is not looked at: on a virtual link it may be left for a
/// network card to fill in that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Destination port.
    pub destination: u16,
    /// Bytes after the header, as the header says.
    pub payload_len: u16,
}

impl Header {
    /// Reads a header; `None` if its length is less than its own.
    #[must_use]
    pub const fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let length = u16::from_be_bytes([bytes[4], bytes[5]]);
        match length.checked_sub(8) {
            Some(payload_len) => Some(Self {
                destination: u16::from_be_bytes([bytes[2], bytes[3]]),
                payload_len,
            }),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_lengths() {
        let header = Header::parse(&[0xc0, 0x00, 0x0e, 0xc8, 0x00, 0x20, 0xff, 0xff]);
        let expected = Header {
            destination: 3784,
            payload_len: 24,
        };
        assert_eq!(header, Some(expected));
        assert_eq!(Header::parse(&[0, 0, 0, 0, 0, 7, 0, 0]), None);
    }
}
