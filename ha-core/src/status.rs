//! How the engine explains itself.

use alloc::{string::String, vec::Vec};
use core::{fmt, net::IpAddr};

use ha_common::{MonoNs, Nanos, Priority, Vrid};

use crate::event::{InstanceId, InterfaceCondition};

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not yet taking part: starting, or its interface was not ready so far.
    Initialize,
    /// Watching the Active router.
    Backup,
    /// Elected, advertising, not yet speaking for the VIPs.
    Promoting,
    /// Speaking for the VIPs.
    Active,
    /// Gate closed, letting go.
    Demoting,
    /// Cannot take part: its interface failed.
    Fault,
}

impl State {
    /// Lower case, as in `hactl status --json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Promoting => "promoting",
            Self::Active => "active",
            Self::Demoting => "demoting",
            Self::Fault => "fault",
        }
    }

    /// keepalived's word for it, for scripts and metrics.
    #[must_use]
    pub const fn keepalived_name(self) -> &'static str {
        match self {
            Self::Active => "MASTER",
            Self::Fault => "FAULT",
            Self::Initialize | Self::Backup | Self::Promoting | Self::Demoting => "BACKUP",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an instance is in its state. Its `Display` is a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The daemon started.
    Started,
    /// The interface is ready.
    InterfaceReady,
    /// The interface is not ready, or no longer.
    Interface(InterfaceCondition),
    /// No advert for the Active_Down_Interval.
    Silence {
        /// Since the last advert.
        lasted: Nanos,
    },
    /// The Active router let go with priority 0.
    Released {
        /// Who let go.
        by: IpAddr,
    },
    /// This node's priority is higher than the Active router's, and it may pre-empt.
    Preempting {
        /// The Active router.
        active: IpAddr,
        /// Its priority.
        priority: Priority,
    },
    /// This node owns the addresses (priority 255).
    Owner,
    /// The VIPs are in place and the gate is open.
    Promoted,
    /// An advert outranks this node's.
    Outranked {
        /// Who sent it.
        by: IpAddr,
        /// With which priority.
        priority: Priority,
    },
    /// The daemon was held up beyond the gate's deadline.
    Late {
        /// How far beyond.
        by: Nanos,
    },
    /// Promotion failed.
    PromotionFailed {
        /// The error in words.
        why: String,
    },
    /// Adverts could not be sent until the gate's deadline.
    SendFailed {
        /// The error in words.
        why: String,
    },
    /// An operator's switchover.
    Switchover,
    /// Another member of the group moved.
    GroupMember {
        /// The member.
        name: String,
    },
    /// The daemon is ending.
    Shutdown,
    /// A reload changed or removed the instance.
    Reconfigured,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Which instance.
    pub instance: InstanceId,
    /// Its name.
    pub name: String,
    /// State before.
    pub from: State,
    /// State after.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: MonoNs,
}

/// One instance, as `hactl status` and `hactl explain` show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceStatus {
    /// Which instance.
    pub instance: InstanceId,
    /// Its name.
    pub name: String,
    /// Virtual Router Identifier.
    pub vrid: Vrid,
    /// State.
    pub state: State,
    /// Why it is in this state.
    pub cause: Cause,
    /// Since when.
    pub since: MonoNs,
    /// Configured priority.
    pub priority: Priority,
    /// Priority in use.
    pub effective_priority: Priority,
    /// The Active router, if another one was heard within the Active_Down_Interval.
    pub active_peer: Option<IpAddr>,
    /// Sentences: the state, its cause and time, what is being waited for, what would change it.
    pub explanation: Vec<String>,
}
