//! What every kind of check can do.

use std::{future::Future, pin::Pin};

use ha_core::check::Observation;
use tokio::sync::watch;

use super::{
    drbd::DrbdProbe,
    file::FileProbe,
    gluster::GlusterProbe,
    http::HttpProbe,
    mdadm::MdadmProbe,
    mysql::{GaleraProbe, MysqlProbe},
    ping::PingProbe,
    process::ProcessProbe,
    script::ScriptProbe,
    tcp::TcpProbe,
    unit::UnitProbe,
};
use crate::config::CheckKind;

/// A future of a probe.
pub(super) type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One service, as it is looked at.
///
/// Both futures may be dropped at any time, and then leave nothing behind: no process, no task, no descriptor
/// that belongs to a probe. They are never alive at the same time.
pub(super) trait Probe: Send {
    /// Looks once: in words what is right, or what is wrong. It need not watch the time: it is dropped when that
    /// is over.
    fn probe(&mut self) -> Pending<'_, Result<String, String>>;

    /// Waits until something happens to the service, between two probes. For ever where nothing tells.
    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(std::future::pending())
    }

    /// What the last probe that passed counted, if it counts anything.
    fn count(&self) -> i32 {
        0
    }

    /// The last lines that a probe printed, if it prints any.
    fn output(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What this node is for the instances that track a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// One of them is Active, or being promoted.
    Active,
    /// None is.
    #[default]
    Standby,
}

/// How a probe learns of [`Role`].
pub type RoleWatch = watch::Receiver<Role>;

/// The probe of a kind.
pub(super) fn of(kind: &CheckKind, role: RoleWatch) -> Box<dyn Probe> {
    match kind {
        CheckKind::Drbd(drbd) => Box::new(DrbdProbe::new(drbd, role)),
        CheckKind::File(file) => Box::new(FileProbe::new(file)),
        CheckKind::Galera(galera) => Box::new(GaleraProbe::new(galera)),
        CheckKind::Gluster(gluster) => Box::new(GlusterProbe::new(gluster)),
        CheckKind::Http(http) => Box::new(HttpProbe::new(http)),
        CheckKind::Mdadm(mdadm) => Box::new(MdadmProbe::new(mdadm)),
        CheckKind::Mysql(mysql) => Box::new(MysqlProbe::new(mysql)),
        CheckKind::Ping(ping) => Box::new(PingProbe::new(ping)),
        CheckKind::Process(process) => Box::new(ProcessProbe::new(process)),
        CheckKind::Script(script) => Box::new(ScriptProbe::new(script)),
        CheckKind::Tcp(tcp) => Box::new(TcpProbe::new(tcp)),
        CheckKind::Unit(unit) => Box::new(UnitProbe::new(unit)),
    }
}
