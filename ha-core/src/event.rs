//! What goes into the engine and what comes out of it.

use alloc::string::String;
use core::{fmt, net::IpAddr};

use ha_common::{
    MonoNs, Nanos, Priority,
    gate::{Epoch, Lease, MAX_LEASES},
    lease::{Ask, Standing},
};

use crate::{
    config::{EngineConfig, PathId},
    roles::{Manner, Mode, Prospect},
    status::Transition,
    tracking::{Reading, Source},
};

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
    /// It is a bond that can use fewer slaves than are wanted.
    FewSlaves,
    /// It lacks the source address (or any).
    NoAddress,
    /// The dataplane could not be attached to it, or has not what the instance needs; the shell's log has the error.
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
            Self::FewSlaves => {
                f.write_str("its interface can use fewer slaves than are wanted (min_up_slaves)")
            }
            Self::NoAddress => f.write_str("its interface lacks the source address"),
            Self::NoDataplane => {
                f.write_str("the dataplane could not be attached to its interface")
            }
        }
    }
}

/// What the maps hold about an instance and one peer that grants it leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseView {
    /// When the lease from that peer ends, if it belongs to the present epoch; else the clock's origin.
    pub deadline: MonoNs,
    /// Whether this node renewed that lease alone.
    pub self_renewed: bool,
    /// When anything valid came from that peer last, on any path.
    pub heard_at: MonoNs,
    /// When that peer's last request to hold the instance came.
    pub asked_at: MonoNs,
    /// Until when this node has promised that peer not to act; the clock's origin if it acts.
    pub promised_until: MonoNs,
}

/// The views of an instance's peers, by lease slot.
pub type LeaseViews = [LeaseView; MAX_LEASES];

