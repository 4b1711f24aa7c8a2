//! A load on every part of the machine: stress-ng.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::available_parallelism,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_tests::{daemon::signal, eventually};
use rustix::process::{Pid, Signal, kill_process_group};

const PROGRAM: &str = "stress-ng";

/// It ends by itself so long after it should have been ended, in seconds.
const SPARE_SECS: u32 = 60;

/// How long it may take to remove its files.
const ENDING: Duration = Duration::from_secs(10);

/// Fails with a word on how to install it where it is missing.
pub(super) fn require() -> Result<()> {
    let output = Command::new(PROGRAM).arg("--version").output();
    ensure!(
        output.is_ok_and(|output| output.status.success()),
        "the load is made by {PROGRAM}, which is missing: apt-get install {PROGRAM}"
    );
    Ok(())
}

/// A running stress-ng, which ends when dropped.
pub(super) struct Stress {
    child: Child,
    arguments: Vec<String>,
    dir: PathBuf,
}

impl Stress {
    /// Starts it for a measurement of `seconds`, with its files in a new directory `dir`.
    ///
    /// Twice as many processes that compute as there are CPUs, four that flush file systems, two that
    /// fill memory and two that write files.
    pub(super) fn start(dir: &Path, seconds: u32) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        fs::create_dir(dir).with_context(|| format!("making {}", dir.display()))?;
        let computing = 2 * available_parallelism()?.get();
        let arguments = format!(
            "--cpu {computing} --io 4 --vm 2 --hdd 2 --timeout {}s",
            seconds.saturating_add(SPARE_SECS)
        );
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        // Should this program end without unwinding, the kernel ends it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", PROGRAM])
            .args(&arguments)
            .args(["--quiet", "--temp-path"])
            .arg(dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {PROGRAM}"))?;
        Ok(Self {
            child,
            arguments,
            dir: dir.to_owned(),
        })
    }

    /// The command, for the report.
    pub(super) fn command(&self) -> String {
        format!("{PROGRAM} {}", self.arguments.join(" "))
    }

    /// Fails when it has ended, for then there is no load.
    pub(super) fn check(&mut self) -> Result<()> {
        let status = self.child.try_wait()?;
        ensure!(
            status.is_none(),
            "{PROGRAM} ended early: {}",
            status.map(|status| status.to_string()).unwrap_or_default()
        );
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let pid = self.child.id();
        signal(pid, Signal::TERM)?;
        let ended = eventually(ENDING, "stress-ng ends", || {
            Ok(self.child.try_wait()?.is_some())
        });
        if ended.is_err() {
            // Its children are of its process group.
            let group = Pid::from_raw(i32::try_from(pid)?).context("not a process id")?;
            kill_process_group(group, Signal::KILL)?;
            self.child.wait()?;
        }
        fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir.display()))
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{PROGRAM}: {error:#}");
        }
    }
}
