//! VRRPv2 (RFC 3768) and VRRPv3 (RFC 9568) advertisements, the latter over IPv4 and IPv6.
//!
//! [`Claim::check`] looks at everything that the headers say, [`Claim::verify`] at the checksum: XDP
//! calls the two around its own loop over the message; [`parse`] is the same for a slice.

use super::{
    checksum::{self, Sum},
    ipv4, ipv6,
};
use crate::{
    Address,
    abi::{AdvertWord, Reason, Said},
    units::{Centis, Priority, Vrid},
};

/// IP protocol number (RFC 9568 section 5.1.1.4).
pub const PROTOCOL: u8 = 112;

/// Where multicast adverts over IPv4 go (RFC 9568 section 5.1.1.2).
pub const GROUP: [u8; 4] = [224, 0, 0, 18];

/// Where multicast adverts over IPv6 go (RFC 9568 section 5.1.2.2).
pub const GROUP_V6: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12];

/// The one TTL or Hop Limit that proves a sender on the same link (RFC 9568 sections 5.1.1.3 and 5.1.2.3).
pub const TTL: u8 = 255;

/// With what `had` marks its adverts ("hA"): over IPv4 the Identification, together with the DF bit; over
/// IPv6 the Flow Label.
///
/// RFC 6864 leaves the one free in packets that are never fragmented, RFC 6437 the other to the source, and
/// VRRP receivers ignore both. A peer that carries the mark answers a higher priority with priority 0 as it
/// closes its gate.
pub const HAD_MARK: u16 = 0x6841;

/// Bytes before the addresses.
pub const HEAD_LEN: usize = 8;

/// Bytes of VRRPv2's authentication data, there whatever the type (RFC 3768 section 5.3).
pub const V2_AUTH_LEN: usize = 8;

/// Bytes of the longest message over IPv4: 255 addresses and VRRPv2's authentication data.
pub const MAX_MESSAGE_LEN: usize = HEAD_LEN + 4 * 255 + V2_AUTH_LEN;

/// Addresses in the longest message over IPv6: as many as an Ethernet frame holds.
pub const MAX_ADDRESSES_V6: usize = 90;

/// Bytes of the longest message over IPv6.
pub const MAX_MESSAGE_LEN_V6: usize = HEAD_LEN + 16 * MAX_ADDRESSES_V6;

/// Bytes of the longest packet that [`build_advert`] makes.
pub const MAX_PACKET_LEN: usize = ipv6::HEADER_LEN + MAX_MESSAGE_LEN_V6;

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
    /// Adverts are for our own address only, else for the family's group only.
    pub unicast: bool,
    /// Our own source address.
    pub source: Address,
    /// VRRPv2 only: the interval that every router must have, in centiseconds.
    pub interval_centis: u16,
}

/// How a VRRPv3 checksum is made over IPv4; VRRPv2 is always [`Dialect::Plain`], VRRPv3 over IPv6 always
/// [`Dialect::PseudoHeader`] (RFC 9568 section 5.2.8).
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
    /// Not VRRP at all.
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

/// What the IP header says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// TTL or Hop Limit.
    pub ttl: u8,
    /// Bytes of the message.
    pub message_len: u16,
    /// Whether it is a fragment.
    pub fragment: bool,
    /// Whether it has [`HAD_MARK`].
    pub marked: bool,
}

impl Carrier {
    /// Of an IPv4 packet.
    #[must_use]
    pub const fn v4(header: &ipv4::Header) -> Self {
        Self {
            source: Address::v4(header.source),
            destination: Address::v4(header.destination),
            ttl: header.ttl,
            message_len: header.payload_len(),
            fragment: header.fragment,
            marked: header.dont_fragment && header.identification == HAD_MARK,
        }
    }

    /// Of an IPv6 packet, in which nothing lies between header and message.
    #[must_use]
    pub const fn v6(header: &ipv6::Header) -> Self {
        Self {
            source: header.source,
            destination: header.destination,
            ttl: header.hop_limit,
            message_len: header.payload_len,
            fragment: false,
            marked: header.flow_label == HAD_MARK as u32,
        }
    }
}

/// An advert whose checksum was not looked at yet.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    advert: Advert,
    destination: Address,
    message_len: u16,
}

