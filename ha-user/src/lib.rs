//! The parts of the daemon `had` and of its control tool `hactl`.

pub mod checks;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dataplane;
pub(crate) mod drbd;
pub mod engine;
pub mod events;
pub mod fence;
pub mod hactl;
pub mod link;
pub mod net;
pub mod others;
pub mod relay;
pub mod roles;
pub mod runtime;
pub mod sys;
pub(crate) mod systemd;
