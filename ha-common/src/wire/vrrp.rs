//! VRRPv2 (RFC 3768) and VRRPv3 (RFC 9568) advertisements over IPv4.
//!
//! [`Claim::check`] looks at everything that the headers say, [`Claim::verify`] at the checksum: XDP
//! calls the two around its own loop over the message; [`parse`] is the same for a slice.

use super::{
    checksum::{self, Sum},
    ipv4,
};
use crate::{
    Address,
    abi::{AdvertWord, Reason, Said},
    units::{Centis, Priority, Vrid},
};

/// IP protocol number (RFC 9568 section 5.1.1.4).
pub const PROTOCOL: u8 = 112;

/// Where multicast adverts go (RFC 9568 section 5.1.1.2).
pub const GROUP: [u8; 4] = [224, 0, 0, 18];

/// The one TTL that proves a sender on the same link (RFC 9568 section 5.1.1.3).
pub const TTL: u8 = 255;

/// The IPv4 Identification with which `had` marks its adverts, together with the DF bit ("hA").
///
/// RFC 6864 leaves the field free in packets that are never fragmented, and VRRP receivers ignore it.
/// A peer that carries the mark answers a higher priority with priority 0 as it closes its gate.
pub const HAD_MARK: u16 = 0x6841;

/// Bytes before the addresses.
pub const HEAD_LEN: usize = 8;

/// Bytes of VRRPv2's authentication data, there whatever the type (RFC 3768 section 5.3).
pub const V2_AUTH_LEN: usize = 8;

/// Bytes of the longest message: 255 addresses and VRRPv2's authentication data.
pub const MAX_MESSAGE_LEN: usize = HEAD_LEN + 4 * 255 + V2_AUTH_LEN;

/// Bytes of the longest packet that [`build_advert`] makes.
pub const MAX_PACKET_LEN: usize = ipv4::HEADER_LEN + MAX_MESSAGE_LEN;

/// The only type there is (RFC 9568 section 5.2.2).
const TYPE_ADVERTISEMENT: u8 = 1;

/// The VRID that a message names, before anything else is known of it.
#[must_use]
pub const fn vrid(head: &[u8; HEAD_LEN]) -> u8 {
    head[1]
}

/// What an instance takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// 2 or 3.
    pub version: u8,
    /// Adverts are for our own address only, else for [`GROUP`] only.
    pub unicast: bool,
    /// Our own source address.
    pub source: Address,
    /// VRRPv2 only: the interval that every router must have, in centiseconds.
    pub interval_centis: u16,
}

/// How a VRRPv3 checksum is made over IPv4; VRRPv2 is always [`Dialect::Plain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Over the message alone (RFC 9568 section 5.2.8).
    Plain,
    /// Over a pseudo-header too, as keepalived and FRR do by default (after RFC 5798).
    PseudoHeader,
}

/// Why an advert is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Not VRRP over IPv4 at all.
    NotVrrp,
    /// A fragment; adverts fit into any frame.
    Fragment,
    /// From our own address.
    Own,
    /// TTL is not 255.
    Ttl,
    /// Another version.
    Version,
    /// Not an advertisement.
    Type,
    /// Shorter than its address count needs, longer than any advert, or no multiple of four.
    Length,
    /// Address count 0.
    NoAddress,
    /// Interval 0, or (VRRPv2) not the configured one.
    Interval,
    /// VRRPv2 with an authentication type other than 0: a plain-text password authenticates nobody
    /// (RFC 9568 section 9 removed it), and taking it unread would pretend otherwise.
    Auth,
    /// Multicast where unicast is configured, unicast where multicast is, or to somebody else.
    Destination,
    /// From a sender that is not allowed.
    Sender,
    /// Wrong checksum of the IP header, or of the message in every dialect of its version.
    Checksum,
}