impl Claim {
    /// Checks what the headers say (RFC 9568 and RFC 3768, both section 7.1), but for the sender, the
    /// checksum and whether the VRID is one of ours.
    ///
    /// # Errors
    ///
    /// The first check that fails, cheapest first.
    // As a function of its own it could not be loaded: the kernel's BTF has no words for its types.
    #[inline(always)]
    pub const fn check(ip: &Carrier, head: &[u8; HEAD_LEN], rules: &Rules) -> Result<Self, Reject> {
        let is_v4 = ip.source.is_v4();
        if ip.fragment {
            return Err(Reject::Fragment);
        }
        if ip.source.is(rules.source) {
            return Err(Reject::Own);
        }
        if ip.ttl != TTL {
            return Err(Reject::Ttl);
        }
        let version = head[0] >> 4;
        // Version 2 knows no IPv6.
        if version != rules.version || version == 2 && !is_v4 {
            return Err(Reject::Version);
        }
        if head[0] & 0x0f != TYPE_ADVERTISEMENT {
            return Err(Reject::Type);
        }
        let address_count = head[3];
        if address_count == 0 {
            return Err(Reject::NoAddress);
        }
        let message_len = ip.message_len;
        let auth_len = if version == 2 { V2_AUTH_LEN } else { 0 };
        let (address_len, longest) = if is_v4 {
            (4, MAX_MESSAGE_LEN)
        } else {
            (16, MAX_MESSAGE_LEN_V6)
        };
        let needed = HEAD_LEN + address_len * address_count as usize + auth_len;
        if (message_len as usize) < needed || message_len as usize > longest || message_len & 3 != 0
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
        } else if is_v4 {
            Address::v4(GROUP)
        } else {
            Address::v6(GROUP_V6)
        };
        if !ip.destination.is(expected) {
            return Err(Reject::Destination);
        }
        Ok(Self {
            advert: Advert {
                sender: ip.source,
                version,
                vrid: vrid(head),
                priority: head[2],
                interval_centis,
                address_count,
                from_had: ip.marked,
                dialect: Dialect::Plain,
            },
            destination: ip.destination,
            message_len,
        })
    }

    /// Bytes of the message, at most [`MAX_MESSAGE_LEN`], or [`MAX_MESSAGE_LEN_V6`] over IPv6.
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
        if message_sum == checksum::VALID && self.advert.sender.is_v4() {
            return Ok(self.advert);
        }
        if self.advert.version == 2 {
            return Err(Reject::Checksum);
        }
        let sum = pseudo_header(self.advert.sender, self.destination, self.message_len)
            .half(message_sum.to_be_bytes());
        if sum.folded() != checksum::VALID {
            return Err(Reject::Checksum);
        }
        self.advert.dialect = Dialect::PseudoHeader;
        Ok(self.advert)
    }
}

const fn pseudo_header(source: Address, destination: Address, message_len: u16) -> Sum {
    ipv6::pseudo_header(source, destination, message_len, PROTOCOL)
}

/// A received packet with a VRRP message: what its IP header says, the bytes of that header, the message.
fn split(packet: &[u8]) -> Result<(Carrier, &[u8], &[u8]), Reject> {
    let (carrier, protocol, header_len) = match packet.first().map(|first| first >> 4) {
        Some(ipv4::VERSION) => {
            let header = packet.first_chunk().and_then(ipv4::Header::parse);
            let header = header.ok_or(Reject::NotVrrp)?;
            let len = usize::from(header.header_len);
            (Carrier::v4(&header), header.protocol, len)
        }
        Some(ipv6::VERSION) => {
            let header = packet.first_chunk().and_then(ipv6::Header::parse);
            let header = header.ok_or(Reject::NotVrrp)?;
            (Carrier::v6(&header), header.next_header, ipv6::HEADER_LEN)
        }
        _ => return Err(Reject::NotVrrp),
    };
    if protocol != PROTOCOL {
        return Err(Reject::NotVrrp);
    }
    if carrier.fragment {
        return Err(Reject::Fragment);
    }
    let (header, message) = packet.split_at_checked(header_len).ok_or(Reject::Length)?;
    Ok((carrier, header, message))
}

/// The VRID of a received packet, to find the instance whose [`Rules`] [`parse`] needs.
///
/// # Errors
///
/// [`Reject::NotVrrp`], [`Reject::Fragment`] or [`Reject::Length`] where there is none to read.
pub fn vrid_of(packet: &[u8]) -> Result<u8, Reject> {
    let (_, _, message) = split(packet)?;
    message.first_chunk().map(vrid).ok_or(Reject::Length)
}

