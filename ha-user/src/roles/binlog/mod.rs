//! `kind = "binlog"`: backup and purge of the binary logs of the group's database. Backups are made at the Active node;
//! what nobody needs any more is purged at every node, but in maintenance. Which logs may go is decided in
//! [`ha_core::data::binlog`].
//!
//! The work goes on beside the steps. A demotion does not wait for it: it ends at once, and of a log that was being
//! copied there is a file that the next run removes.

mod audit;
mod backup;
mod manifest;
mod run;
mod server;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ha_common::{MonoNs, Nanos};
use ha_core::{
    Mode,
    plan::{Done, Observation, Order},
};
use tokio::{sync::Mutex, task::JoinHandle, time::sleep};

pub(crate) use self::audit::findings;
use self::{
    backup::Files,
    run::{LOGS, Run, Said},
    server::Logs,
};
use super::{Neighbours, Pending, Role, Setting, Situation, database::done};
use crate::{config::BinlogRole as Config, sys::clock};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);
/// A take-over is left alone at first.
const FIRST: Duration = Duration::from_secs(5);
/// After what went wrong it is tried again, if the next run is not sooner.
const AGAIN: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Binlog {
    job: Arc<Job>,
    running: Option<Running>,
    in_maintenance: bool,
}

/// What a run needs.
struct Job {
    config: Config,
    setting: Setting,
    neighbours: Arc<Neighbours>,
    /// Since when replicas are heard.
    since: MonoNs,
    /// One run at a time: one that was given up may have a call out that does not come back.
    tools: Mutex<Tools>,
    said: std::sync::Mutex<Said>,
}

/// What speaks to the server and to the disk.
struct Tools {
    logs: Option<Logs>,
    files: Files,
}

/// The work, which ends with it.
struct Running {
    /// In which backups are made.
    epoch: Option<u64>,
    task: JoinHandle<()>,
    cancelled: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.task.abort();
    }
}

impl Binlog {
    /// In a group whose other nodes are these.
    pub(super) fn new(config: &Config, setting: Setting, neighbours: Arc<Neighbours>) -> Self {
        let tools = Tools {
            logs: setting.database.as_ref().map(Logs::new),
            files: Files::new(config.directory.clone(), &setting.node),
        };
        Self {
            job: Arc::new(Job {
                config: config.clone(),
                setting,
                neighbours,
                since: clock::now(),
                tools: Mutex::new(tools),
                said: std::sync::Mutex::default(),
            }),
            running: None,
            in_maintenance: false,
        }
    }

    /// The epoch in which backups are made, if they are.
    fn active(&self) -> Option<u64> {
        let running = self.running.as_ref();
        running.filter(|running| !running.task.is_finished())?.epoch
    }

    /// As a standby.
    fn rest(&mut self) {
        self.running = None;
        if !self.in_maintenance {
            self.begin(None);
        }
    }

    fn begin(&mut self, epoch: Option<u64>) {
        let cancelled = Arc::new(AtomicBool::new(false));
        let work = Arc::clone(&self.job).work(epoch, Arc::clone(&cancelled));
        self.running = Some(Running {
            epoch,
            task: tokio::spawn(work),
            cancelled,
        });
    }

    fn step(&mut self, order: &Order) -> Result<Done, String> {
        match order.step {
            "activate" if self.active() == Some(order.epoch) => Ok(done("was active already")),
            "activate" => {
                self.begin(Some(order.epoch));
                Ok(done("active"))
            }
            "deactivate" => {
                let was = self.active().is_some();
                if was {
                    self.rest();
                }
                Ok(done(if was {
                    "not active any more"
                } else {
                    "was not active"
                }))
            }
            step => Err(format!("binary logs have no step {step}")),
        }
    }
}

impl Role for Binlog {
    fn run<'a>(&'a mut self, order: &'a Order) -> Pending<'a, Result<Done, String>> {
        Box::pin(std::future::ready(self.step(order)))
    }

    fn observe(&mut self) -> Pending<'_, Observation> {
        let active = self.active().is_some();
        let said = self.job.said();
        let observation = Observation {
            note: said.note,
            // A standby does nothing about it.
            warning: said.warning.filter(|_| active),
            // What is wrong with backups is told, and keeps no database from serving.
            ..Observation::of(Some(active), Ok(()))
        };
        Box::pin(std::future::ready(observation))
    }

    fn every(&self) -> Duration {
        EVERY
    }

    fn adapt(&mut self, situation: Situation) -> Pending<'_, Result<(), String>> {
        self.in_maintenance = situation.mode == Mode::Maintenance;
        if self.active().is_none() {
            self.rest();
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Job {
    fn said(&self) -> Said {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    /// Run after run, until it is dropped.
    async fn work(self: Arc<Self>, epoch: Option<u64>, cancelled: Arc<AtomicBool>) {
        let every = duration(self.config.every);
        sleep(every.min(FIRST)).await;
        loop {
            let said = {
                let mut tools = self.tools.lock().await;
                let run = Run {
                    job: &self,
                    epoch,
                    most: LOGS,
                    cancelled: &cancelled,
                };
                run.carry_out(&mut tools).await
            };
            let failed = said.failed;
            if let Some(warning) = &said.warning {
                tracing::warn!("role {}: {warning}", self.setting.role);
            }
            *self.said.lock().unwrap_or_else(PoisonError::into_inner) = said;
            sleep(if failed { every.min(AGAIN) } else { every }).await;
        }
    }
}

fn duration(span: Nanos) -> Duration {
    Duration::from_nanos(span.0)
}
