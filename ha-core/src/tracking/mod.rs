//! What is tracked beside an instance's own interface, and what its condition does to the instance.
//!
//! **The effective priority** of an instance is its configured one, plus what each tracked thing adds or takes
//! ([`Effect`]), from 1 to 254; an owner's (255) is always 255. The members of a group have what any of them
//! tracks in common, for they move together. A veto is no weight: as long as it stands, the instance is in Fault,
//! whatever the sum says.
//!
//! What comes and goes is damped: each fall after the first makes the next recovery wait longer. A fall never waits
//! for that. Of an interface a slave less is a fall, and one more a recovery. What a check counts has no better or
//! worse, and counts at once.

mod effect;
mod tracked;

use alloc::string::String;
use core::fmt;

use ha_common::Nanos;

pub(crate) use self::{
    effect::{Advisor, Bearing, Veto, bearing},
    tracked::Tracked,
};
use crate::check::Health;

/// Something that is tracked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A check, by its name.
    Check(String),
    /// An interface, by its name; of a bond its usable slaves are counted.
    Interface(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(name) => write!(f, "check {name}"),
            Self::Interface(name) => write!(f, "interface {name}"),
        }
    }
}

/// The condition of something tracked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Whether it works.
    pub health: Health,
    /// How many slaves a bond can use, or what a check counted; else 0.
    pub count: i32,
    /// In words.
    pub why: String,
}

/// What the condition of something tracked does to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// As long as it is down, the instance is in Fault; before anything is known of it, it does not take over.
    Veto,
    /// An arbitrator, which only says no: where nothing at all is heard from the other nodes, the instance takes over,
    /// or stays Active, only if this is up. Where they are heard it means nothing.
    Arbitrate,
    /// Below zero: added to the priority while it is down. Above: while it is up.
    Weight(i16),
    /// Added to the priority as many times as it counts, while it is up.
    WeightPerUnit(i16),
}

/// That an instance tracks something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// What.
    pub source: Source,
    /// What it does.
    pub effect: Effect,
}

/// How the condition of something tracked is judged, whoever tracks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedConfig {
    /// What.
    pub source: Source,
    /// How long it must be up before that counts.
    pub up_delay: Nanos,
    /// How long it must be down before that counts.
    pub down_delay: Nanos,
    /// The longest that a recovery is held back where it comes and goes; zero = never.
    pub damping: Nanos,
    /// Of a check: between two probes.
    pub interval: Nanos,
    /// Of a check: within which a probe answers.
    pub timeout: Nanos,
}

/// Something tracked, as `hactl checks` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedStatus {
    /// What.
    pub source: Source,
    /// What was reported last.
    pub reported: Reading,
    /// What counts.
    pub counts: Reading,
    /// When the former becomes the latter, if they differ.
    pub settles_at: Option<ha_common::MonoNs>,
    /// Until when it is muted; the end of time for ever.
    pub muted_until: Option<ha_common::MonoNs>,
}
