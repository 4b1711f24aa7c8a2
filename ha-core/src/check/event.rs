//! What goes into a check and what comes out of it.

use alloc::string::String;

use ha_common::MonoNs;

use super::status::Health;

/// One probe, by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u64);

/// What an event source says between two probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The service is gone for sure: its process ended, its unit stopped. It is down at once.
    Failed(String),
    /// A sign that it may be gone: a connection that broke. One probe follows at once, and decides.
    Suspect(String),
    /// Something about it changed. One probe follows at once, and counts as any other.
    Changed,
}

/// Something to do, at once and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckAction {
    /// Begin to probe. Asks for [`super::Check::probed`], unless it is abandoned first.
    Probe(Round),
    /// Give up a probe, with everything that belongs to it.
    Abandon(Round),
    /// Tell who asked ([`super::Check::ask`]): what is right, or what is wrong.
    Answer(Result<String, String>),
    /// Log, record and tell the engine.
    Report(HealthChange),
}

/// A change of what is believed of a service; where `from` is `to`, of what it counts, or of what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// Before.
    pub from: Health,
    /// From now on.
    pub to: Health,
    /// What the last probe that passed counted.
    pub count: i32,
    /// What the probe or event said.
    pub why: String,
    /// When.
    pub at: MonoNs,
}
