//! `bench flood`: ARP requests that a core answers, and a pair of nodes under a flood of adverts.

mod answers;
mod live;
mod siege;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use serde_json::{Value, json};

use self::{
    answers::{Answers, Quartiles},
    siege::Siege,
};
use crate::{
    figures::{Figures, millis, verdict},
    write_json,
};

/// XDP answers at least so many times as many ARP requests as the kernel, in the median round, net.
const ANSWER_RATIO: f64 = 5.0;

/// Processor time of the flooded daemon, as a share of one core.
const CPU_SHARE: f64 = 0.02;

/// A take-over under the flood, relative to one without.
const TAKE_OVER_RATIO: f64 = 3.0;

/// Runs the measurement.
///
/// Where there are heartbeats, three of them may be missed.
pub(crate) fn run(
    seconds: u32,
    trials: u32,
    heartbeat: Option<Nanos>,
    json_file: Option<&Path>,
    check: bool,
) -> Result<()> {
    ensure!(seconds > 0 && trials > 0, "nothing to measure");
    let mut misses = Vec::new();
    let answers = answers::measure()?;
    print!("{}", table(&answers));
    let ratio = answers.ratio().median;
    if ratio < ANSWER_RATIO {
        misses.push(format!(
            "XDP answers {ratio:.2} times as many ARP requests, less than {ANSWER_RATIO}"
        ));
    }
    let beside = heartbeat.map_or_else(String::new, |heartbeat| {
        format!(", heartbeats each {} ms", millis(heartbeat))
    });
    println!("two nodes, adverts each 10 ms{beside}");
    eprintln!("{seconds} s of flood ...");
    let mut siege = Siege::start(heartbeat)?;
    let load = siege.endure(seconds)?;
    let span = millis(Nanos::from_secs(u64::from(seconds)));
    let cpu = load
        .threads
        .iter()
        .fold(Nanos::ZERO, |sum, thread| sum.plus(thread.cpu));
    let share = millis(cpu) / span;
    println!(
        "flood: {} valid adverts per second taken, {} forged ones refused; the Backup's daemon used {:.2} % of a core; {} false alarms, and the Active node was held up and went on {} times",
        load.taken / u64::from(seconds),
        load.refused / u64::from(seconds),
        share * 100.0,
        load.alarms,
        load.resumed
    );
    if share > CPU_SHARE {
        misses.push(format!(
            "the flooded daemon used {:.2} % of a core",
            share * 100.0
        ));
    }
    if load.alarms > 0 {
        misses.push(format!("{} false alarms", load.alarms));
    }
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..trials {
        // By turns, so that whatever the machine does meets both alike.
        for (flooded, times) in [false, true].into_iter().zip(&mut times) {
            times.push(siege.take_over(flooded)?);
        }
    }
    let [calm, flooded] = times.map(|times| Figures::of(&times).context("there are trials"));
    let (calm, flooded) = (calm?, flooded?);
    let ratio = millis(flooded.median) / millis(calm.median);
    println!(
        "power-off to announcement, in ms: median {:.3} without the flood, {:.3} (max {:.3}) with it: {ratio:.2} times",
        millis(calm.median),
        millis(flooded.median),
        millis(flooded.max)
    );
    if ratio > TAKE_OVER_RATIO {
        misses.push(format!(
            "a take-over takes {ratio:.2} times as long under the flood"
        ));
    }
    if let Some(file) = json_file {
        let figures = json!({
            "arp_answers": arp_report(&answers),
            "heartbeat_ms": heartbeat.map(millis),
            "flood": {
                "seconds": seconds,
                "valid_adverts": load.taken,
                "forged_adverts": load.refused,
                "cpu_share": share,
                "false_alarms": load.alarms,
                "resumed": load.resumed,
            },
            "take_over": { "calm": calm.to_json(), "flooded": flooded.to_json() },
        });
        write_json(file, &figures)?;
    }
    verdict(&misses, check)
}

/// Quartiles are those of the rounds.
fn table(answers: &Answers) -> String {
    let mut text = format!(
        "ARP requests answered by CPU {} alone, without the {:.0} ns for making and receiving one:\n",
        answers.cpu,
        answers.generator().median
    );
    for (name, nanos) in [
        ("XDP", answers.by_xdp()),
        ("the kernel", answers.by_kernel()),
    ] {
        let Quartiles {
            lower,
            median,
            upper,
        } = nanos;
        text.push_str(&format!(
            "  by {name}: {:.0} per second; {median:.0} ns each (quartiles {lower:.0} and {upper:.0})\n",
            rate(median)
        ));
    }
    let (net, gross) = (answers.ratio(), answers.gross_ratio());
    text.push_str(&format!(
        "  {:.2} times as many by XDP (quartiles {:.2} and {:.2}); with those, {:.2} times ({:.2} and {:.2})\n",
        net.median, net.lower, net.upper, gross.median, gross.lower, gross.upper
    ));
    text
}

fn arp_report(answers: &Answers) -> Value {
    let quartiles = |of: Quartiles| json!([of.lower, of.median, of.upper]);
    json!({
        "cpu": answers.cpu,
        "per_second": {
            "xdp": rate(answers.by_xdp().median),
            "kernel": rate(answers.by_kernel().median),
        },
        // Lower quartile, median, upper quartile.
        "generator_ns": quartiles(answers.generator()),
        "xdp_ns": quartiles(answers.by_xdp()),
        "kernel_ns": quartiles(answers.by_kernel()),
        "ratio": quartiles(answers.ratio()),
        "gross_ratio": quartiles(answers.gross_ratio()),
    })
}

/// Per second, of what takes so many nanoseconds.
fn rate(nanos: f64) -> f64 {
    (1e9 / nanos).round()
}
