//! `bench split`: whether two nodes ever answer for the VIP at the same time.

mod case;
mod rivals;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use ha_common::Nanos;
use ha_tests::{now, roll_call::PERIOD};
use serde_json::{Value, json};

pub(crate) use self::case::Fault;
use self::{
    case::Case,
    rivals::{Rivals, Round},
};
use crate::{
    figures::millis,
    pair::{INTERVAL, System},
    write_json,
};

/// Beyond case A's bound: a one-way delay where two start at the same instant, and what is on its way in the
/// lab.
const ONE_WAY: Nanos = Nanos::from_millis(1);

/// Between two questions: a longer pause might hide that both nodes answered, so that the round is discarded.
/// Stalls of a machine that does nothing else are a good millisecond.
const LONGEST_PAUSE: Nanos = Nanos::from_micros(2_000);

/// How often a round is tried before the machine counts as too busy.
const ATTEMPTS: u32 = 10;

/// Runs the rounds, and writes table and JSON.
pub(crate) fn run(
    rounds: u32,
    systems: &[System],
    faults: &[Fault],
    heartbeat: Nanos,
    out: &Path,
    check: bool,
) -> Result<()> {
    ensure!(rounds > 0, "no rounds asked for");
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let mut pairs = Vec::new();
    for system in systems {
        ensure!(!system.has_v6(), "the client asks for an address of IPv4");
        eprintln!("starting two nodes with {} ...", system.name());
        pairs.push(Rivals::start(*system, heartbeat)?);
    }
    let started = now();
    let mut done = Vec::new();
    for number in 0..rounds {
        // By turns, so that whatever the machine does meets all alike.
        for rivals in &mut pairs {
            let cases = cases(rivals.pair.system, faults);
            let case = cases[number as usize % cases.len()];
            match seen_round(rivals, case, number) {
                Ok(round) => {
                    if misses_its_bound(&round) {
                        rivals.keep_evidence(&round, out, number + 1)?;
                    }
                    done.push(round);
                }
                Err(error) => bail!("{error:#}\n{}", rivals.pair.log_tails()),
            }
        }
        if (number + 1) % 20 == 0 {
            let spent = now().since(started);
            eprintln!("round {} of {rounds} after {spent}", number + 1);
        }
    }
    let rows = rows(&done, systems, faults);
    println!("{}", table(&rows, &done, systems, heartbeat));
    let path = out.join("split.json");
    write_json(&path, &report(&done, heartbeat))?;
    println!("written: {}", path.display());
    let misses: Vec<&Round> = done
        .iter()
        .filter(|round| misses_its_bound(round))
        .collect();
    for round in &misses {
        println!(
            "missed: {}, {}: both nodes answered for {}",
            round.system.name(),
            round.case,
            round.overlap()
        );
    }
    if misses.is_empty() && systems.iter().any(|system| system.is_had()) {
        println!("had keeps every bound");
    }
    ensure!(
        !check || misses.is_empty(),
        "{} rounds miss their bound",
        misses.len()
    );
    Ok(())
}

/// A round whose fault met the Active node, and that the client could follow or that showed something all the
/// same.
fn seen_round(rivals: &mut Rivals, case: Case, number: u32) -> Result<Round> {
    let system = rivals.pair.system;
    for discarded in 0..ATTEMPTS {
        let round = rivals
            .round(case, number)
            .with_context(|| format!("{}, {case}, round {}", system.name(), number + 1))?;
        let Some(mut round) = round else {
            continue;
        };
        round.discarded = discarded;
        if round.pause <= LONGEST_PAUSE || bound(&round).is_none() || misses_its_bound(&round) {
            return Ok(round);
        }
    }
    bail!(
        "{}, {case}: the client asked nobody for more than {LONGEST_PAUSE}, or the Active node let go by itself, in \
         each of {ATTEMPTS} rounds: is the machine too busy?",
        system.name()
    )
}

