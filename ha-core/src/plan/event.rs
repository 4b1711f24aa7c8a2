//! What goes into a conductor and what comes out of it.

use alloc::string::String;

use ha_common::MonoNs;

use super::{
    journal::Record,
    membership::{Ask, Grant},
    observation::{Observation, Position},
};
use crate::roles::{Manner, Mode, Prospect};

/// How a node stands in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// Its roles' state is not known, or half-way: they are demoted before anything else.
    Unsettled,
    /// Demoted.
    Standby,
    /// Being promoted.
    Promoting,
    /// Promoted.
    Primary,
    /// Being demoted.
    Demoting,
}

impl Stance {
    /// In lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsettled => "unsettled",
            Self::Standby => "standby",
            Self::Promoting => "promoting",
            Self::Primary => "primary",
            Self::Demoting => "demoting",
        }
    }
}

/// What a plan does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Promotes the roles.
    Promote,
    /// Demotes them; a failure is taken back by promoting them again.
    HandOver,
    /// Demotes them, by the hard way if need be.
    Demote,
    /// Makes a standby follow the primary.
    Follow,
    /// Has the primary acknowledge writes that no replica has.
    GoSolo,
    /// Has the primary wait for its replica again.
    Rejoin,
    /// Puts right what somebody else changed.
    Correct,
}

impl Purpose {
    /// In lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::HandOver => "hand over",
            Self::Demote => "demote",
            Self::Follow => "follow",
            Self::GoSolo => "go solo",
            Self::Rejoin => "rejoin",
            Self::Correct => "correct",
        }
    }

    /// How a node stands while it is under way, which stood as `before`.
    #[must_use]
    pub const fn under_way_from(self, before: Stance) -> Stance {
        match self {
            Self::Promote => Stance::Promoting,
            Self::HandOver | Self::Demote => Stance::Demoting,
            Self::Follow | Self::GoSolo | Self::Rejoin | Self::Correct => before,
        }
    }

    /// Whether another node may have all that was acknowledged from its begin on.
    #[must_use]
    pub const fn ends_solitude(self) -> bool {
        matches!(self, Self::Rejoin | Self::Follow)
    }
}

/// What a step is given beside its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The position that has to be reached: where the node before ended.
    pub target: Option<String>,
    /// `address:port` of the primary's server.
    pub source: Option<String>,
    /// The primary's history, as its executor tells it.
    pub history: Option<String>,
    /// The primary fell silent or died: nothing more can come from it.
    pub source_gone: bool,
    /// A database that becomes primary is to acknowledge writes that no replica has: nobody counts as in sync. Else
    /// it goes on as it is.
    pub solo: bool,
    /// A database: the only [`Observation::incarnation`] of the server that may become primary; `None`: any.
    pub incarnation: Option<u64>,
}

/// A step to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// To be handed back.
    pub serial: u64,
    /// The role, by its place in the configuration.
    pub role: usize,
    /// The step.
    pub step: &'static str,
    /// When it is given up.
    pub deadline: MonoNs,
    /// The group's epoch.
    pub epoch: u64,
    /// What it is given.
    pub context: Context,
}

/// A step that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// For the log, if there is anything to say.
    pub text: String,
    /// Where the data ended, of the step that finds that out.
    pub position: Option<Position>,
    /// A database: [`Observation::incarnation`] of the server that it was carried out on.
    pub incarnation: Option<u64>,
}

/// A node that is not known to have all that was acknowledged would be promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// When it asked, by its own clock.
    pub asked_at: MonoNs,
    /// The epoch.
    pub epoch: u64,
    /// With which priority.
    pub priority: u8,
}

/// Another node has nothing that the one lacks which asks, and will not be promoted in an epoch up to that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consent {
    /// The wish.
    pub asked_at: MonoNs,
    /// Its epoch.
    pub epoch: u64,
}

