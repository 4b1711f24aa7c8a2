//! One role that is fenced, and the silence because of which it is.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ha_common::{MonoNs, Nanos};
use ha_core::plan::{Context, OnFailure, Order, StepSpec};
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::{
    config::Config,
    roles::{Fenced, fenced},
    runtime::lock,
    sys::clock,
};

/// Until it is done again: it may have failed, and what was closed may be opened by those threads of the daemon that
/// do not hang.
const AGAIN: Nanos = Nanos::from_secs(1);

/// How long the daemon has been silent, and whether anything else has taken its place.
pub(super) struct Silence {
    /// When it ran last.
    heard_at: AtomicU64,
    runtime_dir: PathBuf,
    /// Its process.
    daemon: Option<u32>,
}

impl Silence {
    /// Of a daemon that runs now.
    pub(super) fn new(runtime_dir: PathBuf, daemon: Option<u32>) -> Self {
        Self {
            heard_at: AtomicU64::new(clock::now().0),
            runtime_dir,
            daemon,
        }
    }

    pub(super) fn heard_at(&self) -> MonoNs {
        MonoNs(self.heard_at.load(Ordering::Relaxed))
    }

    /// The daemon ran then: whether that is news.
    pub(super) fn hear(&self, at: MonoNs) -> bool {
        self.heard_at.fetch_max(at.0, Ordering::Relaxed) < at.0
    }

    /// Whether the next daemon runs already, or has run.
    pub(super) fn has_successor(&self) -> bool {
        self.daemon.is_some() && lock::holder_of(&self.runtime_dir) != self.daemon
    }
}

/// See the module.
pub(super) struct Ward {
    pub(super) of: Fenced,
    /// Of the configuration.
    pub(super) edition: u64,
    /// The silence for which it was fenced last, by when the daemon was heard before it.
    pub(super) done_for: Option<MonoNs>,
    /// The silence for which it was tried last, and when that is done again.
    tried: Option<(MonoNs, MonoNs)>,
    /// It was fenced after the daemon was gone: nobody opens it again.
    pub(super) finished: bool,
    /// What the steps said last: what they come to again and again is told once.
    said: BTreeMap<&'static str, String>,
}

/// Those of a configuration.
pub(super) fn wards(config: &Config, edition: u64) -> Vec<Ward> {
    let roles = fenced(config).into_iter();
    roles.map(|role| Ward::new(role, edition)).collect()
}

impl Ward {
    pub(super) fn new(of: Fenced, edition: u64) -> Self {
        Self {
            of,
            edition,
            done_for: None,
            tried: None,
            finished: false,
            said: BTreeMap::new(),
        }
    }

    /// When it is tried, of a silence that counts from `silent`; not all the time.
    pub(super) fn due(&self, heard_at: MonoNs, silent: MonoNs) -> MonoNs {
        match self.tried {
            Some((since, again_at)) if since == heard_at => silent.max(again_at),
            _ => silent,
        }
    }

    /// Fences it, unless the daemon is heard again, or another one runs: then that sees to it.
    pub(super) async fn fence(mut self, silence: Arc<Silence>, orphaned: bool) -> Self {
        let since = silence.heard_at();
        if self.done_for != Some(since) {
            self.said.clear();
        }
        let is_over = || silence.heard_at() != since || (orphaned && silence.has_successor());
        let failed = self.carry_out(&is_over).await;
        if is_over() {
            return self;
        }
        self.tried = Some((since, clock::now().after(AGAIN)));
        if !failed {
            self.done_for = Some(since);
            self.finished |= orphaned;
        }
        self
    }

    /// Whether it may still be written to.
    async fn carry_out(&mut self, is_over: &impl Fn() -> bool) -> bool {
        let mut todo: Vec<StepSpec> = self.of.steps.iter().rev().cloned().collect();
        let mut failed = false;
        while let Some(step) = todo.pop() {
            if is_over() {
                info!("{}: left to the daemon, which runs again", self.of.name);
                return failed;
            }
            let order = Order {
                serial: 0,
                role: 0,
                step: step.name,
                deadline: clock::now().after(step.limit),
                epoch: 0,
                context: Context::default(),
            };
            let limit = Duration::from_nanos(step.limit.0);
            let result = match timeout(limit, self.of.role.run(&order)).await {
                Ok(result) => result,
                Err(_) => Err(format!("it had not ended after {}", step.limit)),
            };
            match (result, step.failure) {
                (Ok(done), _) => {
                    let before = self.said.insert(step.name, done.text.clone());
                    if before.as_ref() != Some(&done.text) {
                        info!("{}: {}: {}", self.of.name, step.name, done.text);
                    }
                }
                (Err(why), OnFailure::Instead(steps)) => {
                    warn!("{}: {}: {why}", self.of.name, step.name);
                    todo.extend(steps.into_iter().rev());
                }
                (Err(why), _) => {
                    error!("{}: {}: {why}", self.of.name, step.name);
                    failed = true;
                }
            }
        }
        failed
    }
}
