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

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

pub(crate) use self::{
    blocking::Blocking,
    script::{Runs as ScriptRuns, launched},
};
pub use self::{
    probe::{Role, RoleWatch},
    runner::Checks,
    script::judge_beforehand as judge_script,
};
use crate::config::Check;

/// One probe of a check beside its own, now: in words what is right, or what is wrong.
pub(crate) async fn probed(check: &Check) -> Result<String, String> {
    let (_role, watched) = watch::channel(Role::default());
    let mut probe = probe::of(&check.kind, watched);
    let limit = Duration::from_nanos(check.times.timeout.0);
    match timeout(limit, probe.probe()).await {
        Ok(found) => found,
        Err(_) => Err("no answer in time".to_owned()),
    }
}
