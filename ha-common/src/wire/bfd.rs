//! BFD control packets (RFC 5880 section 4).
//!
//! [`Control::check`] looks at everything that a packet says by itself: XDP calls it with the fixed part,
//! [`parse`] is the same for a slice, with the authentication section. Whether the discriminators and the
//! addresses are those of a session is its owner's business.

use crate::abi::Reason;

/// UDP destination port of single-hop sessions (RFC 5881 section 4).
pub const PORT: u16 = 3784;

/// UDP destination port of multihop sessions (RFC 5883 section 4).
pub const MULTIHOP_PORT: u16 = 4784;

/// Source ports that a session may have (RFC 5881 section 4).
pub const SOURCE_PORTS: core::ops::RangeInclusive<u16> = 49_152..=65_535;

/// The one TTL or hop limit that proves a sender on the same link (RFC 5881 section 5).
pub const TTL: u8 = 255;

/// Bytes without an authentication section.
pub const HEADER_LEN: usize = 24;

/// Bytes of a SHA1 authentication section (RFC 5880 section 4.4).
pub const SHA1_SECTION_LEN: usize = 28;

/// Bytes of the longest packet that this crate makes.
pub const MAX_LEN: usize = HEADER_LEN + SHA1_SECTION_LEN;

/// Where the digest begins in a packet with a SHA1 section.
pub const DIGEST_OFFSET: usize = HEADER_LEN + 8;

/// Bytes of a SHA1 digest and of a key.
pub const DIGEST_LEN: usize = 20;

/// Bytes of the shortest packet that says it is authenticated (RFC 5880 section 6.8.6).
const MIN_AUTHENTICATED_LEN: u8 = 26;

/// [`HEADER_LEN`] as the length field has it.
const MIN_LEN: u8 = 24;

const _: () = assert!(MIN_LEN as usize == HEADER_LEN);

const VERSION: u8 = 1;
const POLL: u8 = 1 << 5;
const FINAL: u8 = 1 << 4;
const INDEPENDENT: u8 = 1 << 3;
const AUTHENTICATED: u8 = 1 << 2;
const DEMAND: u8 = 1 << 1;
const MULTIPOINT: u8 = 1;

/// Your Discriminator, before anything else is known of a packet.
#[must_use]
pub const fn your_discriminator(head: &[u8; HEADER_LEN]) -> u32 {
    u32::from_be_bytes([head[8], head[9], head[10], head[11]])
}

/// The state of a session (RFC 5880 section 6.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Held down by an operator.
    AdminDown = 0,
    /// The other system is not heard, or says that it does not hear this one.
    Down = 1,
    /// The other system is heard, and not known to hear this one.
    Init = 2,
    /// Both hear each other.
    Up = 3,
}

impl State {
    /// From the two bits of a packet.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    /// Lower case, as in `hactl status --json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "admin-down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }
}

impl core::fmt::Display for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a session was last not Up (RFC 5880 section 4.1), 0 to 31.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// No Diagnostic.
    pub const NONE: Self = Self(0);
    /// Control Detection Time Expired.
    pub const EXPIRED: Self = Self(1);
    /// Neighbor Signaled Session Down.
    pub const NEIGHBOR_DOWN: Self = Self(3);
    /// Administratively Down.
    pub const ADMIN_DOWN: Self = Self(7);

    /// The RFC's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "No Diagnostic",
            1 => "Control Detection Time Expired",
            2 => "Echo Function Failed",
            3 => "Neighbor Signaled Session Down",
            4 => "Forwarding Plane Reset",
            5 => "Path Down",
            6 => "Concatenated Path Down",
            7 => "Administratively Down",
            8 => "Reverse Concatenated Path Down",
            _ => "Reserved",
        }
    }
}

impl core::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a packet is discarded (RFC 5880 section 6.8.6, RFC 5881 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// TTL or hop limit is not 255, or (multihop) below the configured minimum.
    Ttl,
    /// Another version than 1.
    Version,
    /// Shorter than the fixed part, or than what it says itself.
    Length,
    /// Detect Mult 0.
    Multiplier,
    /// The Multipoint bit is set.
    Multipoint,
    /// My Discriminator is 0, or Your Discriminator is, in a state in which it cannot be.
    Discriminator,
    /// Your Discriminator is none of ours.
    UnknownDiscriminator,
    /// Not from the session's peer to this node's address on the session's interface.
    Source,
    /// Authenticated where that is not configured, not where it is, or wrongly.
    Authentication,
}

