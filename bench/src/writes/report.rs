//! Table, JSON, and what misses the targets.

use ha_common::Nanos;
use serde_json::{Value, json};

use super::{Fault, Options, Promoter, Row, trial::Trial};
use crate::figures::{Figures, millis};

/// Acknowledged writes a second that the figures are to stand for.
const LEAST_RATE: f64 = 1_000.0;

/// Of a killed server and of a switchover, for the median; a power-off has the detection time besides.
const TARGET: Nanos = Nanos::from_millis(150);

/// Heartbeats that may be missed, and the margin of a lease.
const DETECTION_HEARTBEATS: u64 = 4;

fn times(trials: &[Trial], of: impl Fn(&Trial) -> Option<Nanos>) -> Option<Figures> {
    Figures::of(&trials.iter().filter_map(of).collect::<Vec<_>>())
}

fn sum(trials: &[Trial], of: impl Fn(&Trial) -> usize) -> usize {
    trials.iter().map(of).sum()
}

fn how_many(trials: &[Trial], like: impl Fn(&Trial) -> bool) -> usize {
    trials.iter().filter(|trial| like(trial)).count()
}

fn ms(value: Option<Nanos>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.0}", millis(value)))
}

pub(super) fn table(rows: &[Row], options: &Options) -> String {
    let lag = options
        .lag
        .map_or_else(String::new, |lag| format!(", replica behind by {lag:?}"));
    let mut text = format!(
        "writes through the VIP, {:?}, files {:?}{lag}; times in ms: to the first write that the other server \
         acknowledged, and the longest time without any acknowledgement\n{:<11} {:<15} {:>6} {:>20} {:>20} {:>6} \
         {:>8} {:>6} {:>6} {:>9} {:>10} {:>9} {:>9}\n",
        options.durability,
        options.storage,
        "promoter",
        "fault",
        "trials",
        "first: med/p95/max",
        "gap: med/p95/max",
        "per s",
        "acked",
        "lost",
        "twice",
        "refused&c",
        "both wrote",
        "both open",
        "rejoined"
    );
    for row in rows {
        let trials = &row.trials;
        let cells = |figures: Option<Figures>| {
            format!(
                "{}/{}/{}",
                ms(figures.map(|figures| figures.median)),
                ms(figures.map(|figures| figures.p95)),
                ms(figures.map(|figures| figures.max))
            )
        };
        text.push_str(&format!(
            "{:<11} {:<15} {:>6} {:>20} {:>20} {:>6.0} {:>8} {:>6} {:>6} {:>9} {:>10} {:>9} {:>9}\n",
            row.promoter.name(),
            row.fault.name(),
            trials.len(),
            cells(times(trials, |trial| trial.take_over)),
            cells(times(trials, |trial| trial.gap)),
            rate(trials),
            sum(trials, |trial| trial.acknowledged),
            sum(trials, |trial| trial.findings.lost.len()),
            sum(trials, |trial| trial.findings.twice.len()),
            sum(trials, |trial| trial.findings.refused_and_there.len()),
            how_many(trials, wrote_at_two),
            how_many(trials, |trial| trial.both_open > Nanos::ZERO),
            format!(
                "{}/{}",
                how_many(trials, |trial| trial.rejoined.is_some() && trial.equal),
                trials.len()
            ),
        ));
    }
    text
}

/// The least of the trials' rates.
fn rate(trials: &[Trial]) -> f64 {
    trials
        .iter()
        .map(|trial| trial.rate)
        .fold(f64::INFINITY, f64::min)
}

fn wrote_at_two(trial: &Trial) -> bool {
    trial.both_wrote > Nanos::ZERO || trial.by_the_former > 0
}

