//! What is done to units: systemd takes a job up and says later what became of it.

use std::{
    collections::HashMap, fs, future::poll_fn, io, num::NonZeroUsize, path::PathBuf, pin::Pin,
};

use futures_core::Stream as _;
use rustix::process::Pid;
use zbus::{
    Connection, Error, MessageStream, OwnedObjectPath, OwnedVariant, Result, connection::Builder,
};

use super::{
    bus::{MANAGER, PROPERTIES, SYSTEMD_PATH, UNIT, signals, systemd_of},
    state::State,
};
use crate::checks::words::clean;

/// SIGKILL.
const KILL: i32 = 9;
/// Ends of jobs, of all units, that may come before the answer that says which job is meant.
const ENDS: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// A connection by which one unit is started and stopped.
pub(crate) struct Jobs {
    connection: Connection,
    systemd: String,
    /// Its name.
    name: String,
    unit: OwnedObjectPath,
    /// Whether systemd sends signals to this connection.
    subscribed: bool,
}

/// What is known of a unit before and after a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) state: State,
    /// `Type` of a service.
    pub(crate) kind: String,
    /// `Result`: how it last ended.
    pub(crate) result: String,
    /// Whether something is to be done with it: it will not stay as it is.
    pub(crate) has_job: bool,
    /// Where its processes are.
    cgroup: Option<PathBuf>,
}

impl Facts {
    /// Its processes, those of groups below its own as well.
    pub(crate) fn processes(&self) -> io::Result<Vec<Pid>> {
        let cgroup = self.cgroup.clone();
        cgroup.map_or_else(|| Ok(Vec::new()), super::cgroup::processes)
    }

    /// Whether a process of it is left, as far as that can be seen.
    pub(crate) fn has_processes(&self) -> bool {
        !self.processes().is_ok_and(|pids| pids.is_empty())
    }

    /// Whether it does nothing and has no process.
    pub(crate) fn is_off(&self) -> bool {
        matches!(self.state.active.as_str(), "inactive" | "failed") && !self.has_processes()
    }

    /// Whether it has ended, and systemd will start it again by itself.
    pub(crate) fn returns(&self) -> bool {
        self.state.active == "activating" && self.state.sub.starts_with("auto-restart")
    }

    /// Whether it does its work.
    pub(crate) fn is_on(&self) -> bool {
        matches!(
            self.state.active.as_str(),
            "active" | "reloading" | "refreshing"
        )
    }
}

impl Jobs {
    /// Connects to the system's bus, or to another one.
    pub(crate) async fn connect(address: Option<&str>, name: &str) -> Result<Self> {
        let builder = match address {
            Some(address) => Builder::address(address),
            None => Builder::system(),
        };
        let connection = builder.build().await?;
        let systemd = systemd_of(&connection).await?;
        let (to, path, interface) = (Some(systemd.as_str()), SYSTEMD_PATH, Some(MANAGER));
        let unit: OwnedObjectPath = connection
            .call_method(to, path, interface, "LoadUnit", &name)
            .await?
            .body()
            .deserialize()?;
        Ok(Self {
            connection,
            systemd,
            name: name.to_owned(),
            unit,
            subscribed: false,
        })
    }

    /// What is known of the unit now.
    pub(crate) async fn facts(&self) -> Result<Facts> {
        let properties = self.properties(UNIT).await?;
        let state = State::of(&properties).ok_or(Error::InvalidReply)?;
        let job = properties.get("Job").and_then(job_number);
        // Of its type; some have none.
        let own = match interface(&self.name) {
            Some(interface) => self.properties(&interface).await.unwrap_or_default(),
            None => HashMap::new(),
        };
        let text = |name: &str| {
            let value = own.get(name)?;
            <&str>::try_from(value).ok().map(str::to_owned)
        };
        let cgroup = text("ControlGroup").filter(|path| path.len() > 1);
        Ok(Facts {
            state,
            kind: text("Type").unwrap_or_default(),
            result: text("Result").unwrap_or_default(),
            has_job: job.is_some_and(|number| number != 0),
            cgroup: cgroup.map(|path| super::cgroup::place(&path)),
        })
    }

