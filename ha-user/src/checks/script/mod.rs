//! `kind = "script"`: runs a program and judges its exit code.

mod file;
mod former;
mod output;
mod run;

#[cfg(test)]
mod tests;

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, Interest},
    net::unix::pipe,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

pub(crate) use self::run::launched;
use self::{output::Tail, run::Run};
use super::{
    blocking::Blocking,
    probe::{Pending, Probe},
    words,
};
use crate::{config::Script, sys::readiness};

/// How long a killed run may take to end before the next one is refused.
const GRACE: Duration = Duration::from_millis(200);

/// As sentences name it.
const STARTING: &str = "the start of the script";

/// Bytes that are read at one go.
const PIECE: usize = 64 * 1024;
/// What may be printed as fast as it comes.
const FREE: usize = 1 << 20;
/// Between two pieces beyond that: some 16 MiB a second, which no script needs, and which costs little.
const PAUSE: Duration = Duration::from_millis(4);
/// Pieces that are read of a script that has ended: what a pipe holds.
const LAST_PIECES: usize = 16;

/// Whether a script could be run, as far as that can be seen without running it; it may hang, as every use of a file.
///
/// # Errors
/// Why not, in the words of a failed run.
pub fn judge_beforehand(script: &Script) -> Result<(), String> {
    run::judge_beforehand(script)
}

/// See [`Script`].
pub(super) struct ScriptProbe {
    config: Arc<Script>,
    runs: Runs,
}

/// Runs of scripts, one at a time. One whose future is dropped is killed, with everything that it started.
pub(crate) struct Runs {
    starting: Blocking<Result<(Run, OwnedFd), String>>,
    /// One run at a time, until its process is gone for good.
    permits: Arc<Semaphore>,
    /// The process of the last run.
    pid: Option<u32>,
    output: Tail,
    /// Where a run writes down who it is, for the next daemon.
    record: Option<PathBuf>,
}

impl ScriptProbe {
    pub(super) fn new(config: &Script) -> Self {
        Self {
            config: Arc::new(config.clone()),
            runs: Runs::new(),
        }
    }
}

impl Runs {
    /// None so far.
    pub(crate) fn new() -> Self {
        Self {
            starting: Blocking::new(),
            permits: Arc::new(Semaphore::new(1)),
            pid: None,
            output: Tail::default(),
            record: None,
        }
    }

    /// None so far, by this daemon: a run that one before has left is ended before the first one begins. What that was
    /// is in the file.
    pub(crate) fn after_others(record: PathBuf) -> Self {
        Self {
            record: Some(record),
            ..Self::new()
        }
    }

    /// Ends what a daemon before has left, at once. It may hang, as every use of a file.
    pub(crate) fn end_others(record: &Path) -> Result<(), String> {
        former::end(record)
    }

    /// Runs a script to its end: its last line, or how it failed.
    pub(crate) async fn run(&mut self, script: &Arc<Script>) -> Result<String, String> {
        let (run, output) = self.start(script).await?;
        self.pid = Some(run.pid);
        self.output = Tail::default();
        let failed = |error: std::io::Error| format!("cannot be watched: {}", words::of_io(&error));
        let ended = run.handle().map_err(failed)?;
        let ended = readiness::of(ended, Interest::READABLE).map_err(failed)?;
        let mut output = pipe::Receiver::from_owned_fd(output).map_err(failed)?;
        let mut piece = vec![0; PIECE];
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                end = ended.readable() => {
                    end.map_err(failed)?.retain_ready();
                    break;
                }
                read = output.read(&mut piece), if open => match read {
                    Ok(length) if length > 0 => {
                        self.output.push(&piece[..length]);
                        if self.output.total > FREE {
                            sleep(PAUSE).await;
                        }
                    }
                    _ => open = false,
                },
            }
        }
        for _ in 0..LAST_PIECES {
            match output.try_read(&mut piece) {
                Ok(length) if length > 0 => self.output.push(&piece[..length]),
                _ => break,
            }
        }
        let status = run.finish().map_err(failed)?;
        // Later its number may be somebody else's.
        self.pid = self.pid.filter(|pid| is_group(*pid));
        let lines = self.output.lines();
        run::judge(status, lines.last().map(String::as_str))
    }

    /// Whether nobody is there any more of the runs whose futures were dropped. `Err`: somebody is.
    pub(crate) async fn ended(&mut self) -> Result<(), String> {
        if let Some(Ok((late, _))) = self.starting.settle(STARTING).await? {
            self.pid = Some(late.pid);
        }
        drop(self.permit().await?);
        if self.pid.is_some_and(is_group) {
            return Err(format!(
                "what a run{} began was killed and does not end",
                self.process()
            ));
        }
        self.pid = None;
        Ok(())
    }

    fn process(&self) -> String {
        let pid = self.pid;
        pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, String> {
        let permit = timeout(GRACE, Arc::clone(&self.permits).acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or_else(|| {
            format!(
                "an earlier run{} was killed and does not end, so no other one is started",
                self.process()
            )
        })
    }

    async fn start(&mut self, script: &Arc<Script>) -> Result<(Run, OwnedFd), String> {
        // What was started too late for its probe is ended before the next one begins.
        self.starting.settle(STARTING).await?;
        let permit = self.permit().await?;
        let config = Arc::clone(script);
        let record = self.record.clone();
        let start = self.starting.call(STARTING, move || {
            run::start(&config, permit, record.as_deref())
        });
        start.await?
    }
}

/// Whether anybody runs in the process group of this number.
fn is_group(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(former::has_members)
}

impl Probe for ScriptProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(self.runs.run(&self.config))
    }

    fn output(&self) -> Vec<String> {
        self.runs.output.lines()
    }
}
