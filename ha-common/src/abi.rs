//! The BPF maps' layouts: one definition for both sides.
//!
//! Multi-byte values are in host order unless a name says `_be`. Addresses are [`Address`], in network
//! order. Of what is pinned, size and place of each field are asserted, so that no layout changes unnoticed: who
//! changes one raises [`ABI_VERSION`], unless only what was zero so far gets a meaning for which zero is right.

/// Asserts how a type lies in pinned maps: its size, and where each field begins, in bytes.
macro_rules! pinned {
    ($type:ident: $size:literal { $($field:ident: $offset:literal),+ $(,)? }) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)+
        };
    };
}

pub mod bfd;
pub mod lease;
pub mod local;

use crate::{
    Address,
    units::MonoNs,
    wire::{virtual_mac, vrrp::Rules},
};

/// Grows with a pinned map's layout; maps of another version are not adopted.
pub const ABI_VERSION: u32 = 2;

/// Slots for instances: 255 VRIDs on each of a few interfaces, and [`CLOSED_SLOT`].
pub const MAX_INSTANCES: u32 = 1024;

/// The slot that no instance has: it has no leases, so its gate is never open. A virtual address that could
/// not be taken off its interface leads to it.
pub const CLOSED_SLOT: u32 = MAX_INSTANCES - 1;

/// VIPs over all instances.
pub const MAX_VIPS: u32 = 65_536;

/// Allowed unicast senders over all instances.
pub const MAX_SENDERS: u32 = 8_192;

/// Interfaces of VLANs that frames with a tag lead to.
pub const MAX_VLANS: u32 = 4_096;

/// Silence timers: an instance's has its slot as index, a BFD session's [`bfd::watch`].
pub const MAX_WATCHES: u32 = MAX_INSTANCES + bfd::MAX_SESSIONS;

/// What the program `had_watch` does to the timer of an index up to [`MAX_WATCHES`]; that itself is of one that is
/// there to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TimerTask {
    /// Takes its memory, and that of the timer for promises, where the index is of an instance. Returns 0, or the
    /// error number.
    Prepare = 1,
    /// Starts it for a packet that came before its time was set. Returns 0 if it runs, else
    /// [`NOT_DONE`](Self::NOT_DONE).
    Arm = 2,
}

impl TimerTask {
    /// Nothing was done.
    pub const NOT_DONE: u32 = u32::MAX;

    /// From the word in a frame.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        Some(match value {
            1 => Self::Prepare,
            2 => Self::Arm,
            _ => return None,
        })
    }
}

/// Bytes of the ring buffer for [`Event`]s.
pub const EVENT_RING_BYTES: u32 = 256 * 1024;

/// Events per instance or session and [`EVENT_WINDOW_NS`]; more are counted, not reported, so that no sender can
/// keep the daemon awake. The map's words stay true, and the daemon reads them before it acts.
pub const EVENT_BUDGET: u64 = 64;

/// The window of [`EVENT_BUDGET`], in nanoseconds.
pub const EVENT_WINDOW_NS: u64 = 100_000_000;

/// Key of `VRIDS`: which instance an advert on an interface belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VridKey {
    /// Interface index, as in `xdp_md::ingress_ifindex`.
    pub ifindex: u32,
    /// Virtual Router Identifier.
    pub vrid: u8,
    /// 4 or 6: the virtual routers of the two families are independent (RFC 9568 section 5.2.3).
    pub family: u8,
    /// Zero.
    pub _pad: [u8; 2],
}

/// Key of `VLANS`: a tag in a frame that belongs to an interface. The value is the index of the VLAN's
/// interface, to which a further tag (QinQ) leads in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct VlanKey {
    /// Index of the interface with the tagged frames.
    pub ifindex: u32,
    /// The tag's EtherType: IEEE 802.1Q or 802.1ad.
    pub protocol: u16,
    /// VLAN identifier, 1 to 4094.
    pub vid: u16,
}

/// Key of `VIPS`: the address itself. A packet for it that arrives by another interface that has the programs
/// meets the same gate.
pub type VipKey = Address;

/// Key of `SENDERS`: a unicast peer from which an instance takes adverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SenderKey {
    /// The instance's slot.
    pub instance: u32,
    /// Zero.
    pub _pad: u32,
    /// Its address.
    pub address: Address,
}

