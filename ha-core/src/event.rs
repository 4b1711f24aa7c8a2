//! What goes into the engine and what comes out of it.

use alloc::string::String;
use core::{fmt, net::IpAddr};

use ha_common::{
    MonoNs, Nanos, Priority,
    gate::{Epoch, Lease},
};

use crate::{config::EngineConfig, status::Transition};

/// An instance's slot in the dataplane's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u32);

/// What a valid advertisement said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Source address.
    pub sender: IpAddr,
    /// Priority; 0 = the sender lets go.
    pub priority: Priority,
    /// The sender's interval.
    pub interval: Nanos,
    /// Whether the sender is `had`: it sends priority 0 when it is outranked, after closing its gate.
    pub from_had: bool,
}

/// Whether an instance's interface can carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceCondition {
    /// Present, up, with carrier, and with the source address.
    Ready {
        /// The source address of this node's adverts.
        source: IpAddr,
    },
    /// There is no such interface.
    Absent,
    /// It is administratively down.
    Down,
    /// It has no carrier.
    NoCarrier,
    /// It lacks the source address (or any).
    NoAddress,
    /// The dataplane could not be attached to it; the shell's log has the error.
    NoDataplane,
}

impl fmt::Display for InterfaceCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { source } => {
                write!(f, "its interface is ready with address {source}")
            }
            Self::Absent => f.write_str("its interface does not exist"),
            Self::Down => f.write_str("its interface is down"),
            Self::NoCarrier => f.write_str("its interface has no carrier"),
            Self::NoAddress => f.write_str("its interface lacks the source address"),
            Self::NoDataplane => {
                f.write_str("the dataplane could not be attached to its interface")
            }
        }
    }
}

/// Whom an operator's command concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One instance (with its group, if it is in one).
    Instance(InstanceId),
    /// A group, by index.
    Group(usize),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// An instance's interface changed, or is reported for the first time.
    Interface {
        /// Which instance.
        instance: InstanceId,
        /// How it is.
        condition: InterfaceCondition,
    },
    /// An advert arrived: each one (sockets), or each one that changes something (XDP).
    Advert {
        /// Which instance.
        instance: InstanceId,
        /// What it said.
        advert: Advert,
        /// When it arrived, by the kernel's stamp.
        received_at: MonoNs,
    },
    /// The kernel's stamp of the last advert was read again.
    Heard {
        /// Which instance.
        instance: InstanceId,
        /// When the last advert arrived.
        received_at: MonoNs,
    },
    /// The kernel's timer found silence.
    Silence {
        /// Which instance.
        instance: InstanceId,
        /// When the last advert had arrived.
        last_received_at: MonoNs,
    },
    /// Outcome of [`Action::SendAdvert`].
    AdvertSent {
        /// Which instance.
        instance: InstanceId,
        /// The action's `round`.
        round: MonoNs,
        /// Whether it left for every configured peer.
        result: Result<(), String>,
    },
    /// Outcome of [`Action::AddVips`].
    VipsAdded {
        /// Which instance.
        instance: InstanceId,
        /// The error in words.
        result: Result<(), String>,
    },
    /// Outcome of [`Action::Announce`].
    Announced {
        /// Which instance.
        instance: InstanceId,
        /// The error in words.
        result: Result<(), String>,
    },
    /// Somebody else removed a VIP of an Active instance.
    VipLost {
        /// Which instance.
        instance: InstanceId,
    },
    /// An operator wants another node to be Active.
    Switchover(Target),
    /// The configuration was read again. Instances are matched by name.
    Reconfigure(EngineConfig),
    /// The daemon is to end: hand everything over.
    Shutdown,
}

/// Something to do, at once and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the instance's epoch; closes its gate, whatever leases are in flight.
    SetEpoch {
        /// Which instance.
        instance: InstanceId,
        /// The new epoch.
        epoch: Epoch,
    },
    /// Write a lease; opens the gate or keeps it open.
    SetLease {
        /// Which instance.
        instance: InstanceId,
        /// Below [`ha_common::gate::MAX_LEASES`].
        slot: usize,
        /// Epoch and deadline.
        lease: Lease,
    },
    /// Tell the dataplane with which priority this node competes.
    SetRank {
        /// Which instance.
        instance: InstanceId,
        /// Adverts that outrank it close the gate in the kernel.
        priority: Priority,
    },
    /// Let the kernel report silence of this length, or none for `None`.
    Watch {
        /// Which instance.
        instance: InstanceId,
        /// The Active_Down_Interval.
        down: Option<Nanos>,
    },
    /// Send an advert. Asks for [`Input::AdvertSent`].
    SendAdvert {
        /// Which instance.
        instance: InstanceId,
        /// The priority to put in.
        priority: Priority,
        /// The interval to put in.
        interval: Nanos,
        /// The one time sample of this round, to be handed back.
        round: MonoNs,
    },
    /// Put the VIPs on the interface. Asks for [`Input::VipsAdded`], once all of them are there.
    AddVips {
        /// Which instance.
        instance: InstanceId,
    },
    /// Take the VIPs off the interface. The shell retries by itself; the gate is closed meanwhile.
    RemoveVips {
        /// Which instance.
        instance: InstanceId,
    },
    /// Send one gratuitous ARP for each of some VIPs. Asks for [`Input::Announced`].
    Announce {
        /// Which instance.
        instance: InstanceId,
        /// The first of them, counted from 0 in the order of the configuration.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Log, record and publish.
    Report(Transition),
    /// Something worth an event that is no transition: a sentence.
    Note {
        /// Which instance.
        instance: InstanceId,
        /// The sentence.
        sentence: String,
    },
    /// Everything is handed over: the daemon may end.
    Finished,
}
