//! How the engine explains itself.

use alloc::{string::String, vec::Vec};
use core::{fmt, net::IpAddr};

use ha_common::{MonoNs, Nanos, Priority, Vrid};

use crate::{
    event::{InstanceId, InterfaceCondition},
    tracking::Source,
};

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
    /// No longer speaking for the VIPs, and still advertising: its roles are being demoted.
    Demoting,
    /// Cannot take part: its interface failed, or something tracked that has a veto.
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
    /// What had a veto is up again.
    Recovered {
        /// What it was.
        by: Source,
    },
    /// The interface is not ready, or no longer.
    Interface(InterfaceCondition),
    /// No advert for the Active_Down_Interval.
    Silence {
        /// Since the last advert.
        lasted: Nanos,
    },
    /// Every channel to the Active router is dead, its LAN's among them, and its adverts stopped.
    Dead {
        /// That router.
        active: IpAddr,
        /// Since its last advert.
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
    /// The VIPs are in place, and the gate was opened.
    Promoted,
    /// An advert outranks this node's.
    Outranked {
        /// Who sent it.
        by: IpAddr,
        /// With which priority.
        priority: Priority,
        /// It is this node's as well, and the address of the other one is greater.
        by_address: bool,
    },
    /// The daemon was held up beyond the gate's deadline.
    Late {
        /// How far beyond.
        by: Nanos,
    },
    /// A peer is heard, and does not grant the lease.
    NotGranted {
        /// Which peer.
        by: IpAddr,
    },
    /// Nothing is heard from a peer, and this node is not to serve alone.
    Alone {
        /// Which peer.
        without: IpAddr,
    },
    /// A peer holds it, or goes first.
    Yielded {
        /// Which peer.
        to: IpAddr,
    },
    /// A peer has this node's promise, so that it may still hold the addresses.
    Promised,
    /// Promotion failed.
    PromotionFailed {
        /// The error in words.
        why: String,
    },
    /// The roles cannot be promoted: it is let go of before that is tried.
    NotEligible {
        /// In words.
        why: String,
    },
    /// The roles were not demoted after all: it goes on.
    TakenBack {
        /// In words.
        why: String,
    },
    /// The node is in maintenance.
    Maintenance,
    /// The node is no longer in maintenance.
    MaintenanceOver,
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
    /// Something tracked is down, and that is a veto.
    Vetoed {
        /// What.
        by: Source,
        /// In words.
        why: String,
    },
    /// Nothing is heard from the other nodes, and the arbitrator is not reached either: this node may be cut off.
    Isolated {
        /// The arbitrator.
        by: Source,
        /// In words.
        why: String,
    },
    /// A reload changed or removed the instance.
    Reconfigured,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("the daemon started"),
            Self::InterfaceReady => f.write_str("its interface is ready"),
            Self::Recovered { by } => write!(f, "{by} is up again"),
            Self::Interface(condition) => condition.fmt(f),
            Self::Silence { lasted } => {
                write!(f, "nothing was heard for {}", Span(*lasted))
            }
            Self::Dead { active, lasted } => write!(
                f,
                "every channel to {active} is dead, and its last advert came {} earlier",
                Span(*lasted)
            ),
            Self::Released { by } => write!(f, "{by} let go of it"),
            Self::Preempting { active, priority } => {
                write!(f, "{active} advertises the lower priority {priority}")
            }
            Self::Owner => f.write_str("this node owns the addresses (priority 255)"),
            Self::Promoted => f.write_str("its addresses are in place, and it speaks for them"),
            Self::Outranked {
                by,
                priority,
                by_address,
            } => {
                let how = if *by_address {
                    " by its greater address"
                } else {
                    ""
                };
                write!(
                    f,
                    "{by} advertises priority {priority}, which outranks this node{how}"
                )
            }
            Self::Late { by } => write!(
                f,
                "this node was held up until {} after the gate's deadline",
                Span(*by)
            ),
            Self::NotGranted { by } => {
                write!(f, "{by} is heard, and does not grant the lease")
            }
            Self::Alone { without } => write!(
                f,
                "nothing is heard from {without}, and this node is not to serve alone"
            ),
            Self::Yielded { to } => write!(f, "it gave way to {to}, which goes first"),
            Self::Promised => f.write_str("another node has its promise, and may still hold it"),
            Self::PromotionFailed { why } => write!(f, "the promotion failed: {why}"),
            Self::NotEligible { why } => write!(f, "its roles cannot be promoted: {why}"),
            Self::TakenBack { why } => {
                write!(f, "it could not be handed over, and goes on here: {why}")
            }
            Self::Maintenance => f.write_str("the node is in maintenance"),
            Self::MaintenanceOver => f.write_str("the node is no longer in maintenance"),
            Self::SendFailed { why } => write!(
                f,
                "no advert could be sent until the gate's deadline: {why}"
            ),
            Self::Switchover => f.write_str("an operator moved it to another node"),
            Self::GroupMember { name } => {
                write!(f, "{name}, which is in the same group, had to let go")
            }
            Self::Shutdown => f.write_str("the daemon is ending"),
            Self::Vetoed { by, why } => write!(f, "{by} is down: {why}"),
            Self::Isolated { by, why } => write!(
                f,
                "nothing is heard from the other nodes, and {by} is down: {why}"
            ),
            Self::Reconfigured => f.write_str("a reload changed or removed it"),
        }
    }
}

/// A span as people write it: rounded to microseconds, without trailing zeros.
pub(crate) struct Span(pub(crate) Nanos);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.0.saturating_add(500) / 1_000;
        let (whole, part, unit) = if micros < 1_000_000 {
            (micros / 1_000, micros % 1_000, "ms")
        } else {
            (micros / 1_000_000, micros / 1_000 % 1_000, "s")
        };
        write!(f, "{whole}")?;
        if part > 0 {
            let digits = [part / 100, part / 10 % 10, part % 10];
            let shown = if digits[2] > 0 {
                3
            } else if digits[1] > 0 {
                2
            } else {
                1
            };
            f.write_str(".")?;
            for digit in digits.into_iter().take(shown) {
                write!(f, "{digit}")?;
            }
        }
        write!(f, " {unit}")
    }
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
    /// The Active router, if another one was heard within the Active_Down_Interval, or asks for its lease.
    pub active_peer: Option<IpAddr>,
    /// Whether that one is no `had`, as its adverts show.
    pub active_is_foreign: bool,
    /// The peer that it waits for, silently: it is not to serve alone.
    pub awaits: Option<IpAddr>,
    /// Sentences: the state, its cause and time, what is being waited for, what would change it.
    pub explanation: Vec<String>,
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn spans_are_short() {
        for (nanos, text) in [
            (0, "0 ms"),
            (499, "0 ms"),
            (10_000_000, "10 ms"),
            (36_093_750, "36.094 ms"),
            (1_500_000, "1.5 ms"),
            (1_050_000, "1.05 ms"),
            (999_999_999, "1 s"),
            (12_345_000_000, "12.345 s"),
        ] {
            assert_eq!(Span(Nanos(nanos)).to_string(), text);
        }
    }
}
