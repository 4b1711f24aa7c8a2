//! `kind = "unit"`: a unit of systemd that runs on the group's Active node.

#[cfg(test)]
mod tests;

use std::time::Duration;

use ha_common::{MonoNs, Nanos};
use ha_core::{
    Mode,
    plan::{Done, Observation, Order},
};
use tokio::time::timeout;

use super::{
    Pending, Role, Situation,
    found::{Found, done, end_of},
    time::{again, within},
};
use crate::{
    config::UnitRole,
    sys::clock,
    systemd::{Bus, Facts, Jobs, News, State, told},
};

/// From one look to the next, where systemd tells of no change.
const EVERY: Duration = Duration::from_secs(1);
/// For a look.
const LOOK: Duration = Duration::from_secs(2);
/// To mask it, or to let it be started again.
const MASKING: Nanos = Nanos::from_secs(10);

/// See [`UnitRole`].
pub(super) struct Unit {
    unit: String,
    /// Where the bus is, if not where it is for everybody.
    address: Option<String>,
    /// `None`: to be connected to.
    jobs: Option<Jobs>,
    /// Where changes are heard.
    bus: Option<Bus>,
    /// Whether it is masked in maintenance.
    mask: bool,
}

impl Unit {
    /// Of this unit.
    pub(super) fn new(config: &UnitRole, mask: bool) -> Self {
        Self {
            unit: config.unit.clone(),
            address: None,
            jobs: None,
            bus: None,
            mask,
        }
    }

    /// Carries out a step, by its name. In words what was done, or why it was not.
    async fn step(&mut self, step: &str, deadline: MonoNs) -> Result<String, String> {
        let earlier = self.jobs.take();
        let connect = async {
            // One that broke meanwhile is of no use.
            if let Some(jobs) = earlier
                && jobs.facts().await.is_ok()
            {
                return Ok(jobs);
            }
            Jobs::connect(self.address.as_deref(), &self.unit).await
        };
        let connected = within(deadline, "the connection to systemd", connect).await?;
        let mut jobs = connected.map_err(|error| told(&error))?;
        let work = async {
            match step {
                "start" => start(&self.unit, &mut jobs).await,
                "stop" => stop(&self.unit, &mut jobs).await,
                "kill" => kill(&self.unit, &mut jobs, deadline).await,
                "mask" => mask(&self.unit, &mut jobs).await,
                "unmask" => unmask(&self.unit, &mut jobs).await,
                other => Err(format!("a role of kind unit has no step {other}")),
            }
        };
        let outcome = within(deadline, &format!("{step} of {}", self.unit), work).await?;
        self.jobs = Some(jobs);
        outcome
    }

    /// What it finds now.
    async fn look(&mut self) -> Found {
        match timeout(LOOK, self.state()).await {
            Ok(Ok(state)) => judge(&self.unit, &state),
            Ok(Err(error)) => Found::unknown(told(&error)),
            Err(_) => Found::unknown("systemd does not answer".to_owned()),
        }
    }

    async fn state(&mut self) -> zbus::Result<State> {
        if let Some(mut bus) = self.bus.take()
            && let Ok(state) = bus.state().await
        {
            self.bus = Some(bus);
            return Ok(state);
        }
        let mut bus = Bus::connect(self.address.as_deref(), &self.unit).await?;
        let state = bus.state().await?;
        self.bus = Some(bus);
        Ok(state)
    }
}

impl Role for Unit {
    fn run<'a>(&'a mut self, order: &'a Order) -> Pending<'a, Result<Done, String>> {
        Box::pin(async { self.step(order.step, end_of(order)).await.map(done) })
    }

    fn observe(&mut self) -> Pending<'_, Observation> {
        Box::pin(async { self.look().await.observation() })
    }

    fn watch(&mut self) -> Pending<'_, ()> {
        Box::pin(async {
            let Some(bus) = &mut self.bus else {
                return std::future::pending().await;
            };
            if matches!(bus.news().await, News::Lost) {
                self.bus = None;
            }
        })
    }

    fn every(&self) -> Duration {
        EVERY
    }

    fn look_limit(&self) -> Duration {
        LOOK + EVERY
    }

    fn adapt(&mut self, situation: Situation) -> Pending<'_, Result<(), String>> {
        Box::pin(async move {
            if !self.mask {
                return Ok(());
            }
            let step = match situation.mode {
                Mode::Maintenance => "mask",
                Mode::ActiveStandby | Mode::Standalone => "unmask",
            };
            let deadline = clock::now().after(MASKING);
            self.step(step, deadline).await.map(drop)
        })
    }
}