impl Reject {
    /// The counter of this verdict.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::NotVrrp => Reason::PassOther,
            Self::Fragment => Reason::AdvertFragment,
            Self::Own => Reason::AdvertOwn,
            Self::Ttl => Reason::AdvertTtl,
            Self::Version => Reason::AdvertVersion,
            Self::Type => Reason::AdvertType,
            Self::Length => Reason::AdvertLength,
            Self::NoAddress => Reason::AdvertNoAddress,
            Self::Interval => Reason::AdvertInterval,
            Self::Auth => Reason::AdvertAuth,
            Self::Destination => Reason::AdvertDestination,
            Self::Sender => Reason::AdvertSender,
            Self::Checksum => Reason::AdvertChecksum,
        }
    }
}

/// A valid advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Source address.
    pub sender: Address,
    /// 2 or 3.
    pub version: u8,
    /// Virtual Router Identifier.
    pub vrid: u8,
    /// Priority; 0 = the sender lets go.
    pub priority: u8,
    /// Interval in centiseconds.
    pub interval_centis: u16,
    /// How many addresses it names.
    pub address_count: u8,
    /// Whether the sender is `had` ([`HAD_MARK`]).
    pub from_had: bool,
    /// The dialect of its checksum.
    pub dialect: Dialect,
}

impl Advert {
    /// What the maps keep of it.
    #[must_use]
    pub const fn said(&self) -> Said {
        let word = AdvertWord::new(self.priority, self.interval_centis, self.from_had);
        Said {
            sender: self.sender,
            word: match self.dialect {
                Dialect::Plain => word,
                Dialect::PseudoHeader => word.with_pseudo_header(),
            },
        }
    }

    /// Whether it beats a router of this priority and source address (RFC 9568 section 6.4.3: higher
    /// priority, or equal priority and the greater address).
    #[must_use]
    pub const fn outranks(&self, priority: u8, source: Address) -> bool {
        self.priority > priority || self.priority == priority && self.sender.exceeds(source)
    }
}

/// An advert whose checksum was not looked at yet.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    advert: Advert,
    source: [u8; 4],
    destination: [u8; 4],
    message_len: u16,
}

impl Claim {
    /// Checks what the headers say (RFC 9568 and RFC 3768, both section 7.1), but for the sender, the
    /// checksum and whether the VRID is one of ours.
    ///
    /// # Errors
    ///
    /// The first check that fails, cheapest first.
    pub const fn check(
        ip: &ipv4::Header,
        head: &[u8; HEAD_LEN],
        rules: &Rules,
    ) -> Result<Self, Reject> {
        if ip.fragment {
            return Err(Reject::Fragment);
        }
        let sender = Address::v4(ip.source);
        if sender.is(rules.source) {
            return Err(Reject::Own);
        }
        if ip.ttl != TTL {
            return Err(Reject::Ttl);
        }
        let version = head[0] >> 4;
        if version != rules.version {
            return Err(Reject::Version);
        }
        if head[0] & 0x0f != TYPE_ADVERTISEMENT {
            return Err(Reject::Type);
        }
        let address_count = head[3];
        if address_count == 0 {
            return Err(Reject::NoAddress);
        }
        let message_len = ip.payload_len();
        let auth_len = if version == 2 { V2_AUTH_LEN } else { 0 };
        let needed = HEAD_LEN + 4 * address_count as usize + auth_len;
        if (message_len as usize) < needed
            || message_len as usize > MAX_MESSAGE_LEN
            || message_len & 3 != 0
        {
            return Err(Reject::Length);
        }
        let interval_centis = if version == 2 {
            if head[4] != 0 {
                return Err(Reject::Auth);
            }
            let centis = head[5] as u16 * 100;
            if centis != rules.interval_centis {
                return Err(Reject::Interval);
            }
            centis
        } else {
            // The upper four bits are reserved and ignored (RFC 9568 section 5.2.6).
            u16::from_be_bytes([head[4], head[5]]) & 0x0fff
        };
        if interval_centis == 0 {
            return Err(Reject::Interval);
        }
        let expected = if rules.unicast {
            rules.source
        } else {
            Address::v4(GROUP)
        };
        if !Address::v4(ip.destination).is(expected) {
            return Err(Reject::Destination);
        }
        Ok(Self {
            advert: Advert {
                sender,
                version,
                vrid: vrid(head),
                priority: head[2],
                interval_centis,
                address_count,
                from_had: ip.dont_fragment && ip.identification == HAD_MARK,
                dialect: Dialect::Plain,
            },
            source: ip.source,
            destination: ip.destination,
            message_len,
        })
    }