pub(super) fn json(rows: &[Row], options: &Options) -> Value {
    let trial = |trial: &Trial| {
        json!({
            "take_over_ms": trial.take_over.map(millis),
            "gap_ms": trial.gap.map(millis),
            "per_second": trial.rate,
            "acknowledged": trial.acknowledged,
            "refused": trial.refused,
            "unknown": trial.unknown,
            "lost": trial.findings.lost.len(),
            "twice": trial.findings.twice.len(),
            "refused_and_there": trial.findings.refused_and_there.len(),
            "nobodys": trial.findings.nobodys.len(),
            "both_wrote_ms": millis(trial.both_wrote),
            "both_open_ms": millis(trial.both_open),
            "sampled": trial.sampled,
            "by_the_former": trial.by_the_former,
            "rejoined_ms": trial.rejoined.map(millis),
            "equal": trial.equal,
        })
    };
    let rows = rows.iter().map(|row| {
        json!({
            "promoter": row.promoter.name(),
            "fault": row.fault.name(),
            "take_over": times(&row.trials, |trial| trial.take_over).map(Figures::to_json),
            "gap": times(&row.trials, |trial| trial.gap).map(Figures::to_json),
            "trials": row.trials.iter().map(trial).collect::<Vec<_>>(),
        })
    });
    json!({
        "durability": format!("{:?}", options.durability),
        "storage": format!("{:?}", options.storage),
        "lag_ms": options.lag.map(|lag| lag.as_millis()),
        "rows": rows.collect::<Vec<_>>(),
    })
}

/// A sentence for each target that `had` misses.
pub(super) fn misses(rows: &[Row], options: &Options) -> Vec<String> {
    let rows = rows.iter().filter(|row| row.promoter == Promoter::Had);
    rows.flat_map(|row| missed(row, options)).collect()
}

fn missed(row: &Row, options: &Options) -> Vec<String> {
    let trials = &row.trials;
    let mut misses = Vec::new();
    let mut count = |what: &str, number: usize| {
        if number > 0 {
            misses.push(format!("{}: {what}: {number}", row.fault));
        }
    };
    if options.durability == ha_tests::mariadb::Durability::SemiSync {
        count(
            "acknowledged writes lost",
            sum(trials, |trial| trial.findings.lost.len()),
        );
    }
    count(
        "writes there twice",
        sum(trials, |trial| trial.findings.twice.len()),
    );
    count(
        "refused writes that are there",
        sum(trials, |trial| trial.findings.refused_and_there.len()),
    );
    count(
        "trials with two servers that acknowledged",
        how_many(trials, wrote_at_two),
    );
    if row.fault.closes() {
        count(
            "trials with two servers that could be written to",
            how_many(trials, |trial| trial.both_open > Nanos::ZERO),
        );
    }
    count(
        "trials in which the servers were not asked in earnest whether they can be written to",
        how_many(trials, |trial| !trial.sampled),
    );
    count(
        "trials without a take-over",
        how_many(trials, |trial| {
            row.fault.moves() && trial.take_over.is_none()
        }),
    );
    count(
        "trials after which the old primary did not come back by itself",
        how_many(trials, |trial| trial.rejoined.is_none() || !trial.equal),
    );
    if rate(trials) < LEAST_RATE && options.lag.is_none() {
        misses.push(format!(
            "{}: {:.0} acknowledged writes a second, less than {LEAST_RATE}",
            row.fault,
            rate(trials)
        ));
    }
    let bound = match row.fault {
        Fault::MariadbKilled | Fault::Switchover => Some(TARGET),
        Fault::PowerOff => Some(TARGET.plus(options.heartbeat.times(DETECTION_HEARTBEATS))),
        _ => None,
    };
    let measured = if row.fault == Fault::Switchover {
        times(trials, |trial| trial.gap)
    } else {
        times(trials, |trial| trial.take_over)
    };
    if let (Some(bound), Some(figures), None) = (bound, measured, options.lag)
        && figures.median > bound
    {
        misses.push(format!(
            "{}: the median is {}, more than {bound}",
            row.fault, figures.median
        ));
    }
    if let Some(lag) = options.lag {
        let lag = Nanos(u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX));
        let early = how_many(trials, |trial| {
            trial.take_over.is_some_and(|after| after < lag)
        });
        if early > 0 {
            misses.push(format!(
                "{}: trials in which the VIP opened before the drain: {early}",
                row.fault
            ));
        }
    }
    misses
}
