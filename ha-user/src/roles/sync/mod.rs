//! `kind = "sync"`: directories that every standby copies from the Active node, whenever something changes there.
//!
//! A standby fetches, and nobody writes to another node: what comes to a node is up to that node alone. It copies from the
//! one that is promoted in the latest epoch of which it knows ([`ha_core::plan::Conductor::leader`]), which in turn
//! answers only who asks for that epoch. A promotion first ends what is being copied, with all its processes.

mod audit;
mod ground;
mod rsync;
mod source;
mod target;
#[cfg(test)]
mod tests;
mod words;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ha_common::Nanos;
use ha_core::{
    Mode,
    plan::{Done, Observation, Order},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout_at},
};

pub(crate) use self::audit::findings;
use self::{
    ground::Ground,
    rsync::Temporary,
    source::Source,
    target::{Copied, Notes, Target},
};
use super::{Neighbours, Pending, Role, Setting, Situation, database::done};
use crate::{checks::ScriptRuns, config::SyncRole as Config};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);
/// How long what was being copied may take to end.
const END_LIMIT: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

/// Streams so far, of all roles.
static STREAMS: AtomicU64 = AtomicU64::new(0);

/// Ends what a daemon before was copying.
pub(super) fn end_others(setting: &Setting) -> Result<(), String> {
    ScriptRuns::end_others(&record(setting))?;
    // What it had for streams is in nobody's way.
    let _ = fs::remove_dir_all(runtime(setting));
    Ok(())
}

/// Where files of streams are.
fn runtime(setting: &Setting) -> PathBuf {
    setting.runtime_dir.join("sync").join(&setting.role)
}

/// Where rsync writes down who it is.
fn record(setting: &Setting) -> PathBuf {
    setting.file("run")
}

/// See the module.
pub(super) struct Sync {
    job: Arc<Job>,
    /// As the Active node.
    source: Option<Source>,
    /// How far the copies were before its promotion.
    before: Option<Copied>,
    /// As a standby.
    target: Option<Target>,
    in_maintenance: bool,
}

/// What both parts need.
struct Job {
    config: Config,
    setting: Setting,
    neighbours: Arc<Neighbours>,
    /// Held by whoever copies.
    runs: tokio::sync::Mutex<ScriptRuns>,
    /// What the directories lie on.
    ground: Arc<Ground>,
    notes: Arc<Notes>,
    /// The last epoch of which it was told that something is kept.
    told: AtomicU64,
    said: Mutex<Said>,
    /// From whom something is being copied, or was when that was broken off.
    parts_of: Mutex<Option<String>>,
}

/// What there is to say of the copying.
#[derive(Clone, Debug, Default)]
struct Said {
    text: Option<String>,
    is_warning: bool,
}

impl Said {
    fn note(text: &str) -> Self {
        Self {
            text: Some(text.to_owned()),
            is_warning: false,
        }
    }

    fn warning(self) -> Self {
        Self {
            is_warning: true,
            ..self
        }
    }
}

impl Job {
    fn say(&self, said: Said) {
        *self.said() = said;
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&self, of: Option<String>) {
        *self.parts_of() = of;
    }

    fn parts_of(&self) -> MutexGuard<'_, Option<String>> {
        self.parts_of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file of one stream alone: what stands there is good for that one alone.
    fn temporary(&self, extension: &str) -> Temporary {
        let number = STREAMS.fetch_add(1, Ordering::Relaxed);
        Temporary(runtime(&self.setting).join(format!("{number}.{extension}")))
    }
}

impl Sync {
    /// In a group whose other nodes are these.
    pub(super) fn new(config: &Config, setting: Setting, neighbours: Arc<Neighbours>) -> Self {
        let runs = ScriptRuns::after_others(record(&setting));
        let ground = Arc::new(Ground::new(setting.file("ground")));
        Self {
            job: Arc::new(Job {
                config: config.clone(),
                setting,
                neighbours,
                runs: tokio::sync::Mutex::new(runs),
                ground,
                notes: Arc::default(),
                told: AtomicU64::new(0),
                said: Mutex::default(),
                parts_of: Mutex::default(),
            }),
            source: None,
            before: None,
            target: None,
            in_maintenance: false,
        }
    }

