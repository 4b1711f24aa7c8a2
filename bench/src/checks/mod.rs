//! `bench checks`: from something that goes wrong on the Active node to the other one's first answer for the VIP,
//! with keepalived beside it as its users set it up: `track_interface`, and a script each second.

mod cause;
mod service;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{eventually, guest, node::PATIENCE, now, prober::Answer};
use serde_json::{Value, json};

pub(crate) use self::cause::Cause;
use self::cause::Watched;
use crate::{
    figures::{Figures, millis, verdict},
    pair::{Pair, System, Timing},
};

/// How many times as long keepalived's median must be in a guest, where processors are emulated and no bound in
/// milliseconds means anything.
const GUEST_RATIO: u64 = 2;

/// A pair, and what it watches.
struct Bench {
    pair: Pair,
    watched: Watched,
}

/// The trials of one cause with one system.
struct Row {
    cause: Cause,
    system: System,
    delays: Vec<Nanos>,
}

/// Runs the trials and writes table and JSON.
pub(crate) fn run(
    trials: u32,
    systems: &[System],
    causes: &[Cause],
    timing: Timing,
    out: &Path,
    check: bool,
) -> Result<()> {
    ensure!(trials > 0, "no trials asked for");
    let mut rows = Vec::new();
    for cause in causes {
        match cause.possible() {
            Ok(()) => rows.extend(measure(*cause, trials, systems, timing)?),
            Err(why) => println!("LEFT OUT: {cause}: {why}"),
        }
    }
    println!("{}", table(&rows, timing));
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let path = out.join("checks.json");
    fs::write(&path, format!("{:#}\n", report(&rows)))?;
    println!("written: {}", path.display());
    let misses: Vec<String> = if guest::is_here() {
        rows.iter().filter_map(|row| behind(row, &rows)).collect()
    } else {
        rows.iter().flat_map(misses).collect()
    };
    if misses.is_empty() && rows.iter().any(|row| row.system.is_had()) {
        println!("had keeps every bound");
    }
    verdict(&misses, check)
}

fn measure(cause: Cause, trials: u32, systems: &[System], timing: Timing) -> Result<Vec<Row>> {
    eprintln!("{cause}: {trials} trials");
    let mut benches = Vec::new();
    let mut rows = Vec::new();
    for system in systems {
        benches.push(start(cause, *system, timing)?);
        rows.push(Row {
            cause,
            system: *system,
            delays: Vec::new(),
        });
    }
    for round in 0..trials {
        // By turns, so that whatever the machine does meets both alike.
        for (bench, row) in benches.iter_mut().zip(&mut rows) {
            let delay = bench
                .trial(cause)
                .with_context(|| format!("{}, {cause}, round {}", row.system.name(), round + 1));
            match delay {
                Ok(delay) => {
                    eprintln!("{cause} {}: {} {delay}", round + 1, row.system.name());
                    row.delays.push(delay);
                }
                Err(error) => bail!("{error:#}\n{}", bench.pair.log_tails()),
            }
        }
    }
    Ok(rows)
}

fn start(cause: Cause, system: System, timing: Timing) -> Result<Bench> {
    let mut watched = None;
    let pair = Pair::start_prepared(system, timing, |lab, nodes| {
        let (what, lines) = cause::prepare(cause, system, lab, nodes)?;
        watched = Some(what);
        Ok(lines)
    })?;
    let watched = watched.context("it was prepared")?;
    Ok(Bench { pair, watched })
}

impl Bench {
    /// How long after the cause the other node answers for the first time.
    fn trial(&mut self, cause: Cause) -> Result<Nanos> {
        let old = self.pair.settle()?;
        let new = 1 - old;
        let at = self.watched.inject(cause, &self.pair, old)?;
        let first = self.first_answer(new, at);
        self.watched.heal(cause, &self.pair, old)?;
        let delay = first?.since(at);
        self.pair.check_observers()?;
        Ok(delay)
    }

    fn first_answer(&self, new: usize, from: MonoNs) -> Result<MonoNs> {
        let mac = self.pair.nodes[new].mac();
        let mut first = None;
        eventually(PATIENCE, "the other node serves", || {
            let answers = self.pair.prober.answers(from, now());
            let by_it = |answer: &&Answer| answer.by == mac;
            first = answers.iter().find(by_it).map(|answer| answer.at);
            Ok(first.is_some())
        })?;
        first.context("the condition above")
    }
}

fn table(rows: &[Row], timing: Timing) -> String {
    let heartbeats = rows
        .iter()
        .find_map(|row| timing.heartbeat_of(row.system))
        .map_or_else(String::new, |heartbeat| {
            format!(", heartbeats each {heartbeat}")
        });
    let mut text = format!(
        "from the cause to the other node's first answer, in ms (adverts each {}{heartbeats})\n{:<16} {:<10} {:>6} {:>9} {:>9} {:>9}\n",
        timing.interval, "cause", "daemon", "trials", "median", "p95", "max"
    );
    for row in rows {
        if let Some(figures) = Figures::of(&row.delays) {
            text.push_str(&format!(
                "{:<16} {:<10} {:>6} {:>9.3} {:>9.3} {:>9.3}\n",
                row.cause,
                row.system.name(),
                figures.count,
                millis(figures.median),
                millis(figures.p95),
                millis(figures.max)
            ));
        }
    }
    text
}

fn report(rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        let delays: Vec<f64> = row.delays.iter().copied().map(millis).collect();
        json!({
            "cause": row.cause.name(),
            "system": row.system.name(),
            "figures": Figures::of(&row.delays).map(Figures::to_json),
            "trials_ms": delays,
        })
    });
    json!({ "rows": rows.collect::<Vec<Value>>() })
}

/// A sentence for each bound that does not hold.
fn misses(row: &Row) -> Vec<String> {
    let Some(figures) = Figures::of(&row.delays).filter(|_| row.system.is_had()) else {
        return Vec::new();
    };
    let (median, max) = row.cause.bounds();
    let over = |what: &str, value: Nanos, bound: Option<Nanos>| {
        let bound = bound.filter(|bound| value > *bound)?;
        Some(format!(
            "{}: the {what} is {value}, more than {bound}",
            row.cause
        ))
    };
    let median = over("median", figures.median, median);
    median
        .into_iter()
        .chain(over("longest", figures.max, max))
        .collect()
}

/// A sentence where `had` is not as much sooner than keepalived as it must be in a guest.
fn behind(row: &Row, rows: &[Row]) -> Option<String> {
    let median = |row: &Row| Figures::of(&row.delays).map(|figures| figures.median);
    let beside = rows
        .iter()
        .find(|other| other.cause == row.cause && other.system == System::Keepalived)?;
    let (own, other) = (median(row)?, median(beside)?);
    (row.system.is_had() && own.times(GUEST_RATIO) > other).then(|| {
        format!(
            "{}: the median of {} is {own}, more than 1/{GUEST_RATIO} of keepalived's {other}",
            row.cause,
            row.system.name()
        )
    })
}
