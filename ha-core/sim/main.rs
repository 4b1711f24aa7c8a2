//! Runs the simulator of `ha_core::sim` from the command line.

use std::{process::ExitCode, thread};

use clap::Parser;
use ha_core::sim::{self, Mutations};

/// Simulates clusters of two to five nodes under faults, and checks the rules of the gate and of the
/// election. Exits 1 if one is broken, and prints what happened.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run this one seed, and print everything that happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Break a rule on purpose.
    #[arg(long, value_parser = knob)]
    knob: Option<Mutations>,
    /// After the run, check that breaking each rule is found.
    #[arg(long, conflicts_with_all = ["knob", "seed"])]
    check_knobs: bool,
    /// Threads; by default one for each processor.
    #[arg(long)]
    threads: Option<usize>,
}

fn knob(name: &str) -> Result<Mutations, String> {
    let known = Mutations::KNOBS.into_iter().find(|(knob, _)| *knob == name);
    known.map(|(_, mutations)| mutations).ok_or_else(|| {
        let names = Mutations::KNOBS.map(|(name, _)| name).join(", ");
        format!("the knobs are {names}")
    })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mutations = args.knob.unwrap_or_default();
    if let Some(seed) = args.seed {
        let broken = sim::run_seed(seed, mutations).is_some();
        print!("{}", sim::tell_seed(seed, mutations));
        return ExitCode::from(u8::from(broken));
    }
    let threads = args
        .threads
        .or_else(|| thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    let stop = args.knob.is_some();
    let findings = sim::run_batch(args.first, args.seeds, threads, mutations, stop);
    let last = args.first.saturating_add(args.seeds).saturating_sub(1);
    if let Some(first) = findings.first() {
        print!("{}", sim::tell_seed(first.seed, mutations));
        println!("replay it with: --seed {}", first.seed);
        if !stop {
            println!("{} of {} seeds broke a rule:", findings.len(), args.seeds);
            for finding in findings.iter().take(20) {
                println!("  seed {}: {}", finding.seed, finding.violation.what);
            }
        }
        return ExitCode::FAILURE;
    }
    println!(
        "{} seeds ({} to {last}): every rule was kept",
        args.seeds, args.first
    );
    if args.knob.is_some() {
        println!("nothing was found although a rule is broken");
        return ExitCode::SUCCESS;
    }
    if args.check_knobs {
        return check_knobs(&args, threads);
    }
    ExitCode::SUCCESS
}

fn check_knobs(args: &Args, threads: usize) -> ExitCode {
    let mut missed = false;
    for (name, finding) in sim::check_knobs(args.first, args.seeds, threads) {
        match finding {
            Some(finding) => println!(
                "knob {name}: found by seed {}: {}",
                finding.seed, finding.violation.what
            ),
            None => {
                missed = true;
                println!("knob {name}: NOT FOUND in {} seeds", args.seeds);
            }
        }
    }
    ExitCode::from(u8::from(missed))
}
