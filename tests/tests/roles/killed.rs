//! SIGKILL of `had` at every step of every plan, before and after the step has changed anything: started again, it
//! resumes or takes back, and never do two nodes serve.

use std::thread::scope;

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{Kind, daemon::signal, now, scenario};
use rustix::process::Signal;

use crate::{
    commands::steps,
    room::Mark,
    stage::{GROUP, Shape, Stage},
};

/// What has the step carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The Active node dies, and the other one takes over.
    TakeOver,
    /// It is handed over.
    HandOver,
    /// The Active node goes into maintenance.
    Maintenance,
}

/// A step, and when the daemon is killed that has ordered it.
struct Case {
    cause: Cause,
    role: String,
    step: String,
    mark: Mark,
}

impl Case {
    /// Of every step of the plans that `hactl` shows.
    fn all(stage: &Stage) -> Result<Vec<Self>> {
        let shown = stage.node(0).hactl(&["switchover", GROUP, "--dry-run"])?;
        let (demote, promote) = (steps(&shown["demote"])?, steps(&shown["promote"])?);
        let plans = [
            (Cause::TakeOver, &promote),
            (Cause::HandOver, &demote),
            (Cause::HandOver, &promote),
            (Cause::Maintenance, &demote),
        ];
        let mut cases = Vec::new();
        for (cause, steps) in plans {
            for (role, step) in steps {
                cases.extend([Mark::Before, Mark::After].map(|mark| Self {
                    cause,
                    role: role.clone(),
                    step: step.clone(),
                    mark,
                }));
            }
        }
        Ok(cases)
    }

    fn title(&self) -> String {
        let Self {
            cause,
            role,
            step,
            mark,
        } = self;
        format!("{cause:?}: {role}: {step}: {}", mark.name())
    }

    /// Returns the outcome, and who is Active then.
    fn run(&self, stage: &mut Stage, active: usize) -> Result<(String, usize)> {
        let promotes = self.step == "promote";
        let victim = if promotes { 1 - active } else { active };
        let name = stage.name(victim).to_owned();
        stage.room.set(self.mark, &name, &self.role, &self.step)?;
        let page = stage.room.page()?;
        let held = format!("{name} {} {} {}", self.role, self.step, self.mark.word());
        if self.cause == Cause::TakeOver {
            stage.scene.nodes[active].kill()?;
            stage.room.wait_for(page, &held)?;
            stage.scene.nodes[victim].kill()?;
        } else {
            let command = match self.cause {
                Cause::Maintenance => ["mode", "maintenance"],
                _ => ["switchover", GROUP],
            };
            let pid = stage.scene.nodes[victim].daemon()?.pid();
            scope(|scope| {
                // What it says does not matter: the daemon that it asks, or the other one, dies.
                let _asks = scope.spawn(|| stage.node(active).hactl(&command));
                stage.room.wait_for(page, &held)?;
                signal(pid, Signal::KILL)
            })?;
            stage.scene.nodes[victim].kill()?;
        }
        self.come_back(stage, active, victim, &name)
    }

    fn come_back(
        &self,
        stage: &mut Stage,
        active: usize,
        victim: usize,
        name: &str,
    ) -> Result<(String, usize)> {
        let (page, from) = (stage.room.page()?, now());
        stage.scene.nodes[victim].restart(Kind::Had)?;
        // What the daemon before had started is still there when this one begins.
        stage
            .room
            .wait_for(page, &format!("{name} second demote begin"))?;
        stage.room.lift(self.mark, name, &self.role, &self.step)?;
        let new = stage.wait_for_active()?;
        stage.scene.wait_served_by(new)?;
        let served = now().since(from);
        if self.cause == Cause::TakeOver {
            stage.scene.nodes[active].restart(Kind::Had)?;
        }
        if self.cause == Cause::Maintenance {
            let mode = stage.node(victim).hactl(&["mode"])?;
            ensure!(mode["mode"] == "maintenance", "{mode}");
            stage.node(victim).hactl(&["mode", "active-standby"])?;
        }
        stage.wait_settled(new)?;
        stage.check()?;
        Ok((self.outcome(stage, page, (name, served))?, new))
    }

    fn outcome(&self, stage: &Stage, page: usize, (name, served): (&str, Nanos)) -> Result<String> {
        let diary = stage.room.diary()?;
        let later = diary.iter().skip(page);
        let did: Vec<String> = later
            .filter(|entry| entry.word == "done")
            .map(|entry| format!("{} {} {}", entry.node, entry.step, entry.role))
            .collect();
        ensure!(
            did.iter()
                .any(|line| line.starts_with(&format!("{name} demote"))),
            "{name} took nothing back: {did:?}"
        );
        Ok(format!(
            "served {} ms after its restart; {}",
            served.0 / 1_000_000,
            did.join(", ")
        ))
    }
}

#[test]
fn a_daemon_that_is_killed_at_any_step_leaves_nothing_half_promoted() {
    scenario(|lab| {
        let mut stage = Stage::new(lab, &Shape::default())?;
        stage.wait_settled(0)?;
        let mut active = 0;
        for case in Case::all(&stage)? {
            stage.clear();
            let (outcome, new) = case.run(&mut stage, active).with_context(|| case.title())?;
            println!("{:<42} {outcome}", case.title());
            active = new;
        }
        Ok(())
    });
}
