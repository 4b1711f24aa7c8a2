//! `bench failover`: what a client sees of a fault, for `had` and for keepalived by turns.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{clock::sleep_until, eventually, node::PATIENCE, now};
use serde_json::{Value, json};

use crate::{
    figures::{Figures, millis, verdict},
    hang::{self, End, Spoken},
    pair::{
        ACTIVE_DOWN, Event, INSTANCE, INTERVAL, PRIORITY, Pair, SKEW, System, VRID, events,
        silence_proven,
    },
    parts::{self, Parts},
    plot,
};

/// A power-off must be over for the client after this: three missed adverts, the phase of the fault
/// within one more, the skew, and what follows the detection.
const POWER_OFF_BOUND: Nanos = Nanos(4 * INTERVAL.0 + SKEW.0 + 3_000_000);

/// From proven silence to the new node's first answer, median.
const AFTER_DETECTION_BOUND: Nanos = Nanos::from_micros(1_500);

/// Client silence of an orderly hand-over, median.
const HAND_OVER_BOUND: Nanos = Nanos::from_millis(3);

/// `had`'s median silence after a power-off, relative to keepalived's.
const POWER_OFF_RATIO: f64 = 1.05;

/// With leases: client silence after a power-off of the Active node, median.
const LEASE_MEDIAN_BOUND: Nanos = Nanos::from_millis(6);

/// The same, 99th percentile.
const LEASE_P99_BOUND: Nanos = Nanos::from_millis(12);

/// The same, median relative to keepalived's.
const LEASE_RATIO: f64 = 0.2;

/// With leases: client silence at the Active node while the Backup loses its power, median.
const BACKUP_LOST_BOUND: Nanos = Nanos::from_millis(1);