    /// Has a job done, as `StartUnit`, and waits for its end. `Err`: what systemd says of it.
    pub(crate) async fn job(&mut self, verb: &str) -> std::result::Result<(), String> {
        let mut ends = self.ends().await.map_err(|error| told(&error))?;
        let job = self.begin(verb).await.map_err(|error| told(&error))?;
        loop {
            let message = poll_fn(|context| Pin::new(&mut ends).poll_next(context)).await;
            let Some(message) = message else {
                return Err("D-Bus: the connection has ended".to_owned());
            };
            let message = message.map_err(|error| told(&error))?;
            let body = message.body();
            let Ok((_, path, _, result)) =
                body.deserialize::<(u32, OwnedObjectPath, String, String)>()
            else {
                continue;
            };
            if path == job {
                return match result.as_str() {
                    "done" => Ok(()),
                    other => Err(format!("the job's result is \"{}\"", clean(other))),
                };
            }
        }
    }

    /// `JobRemoved`, of all units. Only for as long as somebody takes them: a queue that is full would hold up
    /// everything else on the connection.
    async fn ends(&mut self) -> Result<MessageStream> {
        let ends = signals()
            .sender(self.systemd.as_str())
            .path(SYSTEMD_PATH)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()?;
        let ends = MessageStream::for_match_rule(ends, &self.connection, Some(ENDS)).await?;
        if !self.subscribed {
            self.call("Subscribe", &()).await?;
            self.subscribed = true;
        }
        Ok(ends)
    }

    /// Has a job done and does not wait. It replaces another one of the unit.
    pub(crate) async fn begin(&self, verb: &str) -> Result<OwnedObjectPath> {
        let answer = self.call(verb, &(self.name.as_str(), "replace")).await?;
        answer.body().deserialize()
    }

    /// Kills all processes of the unit.
    pub(crate) async fn kill(&self, facts: &Facts) -> Result<()> {
        if let Some(cgroup) = &facts.cgroup {
            // Since Linux 5.14; it leaves out none that is being forked.
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        }
        let killed = self
            .call("KillUnit", &(self.name.as_str(), "all", KILL))
            .await;
        // There is no process to kill, or no unit.
        match killed {
            Ok(_) | Err(Error::MethodError(..)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Forgets that it failed, and how often: it may be started again.
    pub(crate) async fn forgive(&self) -> Result<()> {
        self.call("ResetFailedUnit", &self.name.as_str())
            .await
            .map(drop)
    }

    /// Has it read the files of all units again.
    pub(crate) async fn reload(&self) -> Result<()> {
        self.call("Reload", &()).await.map(drop)
    }

    /// Keeps the unit from being started by anybody until the next reboot.
    pub(crate) async fn mask(&self) -> Result<()> {
        let (runtime, force) = (true, false);
        let units = vec![self.name.as_str()];
        self.call("MaskUnitFiles", &(units, runtime, force)).await?;
        self.reload().await
    }

    /// Lets it be started again.
    pub(crate) async fn unmask(&self) -> Result<()> {
        let runtime = true;
        let units = vec![self.name.as_str()];
        self.call("UnmaskUnitFiles", &(units, runtime)).await?;
        self.reload().await
    }

    async fn call<B>(&self, method: &str, body: &B) -> Result<zbus::Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let to = Some(self.systemd.as_str());
        self.connection
            .call_method(to, SYSTEMD_PATH, Some(MANAGER), method, body)
            .await
    }

    async fn properties(&self, interface: &str) -> Result<HashMap<String, OwnedVariant>> {
        self.connection
            .call_method(
                Some(self.systemd.as_str()),
                &self.unit,
                Some(PROPERTIES),
                "GetAll",
                &interface,
            )
            .await?
            .body()
            .deserialize()
    }
}

/// What systemd, or the way to it, says.
pub(crate) fn told(error: &Error) -> String {
    match error {
        Error::MethodError(name, Some(words), _) => format!("{}: {}", clean(name), clean(words)),
        error => format!("D-Bus: {}", clean(&error.to_string())),
    }
}

/// `Job`: its number and its path; 0 where there is none.
fn job_number(value: &OwnedVariant) -> Option<u32> {
    let job = <(u32, OwnedObjectPath)>::try_from(value.clone());
    job.ok().map(|(number, _)| number)
}

/// Where the properties of a unit's type are.
fn interface(name: &str) -> Option<String> {
    let (_, kind) = name.rsplit_once('.')?;
    let mut letters = kind.chars();
    let first = letters.next()?.to_ascii_uppercase();
    Some(format!(
        "org.freedesktop.systemd1.{first}{}",
        letters.as_str()
    ))
}
