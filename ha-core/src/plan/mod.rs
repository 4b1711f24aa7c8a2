//! Role transitions: what a group's databases, devices, mounts and units go through when its VIPs come or go.
//!
//! A [`Conductor`] decides for one group: which plan runs, step by step, what is written to the journal before a
//! step, what follows a step that failed or took too long, and whether this node may be elected at all. It is driven
//! like the [`crate::Engine`]: hand an input in, poll the actions, ask when to call `handle_timeout`.
//!
//! **A plan** promotes the roles in the order of the configuration, or demotes them in reverse. Each step is carried
//! out by its role's executor, which first looks whether it is done already and verifies it at the end; so every
//! plan may be run twice. What a promotion began is taken back by the demotion of the same roles, and a hand-over that fails
//! by their promotion: there is one way up and one way down, and both are taken often.
//!
//! **The journal** has a record before each step that changes anything. A daemon that finds one demotes first,
//! whatever it says, unless the node was a standby: nothing that was half-done stays so.
//!
//! **Epochs** count the take-overs of a group. Each promotion takes one that is greater than every one heard of, and
//! does not complete if somebody else has a greater one by then.

mod conductor;
mod config;
mod event;
mod journal;
mod membership;
mod observation;
mod run;
pub mod sequence;
mod status;
mod step;

#[cfg(feature = "sim")]
pub use self::conductor::Mutations;
pub use self::{
    conductor::Conductor,
    config::{AfterFailover, ConductorConfig, Durability, Limits, RoleConfig, RoleKind},
    event::{
        Consent, Context, Done, GroupWord, Handover, Order, PlanAction, PlanInput, Purpose, Stance,
        Wish,
    },
    journal::{Record, Recovered, recover},
    membership::{Ask, Grant},
    observation::{Follows, Observation, Position, Replicas},
    status::{GroupStatus, PlannedStep, StepReport},
    step::{Effect, OnFailure, StepSpec},
};