    /// Bytes of the message, at most [`MAX_MESSAGE_LEN`].
    #[must_use]
    pub const fn message_len(&self) -> u16 {
        self.message_len
    }

    /// Checks the checksum, given the folded sum over the whole message with its checksum field.
    ///
    /// # Errors
    ///
    /// [`Reject::Checksum`] if it is right in no dialect of the version.
    pub const fn verify(mut self, message_sum: u16) -> Result<Advert, Reject> {
        if message_sum == checksum::VALID {
            return Ok(self.advert);
        }
        if self.advert.version == 2 {
            return Err(Reject::Checksum);
        }
        let sum = pseudo_header(self.source, self.destination, self.message_len)
            .half(message_sum.to_be_bytes());
        if sum.folded() != checksum::VALID {
            return Err(Reject::Checksum);
        }
        self.advert.dialect = Dialect::PseudoHeader;
        Ok(self.advert)
    }
}

const fn pseudo_header(source: [u8; 4], destination: [u8; 4], message_len: u16) -> Sum {
    let [high, low] = message_len.to_be_bytes();
    Sum::ZERO
        .word(source)
        .word(destination)
        .word([0, PROTOCOL, high, low])
}

/// The headers of an IPv4 packet with a VRRP message.
fn headers(packet: &[u8]) -> Result<(ipv4::Header, &[u8; HEAD_LEN]), Reject> {
    let fixed = packet
        .first_chunk::<{ ipv4::HEADER_LEN }>()
        .ok_or(Reject::NotVrrp)?;
    let ip = ipv4::Header::parse(fixed).ok_or(Reject::NotVrrp)?;
    if ip.protocol != PROTOCOL {
        return Err(Reject::NotVrrp);
    }
    if ip.fragment {
        return Err(Reject::Fragment);
    }
    let head = packet
        .get(ip.header_len.into()..)
        .and_then(<[u8]>::first_chunk)
        .ok_or(Reject::Length)?;
    Ok((ip, head))
}

/// The VRID of a received IPv4 packet, to find the instance whose [`Rules`] [`parse`] needs.
///
/// # Errors
///
/// [`Reject::NotVrrp`], [`Reject::Fragment`] or [`Reject::Length`] where there is none to read.
pub fn vrid_of(packet: &[u8]) -> Result<u8, Reject> {
    headers(packet).map(|(_, head)| vrid(head))
}

/// Checks a received IPv4 packet: everything that XDP checks, in the same order.
///
/// # Errors
///
/// The first check that fails.
pub fn parse(
    packet: &[u8],
    rules: &Rules,
    allowed: impl FnOnce(Address) -> bool,
) -> Result<Advert, Reject> {
    let (ip, head) = headers(packet)?;
    let claim = Claim::check(&ip, head, rules)?;
    if rules.unicast && !allowed(Address::v4(ip.source)) {
        return Err(Reject::Sender);
    }
    let (header, rest) = packet
        .split_at_checked(ip.header_len.into())
        .ok_or(Reject::Length)?;
    if Sum::ZERO.slice(header).folded() != checksum::VALID {
        return Err(Reject::Checksum);
    }
    let message = rest
        .get(..claim.message_len().into())
        .ok_or(Reject::Length)?;
    claim.verify(Sum::ZERO.slice(message).folded())
}

/// The version of an advert to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 3768.
    V2,
    /// RFC 9568, with the dialect of its checksum.
    V3(Dialect),
}

