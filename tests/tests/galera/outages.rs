//! Nodes that die, and nodes that are cut off.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{Kind, eventually, now, scenario, wait::throughout};

use crate::stage::{LIMIT, Stage};

const PAIR: [&str; 2] = ["n1", "n2"];

/// As long as a cluster takes to notice, and much longer than a node takes to do what it must not.
const A_WHILE: Duration = Duration::from_secs(8);

/// Until a write was acknowledged that was sent after something happened.
fn gap(stage: &Stage, from: MonoNs) -> Result<Nanos> {
    let ledger = stage.writers.ledger();
    let first = ledger.acknowledged().filter(|write| write.sent > from);
    // Whatever was under way was acknowledged by who died.
    let late = first.filter(|write| write.done.since(from) > Nanos::from_millis(500));
    let at = late.map(|write| write.done).min().context("a write")?;
    Ok(at.since(from))
}

#[test]
fn the_survivor_of_a_pair_goes_on_alone_where_its_standby_is_killed() {
    scenario(|lab| {
        let mut stage = Stage::start(lab, &PAIR, "alone")?;
        let primary = stage.settle()?;
        let other = 1 - primary;
        let at = now();
        stage.server(other).strike()?;
        stage.server(other).wait_for_end(LIMIT)?;
        eventually(LIMIT, "it goes on alone", || {
            Ok(stage.size(primary)? == Some(1))
        })
        .with_context(|| stage.said())?;
        stage.served(now(), Some(primary))?;
        println!(
            "the standby's server killed: writes again after {}",
            gap(&stage, at)?
        );
        stage.revive(other)?;
        stage.verify().map(drop)
    });
}

#[test]
fn the_survivor_of_a_pair_goes_on_alone_where_the_primary_is_killed() {
    scenario(|lab| {
        let mut stage = Stage::start(lab, &PAIR, "alone")?;
        let old = stage.settle()?;
        let at = now();
        stage.server(old).strike()?;
        stage.served(at, Some(1 - old))?;
        println!(
            "the primary's server killed: writes again after {}",
            gap(&stage, at)?
        );
        ensure!(stage.size(1 - old)? == Some(1));
        stage.revive(old)?;
        stage.verify().map(drop)
    });
}

#[test]
fn the_survivor_of_a_pair_goes_on_alone_where_a_node_loses_its_power() {
    scenario(|lab| {
        let mut stage = Stage::start(lab, &PAIR, "alone")?;
        for _ in 0..2 {
            let old = stage.settle()?;
            let at = now();
            stage.nodes[old].power_off()?;
            stage.nodes[old].kill()?;
            stage.server(old).kill()?;
            stage.served(at, Some(1 - old))?;
            println!(
                "the primary without power: writes again after {}",
                gap(&stage, at)?
            );
            stage.nodes[old].power_on()?;
            stage.revive(old)?;
            stage.nodes[old].restart(Kind::Had)?;
        }
        let primary = stage.settle()?;
        let other = 1 - primary;
        let at = now();
        stage.nodes[other].power_off()?;
        stage.nodes[other].kill()?;
        stage.server(other).kill()?;
        eventually(LIMIT, "it goes on alone", || {
            Ok(stage.size(primary)? == Some(1))
        })
        .with_context(|| stage.said())?;
        stage.served(now(), Some(primary))?;
        println!(
            "the standby without power: writes again after {}",
            gap(&stage, at)?
        );
        stage.nodes[other].power_on()?;
        stage.revive(other)?;
        stage.nodes[other].restart(Kind::Had)?;
        stage.verify().map(drop)
    });
}

#[test]
fn who_is_cut_off_from_everything_does_not_go_on() {
    scenario(|lab| {
        let stage = Stage::start(lab, &PAIR, "alone")?;
        stage.settle()?;
        // Both: neither reaches the gateway.
        for node in &stage.nodes {
            lab.cut_off(node, "eth0")?;
        }
        eventually(LIMIT, "both have lost their cluster", || {
            Ok(stage.size(0)?.is_none() && stage.size(1)?.is_none())
        })?;
        throughout(A_WHILE, "neither goes on", || {
            Ok(stage.size(0)?.is_none() && stage.size(1)?.is_none())
        })?;
        lab.heal()?;
        // They find together by themselves.
        let primary = stage.settle()?;
        // One: the other one reaches the gateway, and goes on.
        let at = now();
        lab.cut_off(&stage.nodes[primary], "eth0")?;
        stage.served(at, Some(1 - primary))?;
        println!(
            "the primary cut off: writes again after {}",
            gap(&stage, at)?
        );
        throughout(A_WHILE, "only who reaches the gateway goes on", || {
            Ok(stage.size(primary)?.is_none() && stage.size(1 - primary)? == Some(1))
        })
        .with_context(|| stage.said())?;
        lab.heal()?;
        stage.verify().map(drop)
    });
}

#[test]
fn a_pair_that_is_not_to_go_on_alone_waits_for_the_other_node() {
    scenario(|lab| {
        let mut stage = Stage::start(lab, &PAIR, "never")?;
        let primary = stage.settle()?;
        stage.server(1 - primary).kill()?;
        eventually(LIMIT, "it has lost its cluster", || {
            Ok(stage.size(primary)?.is_none())
        })?;
        throughout(A_WHILE, "it waits", || Ok(stage.size(primary)?.is_none()))?;
        stage.revive(1 - primary)?;
        stage.verify().map(drop)
    });
}

#[test]
fn of_three_nodes_two_go_on_by_themselves() {
    scenario(|lab| {
        let mut stage = Stage::start(lab, &["n1", "n2", "n3"], "never")?;
        let old = stage.settle()?;
        let at = now();
        stage.server(old).strike()?;
        let new = stage.served(at, None)?;
        ensure!(new != old);
        println!(
            "of three the primary killed: writes again after {}",
            gap(&stage, at)?
        );
        ensure!(stage.size(new)? == Some(2));
        stage.revive(old)?;
        // An operator hands over, and nobody is cut off from anything.
        let at = now();
        let primary = stage.settle()?;
        stage.nodes[primary].hactl(&["switchover", "db"])?;
        stage.served(at, None)?;
        stage.verify().map(drop)
    });
}
