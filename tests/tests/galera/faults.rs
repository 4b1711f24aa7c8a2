//! A fault at each step of each plan: whatever happens, writes are served again, and the cluster becomes whole.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{Kind, daemon::signal, eventually, mariadb::Ledger, now, scenario};
use rustix::process::Signal;

use crate::stage::{LIMIT, Stage};

/// A step that has not begun by then does not.
const WAIT: Nanos = Nanos::from_secs(90);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL to the server.
    Server,
    /// SIGKILL to the daemon.
    Daemon,
}

/// How a plan begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    /// An operator hands over.
    Switchover,
    /// The primary's server hangs.
    Hang,
    /// The primary's daemon hangs, and goes on when the other node serves.
    Sleep,
}

/// Whose plan it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Old,
    New,
}

/// A step of a plan, and how it comes to it.
struct Case {
    plan: &'static str,
    step: &'static str,
    whose: Whose,
    trigger: Trigger,
}

const fn case(plan: &'static str, step: &'static str, whose: Whose, trigger: Trigger) -> Case {
    Case {
        plan,
        step,
        whose,
        trigger,
    }
}

const CASES: &[Case] = &[
    case("promote", "bootstrap", Whose::New, Trigger::Switchover),
    case("promote", "allow-writes", Whose::New, Trigger::Switchover),
    case(
        "hand over",
        "forbid-writes",
        Whose::Old,
        Trigger::Switchover,
    ),
    case("hand over", "end-sessions", Whose::Old, Trigger::Switchover),
    case("demote", "forbid-writes", Whose::Old, Trigger::Sleep),
    case("demote", "end-sessions", Whose::Old, Trigger::Sleep),
    case("demote", "kill-server", Whose::Old, Trigger::Hang),
    case("demote", "start-server", Whose::Old, Trigger::Hang),
];

/// How often a step is tried to be hit that may be over within a millisecond.
const ATTEMPTS: usize = 6;

/// Until the process that fences has made the server of a killed daemon read-only. Generous for a busy machine.
const FENCED_WITHIN: Nanos = Nanos::from_secs(5);

/// The length of a node's journal.
fn length(stage: &Stage, index: usize) -> usize {
    fs::metadata(journal(stage, index))
        .map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX))
}

fn journal(stage: &Stage, index: usize) -> std::path::PathBuf {
    stage.nodes[index].dir().join("state/roles/db.journal")
}

/// Waits until a step stands in a node's journal, which is before it begins. Nothing may be slow here.
fn wait_for_step(stage: &Stage, index: usize, from: usize, step: &str) -> Result<()> {
    let wanted = format!("\"step\":\"{step}\"");
    let path = journal(stage, index);
    let end = now().after(WAIT);
    while now() < end {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.get(from..).is_some_and(|new| new.contains(&wanted)) {
            return Ok(());
        }
        thread::sleep(Duration::from_micros(200));
    }
    anyhow::bail!("{step} never begins:\n{}", stage.said())
}

/// Whether a step is under way: its record is the last of its plan. One that only looks writes none, so what follows
/// the step may be that.
fn is_under_way(stage: &Stage, index: usize, from: usize, step: &str) -> Result<bool> {
    let text = fs::read_to_string(journal(stage, index))?;
    let new = text.get(from..).context("a journal that was cut")?;
    let mut lines = new.lines().rev();
    // What was heard meanwhile belongs to no plan.
    let last = lines.find(|line| !line.contains("\"record\":\"heard\""));
    Ok(last.is_some_and(|line| line.contains(&format!("\"step\":\"{step}\""))))
}

/// A fault that happened.
struct Struck {
    at: MonoNs,
    /// Whether the step was under way still.
    in_time: bool,
}