fn cases(system: System, faults: &[Fault]) -> Vec<Case> {
    let cases = faults.iter();
    cases
        .flat_map(|fault| fault.cases(system.has_leases()))
        .collect()
}

/// For how long both nodes may have answered in a round; keepalived promises nothing.
fn bound(round: &Round) -> Option<Nanos> {
    match round.system {
        system if system.has_leases() => Some(Nanos::ZERO),
        system if system.is_had() => Some(round.unheard.plus(ONE_WAY)),
        _ => None,
    }
}

fn misses_its_bound(round: &Round) -> bool {
    bound(round).is_some_and(|bound| round.overlap() > bound)
}

/// A line of the table: one case, one daemon.
struct Row {
    case: Case,
    system: System,
    rounds: usize,
    /// Those in which both nodes answered.
    both: usize,
    /// The longest time for which both did.
    longest: Nanos,
    /// The greatest bound of one round.
    bound: Option<Nanos>,
    /// Those after which the other node had answered.
    moved: usize,
}

fn rows(done: &[Round], systems: &[System], faults: &[Fault]) -> Vec<Row> {
    let mut rows = Vec::new();
    for system in systems {
        for case in cases(*system, faults) {
            let mine = done
                .iter()
                .filter(|round| round.system == *system && round.case == case);
            rows.push(Row {
                case,
                system: *system,
                rounds: mine.clone().count(),
                both: mine
                    .clone()
                    .filter(|round| !round.overlaps.is_empty())
                    .count(),
                longest: mine.clone().map(Round::overlap).max().unwrap_or_default(),
                bound: mine.clone().filter_map(bound).max(),
                moved: mine.filter(|round| round.moved).count(),
            });
        }
    }
    rows
}

fn table(rows: &[Row], done: &[Round], systems: &[System], heartbeat: Nanos) -> String {
    let mut text = format!(
        "both nodes answer for the VIP: time in ms; each is asked each {PERIOD} by ARP and by an echo request\n\
         adverts each {INTERVAL}; had-lease: heartbeats each {heartbeat} on the LAN and on a channel\n\
         {:<10} {:<28} {:>6} {:>6} {:>8} {:>8} {:>6}\n",
        "daemon", "fault (A: the Active node)", "rounds", "both", "longest", "bound", "moved"
    );
    for row in rows {
        let bound = row.bound.map(|bound| format!("{:.3}", millis(bound)));
        text.push_str(&format!(
            "{:<10} {:<28} {:>6} {:>6} {:>8.3} {:>8} {:>6}\n",
            row.system.name(),
            row.case,
            row.rounds,
            row.both,
            millis(row.longest),
            bound.as_deref().unwrap_or("none"),
            row.moved,
        ));
    }
    for system in systems {
        let mine = done.iter().filter(|round| round.system == *system);
        text.push_str(&format!(
            "{}: {} rounds, {} with an overlap, the longest {:.3} ms; at most {:.3} ms between two questions, {} \
             rounds discarded\n",
            system.name(),
            mine.clone().count(),
            mine.clone().filter(|round| !round.overlaps.is_empty()).count(),
            mine.clone().map(|round| millis(round.overlap())).fold(0.0, f64::max),
            mine.clone().map(|round| millis(round.pause)).fold(0.0, f64::max),
            mine.map(|round| round.discarded).sum::<u32>(),
        ));
    }
    text
}

fn report(done: &[Round], heartbeat: Nanos) -> Value {
    let rounds: Vec<Value> = done
        .iter()
        .map(|round| {
            json!({
                "system": round.system.name(),
                "fault": round.case.to_string(),
                "overlap_ms": millis(round.overlap()),
                "overlaps": round.overlaps.len(),
                "bound_ms": bound(round).map(millis),
                "moved": round.moved,
                "longest_pause_ms": millis(round.pause),
            })
        })
        .collect();
    json!({
        "advert_interval_ms": millis(INTERVAL),
        "heartbeat_ms": millis(heartbeat),
        "question_interval_ms": millis(PERIOD),
        "rounds": rounds,
    })
}
