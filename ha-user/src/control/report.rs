//! What the daemon reports. The JSON of `hactl --json` is exactly this.

mod roles;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use self::roles::{
    BootstrapReport, GroupPeerReport, GroupReport, ModeReport, PlanReport, PlannedReport,
    PreparedReport, PreviewReport, RemainsReport, RoleReport, RolesReport, StepReport,
};
use crate::{
    link::message::InstanceState,
    net::links::{Bond, Slave},
};

/// The verdicts of the dataplane by reason ([`ha_common::abi::Reason::name`]).
pub type Counters = BTreeMap<String, u64>;

/// `hactl status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// This node's name.
    pub node: String,
    /// The node's mode.
    pub mode: String,
    /// The daemon's release.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// When it was started (RFC 3339).
    pub started: String,
    /// The present time (RFC 3339).
    pub time: String,
    /// The present time on CLOCK_MONOTONIC, to be compared with every `*_ns` here.
    pub now_ns: u64,
    /// How packets are handled.
    pub dataplane: DataplaneReport,
    /// The engine thread.
    pub engine: EngineReport,
    /// What somebody should see to, a sentence each.
    pub warnings: Vec<String>,
    /// Every channel.
    pub channels: Vec<ChannelReport>,
    /// Every path for leases.
    pub paths: Vec<PathReport>,
    /// Every instance.
    pub instances: Vec<InstanceReport>,
    /// The other nodes, as the link between the nodes has it; none without `[link]`.
    #[serde(default)]
    pub peers: Vec<PeerReport>,
}

/// How packets are handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataplaneReport {
    /// `native`, `generic`, `tc`, `mixed`, `off` (sockets alone: no gate), or `none` (not attached yet).
    pub mode: String,
    /// Where programs and maps are pinned; `None` = nowhere: no gate after SIGKILL.
    pub pin_dir: Option<PathBuf>,
    /// Whether the kernel's own timer reports silence.
    pub kernel_watch: bool,
    /// Every interface that an instance or a channel names.
    pub interfaces: Vec<InterfaceReport>,
    /// Interfaces that none names, where the host answers for no VIP, and packets to one meet its gate.
    #[serde(default)]
    pub guarded: Vec<String>,
    /// Verdicts by reason.
    pub counters: Counters,
}

/// An interface that an instance or a channel names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceReport {
    /// Its name.
    pub name: String,
    /// Its index, if it is there.
    pub ifindex: Option<u32>,
    /// `native`, `generic`, `tc`, `off`, or `none` (not attached).
    pub mode: String,
    /// The egress guard: `tcx` or `clsact`; `None` where there is none.
    pub egress: Option<String>,
    /// Whether an earlier daemon's programs were adopted.
    pub adopted: bool,
    /// Why nothing is attached.
    pub error: Option<String>,
    /// The bond that it is, or on which it lies.
    #[serde(default)]
    pub bond: Option<BondReport>,
}

/// A bond.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BondReport {
    /// `active-backup`, `balance-rr`, `802.3ad`, … as `ip link` names them.
    pub mode: String,
    /// The slave by which it sends and receives, where it has one that does.
    pub active_slave: Option<String>,
    /// How many slaves it can use.
    pub usable_slaves: u32,
    /// All of them.
    pub slaves: Vec<SlaveReport>,
}

/// A bond's slave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlaveReport {
    /// Its name.
    pub name: String,
    /// Whether the bond can use it.
    pub usable: bool,
    /// Its link as the bond watches it: `up`, `going_down`, `down`, `going_back`.
    pub mii: String,
    /// In 802.3ad: its aggregator.
    pub aggregator: Option<u16>,
    /// In 802.3ad: whether the switch has taken it into the aggregation (its state is in sync, collecting and
    /// distributing).
    pub partner_in_sync: Option<bool>,
}

impl From<&Bond> for BondReport {
    fn from(bond: &Bond) -> Self {
        let is_active = |slave: &&Slave| Some(slave.ifindex) == bond.active;
        let slaves = bond.slaves.iter().map(|slave| SlaveReport {
            name: slave.name.clone(),
            usable: bond.can_use(slave),
            mii: slave.port.mii.to_string(),
            aggregator: slave.port.lacp.map(|lacp| lacp.aggregator),
            partner_in_sync: slave.port.lacp.map(|lacp| lacp.partner_in_sync()),
        });
        Self {
            mode: bond.mode.to_string(),
            active_slave: bond
                .slaves
                .iter()
                .find(is_active)
                .map(|slave| slave.name.clone()),
            usable_slaves: bond.usable_slaves(),
            slaves: slaves.collect(),
        }
    }
}

