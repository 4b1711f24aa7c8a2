//! `bench steady`: what a Backup costs while it hears adverts all the time; with `--load`, who takes over
//! without a reason.

mod alarms;
mod load;
mod reference;
mod stress;

use anyhow::{Result, ensure};
use ha_common::Nanos;
use ha_tests::{clock::sleep_until, now};
use serde_json::{Value, json};

use crate::{
    figures::millis,
    pair::{ACTIVE_DOWN, Pair, System},
    usage::{Thread, difference, threads},
};

pub(crate) use self::load::run as run_loaded;

/// What is measured unless something else is asked for, without load and with it.
pub(crate) const SECONDS: u32 = 60;
pub(crate) const SYSTEMS: [System; 2] = [System::Had, System::Keepalived];
pub(crate) const LOAD_SECONDS: u32 = 600;
pub(crate) const LOAD_SYSTEMS: [System; 3] =
    [System::Had, System::Keepalived, System::KeepalivedNoRt];

const TICK: Nanos = Nanos::from_secs(10);

/// Runs the measurement.
pub(crate) fn run(seconds: u32, systems: &[System], as_json: bool, check: bool) -> Result<()> {
    ensure!(seconds > 0, "no time to measure");
    let span = Nanos::from_secs(u64::from(seconds));
    let mut pairs = Vec::new();
    for system in systems {
        eprintln!("starting two nodes with {} ...", system.name());
        pairs.push(Pair::start(*system)?);
    }
    let mut backups = Vec::new();
    for pair in &mut pairs {
        backups.push(1 - pair.settle()?);
        // A client is no part of this.
        pair.prober.pause();
    }
    let before = sample(&mut pairs, &backups)?;
    let end = now().after(span);
    while now() < end {
        let next = now().after(TICK);
        sleep_until(if next < end { next } else { end });
        eprintln!("{} to go", end.since(now()));
    }
    let after = sample(&mut pairs, &backups)?;
    for (pair, backup) in pairs.iter().zip(&backups) {
        ensure!(
            pair.is_backup(*backup)?,
            "{}: the Backup did not stay one",
            pair.system.name()
        );
    }
    let used: Vec<(System, Vec<Thread>)> = systems
        .iter()
        .zip(before.iter().zip(&after))
        .map(|(system, (before, after))| (*system, difference(before, after)))
        .collect();
    let expected = span.0 / ACTIVE_DOWN.0;
    if as_json {
        println!("{:#}", report(seconds, expected, &used));
    } else {
        print!("{}", table(seconds, expected, &used));
    }
    let engine = used
        .iter()
        .flat_map(|(_, threads)| threads)
        .find(|thread| thread.engine);
    if let Some(engine) = engine {
        let holds = engine.wakeups <= expected;
        let word = if holds { "at most" } else { "MORE THAN" };
        eprintln!(
            "had's engine thread woke {} times in {seconds} s, {word} once per Active_Down_Interval ({expected})",
            engine.wakeups
        );
        ensure!(holds || !check, "the engine thread wakes too often");
    } else {
        ensure!(!check, "no engine thread of had was found");
    }
    Ok(())
}

/// The engine thread of `had`, by its own word.
fn engine_thread(pair: &Pair, backup: usize) -> Result<Option<u64>> {
    Ok(match pair.system {
        system if system.is_had() => {
            pair.nodes[backup].hactl(&["status"])?["engine"]["thread"].as_u64()
        }
        _ => None,
    })
}

fn sample(pairs: &mut [Pair], backups: &[usize]) -> Result<Vec<Vec<(u32, Thread)>>> {
    pairs
        .iter_mut()
        .zip(backups)
        .map(|(pair, backup)| {
            let engine = engine_thread(pair, *backup)?;
            threads(&pair.nodes[*backup].daemon()?.processes(), engine)
        })
        .collect()
}

fn per_minute(count: u64, seconds: u32) -> u64 {
    count * 60 / u64::from(seconds)
}

fn table(seconds: u32, expected: u64, used: &[(System, Vec<Thread>)]) -> String {
    let mut text = format!(
        "a Backup that hears an advert each 10 ms, over {seconds} s; per minute: {} adverts, {} Active_Down_Intervals\n\
         {:<10} {:<16} {:>15} {:>15}\n",
        60_000 / 10,
        per_minute(expected, seconds),
        "daemon",
        "thread",
        "wake-ups/min",
        "CPU ms/min"
    );
    for (system, threads) in used {
        let mut total = Thread {
            name: "all threads".to_owned(),
            engine: false,
            wakeups: 0,
            cpu: Nanos::ZERO,
        };
        for thread in threads {
            total.wakeups += thread.wakeups;
            total.cpu = total.cpu.plus(thread.cpu);
        }
        for thread in threads.iter().chain([&total]) {
            text.push_str(&format!(
                "{:<10} {:<16} {:>15} {:>15.3}\n",
                system.name(),
                thread.name,
                per_minute(thread.wakeups, seconds),
                millis(thread.cpu) * 60.0 / f64::from(seconds)
            ));
        }
    }
    text
}

fn report(seconds: u32, expected: u64, used: &[(System, Vec<Thread>)]) -> Value {
    let systems: Vec<Value> = used
        .iter()
        .map(|(system, threads)| {
            let threads: Vec<Value> = threads
                .iter()
                .map(|thread| {
                    json!({
                        "thread": thread.name,
                        "engine": thread.engine,
                        "wakeups": thread.wakeups,
                        "cpu_ms": millis(thread.cpu),
                    })
                })
                .collect();
            json!({ "system": system.name(), "threads": threads })
        })
        .collect();
    json!({
        "seconds": seconds,
        "active_down_interval_ms": millis(ACTIVE_DOWN),
        "active_down_intervals": expected,
        "systems": systems,
    })
}
