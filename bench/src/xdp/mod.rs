//! `bench xdp`: nanoseconds per packet on each path through the ingress program.

mod leases;
mod paths;
mod runner;

use std::{collections::BTreeMap, path::Path as File};

use anyhow::{Context as _, Result, ensure};
use ha_common::{
    Nanos,
    abi::Reason,
    gate::{ADVERT_SLOT, Lease},
    lease::Standing,
};
use ha_core::InstanceId;
use ha_tests::now;
use ha_user::dataplane::{Dataplane, Mode, Options};
use serde_json::{Value, json};

use self::{
    paths::Path,
    runner::{Cost, Frames, Runner, Sample, Turns},
};
use crate::{figures::verdict, write_json};

const ID: InstanceId = InstanceId(0);

/// No path may cost more, in nanoseconds.
const BOUND: u32 = 150;
/// Nor more than so many times the empty program.
const RATIO: u32 = 4;

/// How often each path has its turns: what disturbs the machine for a while takes none of them all.
const ROUNDS: u32 = 10;

/// What the paths are compared with.
#[derive(Clone, Copy)]
struct Base {
    empty: Cost,
    /// A program that only reads the clock, as each path must that meets a gate.
    clock: Cost,
}

struct Row {
    name: &'static str,
    bounded: bool,
    sample: Sample,
}

/// The rows, in the order in which their paths were first measured.
#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn sample(&mut self, path: &Path) -> &mut Sample {
        let Self(rows) = self;
        let index = match rows.iter().position(|row| row.name == path.name) {
            Some(index) => index,
            None => {
                rows.push(Row {
                    name: path.name,
                    bounded: path.bounded,
                    sample: Sample::default(),
                });
                rows.len() - 1
            }
        };
        &mut rows[index].sample
    }
}

/// The programs' sizes, in instructions but for `jited`.
struct Size {
    name: &'static str,
    verified: u32,
    translated: u32,
    /// In bytes.
    jited: u32,
}

/// Runs the measurement.
pub(crate) fn run(json_file: Option<&File>, check: bool) -> Result<()> {
    let mut dataplane = Dataplane::open(&Options {
        mode: Mode::Native,
        pin_dir: None,
    })?;
    let mut runner = Runner::new()?;
    dataplane.set_session(0, &paths::session())?;
    // While a session is not watched each of its packets is reported.
    dataplane.watch_session(0, Nanos::from_secs(3_600).0)?;
    let (mut empty, mut clock) = (Turns::default(), Turns::default());
    let mut rows = Rows::default();
    for _ in 0..ROUNDS {
        runner.references(&[0; 64], &mut empty, &mut clock)?;
        for path in paths::all()? {
            set_up(&mut dataplane, path.open)?;
            measure(&mut dataplane, &mut runner, &path, rows.sample(&path))?;
        }
        for keyed in [false, true] {
            for lease in [leases::echo, leases::answer] {
                let path = lease(&mut dataplane, keyed)?;
                measure(&mut dataplane, &mut runner, &path, rows.sample(&path))?;
            }
        }
    }
    let Rows(rows) = rows;
    let base = Base {
        empty: empty.cost(),
        clock: clock.cost(),
    };
    let sizes = sizes(&mut dataplane)?;
    print!("{}", table(base, &rows, &sizes));
    if let Some(file) = json_file {
        write_json(file, &report(base, &rows, &sizes))?;
    }
    let misses: Vec<String> = rows.iter().filter_map(|row| miss(row, base)).collect();
    verdict(&misses, check)
}

fn measure(
    dataplane: &mut Dataplane,
    runner: &mut Runner,
    path: &Path,
    sample: &mut Sample,
) -> Result<()> {
    expect(dataplane, path)?;
    let frames = match &path.next {
        Some(numbered) => Frames::New(numbered),
        None if path.rewrites => Frames::Rewritten(&path.frame),
        None => Frames::Kept(&path.frame),
    };
    let before = counted(dataplane, path.reason)?;
    runner.measure(dataplane.ingress()?, &frames, sample)?;
    let runs = counted(dataplane, path.reason)? - before;
    ensure!(
        runs == frames.runs(),
        "{}: {runs} frames of {} took it",
        path.name,
        frames.runs()
    );
    Ok(())
}

fn counted(dataplane: &Dataplane, reason: Reason) -> Result<u64> {
    let counters = dataplane.counters()?;
    let count = counters.iter().find(|(counted, _)| *counted == reason);
    Ok(count.map_or(0, |(_, count)| *count))
}

