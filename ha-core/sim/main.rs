//! Runs the simulator of `ha_core::sim` from the command line.

use std::{process::ExitCode, thread};

use clap::Parser;
use ha_core::sim::{self, Case, Mutations};

/// Simulates clusters of two to five nodes under faults, and checks the rules of the gate and of the
/// election. Exits 1 if one is broken, and prints what happened.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Args {
    /// What opens the gates: adverts alone, or leases granted by the peers, or leases with a replicated
    /// database behind the gate; by default all.
    #[arg(long)]
    case: Option<Rule>,
    /// How many seeds to run, of each case.
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
    knob: Option<Knob>,
    /// After the run, check that breaking each rule is found.
    #[arg(long, conflicts_with_all = ["knob", "seed"])]
    check_knobs: bool,
    /// Threads; by default one for each processor.
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Rule {
    Adverts,
    Leases,
    Roles,
}

impl Rule {
    const fn case(self) -> Case {
        match self {
            Self::Adverts => Case::Adverts,
            Self::Leases => Case::Leases,
            Self::Roles => Case::Roles,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Adverts => "adverts",
            Self::Leases => "leases",
            Self::Roles => "roles",
        }
    }
}

/// A rule that is broken on purpose, and where that matters.
#[derive(Clone, Copy, Debug)]
struct Knob {
    case: Case,
    mutations: Mutations,
}

fn knob(name: &str) -> Result<Knob, String> {
    let known = Mutations::KNOBS
        .into_iter()
        .find(|(knob, _, _)| *knob == name);
    known
        .map(|(_, case, mutations)| Knob { case, mutations })
        .ok_or_else(|| {
            let names = Mutations::KNOBS.map(|(name, _, _)| name).join(", ");
            format!("the knobs are {names}")
        })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mutations = args.knob.map(|knob| knob.mutations).unwrap_or_default();
    let mut rules = match args.case {
        Some(rule) => vec![rule],
        None => vec![Rule::Adverts, Rule::Leases, Rule::Roles],
    };
    if let Some(knob) = args.knob {
        rules.retain(|rule| rule.case() == knob.case);
        if rules.is_empty() {
            eprintln!("that rule is none of this case: leave out --case");
            return ExitCode::FAILURE;
        }
    }
    if let Some(seed) = args.seed {
        let mut broken = false;
        for rule in rules {
            broken |= sim::run_seed(rule.case(), seed, mutations).is_some();
            print!("{}", sim::tell_seed(rule.case(), seed, mutations));
        }
        return ExitCode::from(u8::from(broken));
    }
    let threads = args
        .threads
        .or_else(|| thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    for rule in rules {
        if !run(&args, rule, mutations, threads) {
            return ExitCode::FAILURE;
        }
    }
    if args.knob.is_some() {
        println!("nothing was found although a rule is broken");
        return ExitCode::SUCCESS;
    }
    if args.check_knobs {
        return check_knobs(&args, threads);
    }
    ExitCode::SUCCESS
}

/// Whether every seed kept the rules.
fn run(args: &Args, rule: Rule, mutations: Mutations, threads: usize) -> bool {
    let stop = args.knob.is_some();
    let case = rule.case();
    let findings = sim::run_batch(case, args.first, args.seeds, threads, mutations, stop);
    let last = args.first.saturating_add(args.seeds).saturating_sub(1);
    if let Some(first) = findings.first() {
        print!("{}", sim::tell_seed(case, first.seed, mutations));
        println!(
            "replay it with: --case {} --seed {}",
            rule.name(),
            first.seed
        );
        if !stop {
            println!("{} of {} seeds broke a rule:", findings.len(), args.seeds);
            for finding in findings.iter().take(20) {
                println!("  seed {}: {}", finding.seed, finding.violation.what);
            }
        }
        return false;
    }
    println!(
        "{}: {} seeds ({} to {last}): every rule was kept",
        rule.name(),
        args.seeds,
        args.first
    );
    true
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
