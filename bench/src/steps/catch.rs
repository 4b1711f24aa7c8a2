//! Waiting for a step, and killing who is at it.

use std::{fmt, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use ha_common::MonoNs;
use ha_tests::{Kind, clock::span, daemon::signal, eventually, now, processes};
use ha_user::control::{
    client::ask,
    protocol::Request,
    report::{GroupReport, RolesReport},
};
use rustix::process::Signal;

use super::{Occasion, control};
use crate::writes::Stage;

/// How long a server that is being started may take to be there.
const START_LIMIT: Duration = Duration::from_secs(5);

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL to the server that the step works on
    Server,
    /// SIGKILL to the daemon, which is started again
    Daemon,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Server => "mariadbd",
            Self::Daemon => "had",
        })
    }
}

/// See the module.
pub(super) struct Catch {
    node: usize,
    purpose: &'static str,
    step: &'static str,
    fault: Fault,
    control: PathBuf,
    dir: PathBuf,
    daemon: u32,
    server: u32,
}

impl Catch {
    pub(super) fn prepare(
        stage: &mut Stage,
        occasion: Occasion,
        step: &'static str,
        fault: Fault,
        primary: usize,
    ) -> Result<Self> {
        let node = occasion.acts(primary);
        let server = stage.servers.servers[node].pid()?;
        Ok(Self {
            node,
            purpose: occasion.purpose().name(),
            step,
            fault,
            control: control(stage, node),
            dir: stage.nodes[node].dir().to_owned(),
            daemon: stage.nodes[node].daemon()?.pid(),
            server: server.context("the server runs")?,
        })
    }

    /// Waits for the step, and kills; `None`: it was not seen.
    pub(super) fn wait(&self, limit: Duration) -> Result<Option<MonoNs>> {
        let end = now().after(span(limit));
        let mut begun = false;
        while now() < end {
            // It answers nothing while it starts.
            let Ok(report) = ask::<RolesReport>(&self.control, Request::Roles) else {
                continue;
            };
            let Some(group) = report.groups.first() else {
                continue;
            };
            if self.is_at(group) {
                let at = now();
                self.kill()?;
                return Ok(Some(at));
            }
            let is_under_way = self.is_under_way(group);
            if begun && !is_under_way {
                return Ok(None);
            }
            begun = is_under_way;
        }
        Ok(None)
    }

    fn is_under_way(&self, group: &GroupReport) -> bool {
        let plan = group.plan.as_ref();
        plan.is_some_and(|plan| plan.under_way && plan.purpose == self.purpose)
    }

    fn is_at(&self, group: &GroupReport) -> bool {
        let step = group.plan.as_ref().and_then(|plan| plan.steps.last());
        self.is_under_way(group)
            && step.is_some_and(|step| step.step == self.step && step.took_us.is_none())
    }

    fn kill(&self) -> Result<()> {
        match self.fault {
            Fault::Daemon => signal(self.daemon, Signal::KILL),
            Fault::Server if self.step == "start-as-replica" => {
                let mut started = None;
                eventually(START_LIMIT, "the server is started", || {
                    started = self.servers()?.into_iter().find(|pid| *pid != self.server);
                    Ok(started.is_some())
                })?;
                signal(started.context("the condition above")?, Signal::KILL)
            }
            Fault::Server => signal(self.server, Signal::KILL),
        }
    }

    fn servers(&self) -> Result<Vec<u32>> {
        let found = processes::naming(&self.dir)?;
        let servers = found
            .into_iter()
            .filter(|process| process.command.starts_with("/usr/sbin/mariadbd"))
            .filter(|process| process.state != 'Z');
        Ok(servers.map(|process| process.pid).collect())
    }

    /// A daemon that was killed is started again, as systemd does.
    pub(super) fn mend(&self, stage: &mut Stage) -> Result<()> {
        if self.fault == Fault::Daemon {
            stage.nodes[self.node].kill()?;
            stage.nodes[self.node].restart(Kind::Had)?;
        }
        Ok(())
    }
}