impl Stage {
    /// Ends the server with SIGKILL in a step. Where the step starts it, there is none at first; where the step ends
    /// it, it does not matter who does.
    fn strike(&self, index: usize, from: usize, step: &str) -> Result<bool> {
        loop {
            let struck = self.server(index).strike().is_ok();
            let in_time = is_under_way(self, index, from, step)?;
            if struck || !in_time || step == "kill-server" {
                return Ok(struck && in_time || step == "kill-server");
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Begins a plan, and lets a fault happen once a step of it has begun.
    fn interrupt(
        &mut self,
        case: &Case,
        old: usize,
        target: usize,
        fault: Fault,
    ) -> Result<Struck> {
        let from = length(self, target);
        let daemon = self.nodes[target].daemon()?.pid();
        let strike = |stage: &Self| -> Result<Struck> {
            wait_for_step(stage, target, from, case.step)?;
            let at = now();
            let in_time = match fault {
                Fault::Server => stage.strike(target, from, case.step)?,
                Fault::Daemon => {
                    signal(daemon, Signal::KILL)?;
                    is_under_way(stage, target, from, case.step)?
                }
            };
            Ok(Struck { at, in_time })
        };
        match case.trigger {
            Trigger::Switchover => {
                let stage = &*self;
                thread::scope(|scope| {
                    // What it says does not matter: its daemon may be killed meanwhile.
                    let operator = scope.spawn(|| stage.nodes[old].hactl(&["switchover", "db"]));
                    let struck = strike(stage);
                    drop(operator.join());
                    struck
                })
            }
            Trigger::Hang => {
                self.server(old).freeze()?;
                strike(self)
            }
            Trigger::Sleep => {
                self.nodes[old].daemon()?.hang()?;
                self.served(now(), Some(1 - old))?;
                self.nodes[old].daemon()?.thaw()?;
                strike(self)
            }
        }
    }

    /// A fault in a step, again and again until it comes in time; the times in which a daemon that was killed may have
    /// had a server that was not fenced yet are added.
    fn case(
        &mut self,
        case: &Case,
        fault: Fault,
        unfenced: &mut Vec<(MonoNs, MonoNs)>,
    ) -> Result<String> {
        for attempt in 1..=ATTEMPTS {
            let (struck, outcome) = self.attempt(case, fault)?;
            if fault == Fault::Daemon {
                unfenced.push((struck.at, struck.at.after(FENCED_WITHIN)));
            }
            if struck.in_time {
                return Ok(format!("{outcome} (attempt {attempt})"));
            }
        }
        anyhow::bail!("the step was over each time: {ATTEMPTS} attempts")
    }

    fn attempt(&mut self, case: &Case, fault: Fault) -> Result<(Struck, String)> {
        let old = self.settle()?;
        eventually(LIMIT, "a hand-over is possible", || {
            let preview = self.nodes[old].hactl(&["switchover", "db", "--dry-run"]);
            Ok(preview.is_ok())
        })?;
        let target = match case.whose {
            Whose::Old => old,
            Whose::New => 1 - old,
        };
        let struck = self.interrupt(case, old, target, fault)?;
        let at = struck.at;
        if fault == Fault::Daemon {
            self.nodes[target].restart(Kind::Had)?;
        }
        // What was under way may have been acknowledged by who is dead.
        let served_at = at.after(Nanos::from_millis(100));
        let by = self.served(served_at, None)?;
        let ledger = self.writers.ledger();
        let longest = pause(&ledger, at)?;
        self.revive(target)?;
        let settled = self.settle()?;
        let outcome = format!(
            "{} serves, writes pause for {longest}; in the end {} is primary",
            name(by, old),
            name(settled, old)
        );
        Ok((struck, outcome))
    }
}

fn name(index: usize, old: usize) -> &'static str {
    if index == old {
        "the old one"
    } else {
        "the new one"
    }
}

/// The longest time without an acknowledgement from a fault on.
fn pause(ledger: &Ledger, from: MonoNs) -> Result<Nanos> {
    let mut done: Vec<MonoNs> = ledger
        .acknowledged()
        .map(|write| write.done)
        .filter(|done| *done >= from)
        .collect();
    done.sort_unstable();
    let first = done.first().context("a write")?.since(from);
    let gaps = done.windows(2).map(|two| two[1].since(two[0]));
    Ok(gaps.fold(first, Nanos::max))
}

fn run(fault: Fault) {
    scenario(|lab| {
        let mut stage = Stage::start(lab, &["n1", "n2"], "alone")?;
        let mut unfenced = Vec::new();
        for case in CASES {
            let Case { plan, step, .. } = case;
            let outcome = stage.case(case, fault, &mut unfenced);
            let outcome = outcome.with_context(|| format!("{plan}, {step}, {fault:?}"))?;
            println!("{fault:?} | {plan} | {step} | {outcome}");
        }
        let ledger = stage.verify_but_for(&unfenced)?;
        ensure!(ledger.acknowledged().next().is_some());
        Ok(())
    });
}

#[test]
fn a_server_that_is_killed_at_any_step_of_any_plan() {
    run(Fault::Server);
}

#[test]
fn a_daemon_that_is_killed_at_any_step_of_any_plan() {
    run(Fault::Daemon);
}
