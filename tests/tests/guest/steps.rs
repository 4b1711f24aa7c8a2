//! A fault at every step of every plan of a resource, a file system and a unit, on two machines.

mod cases;
mod failing;
mod killed;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    eventually, guest,
    ha_pair::{DIR, HaPair, Settings},
    now,
    wait::throughout,
};

use self::cases::{Case, Fault, Plan, Server};

/// Programs of XDP take the guest's kernel ten seconds at each start of a daemon: what is tried here are the plans.
const SETTINGS: Settings = Settings {
    dataplane: "off",
    advert_interval_ms: 1_000,
    promote_limit_secs: 12,
    demote_limit_secs: 10,
};

/// Until somebody serves again, whatever fails.
const SETTLED: Duration = Duration::from_secs(40);

/// For a plan to come to a step, and for a step to fail.
const REACHED: Duration = Duration::from_secs(30);

/// For nobody to do what must not be done.
const A_WHILE: Duration = Duration::from_secs(2);

/// In the file system: the last case that began.
const COUNT: &str = "/srv/pair/count";

const JOURNAL: &str = "state/roles/db.journal";
const LOG: &str = "log";

#[test]
fn a_daemon_that_is_killed_at_any_step_of_any_plan_leaves_one_node_that_serves() {
    each_of(&killed::cases());
}

#[test]
fn any_step_of_any_plan_that_fails_or_hangs_leaves_one_node_that_serves() {
    each_of(&failing::cases());
}

