//! The server's process: whether it is there, its end, and its start.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use ha_common::MonoNs;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{
    process::{Child, Command},
    task::spawn_blocking,
};

use super::{Failure, pause};
use crate::{checks::tool::Tool, config::ServerProcess};

/// Where systemd keeps the processes of a unit.
const CGROUPS: &str = "/sys/fs/cgroup/system.slice";
/// See the module.
pub(in crate::roles) struct Process {
    config: Arc<ServerProcess>,
    /// What a server is started with that nobody is to write to, whatever its files say.
    options: &'static [&'static str],
    systemctl: Tool,
    /// One that was started here: at first it can be told by nothing else.
    started: Option<Child>,
}

impl Process {
    pub(in crate::roles) fn new(config: &ServerProcess, options: &'static [&'static str]) -> Self {
        Self {
            config: Arc::new(config.clone()),
            options,
            systemctl: Tool::new("systemctl"),
            started: None,
        }
    }

    /// The server's process, if it runs.
    pub(in crate::roles) async fn find(&mut self) -> Result<Option<Pid>, Failure> {
        if let Some(child) = &mut self.started {
            match child.try_wait() {
                Ok(None) => {
                    let id = child.id().and_then(|id| i32::try_from(id).ok());
                    return Ok(id.and_then(Pid::from_raw));
                }
                _ => self.started = None,
            }
        }
        let config = Arc::clone(&self.config);
        let found = spawn_blocking(move || find(&config)).await;
        found.map_err(|_| "the daemon ends".into())
    }

    /// Whether it could be started again.
    pub(in crate::roles) fn can_start(&self) -> bool {
        self.config.unit.is_some() || !self.config.start_command.is_empty()
    }

    /// Kills it, and waits until it has ended.
    pub(in crate::roles) async fn kill(&mut self, deadline: MonoNs) -> Result<String, Failure> {
        let mut killed = Vec::new();
        while let Some(pid) = self.find().await? {
            let fd = match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(fd) => fd,
                Err(rustix::io::Errno::SRCH) => continue,
                Err(error) => return Err(format!("the server's process {pid}: {error}").into()),
            };
            // It may have ended by itself.
            let _ = pidfd_send_signal(&fd, Signal::KILL);
            loop {
                let mut fds = [PollFd::new(&fd, PollFlags::IN)];
                let now = Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                };
                if poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0) {
                    break;
                }
                if !pause(deadline).await {
                    return Err(format!("the server's process {pid} does not end, though it was killed: it waits for a disk that does not answer").into());
                }
            }
            killed.push(pid.to_string());
            if let Some(unit) = &self.config.unit {
                // Else systemd starts it again by itself, as what it was.
                let _ = self.systemctl.run(&["stop", "--no-block", unit]).await;
            }
        }
        Ok(if killed.is_empty() {
            "the server does not run".to_owned()
        } else {
            format!("killed the server (process {})", killed.join(", "))
        })
    }

    /// Starts it as one that nobody can write to, with more options where it is not a unit.
    pub(in crate::roles) async fn start(&mut self, more: &[String]) -> Result<(), Failure> {
        if let Some(unit) = self.config.unit.clone() {
            drop_in(&unit, self.options).await?;
            self.systemctl.run(&["daemon-reload"]).await?;
            let started = self.systemctl.run(&["start", "--no-block", &unit]).await;
            return started.map(|_| ()).map_err(Failure::from);
        }
        let Some((program, arguments)) = self.config.start_command.split_first() else {
            return Err("the server does not run, and there is neither `unit` nor `start_command` to start it by".into());
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(self.options)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not ended together with the daemon by a terminal.
            .process_group(0);
        let started = spawn_blocking(move || command.spawn());
        match started.await {
            // It outlives this, and the daemon.
            Ok(Ok(child)) => {
                self.started = Some(child);
                Ok(())
            }
            Ok(Err(error)) => Err(format!("{program} cannot be run: {error}").into()),
            Err(_) => Err("the daemon ends".into()),
        }
    }
}

impl Process {
    /// As [`Self::start`], as the first node of a Galera cluster.
    pub(in crate::roles) async fn start_cluster(&mut self, more: &[String]) -> Result<(), Failure> {
        let Some(unit) = self.config.unit.clone() else {
            let mut options = more.to_vec();
            options.push("--wsrep-new-cluster".to_owned());
            return self.start(&options).await;
        };
        drop_in(&unit, self.options).await?;
        self.systemctl.run(&["daemon-reload"]).await?;
        let started = Tool::new("galera_new_cluster").run(&[&unit]).await;
        started.map(|_| ()).map_err(Failure::from)
    }
}

/// What the unit's environment gives the server, until the machine is started anew.
async fn drop_in(unit: &str, options: &[&str]) -> Result<(), Failure> {
    let dir = PathBuf::from(format!("/run/systemd/system/{unit}.d"));
    let text = format!(
        "# Written by had: this server was a primary that had to be killed.\n[Service]\nEnvironment=\"MYSQLD_OPTS={}\"\n",
        options.join(" ")
    );
    let written = spawn_blocking(move || {
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("50-had-replica.conf"), text)
    });
    match written.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the unit's drop-in cannot be written: {error}").into()),
        Err(_) => Err("the daemon ends".into()),
    }
}

fn find(config: &ServerProcess) -> Option<Pid> {
    let data_dir = config
        .data_dir
        .as_ref()
        .map(|dir| fs::canonicalize(dir).unwrap_or_else(|_| dir.clone()));
    let is_it = |pid: &Pid| match &data_dir {
        Some(dir) => works_in(*pid, dir),
        None => is_server(*pid),
    };
    let written = config
        .pid_file
        .as_ref()
        .and_then(|file| fs::read_to_string(file).ok())
        .and_then(|text| pid(text.trim()));
    if let Some(pid) = written.filter(is_it) {
        return Some(pid);
    }
    let of_unit = config.unit.as_ref().and_then(|unit| {
        let file = Path::new(CGROUPS).join(unit).join("cgroup.procs");
        let pids = fs::read_to_string(file).ok()?;
        pids.lines().filter_map(pid).find(is_it)
    });
    // One that has just been started has written no file yet.
    of_unit.or_else(|| scan(data_dir.as_deref()?))
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

/// A server works in the directory of its data.
fn scan(data_dir: &Path) -> Option<Pid> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let pids = entries.filter_map(|entry| pid(entry.file_name().to_str()?));
    let mut servers = pids.filter(|pid| is_server(*pid) && works_in(*pid, data_dir));
    servers.next()
}

fn works_in(pid: Pid, data_dir: &Path) -> bool {
    let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
    cwd.is_ok_and(|cwd| cwd == data_dir)
}

fn is_server(pid: Pid) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    name.is_ok_and(|name| matches!(name.trim(), "mariadbd" | "mysqld"))
}