/// Checks a received packet: everything that XDP checks, in the same order.
///
/// # Errors
///
/// The first check that fails.
pub fn parse(
    packet: &[u8],
    rules: &Rules,
    allowed: impl FnOnce(Address) -> bool,
) -> Result<Advert, Reject> {
    let (ip, header, rest) = split(packet)?;
    let head = rest.first_chunk().ok_or(Reject::Length)?;
    let claim = Claim::check(&ip, head, rules)?;
    if rules.unicast && !allowed(ip.source) {
        return Err(Reject::Sender);
    }
    if ip.source.is_v4() && Sum::ZERO.slice(header).folded() != checksum::VALID {
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
    /// RFC 9568, with the dialect of its checksum over IPv4.
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
    pub source: Address,
    /// [`GROUP`] or [`GROUP_V6`], or a unicast peer.
    pub destination: Address,
    /// The VIPs, 1 to 255, or to [`MAX_ADDRESSES_V6`] over IPv6.
    pub addresses: &'a [Address],
}

/// Why an advert cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// No address, or more than an advert holds.
    AddressCount,
    /// Addresses of both families, or VRRPv2 over IPv6.
    Family,
    /// The version's interval field cannot hold the interval.
    Interval,
}

impl core::fmt::Display for BuildError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::AddressCount => "an advert carries 1 to 255 addresses, over IPv6 to 90",
            Self::Family => {
                "an advert carries addresses of its own family only, and over IPv6 it is VRRPv3"
            }
            Self::Interval => {
                "the interval does not fit: VRRPv3 has 10 ms to 40.95 s, VRRPv2 whole seconds to 255 s"
            }
        })
    }
}

impl core::error::Error for BuildError {}

/// Builds a whole packet of the family of its source: TTL 255, Type of Service 0xC0 (network control), DF,
/// and [`HAD_MARK`]. Returns the part of `buffer` that it fills.
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
    let is_v4 = spec.source.is_v4();
    let (version, interval, auth_len) = match spec.version {
        Version::V2 if is_v4 => (2, v2_interval(spec.interval)?, V2_AUTH_LEN),
        Version::V2 => return Err(BuildError::Family),
        Version::V3(_) => (3, v3_interval(spec.interval)?, 0),
    };
    if core::iter::once(&spec.destination)
        .chain(spec.addresses)
        .any(|address| address.is_v4() != is_v4)
    {
        return Err(BuildError::Family);
    }
    let (header_len, address_len) = if is_v4 {
        (ipv4::HEADER_LEN, 4)
    } else {
        (ipv6::HEADER_LEN, 16)
    };
    let message_len = HEAD_LEN + address_len * spec.addresses.len() + auth_len;
    let packet = buffer
        .get_mut(..header_len + message_len)
        .ok_or(BuildError::AddressCount)?;
    packet.fill(0);
    let (ip, message) = packet.split_at_mut(header_len);
    let message_len = u16::try_from(message_len).map_err(|_| BuildError::AddressCount)?;
    put_header(ip, spec, message_len);
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
    let slots = message[HEAD_LEN..].chunks_exact_mut(address_len);
    for (slot, address) in slots.zip(spec.addresses) {
        // The last bytes of an IPv4-mapped address are the IPv4 address.
        slot.copy_from_slice(&address.octets()[16 - address_len..]);
    }
    let start = match spec.version {
        Version::V2 | Version::V3(Dialect::Plain) if is_v4 => Sum::ZERO,
        _ => pseudo_header(spec.source, spec.destination, message_len),
    };
    let sum = start.slice(message).checksum();
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    Ok(packet)
}

/// Writes the IP header.
fn put_header(ip: &mut [u8], spec: &AdvertSpec<'_>, message_len: u16) {
    match (spec.source.to_v4(), spec.destination.to_v4()) {
        (Some(source), Some(destination)) => {
            let header = ipv4::Header {
                header_len: 20,
                total_len: message_len.saturating_add(20),
                identification: HAD_MARK,
                dont_fragment: true,
                fragment: false,
                ttl: TTL,
                protocol: PROTOCOL,
                source,
                destination,
            };
            ip.copy_from_slice(&header.emit());
        }
        _ => {
            let header = ipv6::Header {
                flow_label: HAD_MARK.into(),
                payload_len: message_len,
                next_header: PROTOCOL,
                hop_limit: TTL,
                source: spec.source,
                destination: spec.destination,
            };
            ip.copy_from_slice(&header.emit());
        }
    }
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