/// How a node's time as primary ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The epoch that ended.
    pub epoch: u64,
    /// An operator asked for it; else something failed.
    pub asked: bool,
    /// Where its data ended; `None`: its server could not be asked any more.
    pub position: Option<Position>,
}

/// What a node tells the others of a group, often and after each change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupWord {
    /// Who.
    pub node: String,
    /// The greatest epoch that it knows.
    pub epoch: u64,
    /// How it stands.
    pub stance: Stance,
    /// Its mode.
    pub mode: Mode,
    /// Whether it may be elected, or why not.
    pub eligible: Result<(), String>,
    /// How far its data is.
    pub position: Option<Position>,
    /// Where its database can be followed, `address:port`.
    pub endpoint: Option<String>,
    /// Its data's history.
    pub history: Option<String>,
    /// As a standby that is in sync: asks to be counted as such. `None`: it does not count itself as such.
    pub ask: Option<Ask>,
    /// As a standby: what it was granted counts no more, for it may lack what comes from now on.
    pub renounces: bool,
    /// As the primary: confirms the last ask of the node to which this word goes.
    pub grant: Option<Grant>,
    /// It would be promoted, and asks whether the node to which this word goes has anything against it.
    pub wish: Option<Wish>,
    /// It has nothing against the last wish of the node to which this word goes.
    pub consent: Option<Consent>,
    /// How its last epoch as primary ended.
    pub handover: Option<Handover>,
    /// It became primary since another node failed, and that one is to go into maintenance.
    pub alone_since: Option<u64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanInput {
    /// The group was elected: promote its roles.
    Promote {
        /// To be handed back.
        round: MonoNs,
        /// The node before fell silent or died; else it let go.
        unplanned: bool,
    },
    /// The group lets go, or has lost.
    Demote {
        /// To be handed back.
        round: MonoNs,
        /// Whether that may be taken back.
        manner: Manner,
    },
    /// A record is on disk.
    Written {
        /// Of [`PlanAction::Write`].
        serial: u64,
    },
    /// A record could not be written.
    Unwritten {
        /// Of [`PlanAction::Write`].
        serial: u64,
        /// The error in words.
        why: String,
    },
    /// A step was carried out.
    StepDone {
        /// Of the order.
        serial: u64,
        /// What came of it.
        done: Done,
    },
    /// A step failed.
    StepFailed {
        /// Of the order.
        serial: u64,
        /// Why.
        why: String,
    },
    /// A role was looked at.
    Observed {
        /// Its place in the configuration.
        role: usize,
        /// What was found.
        observation: Observation,
    },
    /// Another node said something.
    Heard(GroupWord),
    /// This node's mode.
    Mode(Mode),
    /// An operator lets this node be promoted although newer data may exist.
    AcceptLoss,
}

/// Something to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanAction {
    /// Write to the journal, to the disk. Asks for [`PlanInput::Written`] or [`PlanInput::Unwritten`].
    Write {
        /// To be handed back.
        serial: u64,
        /// What.
        record: Record,
    },
    /// Carry a step out. Asks for [`PlanInput::StepDone`] or [`PlanInput::StepFailed`], unless it is given up.
    Run(Order),
    /// Give a step up, now: nothing of it may go on.
    Abandon {
        /// Of the order.
        serial: u64,
    },
    /// Outcome of [`PlanInput::Promote`].
    Promoted {
        /// As it was handed in.
        round: MonoNs,
        /// Why not.
        result: Result<(), String>,
    },
    /// Outcome of [`PlanInput::Demote`].
    Demoted {
        /// As it was handed in.
        round: MonoNs,
        /// Manner graceful: why it was taken back. Forced: why it is not proven.
        result: Result<(), String>,
    },
    /// What the engine is to know.
    Prospect(Prospect),
    /// How far a plan is, for people.
    Progress(String),
    /// Tell the other nodes at once: [`super::Conductor::word`] has changed.
    Tell,
    /// This node's mode is to be another one from now on.
    SetMode(Mode),
    /// Something worth an event: a sentence.
    Note(String),
}
