//! `bench steps`: at each step of each plan for a pair of databases something fails, with real servers and clients that
//! write. Afterwards nobody may be half-promoted, and each acknowledged write must be there once.

mod catch;
mod occasion;
mod outcome;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use ha_common::Nanos;
use ha_tests::mariadb::{Durability, Load, Storage};

use self::{catch::Catch, outcome::Outcome};
pub(crate) use self::{catch::Fault, occasion::Occasion};
use crate::{
    figures::verdict,
    writes::{Options, Promoter, Stage},
};

/// A step may be over before it was seen: then it is waited for again.
const ATTEMPTS: u32 = 8;

/// How long a plan may take to come to the step.
const STEP_LIMIT: Duration = Duration::from_secs(20);

const HEARTBEAT: Nanos = Nanos::from_millis(30);

/// What came of a fault at a step.
struct Row {
    occasion: Occasion,
    step: &'static str,
    fault: Fault,
    outcome: Result<Outcome, String>,
}

/// Runs all of them, and prints the table.
pub(crate) fn run(occasions: &[Occasion], faults: &[Fault], check: bool) -> Result<()> {
    let mut rows = Vec::new();
    let mut kept = None;
    for occasion in occasions {
        for step in occasion.steps() {
            for fault in faults {
                let outcome = one(*occasion, step, *fault, &mut kept);
                let outcome = outcome.map_err(|error| format!("{error:#}"));
                match &outcome {
                    Ok(outcome) => eprintln!("{}, {step}, {fault}: {outcome}", occasion.name()),
                    Err(why) => eprintln!("{}, {step}, {fault}: FAILED: {why}", occasion.name()),
                }
                rows.push(Row {
                    occasion: *occasion,
                    step,
                    fault: *fault,
                    outcome,
                });
            }
        }
    }
    println!("{}", table(&rows));
    let misses: Vec<String> = rows.iter().filter_map(miss).collect();
    verdict(&misses, check)
}

/// A trial, in the stage of the one before if all was well with that.
fn one(
    occasion: Occasion,
    step: &'static str,
    fault: Fault,
    kept: &mut Option<Stage>,
) -> Result<Outcome> {
    for _ in 0..ATTEMPTS {
        let mut stage = match kept.take() {
            Some(stage) => stage,
            None => Stage::start(Promoter::Had, &options())?,
        };
        let first = stage.writers.next_id();
        let primary = outcome::settle(&stage)?;
        let catch = Catch::prepare(&mut stage, occasion, step, fault, primary)?;
        let caught = std::thread::scope(|scope| {
            let catcher = scope.spawn(|| catch.wait(STEP_LIMIT));
            // It fails where what carries it out is killed.
            let provoked = occasion.provoke(&stage, primary);
            let caught = catcher.join();
            let caught = caught.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match caught? {
                Some(at) => Ok::<_, anyhow::Error>(Some(at)),
                None => provoked.map(|()| None),
            }
        })?;
        if caught.is_some() {
            catch.mend(&mut stage)?;
        }
        occasion.heal(&stage, primary)?;
        let outcome = outcome::of(&stage, first, caught)
            .inspect_err(|_| eprintln!("{}", stage.log_tails()))?;
        if outcome.is_well() {
            *kept = Some(stage);
        }
        // Also where the step was not seen: the transition was a real one.
        if caught.is_some() || !outcome.is_well() {
            return Ok(outcome);
        }
    }
    anyhow::bail!("it was not seen in {ATTEMPTS} attempts")
}

fn options() -> Options {
    Options {
        trials: 1,
        promoters: vec![Promoter::Had],
        faults: Vec::new(),
        load: Load {
            clients: 4,
            rate: 300,
            tellers: 2,
        },
        durability: Durability::SemiSync,
        storage: Storage::Memory,
        lag: None,
        heartbeat: HEARTBEAT,
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<28} {:<17} {:<16} {}\n",
        "plan", "step", "killed there", "outcome"
    );
    for row in rows {
        let outcome = match &row.outcome {
            Ok(outcome) => outcome.to_string(),
            Err(why) => format!("FAILED: {}", why.lines().next().unwrap_or_default()),
        };
        text.push_str(&format!(
            "{:<28} {:<17} {:<16} {outcome}\n",
            row.occasion.name(),
            row.step,
            row.fault.to_string(),
        ));
    }
    text
}

fn miss(row: &Row) -> Option<String> {
    let what = format!("{}, {}, {}", row.occasion.name(), row.step, row.fault);
    match &row.outcome {
        Ok(outcome) if outcome.is_well() => None,
        Ok(outcome) => Some(format!("{what}: {outcome}")),
        Err(why) => Some(format!(
            "{what}: {}",
            why.lines().next().unwrap_or_default()
        )),
    }
}

/// Where a node's daemon answers.
fn control(stage: &Stage, index: usize) -> PathBuf {
    stage.nodes[index].dir().join("run/control.sock")
}
