//! Frames as the lab's observers see them, and the few that it sends itself.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All stations.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A frame, as far as the lab cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who sent it.
    pub source: Mac,
    /// Whom it was sent to.
    pub destination: Mac,
    /// What it says.
    pub payload: Payload,
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// "Who has `target`?"
    ArpRequest {
        /// Who asks; equal to `target` in a gratuitous ARP.
        sender: Ipv4Addr,
        /// Who is asked for.
        target: Ipv4Addr,
    },
    /// "`sender` is here."
    ArpReply {
        /// Who answers.
        sender: Ipv4Addr,
        /// Who is answered.
        target: Ipv4Addr,
    },
    /// "`target` is here", of IPv6 (RFC 4861).
    NeighborAdvertisement {
        /// Who is here.
        target: Ipv6Addr,
        /// Whether somebody asked.
        solicited: bool,
    },
    /// An answer to one of the lab's own echo requests.
    EchoReply {
        /// Who answers.
        source: IpAddr,
        /// Number of the probe.
        probe: u64,
    },
    /// A VRRP advertisement.
    Advert {
        /// Who sent it.
        source: IpAddr,
        /// To a peer, or to 224.0.0.18 or ff02::12.
        destination: IpAddr,
        /// Version of the protocol.
        version: u8,
        /// Virtual Router Identifier.
        vrid: u8,
        /// 0: the sender lets go.
        priority: u8,
    },
    /// Any other IP packet.
    Ip {
        /// Source address.
        source: IpAddr,
        /// Destination address.
        destination: IpAddr,
        /// As in the IP header.
        protocol: u8,
    },
}

const ETHERNET: usize = 14;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const IPV6_HEADER: usize = 40;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;
const PROTOCOL_VRRP: u8 = 112;

/// Identifies the lab's echo requests.
pub const ECHO_IDENTIFIER: u16 = 0x1ab0;

impl Frame {
    /// `None` for frames that are neither ARP nor IP, or that are cut short.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let destination = Mac(array(bytes, 0)?);
        let source = Mac(array(bytes, 6)?);
        let body = bytes.get(ETHERNET..)?;
        let payload = match array(bytes, 12)? {
            ETHERTYPE_ARP => parse_arp(body)?,
            ETHERTYPE_IPV4 => parse_ipv4(body)?,
            ETHERTYPE_IPV6 => parse_ipv6(body)?,
            _ => return None,
        };
        Some(Self {
            source,
            destination,
            payload,
        })
    }

    /// Whether whoever sent it speaks for `vip`.
    #[must_use]
    pub fn speaks_for(&self, vip: impl Into<IpAddr>) -> bool {
        let vip = vip.into();
        match self.payload {
            Payload::NeighborAdvertisement { target, .. } => target == vip,
            Payload::ArpRequest { sender, .. } | Payload::ArpReply { sender, .. } => sender == vip,
            Payload::EchoReply { source, .. }
            | Payload::Advert { source, .. }
            | Payload::Ip { source, .. } => source == vip,
        }
    }

    /// Whether it is a gratuitous ARP, or an unsolicited neighbour advertisement, for `vip`.
    #[must_use]
    pub fn announces(&self, vip: impl Into<IpAddr>) -> bool {
        let vip = vip.into();
        match self.payload {
            Payload::NeighborAdvertisement { target, solicited } => target == vip && !solicited,
            Payload::ArpRequest { sender, target } | Payload::ArpReply { sender, target } => {
                sender == vip && target == vip
            }
            _ => false,
        }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    array::<4>(bytes, at).map(Ipv4Addr::from)
}

/// RFC 826, Ethernet and IPv4.
fn parse_arp(body: &[u8]) -> Option<Payload> {
    let sender = address(body, 14)?;
    let target = address(body, 24)?;
    match array(body, 6)? {
        [0, 1] => Some(Payload::ArpRequest { sender, target }),
        [0, 2] => Some(Payload::ArpReply { sender, target }),
        _ => None,
    }
}

fn parse_ipv4(body: &[u8]) -> Option<Payload> {
    let header_length = usize::from(body.first()? & 0x0f) * 4;
    let protocol = *body.get(9)?;
    let source = address(body, 12)?.into();
    let destination = address(body, 16)?.into();
    parse_ip((source, destination), protocol, body.get(header_length..)?)
}