    async fn carry_out(&mut self, order: &Order) -> Result<Done, String> {
        match order.step {
            "activate" => self.activate(order.epoch).await,
            "deactivate" => Ok(done(&self.deactivate().await)),
            step => Err(format!("files have no step {step}")),
        }
    }

    async fn activate(&mut self, epoch: u64) -> Result<Done, String> {
        if self.source.as_ref().is_some_and(|one| one.epoch == epoch) {
            return Ok(done("was active already"));
        }
        self.source = None;
        self.stop_copying().await?;
        self.job.neighbours.forget_service();
        self.before = self.job.copied().await.ok();
        let never_whole = self.job.note_own(epoch).await?;
        let text = match &*self.job.parts_of() {
            None => "active".to_owned(),
            Some(node) => format!("active; the last copy from {node} did not come to its end"),
        };
        self.source = Some(Source::start(&self.job, epoch, never_whole));
        Ok(done(&text))
    }

    /// Ends what is being copied, and waits until it has ended.
    async fn stop_copying(&mut self) -> Result<(), String> {
        self.target = None;
        let deadline = Instant::now() + END_LIMIT;
        let late = "what was being copied does not end";
        let runs = timeout_at(deadline, self.job.runs.lock()).await;
        let mut runs = runs.map_err(|_| late)?;
        while let Err(why) = runs.ended().await {
            if Instant::now() >= deadline {
                return Err(why);
            }
            sleep(LOOK).await;
        }
        // Nor is anything left of a daemon before, which this one could not end when it began.
        let record = record(&self.job.setting);
        let ended = spawn_blocking(move || ScriptRuns::end_others(&record)).await;
        ended.map_err(|_| late)?
    }

    async fn deactivate(&mut self) -> String {
        let text = match &self.source {
            Some(source) => format!("not active any more; {}", source.flush().await),
            None => "was not active".to_owned(),
        };
        self.source = None;
        // Of a promotion that came to nothing, nothing counts.
        if let Some(before) = self.before.take()
            && !self.job.neighbours.has_served()
            && let Err(why) = self.job.note_before(before).await
        {
            tracing::warn!("role {}: {why}", self.job.setting.role);
        }
        self.rest();
        text
    }

    /// As a standby.
    fn rest(&mut self) {
        if self.in_maintenance {
            self.target = None;
            self.job.say(Said::note("nothing is copied in maintenance"));
        } else if self.target.is_none() {
            self.target = Some(Target::start(&self.job));
        }
    }

    fn look(&self) -> Observation {
        let said = match &self.source {
            Some(source) => match source.trouble() {
                Some(trouble) => Said::note(&trouble).warning(),
                None => Said::note(&self.with_parts(source.note())),
            },
            None => self.job.said().clone(),
        };
        let Said { text, is_warning } = said;
        let (warning, note) = if is_warning {
            (text, None)
        } else {
            (None, text)
        };
        Observation {
            note,
            warning,
            // What is wrong with copies is told, and keeps nobody from serving.
            ..Observation::of(Some(self.source.is_some()), Ok(()))
        }
    }

    /// Of an Active node: nobody completes what it has a part of.
    fn with_parts(&self, text: String) -> String {
        match &*self.job.parts_of() {
            None => text,
            Some(node) => format!(
                "{text}; the last copy from {node} did not come to its end: some files may be older than others"
            ),
        }
    }
}

impl Role for Sync {
    fn run<'a>(&'a mut self, order: &'a Order) -> Pending<'a, Result<Done, String>> {
        Box::pin(self.carry_out(order))
    }

    fn observe(&mut self) -> Pending<'_, Observation> {
        Box::pin(std::future::ready(self.look()))
    }

    fn every(&self) -> Duration {
        EVERY
    }

    fn adapt(&mut self, situation: Situation) -> Pending<'_, Result<(), String>> {
        self.in_maintenance = situation.mode == Mode::Maintenance;
        if self.source.is_none() {
            self.rest();
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

fn duration(span: Nanos) -> Duration {
    Duration::from_nanos(span.0)
}