impl Reject {
    /// The counter of this verdict.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Ttl => Reason::BfdTtl,
            Self::Version => Reason::BfdVersion,
            Self::Length => Reason::BfdLength,
            Self::Multiplier => Reason::BfdMultiplier,
            Self::Multipoint => Reason::BfdMultipoint,
            Self::Discriminator => Reason::BfdDiscriminator,
            Self::UnknownDiscriminator => Reason::BfdUnknownDiscriminator,
            Self::Source => Reason::BfdSource,
            Self::Authentication => Reason::BfdAuth,
        }
    }
}

/// The fixed part of a control packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Why the sender's session was last not Up.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// Poll: the sender wants an answer with `is_final`.
    pub poll: bool,
    /// Final: the answer to a poll.
    pub is_final: bool,
    /// Control Plane Independent.
    pub independent: bool,
    /// An authentication section follows.
    pub authenticated: bool,
    /// Demand mode: no periodic packets are wanted.
    pub demand: bool,
    /// Detect Mult, not 0.
    pub multiplier: u8,
    /// My Discriminator, not 0.
    pub my_discriminator: u32,
    /// Your Discriminator; 0 = the sender does not know it.
    pub your_discriminator: u32,
    /// Desired Min TX Interval in microseconds.
    pub desired_min_tx_us: u32,
    /// Required Min RX Interval in microseconds; 0 = no periodic packets are wanted.
    pub required_min_rx_us: u32,
    /// Required Min Echo RX Interval in microseconds; 0 = no echoes are looped.
    pub required_min_echo_rx_us: u32,
}

impl Control {
    /// Checks what a packet of `payload_len` bytes of UDP says by itself, in the order of RFC 5880
    /// section 6.8.6.
    ///
    /// # Errors
    ///
    /// The first check that fails.
    // A function of its own would have types that the kernel's BTF has no words for.
    #[inline(always)]
    pub const fn check(head: &[u8; HEADER_LEN], payload_len: usize) -> Result<Self, Reject> {
        if head[0] >> 5 != VERSION {
            return Err(Reject::Version);
        }
        let authenticated = head[1] & AUTHENTICATED != 0;
        let length = head[3];
        let least = if authenticated {
            MIN_AUTHENTICATED_LEN
        } else {
            MIN_LEN
        };
        if length < least || length as usize > payload_len {
            return Err(Reject::Length);
        }
        if head[2] == 0 {
            return Err(Reject::Multiplier);
        }
        if head[1] & MULTIPOINT != 0 {
            return Err(Reject::Multipoint);
        }
        let my_discriminator = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let your_discriminator = your_discriminator(head);
        let state = State::from_bits(head[1] >> 6);
        let may_be_unknown = matches!(state, State::Down | State::AdminDown);
        if my_discriminator == 0 || your_discriminator == 0 && !may_be_unknown {
            return Err(Reject::Discriminator);
        }
        Ok(Self {
            diagnostic: Diagnostic(head[0] & 0x1f),
            state,
            poll: head[1] & POLL != 0,
            is_final: head[1] & FINAL != 0,
            independent: head[1] & INDEPENDENT != 0,
            authenticated,
            demand: head[1] & DEMAND != 0,
            multiplier: head[2],
            my_discriminator,
            your_discriminator,
            desired_min_tx_us: u32::from_be_bytes([head[12], head[13], head[14], head[15]]),
            required_min_rx_us: u32::from_be_bytes([head[16], head[17], head[18], head[19]]),
            required_min_echo_rx_us: u32::from_be_bytes([head[20], head[21], head[22], head[23]]),
        })
    }

    /// The fixed part; `section_len` bytes of authentication follow it.
    #[must_use]
    pub fn emit(&self, section_len: u8) -> [u8; HEADER_LEN] {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = VERSION << 5 | self.diagnostic.0 & 0x1f;
        bytes[1] = (self.state as u8) << 6
            | flag(self.poll, POLL)
            | flag(self.is_final, FINAL)
            | flag(self.independent, INDEPENDENT)
            | flag(self.authenticated, AUTHENTICATED)
            | flag(self.demand, DEMAND);
        bytes[2] = self.multiplier;
        bytes[3] = MIN_LEN.saturating_add(section_len);
        for (index, field) in [
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx_us,
            self.required_min_rx_us,
            self.required_min_echo_rx_us,
        ]
        .into_iter()
        .enumerate()
        {
            let start = 4 + 4 * index;
            bytes[start..start + 4].copy_from_slice(&field.to_be_bytes());
        }
        bytes
    }
}