/// The engine thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineReport {
    /// How often it was woken.
    pub wakeups: u64,
    /// How many of these found a timer due.
    pub timeouts: u64,
    /// Adverts taken from the dataplane or a socket.
    pub adverts: u64,
    /// Its SCHED_FIFO priority; 0 = ordinary scheduling.
    pub realtime_priority: u32,
    /// The CPUs that it runs on; none = any.
    pub cpu_affinity: Vec<u32>,
    /// Whether the daemon's memory is locked.
    pub memory_locked: bool,
    /// Its process' thread, as in `/proc/PID/task`.
    pub thread: u32,
    /// Events and log lines that were lost because the rest of the daemon was behind.
    pub lost_messages: u64,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelReport {
    /// Its name.
    pub name: String,
    /// `bfd`.
    pub kind: String,
    /// Its interface.
    pub interface: String,
    /// This node's address on it.
    pub local: IpAddr,
    /// The other node's.
    pub peer: IpAddr,
    /// `admin-down`, `down`, `init` or `up`.
    pub state: String,
    /// Since when it is in its state (RFC 3339).
    pub since: String,
    /// The same on CLOCK_MONOTONIC.
    pub since_ns: u64,
    /// Why it is in its state.
    pub cause: String,
    /// The peer's state, as it said last.
    pub remote_state: String,
    /// Why this node's session was last not up (RFC 5880 section 4.1).
    pub diagnostic: String,
    /// Why the peer's was.
    pub remote_diagnostic: String,
    /// Between two packets of this node's, less jitter.
    pub transmit_interval_us: u64,
    /// Between two packets of the peer's, at most; 0 before it was heard.
    pub receive_interval_us: u64,
    /// Silence of this length takes the session down; 0 before the peer was heard.
    pub detection_time_us: u64,
    /// How long ago the peer was last heard.
    pub last_heard_us: Option<u64>,
    /// Whether packets are authenticated.
    pub authenticated: bool,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Those that the session discarded.
    pub packets_rejected: u64,
    /// How often it was up and no longer is.
    pub flaps: u64,
    /// Why it is not set up, or why the last packet could not be sent.
    pub error: Option<String>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// Its name.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// Its group, if it is in one.
    pub group: Option<String>,
    /// Virtual Router Identifier.
    pub vrid: u8,
    /// VRRP version.
    pub vrrp_version: u8,
    /// `initialize`, `backup`, `promoting`, `active` or `fault`.
    pub state: String,
    /// keepalived's word for it: MASTER, BACKUP or FAULT.
    pub keepalived_state: String,
    /// Configured priority.
    pub priority: u8,
    /// Priority in use.
    pub effective_priority: u8,
    /// Virtual addresses with prefix length that adverts name.
    pub vips: Vec<String>,
    /// Those that they do not.
    pub extra_vips: Vec<String>,
    /// Whether all of both are on the interface.
    pub vips_present: bool,
    /// Whether the kernel lets this node speak for the VIPs; `None` without a dataplane: there is no gate.
    pub gate_open: Option<bool>,
    /// Since when it is Active (RFC 3339).
    pub active_since: Option<String>,
    /// Since when it is in its state (RFC 3339).
    pub since: String,
    /// The same on CLOCK_MONOTONIC.
    pub since_ns: u64,
    /// Why it is in its state.
    pub cause: String,
    /// The node that is Active, if another one was heard.
    pub active_peer: Option<IpAddr>,
    /// Source of this node's adverts, once known.
    pub source: Option<IpAddr>,
    /// Unicast peers; empty = multicast.
    pub peers: Vec<IpAddr>,
    /// Adverts sent.
    pub adverts_sent: u64,
    /// Valid adverts received.
    pub adverts_received: u64,
    /// The leases from its peers; empty where it relies on adverts alone.
    pub leases: Vec<LeaseReport>,
}

/// A lease that a peer's kernel grants, and what this node has promised that peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReport {
    /// The peer.
    pub peer: IpAddr,
    /// When the lease ends, on CLOCK_MONOTONIC; 0 = there is none.
    pub deadline_ns: u64,
    /// Whether this node renewed it alone, since nothing is heard from the peer.
    pub self_renewed: bool,
    /// Until when this node has promised not to act, on CLOCK_MONOTONIC; 0 = it acts, or promised nothing.
    pub promised_until_ns: u64,
    /// How long ago anything came from the peer, on any path.
    pub last_heard_us: Option<u64>,
}