impl SenderKey {
    /// The key of one sender.
    #[must_use]
    pub const fn new(instance: u32, address: Address) -> Self {
        Self {
            instance,
            _pad: 0,
            address,
        }
    }
}

/// Value of `INSTANCES`, written by the daemon only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct InstanceConfig {
    /// Interface index; 0 = slot not in use.
    pub ifindex: u32,
    /// Lease slots that must hold for the gate to be open.
    pub leases: u32,
    /// Virtual Router Identifier.
    pub vrid: u8,
    /// VRRP version, 2 or 3.
    pub version: u8,
    /// The priority with which this node would advertise: an advert above it supersedes the gate.
    pub priority: u8,
    /// 1: adverts are unicast and only from `SENDERS`; 0: multicast.
    pub unicast: u8,
    /// The interface's own MAC address, which answers for the VIPs unless the virtual one does.
    pub mac: [u8; 6],
    /// VRRPv2 only: adverts with another interval are discarded (RFC 3768 section 7.1), in centiseconds.
    pub interval_centis: u16,
    /// 4 or 6: the family of its adverts. Its VIPs may be of both.
    pub family: u8,
    /// 1: this node forwards IPv6 on the interface, and its neighbour advertisements say so.
    pub router: u8,
    /// 1: the virtual router's MAC address answers for the VIPs.
    pub virtual_mac: u8,
    /// Zero.
    pub _pad: u8,
    /// The source address of this node's adverts: decides at equal priority.
    pub source: Address,
}

impl InstanceConfig {
    /// The MAC address that answers for the VIPs.
    #[inline]
    #[must_use]
    pub const fn vip_mac(&self) -> [u8; 6] {
        if self.virtual_mac == 0 {
            self.mac
        } else {
            virtual_mac::of(self.vrid, self.family)
        }
    }

    /// What its adverts must be like.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        Rules {
            version: self.version,
            unicast: self.unicast != 0,
            source: self.source,
            interval_centis: self.interval_centis,
        }
    }
}

/// Value of `GATES`, one cache line, in a map that user space has mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Gate {
    /// The open epoch ([`crate::gate::Epoch`]), written by the daemon only.
    pub epoch: u64,
    /// The epoch that an outranking advert superseded, written by XDP only.
    pub superseded: u64,
    /// What this node is for the instance ([`crate::lease::Standing`]): the gate is open only while it stands as
    /// Active, which it always does without leases of peers. The daemon writes it, and XDP when it yields.
    pub standing: u64,
    /// With which rank this node competes for leases ([`crate::lease::Rank::to_word`]), written by the daemon only.
    pub rank: u64,
    /// Until when it counts as a candidate ([`crate::lease::Situation::alive`]), written by the daemon only, with
    /// each announcement.
    pub candidate_until_ns: u64,
    /// Zero.
    pub _pad: [u64; 3],
}

/// Value of `LEASES`, one cache line, at `instance × MAX_LEASES + slot`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct LeaseCell {
    /// A [`crate::gate::Lease`].
    pub word: u64,
    /// Zero.
    pub _pad: [u64; 7],
}

/// Value of `RECEIVED`, one cache line, written by XDP, read by the daemon through its mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Received {
    /// When the last valid advert with a priority other than 0 came.
    pub last_ns: u64,
    /// Odd while `last_word` and `sender` are being written, another number afterwards: whoever reads them
    /// between two equal, even numbers has both of one advert.
    pub sequence: u64,
    /// What the last advert said, as [`AdvertWord`]; 0 = nothing was received yet.
    pub last_word: u64,
    /// Who said it.
    pub sender: Address,
    /// Valid adverts so far (of one sender: exact; of several CPUs at once: approximate).
    pub adverts: u64,
    /// Start of the event budget's window.
    pub window_ns: u64,
    /// Events reported in that window.
    pub window_events: u64,
}

impl Received {
    /// What the last advert said.
    #[must_use]
    pub const fn said(&self) -> Said {
        Said {
            sender: self.sender,
            word: AdvertWord(self.last_word),
        }
    }
}

/// Value of `WATCH_CONFIG`: what the kernel's silence timer waits for, written by the daemon only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct WatchConfig {
    /// Silence to report, in nanoseconds (the Active_Down_Interval); 0 = not watched.
    pub down_ns: u64,
}

