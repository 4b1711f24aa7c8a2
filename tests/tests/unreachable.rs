//! Peers whose MAC addresses the kernel does not know: while it asks for them, for three seconds and then anew, the
//! packets to them wait.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::{Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Kind, Lab, Node, VirtualRouter, eventually,
    node::PATIENCE,
    now, scenario,
    scene::{Scene, WEB},
    wait::throughout,
};

/// Several times as long as the kernel asks for an address.
const ROUNDS: Duration = Duration::from_secs(8);

/// While the kernel asks, and after more packets than one peer's queue holds are waiting.
const ASKING: Duration = Duration::from_secs(2);

/// Leases of 200 ms.
const HEARTBEAT: &str = "heartbeat = { interval = \"20ms\", multiplier = 10 }";

/// Peers that are not there: with so many more packets wait in two seconds, at intervals that a busy machine keeps,
/// than one peer's queue holds.
fn absent(count: u8) -> Vec<IpAddr> {
    (0..count)
        .map(|number| Ipv4Addr::new(10, 77, 0, 50 + number).into())
        .collect()
}

fn with_adverts(mut router: VirtualRouter) -> VirtualRouter {
    router.peers.extend(absent(12));
    router
}

fn with_leases(mut router: VirtualRouter) -> VirtualRouter {
    router.peers.extend(absent(6));
    router.had_lines(HEARTBEAT)
}

/// A node whose peer lost its power, and whose kernel has just begun to ask for it.
fn lose_peer(lab: &Lab, active: &Node, peer: &mut Node) -> Result<()> {
    lab.cut_off(peer, "eth0")?;
    peer.kill()?;
    active.ns().ip(&["neighbour", "flush", "dev", "eth0"])?;
    let address = peer.address().to_string();
    eventually(PATIENCE, "adverts wait for the peer's address", || {
        let asked = ["neighbour", "show", "nud", "incomplete"];
        Ok(active.ns().ip(&asked)?.contains(&address))
    })
}

/// Whatever could not be sent is told.
fn everything_was_sent(node: &Node) -> Result<()> {
    let log = node.log();
    let complaint = log.lines().find(|line| line.contains("sent"));
    ensure!(complaint.is_none(), "{complaint:?}");
    Ok(())
}

#[test]
fn an_active_node_stays_active() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, with_adverts)?;
        let [active, peer] = &mut scene.nodes;
        lose_peer(lab, active, peer)?;
        let active = &scene.nodes[0];
        let transitions = active.events("transition")?;
        let from = now();
        throughout(
            ROUNDS,
            "it is Active",
            || Ok(active.state(WEB)? == "active"),
        )?;
        ensure!(active.events("transition")? == transitions);
        let gap = scene.prober.longest_gap(from, now())?.length();
        ensure!(gap < Nanos::from_millis(500), "the client waited {gap}");
        everything_was_sent(active)
    });
}

fn comes_back(shape: fn(VirtualRouter) -> VirtualRouter) {
    scenario(|lab| {
        let mut scene = Scene::new(lab, shape)?;
        let [active, peer] = &mut scene.nodes;
        lose_peer(lab, active, peer)?;
        let active = &scene.nodes[0];
        throughout(
            ASKING,
            "it is Active",
            || Ok(active.state(WEB)? == "active"),
        )?;
        let refused = active.hactl(&["switchover", WEB]).err();
        ensure!(
            refused.is_some_and(|error| format!("{error:#}").contains("Active again")),
            "somebody took over"
        );
        scene.wait_served_by(0)?;
        let transitions = active.events("transition")?;
        let promoted = transitions.iter().filter(|one| one.contains("promoting"));
        ensure!(promoted.count() == 2, "{transitions:?}");
        everything_was_sent(active)
    });
}

#[test]
fn a_node_becomes_active() {
    comes_back(with_adverts);
}

#[test]
fn a_node_with_leases_becomes_active() {
    comes_back(with_leases);
}

/// Echoes to a peer of which nothing was ever heard go by the kernel's neighbour table, too.
#[test]
fn a_node_with_leases_stays_active_without_a_peer_from_the_start() {
    scenario(|lab| {
        let mut node = lab.node("n1")?;
        node.start(Kind::Had, &[with_leases(node.router())])?;
        node.wait_for(WEB, "active")?;
        throughout(ROUNDS, "it is Active", || Ok(node.state(WEB)? == "active"))?;
        let transitions = node.events("transition")?;
        let promoted = transitions.iter().filter(|one| one.contains("promoting"));
        ensure!(promoted.count() == 1, "{transitions:?}");
        everything_was_sent(&node)
    });
}
