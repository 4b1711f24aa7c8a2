//! A server that is a unit of systemd.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use tokio::{task::spawn_blocking, time::timeout};

use super::{Presence, traces};
use crate::{
    config::ServerProcess,
    roles::database::Failure,
    systemd::{Facts, Jobs, told},
};

/// How long systemd may take to answer: what has to be ended is ended without it.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it may take to read the files of all units again.
const RELOAD: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Service {
    unit: String,
    /// Where the bus is, if not where it is for everybody.
    pub(super) address: Option<String>,
    /// Where drop-ins are until the next boot.
    pub(super) units: PathBuf,
    /// `None`: to be connected to.
    jobs: Option<Jobs>,
}

impl Service {
    pub(super) fn new(unit: &str) -> Self {
        Self {
            unit: unit.to_owned(),
            address: None,
            units: PathBuf::from("/run/systemd/system"),
            jobs: None,
        }
    }

    pub(super) fn unit(&self) -> &str {
        &self.unit
    }

    /// What systemd says now.
    async fn facts(&mut self) -> Result<Facts, String> {
        if let Some(jobs) = self.jobs.take()
            && let Ok(facts) = jobs.facts().await
        {
            self.jobs = Some(jobs);
            return Ok(facts);
        }
        let connected = Jobs::connect(self.address.as_deref(), &self.unit).await;
        let jobs = connected.map_err(|error| told(&error))?;
        let facts = jobs.facts().await.map_err(|error| told(&error))?;
        self.jobs = Some(jobs);
        Ok(facts)
    }

    async fn soon(&mut self) -> Result<Facts, String> {
        match timeout(PATIENCE, self.facts()).await {
            Ok(facts) => facts,
            Err(_) => Err("systemd does not answer".to_owned()),
        }
    }

    /// Whether its server runs.
    pub(super) async fn presence(&mut self, config: &Arc<ServerProcess>) -> Presence {
        let facts = match self.soon().await {
            Ok(facts) => facts,
            Err(why) => return Presence::Unknown(format!("systemd cannot be asked: {why}")),
        };
        let (unit, config) = (self.unit.clone(), Arc::clone(config));
        let judged = spawn_blocking(move || judge(&unit, &facts, &config)).await;
        judged.unwrap_or_else(|_| Presence::Unknown("the daemon ends".to_owned()))
    }

    /// Ends all that it runs; nor is it started again by itself.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        let ended = async {
            let facts = self.facts().await?;
            let Some(jobs) = &self.jobs else {
                return Ok(());
            };
            jobs.begin("StopUnit").await.map_err(|error| told(&error))?;
            jobs.kill(&facts).await.map_err(|error| told(&error))
        };
        let why = match timeout(PATIENCE, ended).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => "systemd does not answer".to_owned(),
        };
        Err(format!("{} cannot be stopped: {why}", self.unit))
    }

    /// What it starts from now on gets these options.
    pub(super) async fn prepare(&mut self, options: &[&str]) -> Result<(), Failure> {
        self.drop_in(options).await?;
        self.soon().await?;
        let Some(jobs) = &self.jobs else {
            return Ok(());
        };
        match timeout(RELOAD, jobs.reload()).await {
            Ok(reloaded) => Ok(reloaded.map_err(|error| told(&error))?),
            Err(_) => Err("systemd does not answer".into()),
        }
    }

    /// Has its server started with these options, at once also where systemd would start it later.
    pub(super) async fn start(&mut self, options: &[&str]) -> Result<(), Failure> {
        self.prepare(options).await?;
        let facts = self.soon().await?;
        let Some(jobs) = &self.jobs else {
            return Ok(());
        };
        let verb = if facts.returns() {
            "RestartUnit"
        } else {
            "StartUnit"
        };
        let start = async {
            if facts.state.active == "failed" {
                jobs.forgive().await?;
            }
            jobs.begin(verb).await
        };
        match timeout(PATIENCE, start).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                Err(format!("{} cannot be started: {}", self.unit, told(&error)).into())
            }
            Err(_) => Err("systemd does not answer".into()),
        }
    }

    /// What the unit's environment gives the server, until the machine is started anew.
    async fn drop_in(&self, options: &[&str]) -> Result<(), Failure> {
        let dir = self.units.join(format!("{}.d", self.unit));
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
}

/// What the state of a unit, and its processes, say of its server.
fn judge(unit: &str, facts: &Facts, config: &ServerProcess) -> Presence {
    let processes = match facts.processes() {
        Ok(processes) => processes,
        Err(error) => {
            return Presence::Unknown(format!("the processes of {unit} cannot be read: {error}"));
        }
    };
    let data_dir = config.data_dir.as_deref();
    let mut servers = processes.iter();
    if let Some(pid) = servers.find(|pid| traces::of_unit(**pid, data_dir)) {
        return Presence::Running(*pid);
    }
    let state = &facts.state;
    if facts.returns() {
        return Presence::Returning(format!("{unit} has ended, and systemd starts it again"));
    }
    if state.load == "not-found" {
        return Presence::Unknown(format!("there is no unit {unit}: see `unit`"));
    }
    if facts.has_job {
        return Presence::Unknown(format!("systemd is about to do something with {unit}"));
    }
    if !processes.is_empty() {
        return Presence::Unknown(format!(
            "{unit} has processes, and none of them is the server of `data_dir`"
        ));
    }
    match state.active.as_str() {
        "inactive" | "failed" => Presence::Gone,
        active => Presence::Unknown(format!(
            "{unit} is {active} ({}), and has no process that is a server",
            state.sub
        )),
    }
}
