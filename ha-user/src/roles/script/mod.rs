//! `kind = "script"`: programs that are told each change, and acknowledge it by their exit code.

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use ha_core::plan::{Done, Observation, Order};

use super::{Pending, Role, Setting, Situation};
use crate::{
    checks::{Blocking, ScriptRuns, judge_script},
    config::{RoleCommand, Script, ScriptRole as Config},
};

/// From one look to the next: a process each time.
const EVERY: Duration = Duration::from_secs(1);

/// Where a run writes down who it is: of a daemon that is killed it is left, and must not go on beside what the next one
/// does.
fn record(setting: &Setting) -> PathBuf {
    setting.file("run")
}

/// Ends the run that a daemon before has left.
pub(super) fn end_others(setting: &Setting) -> Result<(), String> {
    ScriptRuns::end_others(&record(setting))
}

/// See [`Config`].
pub(super) struct ScriptRole {
    config: Config,
    setting: Setting,
    runs: ScriptRuns,
    /// A run of `status`, which may hang beside the others.
    looks: ScriptRuns,
    judging: Blocking<Result<(), String>>,
    /// What was acknowledged last.
    promoted: Option<bool>,
    /// What keepalived's word for the group's state was when it was told last.
    told: &'static str,
}

impl ScriptRole {
    pub(super) fn new(config: &Config, setting: Setting) -> Self {
        Self {
            config: config.clone(),
            runs: ScriptRuns::after_others(record(&setting)),
            setting,
            looks: ScriptRuns::new(),
            judging: Blocking::new(),
            promoted: None,
            told: "",
        }
    }

    async fn carry_out(&mut self, order: &Order) -> Result<Done, String> {
        let (command, state, promoted) = match order.step {
            "promote" => (self.config.promote.clone(), "MASTER", true),
            "demote" => (self.config.demote.clone(), "BACKUP", false),
            step => return Err(format!("a script has no step {step}")),
        };
        self.promoted = None;
        let gone = if order.context.source_gone {
            "yes"
        } else {
            "no"
        };
        let more = [
            ("HAD_STEP", order.step.to_owned()),
            ("HAD_EPOCH", order.epoch.to_string()),
            ("HAD_UNPLANNED", gone.to_owned()),
        ];
        let text = self.tell(command, state, &more).await?;
        if let Some(is) = self.status().await?
            && is != promoted
        {
            return Err(format!(
                "it was acknowledged, but `status` says that it is {}promoted",
                if is { "" } else { "not " }
            ));
        }
        self.promoted = Some(promoted);
        Ok(Done {
            text,
            ..Done::default()
        })
    }

    /// Runs the command of a state, then that of all states.
    async fn tell(
        &mut self,
        command: Option<RoleCommand>,
        state: &'static str,
        more: &[(&str, String)],
    ) -> Result<String, String> {
        let mut text = String::new();
        let notify = self.config.notify.clone().map(|mut notify| {
            notify.extend([
                "GROUP".to_owned(),
                self.setting.group.clone(),
                state.to_owned(),
                self.setting.priority.0.to_string(),
            ]);
            notify
        });
        for command in command.into_iter().chain(notify) {
            let script = self.script(command, state, more);
            text = self.runs.run(&script).await?;
        }
        self.told = state;
        Ok(text)
    }

    fn script(&self, command: RoleCommand, state: &str, more: &[(&str, String)]) -> Arc<Script> {
        let mut script = self.config.surroundings.clone();
        script.command = command;
        let setting = &self.setting;
        let known = [
            ("HAD_NODE", setting.node.clone()),
            ("HAD_GROUP", setting.group.clone()),
            ("HAD_ROLE", setting.role.clone()),
            ("HAD_STATE", state.to_owned()),
            ("HAD_PRIORITY", setting.priority.0.to_string()),
        ];
        let all = known.iter().chain(more);
        let own = all.map(|(name, value)| ((*name).to_owned(), value.clone()));
        script.env.extend(own);
        Arc::new(script)
    }

    /// What `status` says; `None`: there is none.
    async fn status(&mut self) -> Result<Option<bool>, String> {
        let Some(command) = self.config.status.clone() else {
            return Ok(None);
        };
        let script = self.script(command, self.told, &[]);
        match self.looks.run(&script).await {
            Ok(_) => Ok(Some(true)),
            Err(why) if why.starts_with("exit code ") => Ok(Some(false)),
            Err(why) => Err(format!("status: {why}")),
        }
    }

    /// Whether its programs could be run.
    async fn judge(&mut self) -> Result<(), String> {
        let config = &self.config;
        let commands = [
            &config.notify,
            &config.promote,
            &config.demote,
            &config.fault,
            &config.status,
        ];
        let scripts: Vec<Script> = commands
            .into_iter()
            .flatten()
            .map(|command| Script {
                command: command.clone(),
                ..config.surroundings.clone()
            })
            .collect();
        let judge = move || scripts.iter().try_for_each(judge_script);
        self.judging.call("the look at its programs", judge).await?
    }

    async fn look(&mut self) -> Observation {
        let able = self.judge().await;
        let promoted = match self.status().await {
            Ok(said) => said.or(self.promoted),
            Err(_) => None,
        };
        Observation::of(promoted, able)
    }

    /// Fault comes after the demotion, and without one where the group was not Active; so does its end.
    async fn tell_fault(&mut self, fault: bool) -> Result<(), String> {
        let (command, state) = match (self.told, fault) {
            ("BACKUP" | "", true) => (self.config.fault.clone(), "FAULT"),
            ("FAULT", false) => (self.config.demote.clone(), "BACKUP"),
            _ => return Ok(()),
        };
        self.tell(command, state, &[]).await.map(drop)
    }
}

impl Role for ScriptRole {
    fn run<'a>(&'a mut self, order: &'a Order) -> Pending<'a, Result<Done, String>> {
        Box::pin(self.carry_out(order))
    }

    fn observe(&mut self) -> Pending<'_, Observation> {
        Box::pin(self.look())
    }

    fn every(&self) -> Duration {
        EVERY
    }

    fn adapt(&mut self, situation: Situation) -> Pending<'_, Result<(), String>> {
        Box::pin(self.tell_fault(situation.fault))
    }
}