/// The instance as if it were new, with its gate open or closed.
fn set_up(dataplane: &mut Dataplane, open: bool) -> Result<()> {
    dataplane.clear_instance(ID)?;
    dataplane.set_instance(
        ID,
        &paths::instance(),
        &[paths::VIP.into(), paths::VIP_V6.into()],
        &[],
    )?;
    dataplane.set_standing(ID, Standing::Active);
    let epoch = dataplane.epoch(ID).raised();
    dataplane.set_epoch(ID, epoch);
    if open {
        let until = now().after(Nanos::from_secs(3_600));
        dataplane.set_lease(ID, ADVERT_SLOT, Lease::new(epoch, until));
    }
    Ok(())
}

/// Checks that the frame takes its path, twice: what is measured is the second and later ones.
fn expect(dataplane: &mut Dataplane, path: &Path) -> Result<()> {
    // A frame that must be a new one is taken once.
    let times = if path.next.is_some() { 1 } else { 2 };
    for _ in 0..times {
        let before: BTreeMap<Reason, u64> = dataplane.counters()?.into_iter().collect();
        dataplane.run_ingress(&path.frame)?;
        let after = dataplane.counters()?;
        let counted = after
            .iter()
            .find(|(reason, count)| before.get(reason) != Some(count));
        let (reason, _) = counted.context("nothing was counted")?;
        ensure!(
            *reason == path.reason,
            "{}: the program counts {}, and not {}",
            path.name,
            reason.name(),
            path.reason.name()
        );
    }
    Ok(())
}

fn sizes(dataplane: &mut Dataplane) -> Result<Vec<Size>> {
    let verified = dataplane.verified()?;
    verified
        .into_iter()
        .map(|(name, verified)| {
            let info = dataplane.info(name)?;
            Ok(Size {
                name,
                verified,
                // `bpf_insn` has 8 bytes.
                translated: info.size_translated().unwrap_or(0) / 8,
                jited: info.size_jitted(),
            })
        })
        .collect()
}

/// A sentence, if a bound does not hold.
fn miss(row: &Row, base: Base) -> Option<String> {
    let (nanos, empty) = (row.sample.cost().quickest, base.empty.quickest);
    let (name, ratio) = (row.name, RATIO * empty);
    if !row.bounded {
        return None;
    }
    if nanos > BOUND {
        return Some(format!("{name} takes {nanos} ns: more than {BOUND}"));
    }
    (nanos > ratio).then(|| {
        let clock = base.clock.quickest;
        format!(
            "{name} takes {nanos} ns: more than {RATIO} × the empty program's {empty} (reading the clock alone \
             takes {clock})"
        )
    })
}

fn table(base: Base, rows: &[Row], sizes: &[Size]) -> String {
    let mut text = format!(
        "{:<28} {:>6} {:>9} {:>7}\n",
        "path", "ns", "× empty", "median"
    );
    let references = [
        ("(empty program)", base.empty),
        ("(clock read alone)", base.clock),
    ];
    let measured = rows.iter().map(|row| (row.name, row.sample.cost()));
    for (name, Cost { quickest, median }) in references.into_iter().chain(measured) {
        let ratio = f64::from(quickest) / f64::from(base.empty.quickest);
        text.push_str(&format!(
            "{name:<28} {quickest:>6} {ratio:>9.1} {median:>7}\n"
        ));
    }
    for size in sizes {
        text.push_str(&format!(
            "{}: {} instructions, {} followed by the verifier, {} bytes of machine code\n",
            size.name, size.translated, size.verified, size.jited
        ));
    }
    text
}

fn report(base: Base, rows: &[Row], sizes: &[Size]) -> Value {
    let paths: Vec<Value> = rows
        .iter()
        .map(|row| {
            let Cost { quickest, median } = row.sample.cost();
            json!({
                "path": row.name,
                "ns": quickest,
                "median_ns": median,
                "bounded": row.bounded,
            })
        })
        .collect();
    let programs: Vec<Value> = sizes
        .iter()
        .map(|size| {
            json!({
                "program": size.name,
                "instructions": size.translated,
                "verified_instructions": size.verified,
                "jited_bytes": size.jited,
            })
        })
        .collect();
    json!({
        "empty_ns": base.empty.quickest,
        "clock_ns": base.clock.quickest,
        "paths": paths,
        "programs": programs,
    })
}
