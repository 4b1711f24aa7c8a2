//! Service checks: a task of the slow side for each, which drives [`ha_core::check::Check`] and carries out its
//! probes. What changes is told to the engine thread.

mod asks;
pub(crate) mod blocking;
mod drbd;
mod file;
pub(crate) mod files;
mod gluster;
mod http;
mod mdadm;
pub(crate) mod mysql;
mod ping;
mod probe;
mod process;
mod report;
mod runner;
mod script;
mod task;
mod tcp;
pub(crate) mod tool;
mod unit;
pub(crate) mod words;

pub(crate) use self::{blocking::Blocking, script::Runs as ScriptRuns};
pub use self::{
    probe::{Role, RoleWatch},
    runner::Checks,
    script::judge_beforehand as judge_script,
};