/// A unit that is being started or stopped is neither.
fn judge(unit: &str, state: &State) -> Found {
    let promoted = match state.active.as_str() {
        "active" | "reloading" | "refreshing" => Some(true),
        "inactive" | "failed" => Some(false),
        _ => None,
    };
    let able = match state.load.as_str() {
        "loaded" => Ok(()),
        // A unit whose file is gone still runs.
        _ if promoted == Some(true) => Ok(()),
        _ => state.judge(unit).map(drop),
    };
    Found { promoted, able }
}

async fn facts(jobs: &Jobs) -> Result<Facts, String> {
    jobs.facts().await.map_err(|error| told(&error))
}

async fn start(unit: &str, jobs: &mut Jobs) -> Result<String, String> {
    let before = facts(jobs).await?;
    if before.is_on() {
        return Ok(format!("{unit} runs"));
    }
    if before.state.active == "failed" {
        jobs.forgive().await.map_err(|error| told(&error))?;
    }
    let done = jobs.job("StartUnit").await;
    let after = facts(jobs).await?;
    if after.is_on() {
        return Ok(format!("{unit} runs ({})", after.state.sub));
    }
    let state = after
        .state
        .judge(unit)
        .err()
        .unwrap_or_else(|| format!("{unit} does not run"));
    Err(match done {
        Ok(()) if after.kind == "oneshot" && after.result == "success" => format!(
            "{unit} has done its work and is {}: nobody could tell that it is promoted: add RemainAfterExit=yes to it",
            after.state.active
        ),
        Ok(()) => format!("{unit} was started, but {state}"),
        Err(why) => format!(
            "{unit} cannot be started: {why} ({state}{}): see: journalctl -u {unit}",
            result(&after)
        ),
    })
}

async fn stop(unit: &str, jobs: &mut Jobs) -> Result<String, String> {
    if facts(jobs).await?.is_off() {
        return Ok(format!("{unit} does not run"));
    }
    let done = jobs.job("StopUnit").await;
    let after = facts(jobs).await?;
    if after.is_off() {
        return Ok(format!("{unit} does not run{}", result(&after)));
    }
    Err(match done {
        Ok(()) => format!(
            "{unit} was stopped, but is {} and {}",
            after.state.active,
            if after.has_processes() {
                "has processes left"
            } else {
                "has no process left"
            }
        ),
        Err(why) => format!("{unit} cannot be stopped: {why}"),
    })
}

/// The hard way. A job to stop it comes first, else systemd would start it again.
async fn kill(unit: &str, jobs: &mut Jobs, deadline: MonoNs) -> Result<String, String> {
    loop {
        let now = facts(jobs).await?;
        if now.is_off() {
            return Ok(format!("{unit} does not run, it was killed"));
        }
        jobs.begin("StopUnit").await.map_err(|error| told(&error))?;
        jobs.kill(&now).await.map_err(|error| told(&error))?;
        if !again(deadline).await {
            return Err(format!(
                "{unit} is {} although it was killed: a process of it waits for the kernel",
                now.state.active
            ));
        }
    }
}

async fn mask(unit: &str, jobs: &mut Jobs) -> Result<String, String> {
    if facts(jobs).await?.state.load == "masked" {
        return Ok(format!("{unit} is masked"));
    }
    jobs.mask().await.map_err(|error| told(&error))?;
    match facts(jobs).await?.state.load.as_str() {
        "masked" => Ok(format!("{unit} is masked")),
        // A file in /etc goes before one in /run.
        load => Err(format!(
            "{unit} is {load} although it was masked until the next reboot: its file is in /etc: run: systemctl mask {unit}"
        )),
    }
}

async fn unmask(unit: &str, jobs: &mut Jobs) -> Result<String, String> {
    if facts(jobs).await?.state.load != "masked" {
        return Ok(format!("{unit} is not masked"));
    }
    jobs.unmask().await.map_err(|error| told(&error))?;
    match facts(jobs).await?.state.load.as_str() {
        "masked" => Err(format!(
            "{unit} is masked by somebody else: run: systemctl unmask {unit}"
        )),
        _ => Ok(format!("{unit} is not masked any more")),
    }
}

fn result(facts: &Facts) -> String {
    match facts.result.as_str() {
        "" | "success" => String::new(),
        result => format!(", {}", crate::checks::words::clean(result)),
    }
}