/// What an advert said, and who: only true together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Source address.
    pub sender: Address,
    /// The rest.
    pub word: AdvertWord,
}

/// What an advert said, but for its sender, in one word that is compared and stored at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct AdvertWord(pub u64);

impl AdvertWord {
    const VALID: u64 = 1 << 63;
    const FROM_HAD: u64 = 1 << 62;
    const PSEUDO_HEADER: u64 = 1 << 61;

    /// Packs what an advert said. `interval_centis` has 12 bits on the wire (v3) or is `seconds × 100`
    /// (v2, 15 bits).
    #[must_use]
    pub const fn new(priority: u8, interval_centis: u16, from_had: bool) -> Self {
        let mut word = Self::VALID;
        if from_had {
            word |= Self::FROM_HAD;
        }
        word |= (priority as u64) << 48;
        word |= ((interval_centis & 0x7fff) as u64) << 32;
        Self(word)
    }

    /// Whether it was ever written.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 & Self::VALID != 0
    }

    /// Whether the sender marked itself as `had` ([`crate::wire::vrrp::HAD_MARK`]).
    #[must_use]
    pub const fn from_had(self) -> bool {
        self.0 & Self::FROM_HAD != 0
    }

    /// The same, from a sender whose checksum covers a pseudo-header
    /// ([`crate::wire::vrrp::Dialect::PseudoHeader`]).
    #[must_use]
    pub const fn with_pseudo_header(self) -> Self {
        Self(self.0 | Self::PSEUDO_HEADER)
    }

    /// Whether the sender's checksum covers a pseudo-header: `checksum = "auto"` answers alike.
    #[must_use]
    pub const fn has_pseudo_header(self) -> bool {
        self.0 & Self::PSEUDO_HEADER != 0
    }

    /// Priority.
    #[must_use]
    pub const fn priority(self) -> u8 {
        ((self.0 >> 48) & 0xff) as u8
    }

    /// Advertisement interval in centiseconds.
    #[must_use]
    pub const fn interval_centis(self) -> u16 {
        ((self.0 >> 32) & 0x7fff) as u16
    }
}

/// What an [`Event`] reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// An advert that changes something: first seen, other sender, priority or interval, priority 0, or
    /// any while the gate is open.
    Advert = 1,
    /// No advert for the watched time: `stamp_ns` is the last advert's, `word` what it said.
    Silence = 2,
    /// A packet that only a neighbour sends came to an own address by another interface: `sender` is that address,
    /// `word` the interface's index.
    Elsewhere = 3,
    /// A peer asks for a lease as it did not before; `word` is a [`lease::AskWord`], as in the next three.
    Asked = 16,
    /// A peer let go of an instance, and what it was promised is void.
    Released = 17,
    /// This node no longer acts for an instance: a peer that goes first was granted the lease.
    Yielded = 18,
    /// A peer granted this node, a candidate, a lease that it did not have.
    Answered = 19,
    /// Every promise for an instance has run out: nobody asks for it. `stamp_ns` is when the last one did.
    LeaseSilence = 20,
}

impl EventKind {
    /// `None` for a number of another ABI.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            1 => Some(Self::Advert),
            2 => Some(Self::Silence),
            3 => Some(Self::Elsewhere),
            16 => Some(Self::Asked),
            17 => Some(Self::Released),
            18 => Some(Self::Yielded),
            19 => Some(Self::Answered),
            20 => Some(Self::LeaseSilence),
            _ => None,
        }
    }
}

/// An entry of the ring buffer `EVENTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// An [`EventKind`].
    pub kind: u32,
    /// The instance's slot.
    pub instance: u32,
    /// When the packet arrived, or the last one had arrived.
    pub stamp_ns: u64,
    /// An [`AdvertWord`].
    pub word: u64,
    /// When the event was made.
    pub made_ns: u64,
    /// Who sent the advert.
    pub sender: Address,
}

impl Event {
    /// When the packet arrived, or the last one had arrived.
    #[must_use]
    pub const fn stamp(&self) -> MonoNs {
        MonoNs(self.stamp_ns)
    }

    /// What the advert said.
    #[must_use]
    pub const fn said(&self) -> Said {
        Said {
            sender: self.sender,
            word: AdvertWord(self.word),
        }
    }