/// A type of SHA1 authentication (RFC 5880 section 6.7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Sha1 {
    /// The sequence number may stay: packets can be replayed as long as it does.
    Keyed = 4,
    /// The sequence number grows with each packet.
    Meticulous = 5,
}

/// A SHA1 authentication section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha1Section {
    /// Which of the two types.
    pub kind: Sha1,
    /// Auth Key ID.
    pub key_id: u8,
    /// Sequence Number.
    pub sequence: u32,
    /// Auth Key/Hash.
    pub digest: [u8; DIGEST_LEN],
}

impl Sha1Section {
    /// Reads a section; `None` if it is of another type or length.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SHA1_SECTION_LEN] = bytes.try_into().ok()?;
        let kind = match bytes[0] {
            4 => Sha1::Keyed,
            5 => Sha1::Meticulous,
            _ => return None,
        };
        if usize::from(bytes[1]) != SHA1_SECTION_LEN {
            return None;
        }
        Some(Self {
            kind,
            key_id: bytes[2],
            sequence: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            digest: *bytes.last_chunk()?,
        })
    }

    /// The section as it stands in a packet.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the length is 28")]
    pub fn emit(&self) -> [u8; SHA1_SECTION_LEN] {
        let mut bytes = [0; SHA1_SECTION_LEN];
        bytes[0] = self.kind as u8;
        bytes[1] = SHA1_SECTION_LEN as u8;
        bytes[2] = self.key_id;
        bytes[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..].copy_from_slice(&self.digest);
        bytes
    }
}

/// A control packet as it goes over the wire, without allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl Payload {
    /// The fixed part alone.
    #[must_use]
    pub fn plain(control: &Control) -> Self {
        control.emit(0).into()
    }

    /// With a section whose digest is over all of it: [`Self::with_digest`] puts that in.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lengths are 28 and 52")]
    pub fn with_section(control: &Control, section: &Sha1Section) -> Self {
        let mut bytes = [0; MAX_LEN];
        bytes[..HEADER_LEN].copy_from_slice(&control.emit(SHA1_SECTION_LEN as u8));
        bytes[HEADER_LEN..].copy_from_slice(&section.emit());
        Self {
            bytes,
            len: MAX_LEN as u8,
        }
    }

    /// The same packet with another digest; one without a section stays as it is.
    #[must_use]
    pub fn with_digest(mut self, digest: &[u8; DIGEST_LEN]) -> Self {
        if usize::from(self.len) == MAX_LEN {
            self.bytes[DIGEST_OFFSET..].copy_from_slice(digest);
        }
        self
    }

    /// What was received; `None` if it is longer than any packet that is taken.
    #[must_use]
    pub fn received(packet: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_LEN];
        bytes.get_mut(..packet.len())?.copy_from_slice(packet);
        Some(Self {
            bytes,
            len: u8::try_from(packet.len()).ok()?,
        })
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }
}

impl From<[u8; HEADER_LEN]> for Payload {
    fn from(packet: [u8; HEADER_LEN]) -> Self {
        let mut bytes = [0; MAX_LEN];
        bytes[..HEADER_LEN].copy_from_slice(&packet);
        Self {
            bytes,
            len: MIN_LEN,
        }
    }
}

impl core::fmt::Debug for Payload {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match parse(self.as_slice()) {
            Ok((control, section)) => f
                .debug_tuple("Payload")
                .field(&control)
                .field(&section)
                .finish(),
            Err(reject) => f.debug_tuple("Payload").field(&reject).finish(),
        }
    }
}

/// Checks the payload of a received datagram: what [`Control::check`] does, and the form of the
/// authentication section. Bytes after the length that the packet gives are ignored.
///
/// # Errors
///
/// The first check that fails.
pub fn parse(payload: &[u8]) -> Result<(Control, Option<Sha1Section>), Reject> {
    let head = payload.first_chunk().ok_or(Reject::Length)?;
    let control = Control::check(head, payload.len())?;
    if !control.authenticated {
        return Ok((control, None));
    }
    let section = payload
        .get(HEADER_LEN..usize::from(head[3]))
        .and_then(Sha1Section::parse)
        .ok_or(Reject::Authentication)?;
    Ok((control, Some(section)))
}

#[cfg(test)]
mod tests;