/// What happens to the Active node, or to the Backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// The switch loses its port
    PowerOff,
    /// The switch loses the Backup's port
    BackupPowerOff,
    /// Its daemon is stopped for a second
    Sigstop,
    /// Its daemon is killed, and started again a second later
    Sigkill,
    /// Its daemon is ended in order
    Sigterm,
    /// An operator moves the service
    Switchover,
}

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::BackupPowerOff => "backup-off",
            Self::Sigstop => "SIGSTOP",
            Self::Sigkill => "SIGKILL",
            Self::Sigterm => "SIGTERM",
            Self::Switchover => "switchover",
        }
    }

    /// Whether the node stays on the wire without a daemon that works, and must be silent by itself.
    const fn leaves_the_node(self) -> bool {
        matches!(self, Self::Sigstop | Self::Sigkill)
    }

    /// Whether it is measured with a system: how a node ends without its daemon is measured by its last advert,
    /// which does not bound the gate of one with leases.
    fn is_for(self, system: System) -> bool {
        !(self.leaves_the_node() && system.has_leases())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What one trial showed.
struct Trial {
    fault: Fault,
    system: System,
    /// The longest time between two answers.
    silence: Nanos,
    /// From proven silence to the new node's first answer; `had`, power-off.
    after_detection: Option<Nanos>,
    /// The parts of a take-over by leases.
    parts: Option<Parts>,
    /// What the node said whose daemon was stopped or killed.
    spoken: Option<Spoken>,
}

/// Runs the trials and writes table, JSON and plot.
pub(crate) fn run(
    trials: u32,
    systems: &[System],
    faults: &[Fault],
    out: &Path,
    check: bool,
) -> Result<()> {
    ensure!(trials > 0, "no trials asked for");
    let mut pairs = Vec::new();
    for system in systems {
        eprintln!("starting two nodes with {} ...", system.name());
        pairs.push(Pair::start(*system)?);
    }
    let mut done = Vec::new();
    let mut void = 0;
    let started = now();
    for round in 0..trials {
        for fault in faults {
            // By turns, so that whatever the machine does meets both alike.
            for pair in &mut pairs {
                // The stray process that goes on sending from the VIP knows only IPv4.
                if fault.leaves_the_node() && pair.system.has_v6() || !fault.is_for(pair.system) {
                    continue;
                }
                let trial = trial(pair, *fault, round).with_context(|| {
                    let name = pair.system.name();
                    format!("{name}, {fault}, round {}", round + 1)
                });
                match trial {
                    Ok(Some(trial)) => done.push(trial),
                    Ok(None) => void += 1,
                    Err(error) => bail!("{error:#}\n{}", pair.log_tails()),
                }
            }
            pairs.reverse();
        }
        eprintln!(
            "round {} of {trials} after {}",
            round + 1,
            now().since(started)
        );
    }
    let rows = rows(&done, systems, faults);
    let table = table(&rows);
    println!("{table}");
    if void > 0 {
        println!(
            "void: {void} trials, for a node with leases was held up and let go before its fault"
        );
    }
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let json_path = out.join("failover.json");
    fs::write(&json_path, format!("{:#}\n", report(&rows, &done)))?;
    let svg_path = out.join("failover.svg");
    fs::write(&svg_path, plot::cumulative(&panels(&done, systems, faults)))?;
    println!(
        "written: {} and {}",
        json_path.display(),
        svg_path.display()
    );
    let misses = misses(&rows, &done);
    if misses.is_empty() && systems.iter().any(|system| system.is_had()) {
        println!("had keeps every bound");
    }
    verdict(&misses, check)
}

/// `None` if the node was not Active any more when its fault came: a machine that holds it up for longer than
/// a lease is a fault of its own.
fn trial(pair: &mut Pair, fault: Fault, round: u32) -> Result<Option<Trial>> {
    let old = pair.settle()?;
    let new = 1 - old;
    let from = now();
    // Golden-ratio steps spread the faults evenly over the phase of the adverts, for both alike.
    let phase = Nanos(u64::from(round) * 6_180_340 % INTERVAL.0);
    sleep_until(at_phase(pair, old, phase)?);
    let mut cut = now();
    let mut trial = Trial {
        fault,
        system: pair.system,
        silence: Nanos::ZERO,
        after_detection: None,
        parts: None,
        spoken: None,
    };
    if fault.leaves_the_node() {
        let end = if fault == Fault::Sigstop {
            End::Stop
        } else {
            End::Kill
        };
        trial.spoken = Some(hang::end_daemon(pair, end, old)?);
    } else if fault == Fault::BackupPowerOff {
        pair.power_off(new)?;
        sleep_until(now().after(ACTIVE_DOWN.times(2)));
        pair.wait_served_by(old)?;
    } else {
        match fault {
            Fault::PowerOff => cut = pair.power_off(old)?,
            Fault::Sigterm => pair.nodes[old].daemon()?.terminate()?,
            _ => pair.nodes[old].hand_over(INSTANCE)?,
        }
        pair.wait_served_by(new)?;
        sleep_until(now().after(INTERVAL.times(2)));
    }
    if pair.system.has_leases() {
        let closed = events(&pair.nodes[old], from)?;
        let early = |event: &Event| event.kind == "gate_closed" && event.at < cut;
        if closed.iter().any(early) {
            restore(pair, fault, old)?;
            return Ok(None);
        }
    }
    let gap = pair.longest_gap(from, now())?;
    trial.silence = gap.length();
    if fault == Fault::PowerOff {
        ensure!(
            gap.before.by == pair.nodes[old].mac() && gap.after.by == pair.nodes[new].mac(),
            "the longest gap is not the take-over's: {gap:?}"
        );
        if pair.system.is_had() {
            let proven = silence_proven(&pair.nodes[new], from)?;
            trial.after_detection = Some(gap.after.at.since(proven));
        }
        if pair.system.has_leases() {
            trial.parts = Some(Parts::of(pair, new, cut, gap.after.at)?);
        }
    }
    pair.check_observers()?;
    restore(pair, fault, old)?;
    Ok(Some(trial))
}

/// A time soon, `phase` after one of the Active node's adverts.
fn at_phase(pair: &Pair, active: usize, phase: Nanos) -> Result<MonoNs> {
    let mut last = MonoNs::ZERO;
    eventually(PATIENCE, "the Active node advertises", || {
        last = pair.sniffers[active]
            .last_live_advert(VRID)
            .context("no advert yet")?
            .0;
        Ok(now().since(last) < Nanos(INTERVAL.0 / 2))
    })?;
    Ok(last.after(INTERVAL).after(phase))
}

/// Undoes the fault.
fn restore(pair: &mut Pair, fault: Fault, old: usize) -> Result<()> {
    let kind = pair.system.kind();
    match fault {
        Fault::PowerOff => return pair.power_on(old),
        Fault::BackupPowerOff => return pair.power_on(1 - old),
        _ => {}
    }
    let node = &mut pair.nodes[old];
    match fault {
        Fault::Sigterm => {
            node.daemon()?.wait(PATIENCE)?;
            node.restart(kind)
        }
        Fault::Switchover => node.take_part(),
        _ => Ok(()),
    }
}

/// A line of the table: one fault, one daemon.
struct Row {
    fault: Fault,
    system: System,
    silence: Figures,
    after_detection: Option<Figures>,
    parts: Vec<Parts>,
    spoken: Option<Spoken>,
}

fn rows(trials: &[Trial], systems: &[System], faults: &[Fault]) -> Vec<Row> {
    let mut rows = Vec::new();
    for fault in faults {
        for system in systems {
            let mine: Vec<&Trial> = trials
                .iter()
                .filter(|trial| trial.fault == *fault && trial.system == *system)
                .collect();
            let silences: Vec<Nanos> = mine.iter().map(|trial| trial.silence).collect();
            let detected: Vec<Nanos> = mine.iter().filter_map(|t| t.after_detection).collect();
            let spoken = mine.iter().filter_map(|t| t.spoken).reduce(|a, b| Spoken {
                stopped: a.stopped + b.stopped,
                returning: a.returning + b.returning,
                offered: a.offered + b.offered,
            });
            if let Some(silence) = Figures::of(&silences) {
                rows.push(Row {
                    fault: *fault,
                    system: *system,
                    silence,
                    after_detection: Figures::of(&detected),
                    parts: mine.iter().filter_map(|trial| trial.parts).collect(),
                    spoken,
                });
            }
        }
    }
    rows
}

/// The median of a system's row relative to keepalived's.
fn ratio(rows: &[Row], fault: Fault, of: System) -> Option<f64> {
    let median = |system| {
        rows.iter()
            .find(|row| row.fault == fault && row.system == system)
            .map(|row| millis(row.silence.median))
    };
    let ratio = median(of)? / median(System::Keepalived)?;
    of.is_had().then_some(ratio)
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "client silence in ms; adverts each {INTERVAL}, priority {PRIORITY}, Active_Down_Interval {ACTIVE_DOWN}\n\
         {:<11} {:<10} {:>6} {:>8} {:>8} {:>8} {:>8} {:>6}  frames for the VIP from a node without its daemon\n",
        "fault", "daemon", "trials", "median", "p95", "p99", "max", "ratio"
    );
    for row in rows {
        let ratio = ratio(rows, row.fault, row.system).map(|ratio| format!("{ratio:.3}"));
        let spoken = row.spoken.map(|spoken| {
            format!(
                "{} after the gate's deadline, {} after its return ({} offered)",
                spoken.stopped, spoken.returning, spoken.offered
            )
        });
        text.push_str(
            format!(
                "{:<11} {:<10} {:>6} {:>8.3} {:>8.3} {:>8.3} {:>8.3} {:>6}  {}",
                row.fault,
                row.system.name(),
                row.silence.count,
                millis(row.silence.median),
                millis(row.silence.p95),
                millis(row.silence.p99),
                millis(row.silence.max),
                ratio.unwrap_or_default(),
                spoken.unwrap_or_default(),
            )
            .trim_end(),
        );
        text.push('\n');
    }
    for row in rows {
        if let Some(figures) = row.after_detection {
            text.push_str(&format!(
                "{}, {}: silence proven -> first answer of the new node: median {}, p95 {}, max {}\n",
                row.fault,
                row.system.name(),
                figures.median,
                figures.p95,
                figures.max
            ));
        }
        text.push_str(&parts::table(&row.parts));
    }
    text
}

