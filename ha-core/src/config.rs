//! What the engine is told to do: validated before it gets here.

use alloc::{string::String, vec::Vec};

use ha_common::{Nanos, Priority, Vrid, gate::Epoch};

use crate::event::InstanceId;

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
    /// Gratuitous ARP.
    pub announce: AnnounceConfig,
    /// The epoch found in the maps, or [`Epoch::NONE`]; the engine starts by raising it.
    pub adopted_epoch: Epoch,
}

impl InstanceConfig {
    /// Whether it takes over from a live Active router with a lower priority: the owner always does
    /// (RFC 9568 section 6.1, Preempt_Mode).
    pub(crate) fn preempts(&self) -> bool {
        self.preempt || self.priority == Priority::OWNER
    }
}

/// When VIPs are announced by gratuitous ARP.
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
    /// Whether the kernel reports silence ([`crate::Input::Silence`]); then the engine keeps only a
    /// backstop timer instead of waking for each Active_Down_Interval.
    pub kernel_watch: bool,
}