/// An advert to be built.
#[derive(Clone, Copy, Debug)]
pub struct AdvertSpec<'a> {
    /// Version and checksum dialect.
    pub version: Version,
    /// Virtual Router Identifier.
    pub vrid: Vrid,
    /// Priority.
    pub priority: Priority,
    /// Interval: 1 to 4095 centiseconds (v3), whole seconds up to 255 (v2).
    pub interval: Centis,
    /// Source address.
    pub source: [u8; 4],
    /// [`GROUP`], or a unicast peer.
    pub destination: [u8; 4],
    /// The VIPs, 1 to 255.
    pub addresses: &'a [[u8; 4]],
}

/// Why an advert cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// No address, or more than 255.
    AddressCount,
    /// The version's interval field cannot hold the interval.
    Interval,
}

impl core::fmt::Display for BuildError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::AddressCount => "an advert carries 1 to 255 addresses",
            Self::Interval => {
                "the interval does not fit: VRRPv3 has 10 ms to 40.95 s, VRRPv2 whole seconds to 255 s"
            }
        })
    }
}

impl core::error::Error for BuildError {}

/// Builds a whole IPv4 packet: TTL 255, Type of Service 0xC0, DF and [`HAD_MARK`]. Returns the part of
/// `buffer` that it fills.
///
/// # Errors
///
/// What the wire format cannot express.
pub fn build_advert<'b>(
    spec: &AdvertSpec<'_>,
    buffer: &'b mut [u8; MAX_PACKET_LEN],
) -> Result<&'b [u8], BuildError> {
    let count = match u8::try_from(spec.addresses.len()) {
        Ok(count) if count > 0 => count,
        _ => return Err(BuildError::AddressCount),
    };
    let (version, interval, auth_len) = match spec.version {
        Version::V2 => (2, v2_interval(spec.interval)?, V2_AUTH_LEN),
        Version::V3(_) => (3, v3_interval(spec.interval)?, 0),
    };
    let message_len = HEAD_LEN + 4 * spec.addresses.len() + auth_len;
    let total_len =
        u16::try_from(ipv4::HEADER_LEN + message_len).map_err(|_| BuildError::AddressCount)?;
    let header = ipv4::Header {
        header_len: 20,
        total_len,
        identification: HAD_MARK,
        dont_fragment: true,
        fragment: false,
        ttl: TTL,
        protocol: PROTOCOL,
        source: spec.source,
        destination: spec.destination,
    };
    let packet = buffer
        .get_mut(..usize::from(total_len))
        .ok_or(BuildError::AddressCount)?;
    packet.fill(0);
    let (ip, message) = packet.split_at_mut(ipv4::HEADER_LEN);
    ip.copy_from_slice(&header.emit());
    message[..HEAD_LEN].copy_from_slice(&[
        version << 4 | TYPE_ADVERTISEMENT,
        spec.vrid.get(),
        spec.priority.0,
        count,
        interval[0],
        interval[1],
        0,
        0,
    ]);
    for (slot, address) in message[HEAD_LEN..].chunks_exact_mut(4).zip(spec.addresses) {
        slot.copy_from_slice(address);
    }
    let start = match spec.version {
        Version::V2 | Version::V3(Dialect::Plain) => Sum::ZERO,
        Version::V3(Dialect::PseudoHeader) => {
            pseudo_header(spec.source, spec.destination, header.payload_len())
        }
    };
    let sum = start.slice(message).checksum();
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    Ok(packet)
}

/// Authentication type 0 and the interval in seconds.
fn v2_interval(interval: Centis) -> Result<[u8; 2], BuildError> {
    match u8::try_from(interval.0 / 100) {
        Ok(seconds) if seconds > 0 && interval.0.is_multiple_of(100) => Ok([0, seconds]),
        _ => Err(BuildError::Interval),
    }
}

/// Four reserved bits and the interval in centiseconds.
fn v3_interval(interval: Centis) -> Result<[u8; 2], BuildError> {
    if interval.0 == 0 || interval.0 > 0x0fff {
        return Err(BuildError::Interval);
    }
    Ok(interval.0.to_be_bytes())
}

#[cfg(test)]
mod tests;
