//! Two interfaces in one network, on a kernel where programs at tc are filters of clsact.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Kind, Node,
    asker::{Asker, node_with_two},
    eventually,
    guest::scenario_in_guest,
    node::PATIENCE,
    now,
    scene::WEB,
    wait::throughout,
};

use crate::slow;

/// How long an unchanged state is watched.
const A_WHILE: Duration = Duration::from_secs(2);

fn filters(node: &Node, interface: &str) -> Result<String> {
    let side = |side| {
        node.ns()
            .run("tc", &["filter", "show", "dev", interface, side])
    };
    Ok(side("ingress")? + &side("egress")?)
}

#[test]
fn only_the_instances_interface_answers_also_with_clsact() {
    scenario_in_guest(|lab| {
        let mut node = node_with_two(lab, "n1")?;
        let client = lab.client("c1")?;
        node.start(Kind::Had, &[slow(node.router())])?;
        node.wait_for(WEB, "active")?;
        eventually(PATIENCE, "the other interface is guarded", || {
            Ok(node.hactl(&["status"])?["dataplane"]["guarded"][0] == "eth1")
        })?;
        ensure!(filters(&node, "eth1")?.contains("had_guard"));
        let asker = Asker::new(&client, &node, "eth1")?;
        let (from, own) = (now(), [node.mac()]);
        eventually(PATIENCE, "packets to the VIP pass the open gate", || {
            Ok(asker.is_served(from) && asker.stations(from) == own)
        })?;
        throughout(A_WHILE, "no other interface answers", || {
            Ok(asker.stations(from) == own)
        })?;
        node.kill()?;
        eventually(PATIENCE, "the gate closes", || {
            let lately = now().before(Nanos::from_millis(500));
            Ok(!asker.is_served(lately) && asker.stations(lately).is_empty())
        })?;
        let from = now();
        throughout(A_WHILE, "it stays closed", || {
            Ok(!asker.is_served(from) && asker.stations(from).is_empty())
        })?;
        node.restart(Kind::Had)?;
        node.wait_for(WEB, "active")?;
        eventually(PATIENCE, "the next daemon guards it", || {
            Ok(node.hactl(&["status"])?["dataplane"]["guarded"][0] == "eth1")
        })?;
        let found = filters(&node, "eth1")?;
        let guards = found
            .lines()
            .filter(|line| line.contains("direct-action") && line.contains("had_guard"));
        ensure!(guards.count() == 1, "{found}");
        node.stop()?;
        let left = filters(&node, "eth1")?;
        ensure!(!left.contains("had_"), "{left}");
        Ok(())
    });
}
