//! ARP for IPv4 over Ethernet (RFC 826), with the uses of RFC 5227.

use super::ethernet;

/// Bytes of an ARP packet.
pub const PACKET_LEN: usize = 28;

/// Bytes of a frame with one.
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + PACKET_LEN;

/// Where the sender's hardware address stands.
pub const SENDER_MAC: usize = 8;

/// Operation: who has the target address?
pub const REQUEST: u16 = 1;

/// Operation: the sender has.
pub const REPLY: u16 = 2;

/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// [`REQUEST`], [`REPLY`] or another.
    pub operation: u16,
    /// Hardware address of the sender.
    pub sender_mac: [u8; 6],
    /// Protocol address of the sender; zero in a probe (RFC 5227 section 2.1.1).
    pub sender_ip: [u8; 4],
    /// Hardware address of the target; meaningless in a request.
    pub target_mac: [u8; 6],
    /// Protocol address of the target.
    pub target_ip: [u8; 4],
}

impl Arp {
    /// `None` for other hardware or another protocol than IPv4.
    #[must_use]
    pub const fn parse(bytes: &[u8; PACKET_LEN]) -> Option<Self> {
        if bytes[0] != ETHERNET_IPV4[0]
            || bytes[1] != ETHERNET_IPV4[1]
            || bytes[2] != ETHERNET_IPV4[2]
            || bytes[3] != ETHERNET_IPV4[3]
            || bytes[4] != ETHERNET_IPV4[4]
            || bytes[5] != ETHERNET_IPV4[5]
        {
            return None;
        }
        Some(Self {
            operation: u16::from_be_bytes([bytes[6], bytes[7]]),
            sender_mac: [
                bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13],
            ],
            sender_ip: [bytes[14], bytes[15], bytes[16], bytes[17]],
            target_mac: [
                bytes[18], bytes[19], bytes[20], bytes[21], bytes[22], bytes[23],
            ],
            target_ip: [bytes[24], bytes[25], bytes[26], bytes[27]],
        })
    }

    /// As bytes.
    #[must_use]
    pub const fn emit(&self) -> [u8; PACKET_LEN] {
        let [o0, o1] = self.operation.to_be_bytes();
        let [s0, s1, s2, s3, s4, s5] = self.sender_mac;
        let [a0, a1, a2, a3] = self.sender_ip;
        let [t0, t1, t2, t3, t4, t5] = self.target_mac;
        let [b0, b1, b2, b3] = self.target_ip;
        [
            0, 1, 0x08, 0x00, 6, 4, o0, o1, s0, s1, s2, s3, s4, s5, a0, a1, a2, a3, t0, t1, t2, t3,
            t4, t5, b0, b1, b2, b3,
        ]
    }

    /// The answer of `mac` to this request. A probe's answer goes to its sender, with the target
    /// address zero as the probe had it (RFC 5227 section 2.1.1, RFC 826).
    #[must_use]
    pub const fn answer(&self, mac: [u8; 6]) -> Self {
        Self {
            operation: REPLY,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }
}

/// The frame that announces `vip` at `mac`: a broadcast request with sender and target alike (RFC 5227
/// section 2.3; RFC 9568 section 8.1.2).
#[must_use]
pub fn announcement(vip: [u8; 4], mac: [u8; 6]) -> [u8; FRAME_LEN] {
    request(vip, mac, vip)
}

/// The frame by which `sender` at `mac` asks everybody for `target`.
#[must_use]
pub fn request(sender: [u8; 4], mac: [u8; 6], target: [u8; 4]) -> [u8; FRAME_LEN] {
    let arp = Arp {
        operation: REQUEST,
        sender_mac: mac,
        sender_ip: sender,
        target_mac: [0; 6],
        target_ip: target,
    };
    let mut frame = [0; FRAME_LEN];
    frame[..ethernet::HEADER_LEN].copy_from_slice(&ethernet::build(
        ethernet::BROADCAST,
        mac,
        ethernet::ARP,
    ));
    frame[ethernet::HEADER_LEN..].copy_from_slice(&arp.emit());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BYTES: [u8; PACKET_LEN] = [
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0xc0,
        0xa8, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xc0, 0xa8, 0x00, 0x64,
    ];

    const ARP: Arp = Arp {
        operation: REQUEST,
        sender_mac: [2, 0, 0, 0, 0, 1],
        sender_ip: [192, 168, 0, 1],
        target_mac: [0; 6],
        target_ip: [192, 168, 0, 100],
    };

    #[test]
    fn parse() {
        assert_eq!(Arp::parse(&BYTES), Some(ARP));
    }

    #[test]
    fn emit() {
        assert_eq!(ARP.emit(), BYTES);
    }

    #[test]
    fn other_hardware_and_protocols_are_refused() {
        for index in 0..6 {
            let mut bytes = BYTES;
            bytes[index] ^= 0x10;
            assert_eq!(Arp::parse(&bytes), None, "byte {index}");
        }
    }

    #[test]
    fn an_answer_turns_the_question_round() {
        let answer = ARP.answer([2, 0, 0, 0, 0, 9]);
        assert_eq!(answer.operation, REPLY);
        assert_eq!(answer.sender_ip, ARP.target_ip);
        assert_eq!(answer.sender_mac, [2, 0, 0, 0, 0, 9]);
        assert_eq!(answer.target_ip, ARP.sender_ip);
        assert_eq!(answer.target_mac, ARP.sender_mac);
    }

    #[test]
    fn an_announcement_is_a_broadcast_request_for_the_own_address() {
        let frame = announcement([192, 168, 0, 100], [2, 0, 0, 0, 0, 9]);
        assert_eq!(frame[..6], ethernet::BROADCAST);
        assert_eq!(frame[6..12], [2, 0, 0, 0, 0, 9]);
        assert_eq!(frame[12..14], [0x08, 0x06]);
        let arp = Arp::parse(frame[14..].try_into().unwrap()).unwrap();
        assert_eq!(arp.operation, REQUEST);
        assert_eq!(arp.sender_ip, arp.target_ip);
        assert_eq!(arp.target_mac, [0; 6]);
    }

    #[test]
    fn a_request_asks_everybody() {
        let frame = request(ARP.sender_ip, ARP.sender_mac, ARP.target_ip);
        assert_eq!(frame[..6], ethernet::BROADCAST);
        assert_eq!(frame[6..12], ARP.sender_mac);
        assert_eq!(frame[14..], BYTES);
    }

    proptest! {
        #[test]
        fn what_parses_is_emitted_alike(mut bytes in any::<[u8; PACKET_LEN]>(), proper in any::<bool>()) {
            if proper {
                bytes[..6].copy_from_slice(&ETHERNET_IPV4);
            }
            if let Some(arp) = Arp::parse(&bytes) {
                prop_assert_eq!(arp.emit(), bytes);
            }
        }
    }
}
