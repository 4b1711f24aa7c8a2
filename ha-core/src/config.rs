//! What the engine is told to do: validated before it gets here.

use alloc::{string::String, vec::Vec};

use core::net::IpAddr;

use ha_common::{Nanos, Priority, Vrid, gate::Epoch};

use crate::{
    event::InstanceId,
    roles::{Mode, RolesConfig},
    tracking::{Track, TrackedConfig},
};

/// The VRRP version of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 3768: interval in whole seconds, Skew_Time independent of it.
    V2,
    /// RFC 9568: interval in centiseconds.
    V3,
}

/// One virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceConfig {
    /// Its slot in the dataplane's maps; kept across reloads as long as the instance keeps its name.
    pub id: InstanceId,
    /// Its name in the configuration.
    pub name: String,
    /// Index into [`EngineConfig::groups`].
    pub group: Option<usize>,
    /// VRRP version.
    pub version: Version,
    /// Virtual Router Identifier.
    pub vrid: Vrid,
    /// 1 to 255; 255 owns the addresses.
    pub priority: Priority,
    /// Whether to take over from a live Active router with a lower priority.
    pub preempt: bool,
    /// How long to hear such a router before taking over from it.
    pub preempt_delay: Nanos,
    /// Between two adverts of ours.
    pub advert_interval: Nanos,
    /// The only other router there is, when the configuration names exactly one: nobody else competes
    /// for what it releases, so there is no Skew_Time to wait.
    pub sole_peer: bool,
    /// How many addresses it has.
    pub vips: u32,
    /// Gratuitous ARP and unsolicited neighbour advertisements.
    pub announce: AnnounceConfig,
    /// The BFD channels to its other nodes.
    pub channels: Vec<ChannelConfig>,
    /// What it tracks beside its own interface.
    pub track: Vec<Track>,
    /// How long the interface's carrier must be away, or back, before that counts.
    pub link_delays: LinkDelays,
    /// Leases granted by the peers' kernels; `None` = adverts alone open the gate.
    pub lease: Option<LeaseConfig>,
    /// The epoch found in the maps, or [`Epoch::NONE`]; the engine starts by raising it.
    pub adopted_epoch: Epoch,
}

/// How long a change of carrier must last before it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkDelays {
    /// Of a carrier that returns.
    pub up: Nanos,
    /// Of one that is lost.
    pub down: Nanos,
}

/// A BFD channel of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    /// Its name.
    pub name: String,
    /// The router to which it leads, if it runs over the instance's own LAN.
    pub lan_peer: Option<IpAddr>,
}

/// On whose leases an instance relies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Every other node, 1 to [`ha_common::gate::MAX_LEASES`]; the index is the peer's lease slot.
    pub peers: Vec<LeasePeer>,
    /// Whether to go on where nothing at all is heard from a peer.
    pub alone: Alone,
}

/// A node that grants leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasePeer {
    /// Where its adverts for this instance come from.
    pub address: IpAddr,
    /// The ways to it: the instance's own LAN, and channels; at least one.
    pub paths: Vec<PathConfig>,
}

/// A way on which two nodes hear each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathConfig {
    /// Its number; instances that share it use the same one, with the same times.
    pub id: PathId,
    /// Between two echoes.
    pub interval: Nanos,
    /// Echoes that may be missing in a row.
    pub multiplier: u32,
}

impl PathConfig {
    /// How long the lease lasts that an echo on it asks for, from before it was sent.
    #[must_use]
    pub const fn lease(&self) -> Nanos {
        self.interval.times(self.multiplier as u64)
    }
}

/// The number of a path in the dataplane's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u32);

/// What a node does whose peer is not heard on any path: it is dead, or every path is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// It goes on, or takes over: the service is there while the peer is dead, and on both nodes while
    /// nothing passes between them.
    Serve,
    /// It stops: the service is never on both nodes, and not there while the peer is dead.
    Stop,
}

impl InstanceConfig {
    /// Whether it takes over from a live Active router with a lower priority: the owner always does
    /// (RFC 9568 section 6.1, Preempt_Mode).
    pub(crate) fn preempts(&self) -> bool {
        self.preempt || self.priority == Priority::OWNER
    }
}

/// When VIPs are announced, by gratuitous ARP or by unsolicited neighbour advertisements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceConfig {
    /// Announcements in one burst, 1 or more.
    pub count: u32,
    /// Between two announcements of a burst; zero = one follows the other as fast as the pace allows.
    pub interval: Nanos,
    /// From the first burst to the second; zero = no second one.
    pub repeat_after: Nanos,
    /// Between refreshes while Active; zero = none.
    pub refresh: Nanos,
}

/// Instances that are all Active or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Its name in the configuration.
    pub name: String,
    /// What all its members track.
    pub track: Vec<Track>,
    /// What is promoted with it; `None` = nothing but its addresses.
    pub roles: Option<RolesConfig>,
}

/// Everything the engine needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// How long to listen after the start before taking part.
    pub start_delay: Nanos,
    /// The virtual routers.
    pub instances: Vec<InstanceConfig>,
    /// Groups, referred to by index.
    pub groups: Vec<GroupConfig>,
    /// How what is tracked is judged.
    pub tracked: Vec<TrackedConfig>,
    /// In which mode the node starts. Later [`crate::Input::Mode`] tells; a reload does not change it.
    pub mode: Mode,
    /// Whether the kernel reports silence ([`crate::Input::Silence`]); then the engine keeps only a
    /// backstop timer instead of waking for each Active_Down_Interval.
    pub kernel_watch: bool,
}
