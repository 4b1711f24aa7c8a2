//! How a group's roles stand, for people.

use alloc::{string::String, vec::Vec};

use ha_common::{MonoNs, Nanos};

use super::event::{Purpose, Stance};

/// A step that was carried out, or is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// The role's name.
    pub role: String,
    /// The step.
    pub step: &'static str,
    /// When it began.
    pub began: MonoNs,
    /// How long it took; `None`: it is under way.
    pub took: Option<Nanos>,
    /// What it said, or why it failed.
    pub result: Result<String, String>,
}

/// A step that a plan would carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// The role's name.
    pub role: String,
    /// The step.
    pub step: &'static str,
    /// How long it may take.
    pub limit: Nanos,
}

/// How a group's roles stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group.
    pub group: String,
    /// How this node stands.
    pub stance: Stance,
    /// The greatest epoch that it knows.
    pub epoch: u64,
    /// Whether it may be elected, or why not.
    pub eligible: Result<(), String>,
    /// Whether a write waits for a replica: of a primary with semi-synchronous replication.
    pub in_sync: Option<bool>,
    /// The plan that is under way, or the last one.
    pub plan: Option<Purpose>,
    /// Whether it is under way.
    pub under_way: bool,
    /// Its steps so far.
    pub steps: Vec<StepReport>,
}
