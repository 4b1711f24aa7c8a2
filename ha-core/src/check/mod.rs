//! Service checks: what probes and events of a watched service mean. One [`Check`] for each, without clock,
//! socket or thread.
//!
//! The shell drives it as it drives [`crate::Engine`]:
//!
//! 1. call [`Check::probed`], [`Check::observe`] or [`Check::handle_timeout`] with the present time,
//! 2. call [`Check::poll_action`] until it returns `None`, and carry out each action,
//! 3. ask [`Check::poll_timeout`] when to call `handle_timeout`.
//!
//! Spurious calls do nothing. A probe that has not answered when its time is over has failed, whatever
//! becomes of it: the shell abandons it, and what it says later counts for nothing.

mod config;
mod event;
mod machine;
mod status;

pub use self::{
    config::CheckConfig,
    event::{CheckAction, HealthChange, Observation, Round},
    machine::Check,
    status::{CheckStatus, Found, Health, Probed},
};
