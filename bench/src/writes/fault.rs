//! What fails on the node that is written to.

use std::fmt;

use anyhow::Result;
use ha_common::MonoNs;
use ha_tests::{
    Kind,
    mariadb::{Server, role::DIRECT},
    node::PATIENCE,
    now,
};

use super::{Promoter, stage::Stage};

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL to mariadbd
    MariadbKilled,
    /// SIGSTOP to mariadbd, SIGCONT after some seconds
    MariadbFrozen,
    /// The node loses its power: its cables, and everything on it; later it boots
    PowerOff,
    /// SIGSTOP to the daemon, SIGCONT after some seconds
    DaemonFrozen,
    /// SIGKILL to the daemon
    DaemonKilled,
    /// SIGKILL to the daemon and to mariadbd
    BothKilled,
    /// An operator hands over
    Switchover,
    /// Nothing passes to or from the node, whose cables have carrier
    CutOff,
    /// Nothing passes from the node to the other one on the LAN
    OneWay,
}

impl Fault {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::MariadbKilled => "mariadb-killed",
            Self::MariadbFrozen => "mariadb-frozen",
            Self::PowerOff => "power-off",
            Self::DaemonFrozen => "daemon-frozen",
            Self::DaemonKilled => "daemon-killed",
            Self::BothKilled => "both-killed",
            Self::Switchover => "switchover",
            Self::CutOff => "cut-off",
            Self::OneWay => "one-way",
        }
    }

    /// Whether the other node must take over.
    pub(super) const fn moves(self) -> bool {
        !matches!(self, Self::OneWay)
    }

    /// Whether the server that was written to takes no writes before the other one does. Who is cut off demotes it
    /// while the other one may act already; and whose processes are all killed, it stays as it is. It acknowledges nothing.
    pub(super) const fn closes(self) -> bool {
        !matches!(self, Self::CutOff | Self::DaemonKilled)
    }

    /// Lets it happen on a node; returns when.
    pub(super) fn inject(self, stage: &mut Stage, old: usize) -> Result<MonoNs> {
        let has_cable = stage.promoter == Promoter::Had;
        let server = &stage.servers.servers[old];
        let at = now();
        match self {
            Self::MariadbKilled => server.strike()?,
            Self::MariadbFrozen => server.freeze()?,
            Self::PowerOff => {
                if has_cable {
                    stage.nodes[old].set_port(DIRECT, false)?;
                }
                stage.nodes[old].power_off()?;
                stage.nodes[old].daemon()?.strike()?;
                end(server)?;
            }
            // The process that fences goes on, as where one of its threads hangs; keepalived is two processes.
            Self::DaemonFrozen if stage.promoter == Promoter::Had => {
                stage.nodes[old].daemon()?.hang()?;
            }
            Self::DaemonFrozen => stage.nodes[old].daemon()?.freeze()?,
            Self::DaemonKilled => stage.nodes[old].daemon()?.strike()?,
            Self::BothKilled => {
                stage.nodes[old].daemon()?.strike()?;
                end(server)?;
            }
            Self::Switchover => stage.hand_over(old)?,
            Self::CutOff => {
                if has_cable {
                    stage.lab().cut_off(&stage.nodes[old], DIRECT)?;
                }
                stage.lab().cut_off(&stage.nodes[old], "eth0")?;
            }
            Self::OneWay => {
                let [old, new] = [&stage.nodes[old], &stage.nodes[1 - old]];
                stage.lab().cut_one_way(old, new)?;
            }
        }
        Ok(at)
    }

    /// Undoes it, as an operator, systemd or the power station does.
    pub(super) fn heal(self, stage: &mut Stage, old: usize) -> Result<()> {
        let kind = match stage.promoter {
            Promoter::Had => Kind::Had,
            Promoter::Keepalived => Kind::Keepalived,
        };
        match self {
            Self::MariadbKilled => stage.boot_server(old)?,
            Self::MariadbFrozen => {
                // It may have been killed meanwhile, and started anew.
                if stage.servers.servers[old].pid()?.is_some() {
                    stage.servers.servers[old].thaw()?;
                }
            }
            Self::PowerOff | Self::BothKilled => {
                stage.servers.servers[old].wait_for_end(PATIENCE)?;
                stage.boot_server(old)?;
                if self == Self::PowerOff {
                    stage.nodes[old].power_on()?;
                    if stage.promoter == Promoter::Had {
                        stage.nodes[old].set_port(DIRECT, true)?;
                    }
                }
                stage.nodes[old].restart(kind)?;
            }
            Self::DaemonFrozen => stage.nodes[old].daemon()?.thaw()?,
            Self::DaemonKilled => stage.nodes[old].restart(kind)?,
            Self::Switchover => stage.nodes[old].take_part()?,
            Self::CutOff | Self::OneWay => stage.lab().heal()?,
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// One that was started by the daemon is a child of it, and has been killed with it.
fn end(server: &Server) -> Result<()> {
    if server.pid()?.is_some() {
        server.strike()?;
    }
    Ok(())
}
