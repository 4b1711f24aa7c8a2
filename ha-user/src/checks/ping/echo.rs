//! ICMP echo (RFC 792) and ICMPv6 echo (RFC 4443): eight bytes, and a payload that comes back.

use ha_common::wire::checksum::Sum;

/// `type` of a request and its answer, of ICMP and of ICMPv6.
const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);

/// The header.
const HEADER: usize = 8;

/// What tells the answers to one probe from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// `identifier`.
    pub(super) id: u16,
    /// The payload.
    pub(super) secret: [u8; 8],
}

impl Token {
    /// A request. The kernel makes the checksum of ICMPv6.
    pub(super) fn request(&self, ipv4: bool, sequence: u16) -> [u8; HEADER + 8] {
        let mut packet = [0; HEADER + 8];
        packet[0] = if ipv4 { V4.0 } else { V6.0 };
        packet[4..6].copy_from_slice(&self.id.to_be_bytes());
        packet[6..8].copy_from_slice(&sequence.to_be_bytes());
        packet[HEADER..].copy_from_slice(&self.secret);
        if ipv4 {
            let checksum = Sum::ZERO.slice(&packet).checksum();
            packet[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        packet
    }

    /// Whether what a raw socket gave is the answer to one of the first `sent` requests. With IPv4 its header comes
    /// first.
    pub(super) fn is_answered_by(&self, ipv4: bool, packet: &[u8], sent: u16) -> bool {
        let icmp = if ipv4 {
            let length = packet
                .first()
                .map_or(0, |first| usize::from(first & 0x0f) * 4);
            packet.get(length..).unwrap_or_default()
        } else {
            packet
        };
        let Some((header, payload)) = icmp.split_first_chunk::<HEADER>() else {
            return false;
        };
        let answer = if ipv4 { V4.1 } else { V6.1 };
        let sequence = u16::from_be_bytes([header[6], header[7]]);
        header[..2] == [answer, 0]
            && header[4..6] == self.id.to_be_bytes()
            && sequence < sent
            && payload == self.secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token {
        id: 0x1234,
        secret: *b"abcdefgh",
    };

    #[test]
    fn a_request_has_a_valid_checksum() {
        let packet = TOKEN.request(true, 2);
        assert_eq!(&packet[..2], [8, 0]);
        assert_eq!(&packet[4..8], [0x12, 0x34, 0, 2]);
        let sum: u32 = packet
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[test]
    fn only_an_answer_to_what_was_sent_counts() {
        let mut answer = TOKEN.request(false, 1);
        answer[0] = 129;
        assert!(TOKEN.is_answered_by(false, &answer, 2));
        assert!(!TOKEN.is_answered_by(false, &answer, 1));
        for changed in [0, 1, 4, 5, 8, 15] {
            let mut other = answer;
            other[changed] ^= 1;
            assert!(!TOKEN.is_answered_by(false, &other, 2), "byte {changed}");
        }
        for length in 0..answer.len() {
            assert!(!TOKEN.is_answered_by(false, &answer[..length], 2));
        }
        let mut v4 = vec![0x46; 24];
        let mut answer = TOKEN.request(true, 0);
        answer[0] = 0;
        v4.extend(answer);
        assert!(TOKEN.is_answered_by(true, &v4, 1));
        v4[0] = 0x4f;
        assert!(!TOKEN.is_answered_by(true, &v4, 1));
        assert!(!TOKEN.is_answered_by(true, &[], 1));
    }
}