    /// Reads an entry of the ring buffer; `None` if it has another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; size_of::<Self>()] = bytes.try_into().ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let &[first, stamp, word, made, high, low] = words else {
            return None;
        };
        let [k0, k1, k2, k3, i0, i1, i2, i3] = first;
        Some(Self {
            kind: u32::from_ne_bytes([k0, k1, k2, k3]),
            instance: u32::from_ne_bytes([i0, i1, i2, i3]),
            stamp_ns: u64::from_ne_bytes(stamp),
            word: u64::from_ne_bytes(word),
            made_ns: u64::from_ne_bytes(made),
            sender: Address::from_words([high, low].map(u64::from_ne_bytes)),
        })
    }
}

/// Declares [`Reason`] with its names, so that the counters' index, name and text cannot drift apart.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a program gave its verdict: the index of its per-CPU counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason in the order of its index.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in metrics and in `hactl status`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// XDP passed a frame that is none of our business.
    PassOther = "pass_other",
    /// XDP passed a frame with a VLAN tag that leads to no interface with instances.
    PassVlan = "pass_vlan",
    /// XDP passed an advert with a VRID that no instance on this interface has.
    PassUnknownVrid = "pass_unknown_vrid",
    /// XDP passed ARP that concerns no VIP.
    PassArp = "pass_arp",
    /// XDP passed another node's announcement or request that names a VIP as sender, so that this
    /// node's own neighbour table follows the VIP.
    PassArpFromVip = "pass_arp_from_vip",
    /// XDP passed a neighbour solicitation or advertisement that concerns no VIP.
    PassNdp = "pass_ndp",
    /// XDP passed another node's neighbour advertisement of a VIP, or solicitation from one, so that this
    /// node's own neighbour table follows the VIP.
    PassNdpFromVip = "pass_ndp_from_vip",
    /// XDP passed a packet or an ARP reply to a VIP, or a neighbour solicitation of one that is left to the
    /// kernel: the gate was open.
    PassVipOpen = "pass_vip_open",
    /// XDP answered an ARP request for a VIP.
    ArpAnswered = "arp_answered",
    /// XDP dropped an ARP request for a VIP, or a reply to one: the gate was closed.
    DropArpClosed = "drop_arp_closed",
    /// XDP dropped an ARP request for a VIP that came in by another interface than its instance's, or
    /// was for another station: the kernel would have answered it.
    DropArpElsewhere = "drop_arp_elsewhere",
    /// XDP or tc dropped an ARP request for an own address to which peers send, from its network, that came in by
    /// another interface: the kernel would have answered it.
    DropArpLocal = "drop_arp_local",
    /// XDP answered a neighbour solicitation of a VIP.
    NdpAnswered = "ndp_answered",
    /// XDP dropped a neighbour solicitation of a VIP: the gate was closed.
    DropNdpClosed = "drop_ndp_closed",
    /// XDP dropped a neighbour solicitation of a VIP that came in by another interface than its instance's,
    /// or was for another station.
    DropNdpElsewhere = "drop_ndp_elsewhere",
    /// XDP dropped a packet to a VIP: the gate was closed.
    DropVipClosed = "drop_vip_closed",
    /// tc passed a packet to a VIP whose gate was closed, by an interface that no instance names: the kernel sends
    /// it on to another host.
    PassVipForwarded = "pass_vip_forwarded",
    /// tc dropped a frame: there was no memory to bring its bytes into one piece, or to change its MAC address.
    DropNoMemory = "drop_no_memory",
    /// XDP took a valid advert.
    AdvertTaken = "advert_taken",
    /// XDP took a valid advert that outranks this node, and closed its open gate.
    AdvertOutranks = "advert_outranks",
    /// XDP dropped an advert whose TTL or Hop Limit is not 255 (RFC 9568 section 7.1).
    AdvertTtl = "advert_ttl",
    /// XDP dropped an advert of another VRRP version.
    AdvertVersion = "advert_version",
    /// XDP dropped a VRRP packet that is no advertisement.
    AdvertType = "advert_type",
    /// XDP dropped an advert whose length does not fit its address count.
    AdvertLength = "advert_length",
    /// XDP dropped an advert with a wrong checksum in every dialect.
    AdvertChecksum = "advert_checksum",
    /// XDP dropped an advert with address count 0.
    AdvertNoAddress = "advert_no_address",
    /// XDP dropped an advert with interval 0, or (VRRPv2) one that is not ours.
    AdvertInterval = "advert_interval",
    /// XDP dropped a VRRPv2 advert with an authentication type other than 0.
    AdvertAuth = "advert_auth",
    /// XDP dropped an advert from a sender that the instance does not allow.
    AdvertSender = "advert_sender",
    /// XDP dropped an advert with one of our own addresses as sender.
    AdvertOwn = "advert_own",
    /// XDP dropped a fragment of a VRRP packet.
    AdvertFragment = "advert_fragment",
    /// XDP dropped an advert to an address that this instance does not use.
    AdvertDestination = "advert_destination",
    /// XDP or tc dropped an advert, BFD packet or echo to an own address that came in by another interface: its
    /// sender has the wrong MAC address for it, and is told the right one.
    HeartbeatElsewhere = "heartbeat_elsewhere",
    /// XDP passed a BFD packet that belongs to no session of this node.
    PassBfdUnknown = "pass_bfd_unknown",
    /// XDP passed an authenticated BFD packet of a session with a key: the daemon checks it.
    PassBfdAuth = "pass_bfd_auth",
    /// XDP took a valid BFD packet.
    BfdTaken = "bfd_taken",
    /// XDP dropped a BFD packet whose TTL or hop limit is not 255, or (multihop) is below the configured minimum.
    BfdTtl = "bfd_ttl",
    /// XDP dropped a packet of another BFD version.
    BfdVersion = "bfd_version",
    /// XDP dropped a BFD packet that is shorter than it must be, or than it says.
    BfdLength = "bfd_length",
    /// XDP dropped a BFD packet with Detect Mult 0.
    BfdMultiplier = "bfd_multiplier",
    /// XDP dropped a BFD packet with the Multipoint bit.
    BfdMultipoint = "bfd_multipoint",
    /// XDP dropped a BFD packet with a discriminator of 0 where it must not be.
    BfdDiscriminator = "bfd_discriminator",
    /// XDP dropped a BFD packet of a peer with a discriminator that is not this node's (as after a restart).
    BfdUnknownDiscriminator = "bfd_unknown_discriminator",
    /// XDP dropped a BFD packet with a session's discriminator that is not from its peer, not to its address or not on its interface.
    BfdSource = "bfd_source",
    /// XDP dropped a BFD packet that is authenticated where no key is configured, or not where one is.
    BfdAuth = "bfd_auth",
    /// XDP passed an echo or an answer of a path that this node does not have.
    PassEchoUnknown = "pass_echo_unknown",
    /// XDP answered an echo.
    EchoAnswered = "echo_answered",
    /// XDP answered an echo of a boot that it did not know with a challenge.
    EchoStranger = "echo_stranger",
    /// XDP took an answer to an echo of this node.
    EchoAnswer = "echo_answer",
    /// XDP dropped an echo or an answer whose TTL or hop limit is not 255.
    EchoTtl = "echo_ttl",
    /// XDP dropped an echo or an answer of another version or length.
    EchoFormat = "echo_format",
    /// XDP dropped an echo or an answer with a wrong UDP checksum, or none.
    EchoChecksum = "echo_checksum",
    /// XDP dropped an echo or an answer with a wrong tag, or with one that should not be there.
    EchoTag = "echo_tag",
    /// XDP dropped a packet that this node had sent.
    EchoOwn = "echo_own",
    /// XDP dropped an echo that came after a later one, or again.
    EchoOld = "echo_old",
    /// XDP dropped an answer to another boot of this node, or to what was not sent yet.
    EchoForeign = "echo_foreign",
    /// A peer asked for a longer lease than this node grants.
    LeaseTooLong = "lease_too_long",
    /// A peer that was asked for a lease does not have the instance, or not with leases on that path.
    LeaseUnknown = "lease_unknown",
    /// The kernel's timer reported that no peer asks for an instance.
    LeaseSilence = "lease_silence",
    /// The kernel's timer was late itself, and listens once more before it reports.
    OwnStall = "own_stall",
    /// XDP dropped an authenticated BFD packet: more came than a peer sends.
    BfdAuthBudget = "bfd_auth_budget",
    /// An event was not reported: the instance's budget was used up.
    EventBudget = "event_budget",
    /// An event was not reported: the ring buffer was full.
    EventRingFull = "event_ring_full",
    /// The kernel's timer reported silence.
    SilenceReported = "silence_reported",
    /// tc let out a frame that is none of our business.
    EgressOther = "egress_other",
    /// tc let out a packet with a VIP as source, by another interface than its instance's: the gate was closed,
    /// but this node forwards it for whoever has the VIP.
    EgressForwarded = "egress_forwarded",
    /// tc let out a frame that speaks for a VIP: the gate was open.
    EgressVipOpen = "egress_vip_open",
    /// tc dropped a packet with a VIP as source: the gate was closed.
    EgressVipClosed = "egress_vip_closed",
    /// tc dropped ARP that claims a VIP as sender: the gate was closed.
    EgressArpClosed = "egress_arp_closed",
    /// tc dropped a neighbour advertisement of a VIP: the gate was closed.
    EgressNdpClosed = "egress_ndp_closed",
}

