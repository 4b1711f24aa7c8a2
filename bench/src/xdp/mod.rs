//! `bench xdp`: nanoseconds per packet on each path through the ingress program.

mod leases;
mod paths;
mod runner;

use std::{collections::BTreeMap, path::Path as File};

use anyhow::{Context as _, Result, ensure};
use ha_common::{
    Nanos,
    abi::Reason,
    gate::{ADVERT_SLOT, Epoch, Lease},
};
use ha_core::InstanceId;
use ha_tests::now;
use ha_user::dataplane::{Dataplane, Mode, Options};
use serde_json::{Value, json};

use self::{paths::Path, runner::Runner};
use crate::write_json;

const ID: InstanceId = InstanceId(0);

/// No path may cost more, in nanoseconds.
const BOUND: u32 = 150;
/// Nor more than so many times the empty program.
const RATIO: u32 = 4;

/// What the paths are compared with, in nanoseconds.
#[derive(Clone, Copy)]
struct Base {
    empty: u32,
    /// A program that only reads the clock, as each path must that meets a gate.
    clock: u32,
}

struct Row {
    path: Path,
    nanos: u32,
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
    let base = Base {
        empty: runner.empty(&[0; 64])?,
        clock: runner.clock(&[0; 64])?,
    };
    let mut rows = Vec::new();
    dataplane.set_session(0, &paths::session())?;
    // While a session is not watched each of its packets is reported.
    dataplane.watch_session(0, Nanos::from_secs(3_600).0)?;
    for (number, path) in (1..).zip(paths::all()?) {
        set_up(&mut dataplane, Epoch(number), path.open)?;
        rows.push(measure(&mut dataplane, &mut runner, path)?);
    }
    let path = leases::echo(&mut dataplane)?;
    rows.push(measure(&mut dataplane, &mut runner, path)?);
    for keyed in [false, true] {
        let path = leases::answer(&mut dataplane, keyed)?;
        rows.push(measure(&mut dataplane, &mut runner, path)?);
    }
    let sizes = sizes(&mut dataplane)?;
    print!("{}", table(base, &rows, &sizes));
    if let Some(file) = json_file {
        write_json(file, &report(base, &rows, &sizes))?;
    }
    let misses: Vec<String> = rows
        .iter()
        .filter_map(|row| miss(row, base.empty))
        .collect();
    for miss in &misses {
        println!("missed: {miss}");
    }
    ensure!(
        !check || misses.is_empty(),
        "{} bounds are missed",
        misses.len()
    );
    Ok(())
}

fn measure(dataplane: &mut Dataplane, runner: &mut Runner, path: Path) -> Result<Row> {
    expect(dataplane, &path)?;
    runner.set_steps(path.steps)?;
    let nanos = runner.cost(dataplane.ingress()?, &path.frame, path.rewrites)?;
    if path.steps.is_some() {
        let old = dataplane.counters()?;
        let old = old.iter().find(|(reason, _)| *reason == Reason::EchoOld);
        // The one of `expect`.
        ensure!(
            old.is_some_and(|(_, count)| *count <= 1),
            "{}: the frames are not new",
            path.name
        );
    }
    Ok(Row { path, nanos })
}

/// The instance as if it were new, with its gate open or closed.
fn set_up(dataplane: &mut Dataplane, epoch: Epoch, open: bool) -> Result<()> {
    dataplane.clear_instance(ID)?;
    dataplane.set_instance(
        ID,
        &paths::instance(),
        &[paths::VIP.into(), paths::VIP_V6.into()],
        &[],
    )?;
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
    let times = if path.steps.is_some() { 1 } else { 2 };
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
fn miss(row: &Row, empty: u32) -> Option<String> {
    let most = BOUND.min(RATIO * empty);
    (row.path.bounded && row.nanos > most).then(|| {
        format!(
            "{} takes {} ns: more than {BOUND}, or than {RATIO} × the empty program's {empty}",
            row.path.name, row.nanos
        )
    })
}

fn table(base: Base, rows: &[Row], sizes: &[Size]) -> String {
    let mut text = format!("{:<28} {:>6} {:>9}\n", "path", "ns", "× empty");
    let references = [
        ("(empty program)", base.empty),
        ("(clock read alone)", base.clock),
    ];
    let measured = rows.iter().map(|row| (row.path.name, row.nanos));
    for (name, nanos) in references.into_iter().chain(measured) {
        let ratio = f64::from(nanos) / f64::from(base.empty);
        text.push_str(&format!("{name:<28} {nanos:>6} {ratio:>9.1}\n"));
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
        .map(|row| json!({ "path": row.path.name, "ns": row.nanos, "bounded": row.path.bounded }))
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
    json!({ "empty_ns": base.empty, "clock_ns": base.clock, "paths": paths, "programs": programs })
}