fn report(rows: &[Row], trials: &[Trial]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "fault": row.fault.name(),
                "system": row.system.name(),
                "client_silence": row.silence.to_json(),
                "after_detection": row.after_detection.map(Figures::to_json),
                "frames_after_gate_deadline": row.spoken.map(|spoken| spoken.stopped),
                "frames_after_return": row.spoken.map(|spoken| spoken.returning),
                "packets_offered": row.spoken.map(|spoken| spoken.offered),
                "ratio_of_medians": ratio(rows, row.fault, row.system),
            })
        })
        .collect();
    let trials: Vec<Value> = trials
        .iter()
        .map(|trial| {
            json!({
                "fault": trial.fault.name(),
                "system": trial.system.name(),
                "client_silence_ms": millis(trial.silence),
                "after_detection_ms": trial.after_detection.map(millis),
                "parts_ms": trial.parts.map(Parts::to_json),
                "frames_after_gate_deadline": trial.spoken.map(|spoken| spoken.stopped),
            })
        })
        .collect();
    json!({
        "advert_interval_ms": millis(INTERVAL),
        "priority": PRIORITY,
        "active_down_interval_ms": millis(ACTIVE_DOWN),
        "rows": rows,
        "trials": trials,
    })
}

fn panels(trials: &[Trial], systems: &[System], faults: &[Fault]) -> Vec<plot::Panel> {
    faults
        .iter()
        .map(|fault| plot::Panel {
            title: fault.name(),
            curves: systems
                .iter()
                .map(|system| plot::Curve {
                    name: system.name(),
                    values: trials
                        .iter()
                        .filter(|trial| trial.fault == *fault && trial.system == *system)
                        .map(|trial| millis(trial.silence))
                        .collect(),
                })
                .collect(),
        })
        .collect()
}

