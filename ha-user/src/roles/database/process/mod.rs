//! The server's process: whether it is there, its end, and its start.

mod service;
#[cfg(test)]
mod tests;
mod traces;

use std::{process::Stdio, sync::Arc};

use ha_common::MonoNs;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    process::{Child, Command},
    task::spawn_blocking,
};

use self::{
    service::Service,
    traces::{Traces, has_ended},
};
use super::{Failure, pause};
use crate::{checks::tool::Tool, config::ServerProcess, sys::clock};

/// Whether a server runs. That it was not found does not say that it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::roles) enum Presence {
    /// As this process.
    Running(Pid),
    /// It has ended, and systemd is about to start it again, in words.
    Returning(String),
    /// It has ended, or was never started.
    Gone,
    /// That cannot be told, in words.
    Unknown(String),
}

/// See the module.
pub(in crate::roles) struct Process {
    config: Arc<ServerProcess>,
    /// What a server is started with that nobody is to write to, whatever its files say.
    options: &'static [&'static str],
    service: Option<Service>,
    /// One that was started here: at first it can be told by nothing else.
    started: Option<Child>,
    /// Whether it was tried once to find the process of a server that runs.
    is_known: bool,
}

impl Process {
    pub(in crate::roles) fn new(config: &ServerProcess, options: &'static [&'static str]) -> Self {
        Self {
            config: Arc::new(config.clone()),
            options,
            service: config.unit.as_deref().map(Service::new),
            started: None,
            is_known: false,
        }
    }

    /// Whether the server runs.
    pub(in crate::roles) async fn find(&mut self) -> Presence {
        if let Some(child) = &mut self.started {
            match child.try_wait() {
                Ok(None) => {
                    let id = child.id().and_then(|id| i32::try_from(id).ok());
                    if let Some(pid) = id.and_then(Pid::from_raw) {
                        return Presence::Running(pid);
                    }
                }
                _ => self.started = None,
            }
        }
        let config = Arc::clone(&self.config);
        let looked = spawn_blocking(move || traces::look(&config)).await;
        let traces = looked.unwrap_or_else(|_| Traces::Unclear("the daemon ends".to_owned()));
        match (traces, &mut self.service) {
            (Traces::Running(pid), _) => Presence::Running(pid),
            // What has ended systemd knows best.
            (_, Some(service)) => service.presence(&self.config).await,
            (Traces::Unclear(why), None) => Presence::Unknown(why),
            (Traces::None, None) => Presence::Gone,
        }
    }

    /// Of a server that answers, once: why its process is not found, which could not be ended then.
    pub(in crate::roles) async fn acquaint(&mut self) -> Option<String> {
        if self.is_known {
            return None;
        }
        self.is_known = true;
        self.unfound().await
    }

    /// Of a server that answers: why its process is not found.
    pub(in crate::roles) async fn unfound(&mut self) -> Option<String> {
        let why = match self.find().await {
            Presence::Running(_) => return None,
            Presence::Gone => "nothing shows that it runs".to_owned(),
            Presence::Returning(why) | Presence::Unknown(why) => why,
        };
        Some(format!(
            "the server answers, but its process is not found ({why}): it could not be ended should it hang, and nobody would take over: see `unit`, `pid_file` and `data_dir`"
        ))
    }

    /// Whether it could be started again.
    pub(in crate::roles) fn can_start(&self) -> bool {
        self.service.is_some() || !self.config.start_command.is_empty()
    }

    /// Kills it, and waits until it has ended.
    pub(in crate::roles) async fn kill(&mut self, deadline: MonoNs) -> Result<String, Failure> {
        let mut killed: Vec<String> = Vec::new();
        let mut unit = Ok(());
        loop {
            let why = match self.find().await {
                Presence::Gone => {
                    let text = if killed.is_empty() {
                        "the server does not run".to_owned()
                    } else {
                        format!("killed the server (process {})", killed.join(", "))
                    };
                    return Ok(match unit {
                        Ok(()) => text,
                        Err(why) => format!("{text}; {why}: systemd may start it again"),
                    });
                }
                Presence::Running(pid) => {
                    // First, else systemd starts it again by itself, as what it was.
                    unit = self.end_service().await;
                    end(pid, deadline).await?;
                    let pid = pid.to_string();
                    if !killed.contains(&pid) {
                        killed.push(pid);
                    }
                    if clock::now() < deadline {
                        continue;
                    }
                    "it was started again after it was killed".to_owned()
                }
                Presence::Returning(why) | Presence::Unknown(why) => {
                    unit = self.end_service().await;
                    why
                }
            };
            if !pause(deadline).await {
                let unit = unit.map_or_else(|why| format!("; {why}"), |()| String::new());
                return Err(
                    format!("it is not certain that the server has ended: {why}{unit}").into(),
                );
            }
        }
    }

    async fn end_service(&mut self) -> Result<(), String> {
        match &mut self.service {
            Some(service) => service.end().await,
            None => Ok(()),
        }
    }

    /// Starts it as one that nobody can write to, with more options where it is not a unit.
    pub(in crate::roles) async fn start(&mut self, more: &[String]) -> Result<(), Failure> {
        if let Some(service) = &mut self.service {
            return service.start(self.options).await;
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

    /// As [`Self::start`], as the first node of a Galera cluster.
    pub(in crate::roles) async fn start_cluster(&mut self, more: &[String]) -> Result<(), Failure> {
        let Some(service) = &mut self.service else {
            let mut options = more.to_vec();
            options.push("--wsrep-new-cluster".to_owned());
            return self.start(&options).await;
        };
        service.prepare(self.options).await?;
        let unit = service.unit();
        let started = Tool::new("galera_new_cluster").run(&[unit]).await;
        started.map(|_| ()).map_err(Failure::from)
    }
}

/// Kills a process, and waits until it has ended.
async fn end(pid: Pid, deadline: MonoNs) -> Result<(), Failure> {
    let fd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(format!("the server's process {pid}: {error}").into()),
    };
    // It may have ended by itself.
    let _ = pidfd_send_signal(&fd, Signal::KILL);
    while !has_ended(&fd) {
        if !pause(deadline).await {
            return Err(format!("the server's process {pid} does not end, though it was killed: it waits for a disk that does not answer").into());
        }
    }
    Ok(())
}