/// A path on which leases are asked for and granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathReport {
    /// The channel's name; the interface's, of an instance's own LAN.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// This node's address on it, once that is there.
    pub local: Option<IpAddr>,
    /// The other node's.
    pub peer: IpAddr,
    /// Between two echoes.
    pub interval_us: u64,
    /// How many of them may be missing in a row.
    pub multiplier: u32,
    /// Whether packets carry a tag.
    pub keyed: bool,
    /// Whether it works; `None` until that is known.
    pub up: Option<bool>,
    /// How long ago anything valid came on it.
    pub last_heard_us: Option<u64>,
    /// Since when (RFC 3339).
    pub since: String,
    /// Echoes sent.
    pub echoes_sent: u64,
    /// Echoes of the peer that this node's kernel answered.
    pub echoes_answered: u64,
    /// Answers to this node's echoes.
    pub answers: u64,
    /// Echoes of a boot of the peer that was not known yet.
    pub strangers: u64,
    /// Packets with a wrong tag.
    pub bad_tags: u64,
    /// The last round trip.
    pub rtt_last_us: Option<u64>,
    /// Half of all round trips were shorter than this.
    pub rtt_median_us: Option<u64>,
    /// 99 of 100 were.
    pub rtt_p99_us: Option<u64>,
    /// Why the last echo could not be sent.
    pub error: Option<String>,
}

/// Another node, as the link between the nodes has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Its name; `None`: those paths whose other end never said it.
    pub node: Option<String>,
    /// Its daemon's release.
    pub version: Option<String>,
    /// Its mode, as it said last.
    pub mode: Option<String>,
    /// How long ago it was heard, on any path.
    pub last_heard_ms: Option<u64>,
    /// Its instances, as it said last.
    pub instances: Vec<InstanceState>,
    /// The paths to it.
    pub paths: Vec<LinkPathReport>,
}

/// A path of the link between the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkPathReport {
    /// The channel's name; the interface's, of an instance's own LAN.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// This node's address on it, where the configuration names one.
    pub local: Option<IpAddr>,
    /// The other node's.
    pub peer: IpAddr,
    /// Whether there is a connection.
    pub up: bool,
    /// How long ago anything came on it.
    pub last_heard_ms: Option<u64>,
    /// How often what is at the other node's address was refused, or refused this node.
    pub refused: u64,
    /// Why there is no connection.
    pub trouble: Option<String>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventReport {
    /// When it happened, on CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The same as wall-clock time (RFC 3339).
    pub time: String,
    /// Whom it concerns.
    pub instance: String,
    /// See [`crate::events::Kind`].
    pub kind: String,
    /// State before, of a transition or a channel's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// State after, of a transition or a channel's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What happened and why.
    pub sentence: String,
}

/// `hactl explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainReport {
    /// The instance.
    pub name: String,
    /// Its state.
    pub state: String,
    /// State, cause and time, what is waited for, what would change it.
    pub sentences: Vec<String>,
}

/// `hactl switchover`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchoverReport {
    /// The instances that were handed over.
    pub released: Vec<String>,
    /// By when another node, or else this one again, is Active; later, something is wrong.
    pub settled_within_ms: u64,
}

/// `hactl reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// What changed, sentence by sentence; empty = nothing.
    pub changes: Vec<String>,
    /// What of the configuration deserves a look, as `had --check` says it.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Something tracked, as the engine knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedReport {
    /// `check` or `interface`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `up`, `down` or `unknown`: what was reported last.
    pub reported: String,
    /// The same: what counts. A delay, or damping, may hold the former back.
    pub counts: String,
    /// In words.
    pub why: String,
    /// When what was reported counts, if something else does at present (RFC 3339).
    pub settles_at: Option<String>,
    /// Whether it counts for nothing, by an operator's wish.
    pub muted: bool,
    /// Until when, if that has an end (RFC 3339).
    pub muted_until: Option<String>,
    /// What it does to which instance.
    pub effects: Vec<EffectReport>,
}

/// What something tracked does to an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectReport {
    /// The instance's name.
    pub instance: String,
    /// `veto`, `arbitrator`, `weight`, `weight_per_slave` or `weight_per_unit`.
    pub kind: String,
    /// Of a weight, how much.
    pub weight: Option<i16>,
}

/// `hactl checks`: what is watched and tracked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChecksReport {
    /// Every check.
    pub checks: Vec<CheckReport>,
    /// Every interface that is tracked.
    pub interfaces: Vec<TrackedReport>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Its name.
    pub name: String,
    /// `tcp`, `http`, `mysql` and so on.
    pub kind: String,
    /// `up`, `down` or `unknown`.
    pub state: String,
    /// Since when (RFC 3339); `None` before its task began.
    pub since: Option<String>,
    /// The same on CLOCK_MONOTONIC.
    pub since_ns: u64,
    /// What made it so.
    pub why: String,
    /// Probes in a row that passed.
    pub passed: u32,
    /// Probes in a row that failed.
    pub failed: u32,
    /// How long the last probe took.
    pub last_us: Option<u64>,
    /// The last probes, the latest last.
    pub history: Vec<ProbeReport>,
    /// The last lines that a probe printed.
    pub output: Vec<String>,
    /// What the engine makes of it.
    pub tracked: Option<TrackedReport>,
}

/// The result of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// When it ended (RFC 3339).
    pub time: String,
    /// The same on CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// How long it took.
    pub lasted_us: u64,
    /// Whether it passed.
    pub passed: bool,
    /// What it found.
    pub text: String,
}
