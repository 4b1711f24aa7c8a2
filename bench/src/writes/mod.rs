//! `bench writes`: clients write through the VIP to a pair of MariaDB servers while something fails; afterwards each
//! acknowledged write must be there once, and at no instant two servers may have been writable. Beside `had`:
//! keepalived with a notify script, as its users promote a replica.

mod baseline;
mod fault;
mod report;
mod stage;
mod trial;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::mariadb::{Durability, Load, Storage};

pub(crate) use self::{
    fault::Fault,
    stage::Stage,
    trial::{Trial, judge},
};
use crate::{figures::verdict, write_json};

/// Who promotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Promoter {
    /// Ours, with a role of kind mysql
    Had,
    /// keepalived 2, whose notify script says `STOP SLAVE; SET GLOBAL read_only=0`
    Keepalived,
}

impl Promoter {
    const fn name(self) -> &'static str {
        match self {
            Self::Had => "had",
            Self::Keepalived => "keepalived",
        }
    }
}

/// What is measured, and how.
pub(crate) struct Options {
    pub(crate) trials: u32,
    pub(crate) promoters: Vec<Promoter>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) load: Load,
    pub(crate) durability: Durability,
    pub(crate) storage: Storage,
    /// For how long after the fault the replica still applies nothing; it has received a second of writes by then.
    pub(crate) lag: Option<Duration>,
    /// Between two heartbeats of `had`.
    pub(crate) heartbeat: Nanos,
}

/// The trials of one fault with one promoter.
struct Row {
    promoter: Promoter,
    fault: Fault,
    trials: Vec<Trial>,
}

/// Runs the trials, writes table and JSON, and fails with `check` where a target is missed.
pub(crate) fn run(options: &Options, json: Option<&Path>, check: bool) -> Result<()> {
    ensure!(options.trials > 0, "no trials asked for");
    ensure!(
        options.lag.is_none() || options.load.tellers > 0,
        "what the replica waits for with --lag are the rows that --tellers change"
    );
    let mut rows = Vec::new();
    for promoter in &options.promoters {
        let mut stage = None;
        for fault in &options.faults {
            let mut trials = Vec::new();
            for number in 1..=options.trials {
                let trial = one(*promoter, *fault, options, &mut stage)
                    .with_context(|| format!("{}, {fault}, trial {number}", promoter.name()))?;
                eprintln!("{} {fault} {number}: {trial}", promoter.name());
                trials.push(trial);
            }
            rows.push(Row {
                promoter: *promoter,
                fault: *fault,
                trials,
            });
        }
    }
    println!("{}", report::table(&rows, options));
    if let Some(file) = json {
        write_json(file, &report::json(&rows, options))?;
    }
    verdict(&report::misses(&rows, options), check)
}

/// A trial, in the stage of the one before if that is as it was.
fn one(
    promoter: Promoter,
    fault: Fault,
    options: &Options,
    kept: &mut Option<Stage>,
) -> Result<Trial> {
    let mut stage = match kept.take() {
        Some(stage) => stage,
        None => Stage::start(promoter, options)?,
    };
    match trial::run(&mut stage, fault, options) {
        Ok(trial) => {
            // Nobody puts right what a notify script has left.
            if trial.is_settled() {
                *kept = Some(stage);
            }
            Ok(trial)
        }
        Err(error) => Err(error.context(stage.log_tails())),
    }
}