pinned!(VridKey: 8 { ifindex: 0, vrid: 4, family: 5, _pad: 6 });
pinned!(VlanKey: 8 { ifindex: 0, protocol: 4, vid: 6 });
pinned!(SenderKey: 24 { instance: 0, _pad: 4, address: 8 });
pinned!(InstanceConfig: 40 {
    ifindex: 0,
    leases: 4,
    vrid: 8,
    version: 9,
    priority: 10,
    unicast: 11,
    mac: 12,
    interval_centis: 18,
    family: 20,
    router: 21,
    virtual_mac: 22,
    _pad: 23,
    source: 24,
});
pinned!(Gate: 64 {
    epoch: 0,
    superseded: 8,
    standing: 16,
    rank: 24,
    candidate_until_ns: 32,
    _pad: 40,
});
pinned!(LeaseCell: 64 { word: 0, _pad: 8 });
pinned!(Received: 64 {
    last_ns: 0,
    sequence: 8,
    last_word: 16,
    sender: 24,
    adverts: 40,
    window_ns: 48,
    window_events: 56,
});

const _: () = {
    assert!(size_of::<WatchConfig>() == 8);
    assert!(size_of::<Event>() == 48);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_documented() {
        let page = include_str!("../../docs/status.md");
        for reason in Reason::ALL {
            let row = ["| `", reason.name(), "` |"].concat();
            assert!(
                page.contains(&row),
                "docs/status.md lacks {}",
                reason.name()
            );
        }
    }

    #[test]
    fn advert_word_keeps_what_it_was_given() {
        let word = AdvertWord::new(254, 4095, true);
        assert!(word.is_valid() && word.from_had());
        assert_eq!(word.priority(), 254);
        assert_eq!(word.interval_centis(), 4095);
        assert!(!AdvertWord::new(0, 0, false).from_had());
        assert!(!AdvertWord(0).is_valid());
        assert!(!word.has_pseudo_header());
        let word = word.with_pseudo_header();
        assert!(word.has_pseudo_header());
        assert_eq!(word.priority(), 254);
    }

    #[test]
    fn events_are_read_as_they_lie_in_memory() {
        let mut bytes = [0; 48];
        bytes[..4].copy_from_slice(&2_u32.to_ne_bytes());
        bytes[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        bytes[8..16].copy_from_slice(&11_u64.to_ne_bytes());
        bytes[16..24].copy_from_slice(&12_u64.to_ne_bytes());
        bytes[24..32].copy_from_slice(&13_u64.to_ne_bytes());
        bytes[42..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
        let expected = Event {
            kind: EventKind::Silence as u32,
            instance: 7,
            stamp_ns: 11,
            word: 12,
            made_ns: 13,
            sender: Address::v4([10, 0, 0, 1]),
        };
        assert_eq!(Event::from_bytes(&bytes), Some(expected));
        assert_eq!(Event::from_bytes(&bytes[..47]), None);
        assert_eq!(EventKind::from_u32(expected.kind), Some(EventKind::Silence));
    }

    #[test]
    fn reasons_are_indexed_in_order_and_named_once() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(
                Reason::ALL[..index]
                    .iter()
                    .all(|other| other.name() != reason.name())
            );
        }
    }
}