fn each_of(cases: &[Case]) {
    assert!(
        guest::is_here(),
        "this test needs two of QEMU's guests: run `cargo xtask vm-test`"
    );
    let outcome = HaPair::new(SETTINGS).and_then(|mut pair| all(&mut pair, cases));
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

fn all(pair: &mut HaPair, cases: &[Case]) -> Result<()> {
    pair.put_doors()?;
    pair.start(0)?;
    pair.wait_served_by(0)?;
    pair.start(1)?;
    let mut serves = settled(pair)?;
    println!("\n| plan | step | fault | outcome | after |\n|---|---|---|---|---|");
    for (number, case) in cases.iter().enumerate() {
        let from = now();
        let before = serves;
        serves = one(pair, case, number, before).with_context(|| {
            let (one, other) = (pair.said(0), pair.said(1));
            format!("{case:?}, served by side {before}\nside 0: {one}\nside 1: {other}")
        })?;
        let node = if serves == before {
            "it is served where it was"
        } else {
            "the other node serves"
        };
        let took = now().since(from);
        println!(
            "| {} | {} | {} | {}; {node} | {took} |",
            case.plan.name(),
            case.step,
            case.what,
            case.fault.outcome()
        );
    }
    Ok(())
}

/// Has a fault happen, and returns which side serves afterwards.
fn one(pair: &mut HaPair, case: &Case, number: usize, serving: usize) -> Result<usize> {
    let standby = 1 - serving;
    let count = format!("set -e; echo {number} >{COUNT}; sync -f {COUNT}");
    pair.machines.on(serving, &count)?;
    let actor = match case.plan {
        Plan::Promote | Plan::Follow => standby,
        Plan::HandOver | Plan::Demote => serving,
    };
    let journal = Mark::new(pair, actor, JOURNAL)?;
    let log = Mark::new(pair, actor, LOG)?;

    pair.machines.on(actor, &case.before)?;
    match case.plan {
        Plan::Promote | Plan::HandOver => {
            pair.ask_beside(serving, "switchover db", "--dry-run")?;
        }
        Plan::Demote => pair.hactl(serving, "mode maintenance").map(drop)?,
        Plan::Follow => pair.machines.on(actor, "drbdadm disconnect r0").map(drop)?,
    }
    if let Some((step, script)) = &case.earlier {
        wait_for(pair, actor, &[&journal], &record(step))?;
        pair.machines.on(actor, script)?;
    }
    wait_for(pair, actor, &[&journal], &record(case.step))?;
    pair.ask_no_more(serving)?;
    for (side, script) in [1 - actor, actor].into_iter().zip(&case.at) {
        pair.machines.on(side, script)?;
    }
    match case.fault {
        Fault::Killed => pair.kill(actor)?,
        Fault::Overcome(words) | Fault::Fails(words) | Fault::Stuck(words) => {
            wait_for(pair, actor, &[&journal, &log], words)?;
        }
    }
    if matches!(case.fault, Fault::Stuck(_)) {
        throughout(A_WHILE, "nobody serves", || {
            Ok(pair.state(0)? != "active" && pair.state(1)? != "active")
        })?;
    }
    pair.machines.on(actor, &case.mend)?;
    if matches!(case.fault, Fault::Killed) {
        pair.start_again(actor)?;
    }
    if case.plan == Plan::Demote {
        maintained(pair, actor)?;
    }
    let serves = settled(pair)?;
    let expected = match case.serves {
        Server::Before => Some(serving),
        Server::After => Some(standby),
        Server::Either => None,
    };
    ensure!(
        expected.is_none_or(|side| side == serves),
        "side {serves} serves"
    );
    let kept = pair.machines.on(serves, &format!("cat {COUNT}"))?;
    ensure!(kept.trim() == number.to_string(), "{COUNT} has {kept}");
    Ok(serves)
}

/// A step, as it stands in the journal.
fn record(step: &str) -> String {
    match step {
        // It changes nothing, and so only its plan is written down.
        "inspect" => r#""begin".*"promote""#.to_owned(),
        step => format!("\"step\":\"{step}\""),
    }
}

/// A node in maintenance has nothing, and its unit cannot be started by anybody; then it takes part again.
fn maintained(pair: &mut HaPair, side: usize) -> Result<()> {
    eventually(SETTLED, "it is in maintenance", || {
        pair.machines.first("sleep 1")?;
        pair.ensure_demoted(side)?;
        Ok(pair.hactl(side, "mode")?.contains("maintenance"))
    })?;
    let masked = "systemctl start had-pair.service 2>&1 | grep -q masked";
    eventually(REACHED, "the unit is masked", || {
        pair.machines.on(side, masked).map(|_| true)
    })?;
    pair.hactl(side, "mode active-standby").map(drop)
}

/// What stands in a file already.
struct Mark {
    file: &'static str,
    lines: usize,
}

impl Mark {
    fn new(pair: &mut HaPair, side: usize, file: &'static str) -> Result<Self> {
        let length = pair.machines.on(side, &format!("wc -l <{DIR}/{file}"))?;
        let lines = length.trim().parse()?;
        Ok(Self { file, lines })
    }
}

/// Waits until one of the files has these words behind its mark.
fn wait_for(pair: &mut HaPair, side: usize, marks: &[&Mark], words: &str) -> Result<()> {
    let tails: String = marks
        .iter()
        .map(|mark| format!("tail -n +{} {DIR}/{}; ", mark.lines + 1, mark.file))
        .collect();
    // To start programs on an emulated processor all the time holds up what is waited for.
    let script = format!(
        "for i in $(seq 10); do {{ {tails}}} | grep -q -e '{words}' && exit 0; sleep 0.5; done; exit 1"
    );
    eventually(REACHED, &format!("side {side} has {words:?}"), || {
        pair.machines.on(side, &script).map(|_| true)
    })
}

/// Waits until one side has all of the group, and the other one nothing of it and could take over; returns which.
fn settled(pair: &mut HaPair) -> Result<usize> {
    let mut serves = 0;
    eventually(
        SETTLED,
        "one side serves and the other one is ready",
        || {
            // The same goes for programs that ask.
            pair.machines.first("sleep 1")?;
            serves = usize::from(pair.state(1)? == "active");
            let rests = 1 - serves;
            ensure!(
                pair.state(serves)? == "active" && pair.state(rests)? == "backup",
                "not yet"
            );
            pair.ensure_whole(serves)?;
            pair.ensure_demoted(rests)?;
            let events = pair.machines.events(rests)?;
            let roles = pair.hactl(rests, "--json roles")?;
            let roles: serde_json::Value = serde_json::from_str(&roles)?;
            let is_ready = roles["groups"][0]["not_eligible"].is_null();
            Ok(is_ready
                && events.contains("connection:Connected")
                && events.contains(" disk:UpToDate"))
        },
    )?;
    Ok(serves)
}