fn parse_ipv6(body: &[u8]) -> Option<Payload> {
    let source = Ipv6Addr::from(array::<16>(body, 8)?).into();
    let destination = Ipv6Addr::from(array::<16>(body, 24)?).into();
    parse_ip(
        (source, destination),
        *body.get(6)?,
        body.get(IPV6_HEADER..)?,
    )
}

fn parse_ip(
    (source, destination): (IpAddr, IpAddr),
    protocol: u8,
    inner: &[u8],
) -> Option<Payload> {
    let other = Payload::Ip {
        source,
        destination,
        protocol,
    };
    match protocol {
        PROTOCOL_ICMP => Some(parse_echo_reply(source, 0, inner).unwrap_or(other)),
        PROTOCOL_ICMPV6 => Some(
            parse_neighbor_advertisement(inner)
                .or_else(|| parse_echo_reply(source, 129, inner))
                .unwrap_or(other),
        ),
        PROTOCOL_VRRP => {
            let [version_and_type, vrid, priority] = array(inner, 0)?;
            Some(Payload::Advert {
                source,
                destination,
                version: version_and_type >> 4,
                vrid,
                priority,
            })
        }
        _ => Some(other),
    }
}

fn parse_neighbor_advertisement(icmp: &[u8]) -> Option<Payload> {
    (*icmp.first()? == 136).then_some(Payload::NeighborAdvertisement {
        target: array::<16>(icmp, 8)?.into(),
        solicited: icmp.get(4)? & 0x40 != 0,
    })
}

fn parse_echo_reply(source: IpAddr, kind: u8, icmp: &[u8]) -> Option<Payload> {
    let ours = *icmp.first()? == kind && array(icmp, 4)? == ECHO_IDENTIFIER.to_be_bytes();
    let probe = u64::from_be_bytes(array(icmp, 8)?);
    ours.then_some(Payload::EchoReply { source, probe })
}

/// An ICMP echo request (RFC 792) that carries the number of the probe.
#[must_use]
pub fn echo_request(probe: u64) -> [u8; 16] {
    let mut message = [0; 16];
    message[0] = 8;
    message[4..6].copy_from_slice(&ECHO_IDENTIFIER.to_be_bytes());
    message[8..16].copy_from_slice(&probe.to_be_bytes());
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An ICMPv6 echo request (RFC 4443) that carries the number of the probe. The kernel puts the checksum in.
#[must_use]
pub fn echo_request_v6(probe: u64) -> [u8; 16] {
    let mut message = echo_request(probe);
    message[0] = 128;
    message
}

/// A whole frame that asks for `target` in its solicited-node group (RFC 4861 section 4.3).
#[must_use]
pub fn solicitation_frame(from: (Mac, Ipv6Addr), target: Ipv6Addr) -> [u8; ETHERNET + 72] {
    let mut frame = [0; ETHERNET + 72];
    let asked = target.octets();
    let [x, y, z] = [asked[13], asked[14], asked[15]];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0xff, x, y, z]);
    frame[6..12].copy_from_slice(&from.0.0);
    frame[12..14].copy_from_slice(&ETHERTYPE_IPV6);
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z];
    let (header, message) = frame[ETHERNET..].split_at_mut(IPV6_HEADER);
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 32, PROTOCOL_ICMPV6, 255]);
    header[8..24].copy_from_slice(&from.1.octets());
    header[24..].copy_from_slice(&group);
    message[0] = 135;
    message[8..24].copy_from_slice(&asked);
    message[24..26].copy_from_slice(&[1, 1]);
    message[26..].copy_from_slice(&from.0.0);
    let pseudo = [
        &header[8..],
        &[0, 0, 0, 32, 0, 0, 0, PROTOCOL_ICMPV6],
        message,
    ]
    .concat();
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    frame
}

/// A whole frame with an echo request, for stations that the kernel's neighbour table does not name.
#[must_use]
pub fn echo_request_frame(
    from: (Mac, Ipv4Addr),
    to: (Mac, Ipv4Addr),
    probe: u64,
) -> [u8; ETHERNET + 36] {
    let mut frame = [0; ETHERNET + 36];
    frame[..6].copy_from_slice(&to.0.0);
    frame[6..12].copy_from_slice(&from.0.0);
    frame[12..14].copy_from_slice(&ETHERTYPE_IPV4);
    let packet = &mut frame[ETHERNET..];
    packet[0] = 0x45;
    packet[3] = 36;
    packet[8] = 64;
    packet[9] = PROTOCOL_ICMP;
    packet[12..16].copy_from_slice(&from.1.octets());
    packet[16..20].copy_from_slice(&to.1.octets());
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..].copy_from_slice(&echo_request(probe));
    frame
}

