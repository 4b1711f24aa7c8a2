//! What every kind of role can do.

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use ha_common::Priority;
use ha_core::{
    Mode,
    plan::{Done, Observation, Order},
};

use super::{
    Neighbours,
    binlog::Binlog,
    cron::Cron,
    drbd::Drbd,
    galera::GaleraExecutor,
    mount::Mount,
    mysql::MysqlExecutor,
    script::{self, ScriptRole},
    sync::{self, Sync},
    unit::Unit,
};
use crate::config::{self, MysqlServer, RoleKind};

/// A future of a role.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One role, as its steps are carried out and as it is looked at.
///
/// Its futures may be dropped at any time, and then nothing of them may go on: children are killed, sessions closed.
/// They are never alive at the same time, and none of them may block its thread.
pub trait Role: Send {
    /// Carries out one step: first looks whether it is done already, and verifies it at the end. In words why it
    /// failed. It need not watch the time: it is dropped when that is over.
    fn run<'a>(&'a mut self, order: &'a Order) -> Pending<'a, Result<Done, String>>;

    /// What it finds now, while no step is under way.
    fn observe(&mut self) -> Pending<'_, Observation>;

    /// Waits until something happens that is worth a look. For ever where nothing tells.
    fn watch(&mut self) -> Pending<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// From one look to the next.
    fn every(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// How long a look may take; then it has found nothing out.
    fn look_limit(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Does what the node's mode or the group's state demands beside steps. Called at the start and after each
    /// change, while no step is under way; called again where it fails.
    fn adapt(&mut self, _situation: Situation) -> Pending<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What concerns a role beside steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// The node's mode.
    pub mode: Mode,
    /// Whether the group is in Fault.
    pub fault: bool,
}

/// Where a role is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// This node's name.
    pub node: String,
    /// The group's name.
    pub group: String,
    /// The role's name.
    pub role: String,
    /// The configured priority of the group's instances.
    pub priority: Priority,
    /// What must outlive a reboot.
    pub state_dir: PathBuf,
    /// What ends with a reboot.
    pub runtime_dir: PathBuf,
    /// Whether units are masked in maintenance.
    pub mask_units: bool,
    /// What tells whether this node is the one that is cut off, where nothing is heard from the others.
    pub arbitrators: Vec<config::Check>,
    /// How many other nodes the group has.
    pub peers: usize,
    /// The server of the group's database, where that is of kind `mysql`.
    pub database: Option<MysqlServer>,
}

impl Setting {
    /// A file of the role's own that outlives a reboot.
    pub(super) fn file(&self, extension: &str) -> PathBuf {
        let name = format!("{}.{extension}", self.role);
        self.state_dir.join("roles").join(name)
    }
}

/// Ends what a daemon before has left of a role's steps, which its end did not end.
pub(super) fn end_others(role: &config::Role, setting: &Setting) -> Result<(), String> {
    match &role.kind {
        RoleKind::Script(_) => script::end_others(setting),
        RoleKind::Sync(_) => sync::end_others(setting),
        _ => Ok(()),
    }
}

/// The executor of a role, in a group whose other nodes are these.
#[must_use]
pub fn of(role: &config::Role, setting: Setting, neighbours: &Arc<Neighbours>) -> Box<dyn Role> {
    match &role.kind {
        RoleKind::Binlog(binlog) => Box::new(Binlog::new(binlog, setting, Arc::clone(neighbours))),
        RoleKind::Cron(cron) => Box::new(Cron::new(cron)),
        RoleKind::Drbd(drbd) => Box::new(Drbd::new(drbd, &setting.role, &setting.state_dir)),
        RoleKind::Galera(galera) => Box::new(GaleraExecutor::new(
            &setting.role,
            galera,
            Arc::clone(neighbours),
            setting.arbitrators,
        )),
        RoleKind::Mount(mount) => Box::new(Mount::new(mount)),
        RoleKind::Mysql(mysql) => {
            Box::new(MysqlExecutor::new(&setting.role, mysql, setting.state_dir))
        }
        RoleKind::Script(script) => Box::new(ScriptRole::new(script, setting)),
        RoleKind::Sync(sync) => Box::new(Sync::new(sync, setting, Arc::clone(neighbours))),
        RoleKind::Unit(unit) => Box::new(Unit::new(unit, setting.mask_units)),
    }
}
