//! A step of a plan.

use alloc::vec::Vec;

use ha_common::Nanos;

/// What a step does to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It only looks or waits: nothing is written to the journal before it.
    Looks,
    /// It changes something.
    Changes,
    /// From then on clients are acknowledged what they were not before: not while nothing is heard of the engine thread,
    /// for the node may be taken over from.
    Opens,
}

/// What follows when a step fails, or has not ended within its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The plan has failed: what it did is taken back.
    Unwind,
    /// These steps take its place: the hard way.
    Instead(Vec<StepSpec>),
    /// It is told, and the plan goes on.
    GoOn,
}

/// A step, as its role's kind defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSpec {
    /// Its name, which the role's executor knows.
    pub name: &'static str,
    /// What it does to the machine.
    pub effect: Effect,
    /// How long it may take.
    pub limit: Nanos,
    /// What follows if it fails.
    pub failure: OnFailure,
}

impl StepSpec {
    /// A step that only looks or waits; if it fails, so does the plan.
    #[must_use]
    pub const fn look(name: &'static str, limit: Nanos) -> Self {
        Self {
            name,
            effect: Effect::Looks,
            limit,
            failure: OnFailure::Unwind,
        }
    }

    /// A step that changes something; if it fails, so does the plan.
    #[must_use]
    pub const fn change(name: &'static str, limit: Nanos) -> Self {
        Self {
            name,
            effect: Effect::Changes,
            limit,
            failure: OnFailure::Unwind,
        }
    }

    /// A step after which clients are acknowledged what they were not before; if it fails, so does the plan.
    #[must_use]
    pub const fn open(name: &'static str, limit: Nanos) -> Self {
        Self {
            name,
            effect: Effect::Opens,
            limit,
            failure: OnFailure::Unwind,
        }
    }

    /// The same, with other steps to take its place if it fails.
    #[must_use]
    pub fn or(mut self, instead: Vec<Self>) -> Self {
        self.failure = OnFailure::Instead(instead);
        self
    }

    /// The same, with a failure that is only told.
    #[must_use]
    pub fn or_go_on(mut self) -> Self {
        self.failure = OnFailure::GoOn;
        self
    }
}
