//! `bench steady --load`: take-overs for no reason, on a machine that is kept busy.

use anyhow::{Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{clock::sleep_until, now};
use serde_json::{Value, json};

use super::{
    TICK,
    alarms::{self, Watch},
    reference::{PERIOD, Record, Reference, Stall},
    stress::{self, Stress},
};
use crate::{
    figures::millis,
    pair::{Pair, System, Timing},
};

/// Stalls that the report shows.
const SHOWN: usize = 10;

/// Percentiles of the gaps that the report shows.
const PERCENTILES: [f64; 4] = [50.0, 99.0, 99.9, 99.99];

/// Granularity of time between two adverts (RFC 9568 section 5.2.7).
const CENTISECOND: Nanos = Nanos::from_millis(10);

/// A node that became Active, for which nothing gave a reason.
struct Promoted {
    node: usize,
    at: MonoNs,
    /// A CPU stood still.
    stall: Option<Stall>,
}

/// What one daemon showed.
struct Outcome {
    system: System,
    detection: Nanos,
    take_overs: Vec<Promoted>,
    /// A node that was held up until its gate had closed went on.
    resumed: Vec<Promoted>,
    /// The share of the time in which any take-over would be said to lie in a stall.
    excused: f64,
    /// The longest time without an advert of either node.
    silence: Nanos,
}

impl Outcome {
    /// Take-overs of a node, all or only those that no stall explains.
    fn of(&self, node: usize, own: bool) -> usize {
        let counts = |it: &&Promoted| it.node == node && !(own && it.stall.is_some());
        self.take_overs.iter().filter(counts).count()
    }

    /// How often a node went on that was held up without a stall.
    fn resumed_unexplained(&self) -> usize {
        let unexplained = self.resumed.iter().filter(|it| it.stall.is_none());
        unexplained.count()
    }

    /// Take-overs that no stall explains.
    fn own(&self) -> usize {
        self.of(0, true) + self.of(1, true)
    }
}

/// The whole measurement.
struct Measured {
    seconds: u32,
    timing: Timing,
    load: String,
    from: MonoNs,
    reference: Record,
    outcomes: Vec<Outcome>,
}

/// Runs the measurement.
pub(crate) fn run(
    seconds: u32,
    systems: &[System],
    timing: Timing,
    as_json: bool,
    check: bool,
) -> Result<()> {
    ensure!(seconds > 0, "no time to measure");
    ensure!(
        timing.interval > Nanos::ZERO && timing.interval.0.is_multiple_of(CENTISECOND.0),
        "--interval is a multiple of 10ms"
    );
    stress::require()?;
    let measured = measure(seconds, systems, timing)?;
    if as_json {
        println!("{:#}", report(&measured));
    } else {
        print!("{}", table(&measured));
    }
    let ours = measured
        .outcomes
        .iter()
        .filter(|outcome| outcome.system.is_had());
    let (count, own) = ours.fold((0, 0), |(count, own), it| (count + 1, own + it.own()));
    ensure!(!check || count > 0, "had was not measured");
    ensure!(
        !check || own == 0,
        "{own} take-overs of had lie in no stall of any CPU"
    );
    Ok(())
}

fn measure(seconds: u32, systems: &[System], timing: Timing) -> Result<Measured> {
    let mut pairs = Vec::new();
    for system in systems {
        eprintln!("starting two nodes with {} ...", system.name());
        let lines = alarms::KEEPALIVED_LINES;
        pairs.push(Pair::start_with(*system, timing, lines)?);
    }
    let mut holders = Vec::new();
    for pair in &mut pairs {
        holders.push(pair.settle()?);
        // A client is no part of this.
        pair.prober.pause();
    }
    let span = Nanos::from_secs(u64::from(seconds));
    let reference = Reference::start()?;
    let from = now();
    let mut watches: Vec<Watch> = pairs
        .iter()
        .zip(holders)
        .map(|(pair, holder)| Watch::start(pair, holder, from))
        .collect();
    let dir = pairs
        .first()
        .map(|pair| pair.nodes[0].dir().join("load"))
        .unwrap_or_default();
    let mut stress = Stress::start(&dir, seconds)?;
    let end = from.after(span);
    while now() < end {
        let next = now().after(TICK);
        sleep_until(if next < end { next } else { end });
        stress.check()?;
        for (pair, watch) in pairs.iter().zip(&mut watches) {
            watch.look(pair)?;
        }
        eprintln!("{} to go", end.since(now()));
    }
    // First, so that the end of the load is no part of it.
    let reference = reference.end()?;
    let load = stress.command();
    drop(stress);
    let mut outcomes = Vec::new();
    for (pair, watch) in pairs.iter().zip(watches) {
        let detection = timing.detection(pair.system);
        let promotions = watch.promotions(pair, timing, end)?;
        let least = timing.endures(pair.system);
        let keeps_open = timing.keeps_open(pair.system);
        let of = |resumed: bool, least: Nanos| -> Vec<Promoted> {
            let promotions = promotions.iter().filter(|it| it.resumed == resumed);
            promotions
                .map(|it| Promoted {
                    node: it.node,
                    at: it.at,
                    stall: alarms::explained(it, least, &reference.stalls),
                })
                .collect()
        };
        outcomes.push(Outcome {
            system: pair.system,
            detection,
            take_overs: of(false, least),
            resumed: of(true, keeps_open),
            excused: alarms::excused(from, end, least, detection, &reference.stalls),
            silence: alarms::longest_silence(pair, from, end),
        });
    }
    Ok(Measured {
        seconds,
        timing,
        load,
        from,
        reference,
        outcomes,
    })
}

/// The longest stalls, the longest first.
fn longest(stalls: &[Stall]) -> Vec<Stall> {
    let mut sorted = stalls.to_vec();
    sorted.sort_by_key(|stall| std::cmp::Reverse(stall.length()));
    sorted.truncate(SHOWN);
    sorted
}

fn table(measured: &Measured) -> String {
    let mut text = format!(
        "take-overs for no reason in {} s beside {}, adverts each {}\n\
         {:<16} {:>12} {:>12} {:>7} {:>7} {:>10} {:>5} {:>8} {:>12} {:>15}\n",
        measured.seconds,
        measured.load,
        measured.timing.interval,
        "daemon",
        "heartbeat ms",
        "detection ms",
        "node 1",
        "node 2",
        "in a stall",
        "own",
        "resumed",
        "own of them",
        "no advert in ms"
    );
    for outcome in &measured.outcomes {
        let heartbeat = measured.timing.heartbeat_of(outcome.system);
        let heartbeat = heartbeat.map_or("-".to_owned(), |it| format!("{:.3}", millis(it)));
        text.push_str(&format!(
            "{:<16} {heartbeat:>12} {:>12.3} {:>7} {:>7} {:>10} {:>5} {:>8} {:>12} {:>15.3}\n",
            outcome.system.name(),
            millis(outcome.detection),
            outcome.of(0, false),
            outcome.of(1, false),
            outcome.take_overs.len() - outcome.own(),
            outcome.own(),
            outcome.resumed.len(),
            outcome.resumed_unexplained(),
            millis(outcome.silence),
        ));
    }
    for outcome in &measured.outcomes {
        for it in outcome.take_overs.iter().take(SHOWN) {
            let cause = it.stall.map_or("no stall".to_owned(), |stall| {
                format!("CPU {} stood still for {}", stall.cpu, stall.length())
            });
            text.push_str(&format!(
                "{}: node {} after {}: {cause}\n",
                outcome.system.name(),
                it.node + 1,
                it.at.since(measured.from),
            ));
        }
    }
    for outcome in &measured.outcomes {
        text.push_str(&format!(
            "{}: any take-over in {:.2} % of the time would be said to lie in a stall\n",
            outcome.system.name(),
            100.0 * outcome.excused
        ));
    }
    let gaps = &measured.reference.gaps;
    text.push_str(&format!(
        "threads of the highest priority, one on each CPU, that wake each {PERIOD}: {} gaps,",
        gaps.len()
    ));
    for percent in PERCENTILES {
        let gap = Nanos(gaps.value_at_percentile(percent));
        text.push_str(&format!(" {percent} % up to {:.3},", millis(gap)));
    }
    text.push_str(&format!(
        " the longest {:.3} ms\n",
        millis(Nanos(gaps.max()))
    ));
    for stall in longest(&measured.reference.stalls) {
        text.push_str(&format!(
            "  CPU {} stood still for {} after {}\n",
            stall.cpu,
            stall.length(),
            stall.from.since(measured.from)
        ));
    }
    text
}

fn report(measured: &Measured) -> Value {
    let at = |at: MonoNs| json!({ "at_ns": at.0, "after_ms": millis(at.since(measured.from)) });
    let stall = |stall: &Stall| json!({ "cpu": stall.cpu, "from": at(stall.from), "length_ms": millis(stall.length()) });
    let systems: Vec<Value> = measured
        .outcomes
        .iter()
        .map(|outcome| {
            let take_overs: Vec<Value> = outcome
                .take_overs
                .iter()
                .map(|it| {
                    json!({
                        "node": it.node + 1,
                        "time": at(it.at),
                        "stall": it.stall.as_ref().map(stall),
                    })
                })
                .collect();
            json!({
                "system": outcome.system.name(),
                "heartbeat_ms": measured.timing.heartbeat_of(outcome.system).map(millis),
                "detection_ms": millis(outcome.detection),
                "own": outcome.own(),
                "resumed": outcome.resumed.len(),
                "resumed_own": outcome.resumed_unexplained(),
                "excused_share": outcome.excused,
                "longest_without_advert_ms": millis(outcome.silence),
                "take_overs": take_overs,
            })
        })
        .collect();
    let gaps = &measured.reference.gaps;
    // Buckets that double, from the period on.
    let histogram: Vec<Value> = gaps
        .iter_log(PERIOD.0, 2.0)
        .map(|bucket| {
            json!({
                "up_to_ms": millis(Nanos(bucket.value_iterated_to())),
                "count": bucket.count_since_last_iteration(),
            })
        })
        .collect();
    let stalls: Vec<Value> = longest(&measured.reference.stalls)
        .iter()
        .map(stall)
        .collect();
    json!({
        "seconds": measured.seconds,
        "interval_ms": millis(measured.timing.interval),
        "load": measured.load,
        "systems": systems,
        "reference": {
            "period_ms": millis(PERIOD),
            "gaps": gaps.len(),
            "longest_ms": millis(Nanos(gaps.max())),
            "histogram": histogram,
            "longest_stalls": stalls,
        },
    })
}