/// What is known of a BFD channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelState {
    /// Nothing: it was not up yet, or was taken down on purpose (RFC 5882 section 3.2).
    #[default]
    Unknown,
    /// Both ends hear each other.
    Up,
    /// It was up, and its Detection Time expired.
    Dead,
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
    /// A BFD channel of an instance changed. Hand in the latest stamps first.
    Channel {
        /// Which instance.
        instance: InstanceId,
        /// The channel's name.
        channel: String,
        /// What is known of it.
        state: ChannelState,
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
    /// The kernel's timer found that every promise of an instance has run out.
    LeaseSilence {
        /// Which instance.
        instance: InstanceId,
    },
    /// A peer asks for an instance, for the first time or for something else than before.
    Asked {
        /// Which instance.
        instance: InstanceId,
        /// The peer's lease slot.
        peer: usize,
        /// [`Ask::Hold`], [`Ask::Candidate`] or [`Ask::Resume`].
        ask: Ask,
    },
    /// A peer lets go of an instance: what it was promised is void.
    Released {
        /// Which instance.
        instance: InstanceId,
        /// The peer's lease slot.
        peer: usize,
        /// When that was heard.
        received_at: MonoNs,
    },
    /// This node's kernel gave way to a peer's request: the gate is closed for good.
    Yielded {
        /// Which instance.
        instance: InstanceId,
        /// The peer's lease slot.
        peer: usize,
    },
    /// Outcome of [`Action::Act`].
    Acted {
        /// Which instance.
        instance: InstanceId,
        /// Until when a promise is in the way.
        result: Result<(), MonoNs>,
    },
    /// Outcome of [`Action::SendEcho`].
    EchoSent {
        /// Which path.
        path: PathId,
        /// The action's `round`.
        round: MonoNs,
        /// The error in words.
        result: Result<(), String>,
    },
    /// What the maps hold about a path, read when its echo is due.
    PathHeard {
        /// Which path.
        path: PathId,
        /// When anything valid came on it last.
        heard_at: MonoNs,
        /// The longest round trip of late, if any was measured.
        round_trip: Option<Nanos>,
    },
    /// Something tracked is in another condition than before, or is reported for the first time.
    Tracked {
        /// What is tracked.
        source: Source,
        /// Its condition.
        reading: Reading,
    },
    /// Outcome of [`Action::Confirm`].
    Confirmed {
        /// What was looked at.
        source: Source,
        /// The action's `round`.
        round: MonoNs,
        /// What is wrong with it, if anything is.
        result: Result<(), String>,
    },
    /// An operator lets something tracked count for nothing, or count again.
    Mute {
        /// What is tracked.
        source: Source,
        /// Until when; `None`: it counts again.
        until: Option<MonoNs>,
    },
    /// Somebody else removed a VIP of an Active instance.
    VipLost {
        /// Which instance.
        instance: InstanceId,
    },
    /// An interface that was ready all the time is now behind another port of the network's switches: its bond
    /// failed over. The network sends packets for the VIPs to the old port until it hears of them at the new one.
    Reattached {
        /// Which instance.
        instance: InstanceId,
    },
    /// Outcome of [`Action::PromoteRoles`].
    RolesPromoted {
        /// The group's name.
        group: String,
        /// The action's `round`.
        round: MonoNs,
        /// The error in words; none of them is promoted then.
        result: Result<(), String>,
    },
    /// Outcome of [`Action::DemoteRoles`].
    RolesDemoted {
        /// The group's name.
        group: String,
        /// The action's `round`.
        round: MonoNs,
        /// The error in words. [`Manner::Graceful`]: all was taken back, they are promoted; [`Manner::Forced`]: it
        /// is not known that they are demoted.
        result: Result<(), String>,
    },
    /// What a promotion of a group's roles would meet with now.
    Prospect {
        /// The group's name.
        group: String,
        /// What.
        prospect: Prospect,
    },
    /// What is being done with a group's roles, for people.
    RolesProgress {
        /// The group's name.
        group: String,
        /// In words.
        text: String,
    },
    /// The node's mode.
    Mode(Mode),
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
        /// How far its data is: this goes before the priority where two candidates ask for leases.
        position: u32,
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
    /// Tell the dataplane what this node is for an instance that relies on leases: its gate is open only
    /// while it stands as Active, and its echoes ask accordingly.
    Stand {
        /// Which instance.
        instance: InstanceId,
        /// What it is from now on.
        standing: Standing,
    },
    /// Turn every peer's promise, if it has run out, into "this node acts". Asks for [`Input::Acted`].
    Act {
        /// Which instance.
        instance: InstanceId,
    },
    /// The opposite: a promise that the kernel made meanwhile stays.
    LetGo {
        /// Which instance.
        instance: InstanceId,
    },
    /// Send an echo with what every instance on this path asks for. Asks for [`Input::EchoSent`].
    SendEcho {
        /// Which path.
        path: PathId,
        /// The one time sample of this round: the leases count from it.
        round: MonoNs,
    },
    /// Tell every peer, on every path, that the instance was let go of.
    SendRelease {
        /// Which instance.
        instance: InstanceId,
        /// The time sample of this round.
        round: MonoNs,
    },
    /// Lengthen a lease, unless its peer was heard after all. Asks for
    /// [`crate::Engine::read_leases`].
    RenewAlone {
        /// Which instance.
        instance: InstanceId,
        /// The peer's lease slot.
        peer: usize,
        /// The new lease.
        lease: Lease,
        /// When that peer was heard last, as far as the engine knows.
        heard_at: MonoNs,
    },
    /// A path works, or no longer does.
    PathReport {
        /// Which path.
        path: PathId,
        /// Whether it works.
        up: bool,
        /// When anything came on it last.
        heard_at: MonoNs,
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
    /// Promote a group's roles: no other node acts for it. Asks for [`Input::RolesPromoted`].
    PromoteRoles {
        /// The group's name.
        group: String,
        /// To be handed back.
        round: MonoNs,
        /// Whether the node that had it before did not let go, but fell silent.
        unplanned: bool,
    },
    /// Demote a group's roles. It may come while they are being promoted, and as Forced while they are being demoted
    /// gracefully: then its outcome alone is asked for. Asks for [`Input::RolesDemoted`].
    DemoteRoles {
        /// The group's name.
        group: String,
        /// To be handed back.
        round: MonoNs,
        /// In which manner.
        manner: Manner,
    },
    /// Send one announcement (gratuitous ARP, neighbour advertisement) for each of some VIPs. Asks for [`Input::Announced`].
    Announce {
        /// Which instance.
        instance: InstanceId,
        /// The first of them, counted from 0 in the order of the configuration.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Look at something tracked now, whatever is known of it. Asks for [`Input::Confirmed`].
    Confirm {
        /// What.
        source: Source,
        /// To be handed back.
        round: MonoNs,
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
    /// Something of which a person should know at once: a sentence.
    Alarm {
        /// Which instance.
        instance: InstanceId,
        /// The sentence.
        sentence: String,
    },
    /// Everything is handed over: the daemon may end.
    Finished,
}