/// The same of a row with leases.
fn lease_misses(row: &Row, ratio: Option<f64>) -> Vec<String> {
    let mut misses = Vec::new();
    let mut miss = |what: &str, value: Nanos, bound: Nanos| {
        if value > bound {
            let (fault, system) = (row.fault, row.system.name());
            misses.push(format!(
                "{fault}, {system}: the {what} client silence is {value}, more than {bound}"
            ));
        }
    };
    match row.fault {
        Fault::PowerOff => {
            miss("median", row.silence.median, LEASE_MEDIAN_BOUND);
            miss("99th percentile of", row.silence.p99, LEASE_P99_BOUND);
            if let Some(ratio) = ratio.filter(|ratio| *ratio > LEASE_RATIO) {
                misses.push(format!(
                    "power-off, {}: the median silence is {ratio:.3} of keepalived's, more than {LEASE_RATIO}",
                    row.system.name()
                ));
            }
        }
        Fault::BackupPowerOff => miss("median", row.silence.median, BACKUP_LOST_BOUND),
        _ => {}
    }
    misses
}

/// A sentence for each bound that does not hold.
fn misses(rows: &[Row], trials: &[Trial]) -> Vec<String> {
    let mut misses = Vec::new();
    for row in rows.iter().filter(|row| row.system.is_had()) {
        let hand_over = matches!(row.fault, Fault::Sigterm | Fault::Switchover);
        if hand_over && row.silence.median > HAND_OVER_BOUND {
            misses.push(format!(
                "{}: the median client silence is {}, more than {HAND_OVER_BOUND}",
                row.fault, row.silence.median
            ));
        }
        if row.system.has_leases() {
            misses.extend(lease_misses(row, ratio(rows, row.fault, row.system)));
        } else if let Some(figures) = row.after_detection
            && figures.median > AFTER_DETECTION_BOUND
        {
            misses.push(format!(
                "{}: after detection the median is {}, more than {AFTER_DETECTION_BOUND}",
                row.fault, figures.median
            ));
        }
        if let Some(spoken) = row.spoken
            && spoken.stopped + spoken.returning > 0
        {
            misses.push(format!(
                "{}: a node without its daemon sent {} frames for the VIP after its gate's deadline, and {} as it returned",
                row.fault, spoken.stopped, spoken.returning
            ));
        }
    }
    if let Some(ratio) =
        ratio(rows, Fault::PowerOff, System::Had).filter(|ratio| *ratio > POWER_OFF_RATIO)
    {
        misses.push(format!(
            "power-off: the median silence is {ratio:.3} of keepalived's, more than {POWER_OFF_RATIO}"
        ));
    }
    for row in rows.iter().filter(|row| row.system.has_v6()) {
        let v4 = rows
            .iter()
            .find(|other| other.fault == row.fault && other.system == System::Had);
        if let Some(v4) = v4.filter(|v4| row.silence.median > v4.silence.p95) {
            misses.push(format!(
                "{}: the median silence with IPv6 ({}) is {}, beyond the 95th percentile of IPv4's, {}",
                row.fault,
                row.system.name(),
                row.silence.median,
                v4.silence.p95
            ));
        }
    }
    let late = trials.iter().filter(|trial| {
        trial.system.is_had() && trial.fault == Fault::PowerOff && trial.silence > POWER_OFF_BOUND
    });
    for trial in late {
        misses.push(format!(
            "power-off: a trial's silence was {}, more than {POWER_OFF_BOUND}",
            trial.silence
        ));
    }
    misses
}
