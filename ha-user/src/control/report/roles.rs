//! `hactl roles`, `hactl mode` and what `hactl switchover` shows beforehand.

use serde::{Deserialize, Serialize};

/// `hactl roles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolesReport {
    /// This node's name.
    pub node: String,
    /// Its mode.
    pub mode: String,
    /// The groups that have roles.
    pub groups: Vec<GroupReport>,
}

/// `hactl db init-replication`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedReport {
    /// The role.
    pub role: String,
    /// What was done, in sentences.
    pub done: Vec<String>,
}

/// `hactl db bootstrap`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapReport {
    /// Where this node's data ends.
    pub position: String,
    /// The other nodes.
    pub others: Vec<RemainsReport>,
    /// What stands against beginning the cluster anew here; empty: nothing.
    pub obstacles: Vec<String>,
    /// What was done, in sentences; empty: nothing.
    pub done: Vec<String>,
}

/// Another node of a cluster that is down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemainsReport {
    /// Its name.
    pub node: String,
    /// What is known of it.
    pub text: String,
}

/// `hactl mode`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeReport {
    /// This node's name.
    pub node: String,
    /// Its mode: `active-standby`, `maintenance` or `standalone`.
    pub mode: String,
}

/// How a group's roles stand on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupReport {
    /// The group's name.
    pub group: String,
    /// `unsettled`, `standby`, `promoting`, `primary` or `demoting`.
    pub stance: String,
    /// The greatest take-over that it knows of.
    pub epoch: u64,
    /// Why this node may not be elected; `None`: it may.
    pub not_eligible: Option<String>,
    /// Of a primary whose writes can wait for a replica: whether they do.
    pub in_sync: Option<bool>,
    /// Its roles, in the order in which they are promoted.
    pub roles: Vec<RoleReport>,
    /// The plan that is under way, or the last one.
    pub plan: Option<PlanReport>,
    /// The other nodes, as they were heard last.
    pub peers: Vec<GroupPeerReport>,
}

/// One role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleReport {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Whether it is promoted here; `None`: that is not known.
    pub promoted: Option<bool>,
    /// Why it could not be promoted; `None`: it could.
    pub unable: Option<String>,
    /// How far its data is.
    pub position: Option<String>,
    /// Whom it follows, `address:port`.
    pub follows: Option<String>,
    /// Whether it receives from there.
    pub receives: Option<bool>,
    /// How far it is behind.
    pub lag_ms: Option<u64>,
    /// As a primary: replicas that acknowledge what they receive.
    pub acknowledging: Option<u32>,
    /// What it did last, or what else there is to know of it.
    pub note: Option<String>,
    /// What should be seen to, though the role does its work.
    pub warning: Option<String>,
}

/// A plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReport {
    /// `promote`, `hand over`, `demote`, `follow`, `go solo`, `rejoin` or `correct`.
    pub purpose: String,
    /// Whether it is under way.
    pub under_way: bool,
    /// Its steps so far.
    pub steps: Vec<StepReport>,
}

/// A step that was carried out, or is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// The role's name.
    pub role: String,
    /// The step.
    pub step: String,
    /// When it began, on CLOCK_MONOTONIC.
    pub began_ns: u64,
    /// How long it took; `None`: it is under way.
    pub took_us: Option<u64>,
    /// Whether it has not failed.
    pub ok: bool,
    /// What it said, or why it failed.
    pub text: String,
}

/// How a group stands on another node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPeerReport {
    /// Its name.
    pub node: String,
    /// How long ago it was heard.
    pub heard_ms_ago: u64,
    /// As of this node.
    pub stance: String,
    /// As of this node.
    pub epoch: u64,
    /// Its mode.
    pub mode: String,
    /// As of this node.
    pub not_eligible: Option<String>,
    /// How far its data is.
    pub position: Option<String>,
}

/// `hactl switchover --dry-run`: what would be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewReport {
    /// The group's name.
    pub group: String,
    /// The node that would take over; `None`: it is not known.
    pub to: Option<String>,
    /// Why it would be refused; empty: it would not be.
    pub obstacles: Vec<String>,
    /// What would be done on this node, in order.
    pub demote: Vec<PlannedReport>,
    /// And then on the other one, if its configuration is the same.
    pub promote: Vec<PlannedReport>,
}

/// A step that would be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedReport {
    /// The role's name.
    pub role: String,
    /// The step.
    pub step: String,
    /// How long it may take.
    pub limit_ms: u64,
}
