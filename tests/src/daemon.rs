//! A daemon on a node: started, signalled by process id, and gone when dropped.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{NetNs, eventually};

/// Which daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Had,
    /// Debian's keepalived.
    Keepalived,
}

impl Kind {
    /// The program's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Had => "had",
            Self::Keepalived => "keepalived",
        }
    }
}

/// A running daemon.
pub struct Daemon {
    kind: Kind,
    child: Child,
}

impl Daemon {
    /// Starts `kind` inside `namespace` with `config`; what it writes is appended to `log`.
    pub fn start(
        kind: Kind,
        namespace: &NetNs,
        dir: &Path,
        config: &Path,
        log: &Path,
    ) -> Result<Self> {
        let mut command = match kind {
            Kind::Had => {
                let mut command = namespace.command(&path_text(&program("had")?)?);
                command.arg("--config").arg(config);
                command
            }
            Kind::Keepalived => {
                let pid_files = [dir.join("keepalived.pid"), dir.join("keepalived-vrrp.pid")];
                for file in &pid_files {
                    // After SIGKILL it would take the file of its dead child for a running daemon.
                    match std::fs::remove_file(file) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(error).context("removing keepalived's pid file");
                        }
                        _ => {}
                    }
                }
                let [pid, vrrp_pid] = pid_files;
                let mut command = namespace.command("keepalived");
                command
                    .args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"])
                    .arg("--use-file")
                    .arg(config)
                    .arg("--pid")
                    .arg(pid)
                    .arg("--vrrp_pid")
                    .arg(vrrp_pid);
                command
            }
        };
        Self::spawn(kind, &mut command, log)
    }

    /// Starts `had` as root with these capabilities at most, as setpriv(1) writes them.
    pub fn start_confined(
        capabilities: &str,
        namespace: &NetNs,
        config: &Path,
        log: &Path,
    ) -> Result<Self> {
        let mut command = namespace.command("setpriv");
        command
            .arg(format!("--bounding-set={capabilities}"))
            .arg(program("had")?)
            .arg("--config")
            .arg(config);
        Self::spawn(Kind::Had, &mut command, log)
    }

    /// Starts `had`, which logs everything.
    pub fn start_verbose(namespace: &NetNs, config: &Path, log: &Path) -> Result<Self> {
        let mut command = namespace.command(&path_text(&program("had")?)?);
        command
            .args(["--log-level", "trace", "--config"])
            .arg(config);
        Self::spawn(Kind::Had, &mut command, log)
    }

    fn spawn(kind: Kind, command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let child = in_own_group(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", kind.name()))?;
        Ok(Self { kind, child })
    }

    /// Which daemon it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its process and those that it started and that end with it, parents first: not the database servers, which are
    /// its children where it has started them, and outlive it.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = found.get(next).copied() {
            next += 1;
            // A child belongs to the thread that started it.
            let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
            for thread in threads.into_iter().flatten().flatten() {
                let children = std::fs::read_to_string(thread.path().join("children"));
                let children = children.unwrap_or_default();
                found.extend(
                    children
                        .split_whitespace()
                        .filter_map(|pid| pid.parse::<u32>().ok())
                        .filter(|pid| !is_database_server(*pid)),
                );
            }
        }
        found
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        signal(self.child.id(), Signal::TERM)
    }

    /// Sends SIGHUP: read the configuration again.
    pub fn hang_up(&self) -> Result<()> {
        signal(self.child.id(), Signal::HUP)
    }

    /// Stops all of its processes with SIGSTOP.
    pub fn freeze(&self) -> Result<()> {
        // The children first: they do the work that is to end now.
        self.processes()
            .into_iter()
            .rev()
            .try_for_each(|pid| signal(pid, Signal::STOP))
    }

    /// Stops its own process alone, as it would hang: those that it started go on.
    pub fn hang(&self) -> Result<()> {
        signal(self.child.id(), Signal::STOP)
    }

    /// Kills its own process alone, as it would crash.
    pub fn crash(&mut self) -> Result<()> {
        signal(self.child.id(), Signal::KILL)?;
        self.child.wait().context("waiting for a killed daemon")?;
        Ok(())
    }

    /// Lets them go on with SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.processes()
            .into_iter()
            .try_for_each(|pid| signal(pid, Signal::CONT))
    }

    /// Kills all of its processes with SIGKILL, so that none can tidy up for another.
    pub fn kill(&mut self) -> Result<()> {
        self.strike()?;
        self.child.wait().context("waiting for a killed daemon")?;
        Ok(())
    }

    /// As [`Self::kill`], but does not wait for the end.
    pub fn strike(&self) -> Result<()> {
        let processes = self.processes();
        if let Some(parent) = processes.first()
            && processes.len() > 1
        {
            // A parent that sees its child die, or a child that sees its parent die, would act on it.
            signal(*parent, Signal::STOP)?;
        }
        for pid in processes.into_iter().rev() {
            signal(pid, Signal::KILL)?;
        }
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let mut status = None;
        let what = format!("{} ends", self.kind.name());
        eventually(deadline, &what, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        status.context("a daemon that ended has a status")
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A failure means that it just ended by itself.
            let _ = self.kill();
            let _ = self.child.wait();
        }
    }
}

/// By its name, as the kernel has it; whatever has ended is none.
fn is_database_server(pid: u32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    name.is_ok_and(|name| matches!(name.trim_end(), "mariadbd" | "mysqld"))
}

/// Keeps a Ctrl-C at the terminal from the daemons: whoever started them ends them in order.
fn in_own_group(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0)
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("not a process id")?;
    match kill_process(pid, signal) {
        // It ended by itself.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("sending {signal:?} to {pid:?}")),
    }
}

/// The path of one of our own programs: below `HAD_BIN_DIR`, else where cargo put it.
pub fn program(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("HAD_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let mut dir = std::env::current_exe()?;
            dir.pop();
            // Test executables live in `deps`, beside the programs' directory.
            if dir.ends_with("deps") {
                dir.pop();
            }
            dir
        }
    };
    let path = dir.join(name);
    ensure!(
        path.exists(),
        "{} is not there: run `cargo build` first (with --release for a release), or set HAD_BIN_DIR",
        path.display()
    );
    Ok(path)
}

fn path_text(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .with_context(|| format!("{} is not UTF-8", path.display()))
}