/// A whole frame that asks everybody for `target`.
#[must_use]
pub fn arp_request_frame(from: (Mac, Ipv4Addr), target: Ipv4Addr) -> [u8; ETHERNET + 28] {
    arp_request_frame_to(Mac::BROADCAST, from, target)
}

/// A whole frame that asks one station for `target` (RFC 1122 section 2.3.2.1).
#[must_use]
pub fn arp_request_frame_to(
    station: Mac,
    from: (Mac, Ipv4Addr),
    target: Ipv4Addr,
) -> [u8; ETHERNET + 28] {
    let mut frame = [0; ETHERNET + 28];
    frame[..6].copy_from_slice(&station.0);
    frame[6..12].copy_from_slice(&from.0.0);
    frame[12..14].copy_from_slice(&ETHERTYPE_ARP);
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&from.0.0);
    frame[28..32].copy_from_slice(&from.1.octets());
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let tail = rest.first().map_or(0, |byte| u32::from(*byte) << 8);
    let sum = pairs
        .iter()
        .map(|pair| u32::from(u16::from_be_bytes(*pair)))
        .sum::<u32>()
        + tail;
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
    const ME: (Mac, Ipv4Addr) = (Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 77, 0, 1));

    #[test]
    fn its_own_frames_parse() {
        let asked = Frame::parse(&arp_request_frame(ME, VIP)).unwrap();
        assert_eq!(asked.source, ME.0);
        assert_eq!(
            asked.payload,
            Payload::ArpRequest {
                sender: ME.1,
                target: VIP
            }
        );
        assert!(!asked.speaks_for(VIP));
        assert!(
            Frame::parse(&arp_request_frame((ME.0, VIP), VIP))
                .unwrap()
                .announces(VIP)
        );
        let echo = echo_request_frame(ME, (Mac([2; 6]), VIP), 7);
        assert_eq!(
            Frame::parse(&echo).unwrap().payload,
            Payload::Ip {
                source: ME.1.into(),
                destination: VIP.into(),
                protocol: PROTOCOL_ICMP
            }
        );
    }

    #[test]
    fn ethernet_addresses_are_read_as_they_are_written() {
        assert_eq!(Mac::parse(&ME.0.to_string()), Some(ME.0));
        for wrong in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "02:00:00:00:00:0g",
        ] {
            assert_eq!(Mac::parse(wrong), None);
        }
    }

    #[test]
    fn neighbour_discovery_is_told_apart() {
        let vip: Ipv6Addr = "2001:db8:77::100".parse().unwrap();
        let me: Ipv6Addr = "2001:db8:77::1".parse().unwrap();
        let asked = solicitation_frame((ME.0, me), vip);
        assert_eq!(
            Frame::parse(&asked).unwrap().payload,
            Payload::Ip {
                source: me.into(),
                destination: "ff02::1:ff00:100".parse().unwrap(),
                protocol: PROTOCOL_ICMPV6
            }
        );
        for (flags, solicited) in [(0x20, false), (0x60, true)] {
            let mut told = asked;
            told[ETHERNET + IPV6_HEADER] = 136;
            told[ETHERNET + IPV6_HEADER + 4] = flags;
            let told = Frame::parse(&told).unwrap();
            assert!(told.speaks_for(vip) && !told.speaks_for(VIP));
            assert_eq!(told.announces(vip), !solicited);
        }
    }

    #[test]
    fn checksums_verify_to_zero() {
        assert_eq!(checksum(&echo_request(0x0123_4567_89ab_cdef)), 0);
        let frame = echo_request_frame(ME, (Mac([2; 6]), VIP), 7);
        assert_eq!(checksum(&frame[ETHERNET..ETHERNET + 20]), 0);
    }

    #[test]
    fn no_prefix_of_a_frame_panics() {
        let frame = echo_request_frame(ME, (Mac([2; 6]), VIP), 7);
        for end in 0..frame.len() {
            let _ = Frame::parse(&frame[..end]);
        }
    }
}
