//! Bonds in other modes than active-backup, and what lies on a bond.

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Kind, Lab, Node,
    bond::{LACP, LINKS},
    eventually,
    guest::scenario_in_guest,
    lab::VIP,
    node::PATIENCE,
    now,
    scene::{Scene, WEB},
    vlan::Tag,
};
use serde_json::Value;

use crate::{GENERIC, slow, xdp};

/// The first node's eth0 is a bond.
fn nodes(lab: &Lab, options: &[&str]) -> Result<[Node; 2]> {
    let mut nodes = [lab.bonded_node("n1", options)?, lab.node("n2")?];
    for node in &mut nodes {
        node.set_dataplane("mode = \"auto\"");
    }
    Ok(nodes)
}

/// What the daemon says of its first interface.
fn interface(node: &Node) -> Result<Value> {
    Ok(node.hactl(&["status"])?["dataplane"]["interfaces"][0].clone())
}

fn wait_usable(node: &Node, slaves: u64) -> Result<()> {
    let what = format!("{slaves} slaves can be used");
    eventually(PATIENCE, &what, || {
        Ok(interface(node)?["bond"]["usable_slaves"] == slaves)
    })
}

/// Status says generic XDP, and so does the kernel: on `interface`, and on nothing below it.
fn is_generic(node: &Node, interface: &str, below: &[&str]) -> Result<()> {
    let found = self::interface(node)?;
    ensure!(found["mode"] == "generic", "{found}");
    ensure!(xdp(node, interface)? == Some(GENERIC));
    for below in below {
        ensure!(xdp(node, below)?.is_none(), "{below} runs XDP");
    }
    Ok(())
}

/// One link fails, then all of them; then they return.
fn survives_one_link(scene: &Scene, mode: &str) -> Result<()> {
    let node = &scene.nodes[0];
    wait_usable(node, 2)?;
    let found = interface(node)?;
    ensure!(found["bond"]["mode"] == mode, "{found}");
    is_generic(node, "eth0", &LINKS)?;
    let before = scene.nodes[1].events("transition")?;
    node.set_cable(LINKS[0], false)?;
    wait_usable(node, 1)?;
    scene.wait_served_by(0)?;
    ensure!(scene.nodes[1].events("transition")? == before);
    node.set_cable(LINKS[1], false)?;
    node.wait_for(WEB, "fault")?;
    scene.nodes[1].wait_for(WEB, "active")?;
    scene.wait_served_by(1)?;
    for link in LINKS {
        node.set_cable(link, true)?;
    }
    wait_usable(node, 2)?;
    node.wait_for(WEB, "backup")
}

/// The kernel leaves such a bond its carrier though every link has failed.
#[test]
fn a_bond_that_balances_and_watches_no_link() {
    scenario_in_guest(|lab| {
        let nodes = nodes(lab, &["mode", "balance-rr", "miimon", "0"])?;
        let scene = Scene::of(lab, nodes, slow)?;
        let warnings = scene.nodes[0].hactl(&["status"])?["warnings"].to_string();
        ensure!(warnings.contains("does not watch its slaves"), "{warnings}");
        survives_one_link(&scene, "balance-rr")
    });
}

#[test]
fn a_bond_that_negotiates_with_the_switch() {
    scenario_in_guest(|lab| {
        let nodes = nodes(lab, &["mode", LACP, "lacp_rate", "fast"])?;
        let scene = Scene::of(lab, nodes, slow)?;
        eventually(PATIENCE, "the switch has taken both links in", || {
            let bond = interface(&scene.nodes[0])?["bond"].clone();
            let slaves = bond["slaves"].as_array().context("no slaves")?.clone();
            let is_in = |slave: &Value| slave["partner_in_sync"] == true;
            let same = slaves
                .windows(2)
                .all(|two| two[0]["aggregator"] == two[1]["aggregator"]);
            Ok(slaves.len() == 2 && same && slaves.iter().all(is_in))
        })?;
        survives_one_link(&scene, LACP)
    });
}

/// The kernel is told not to announce anything itself.
#[test]
fn a_vlan_on_a_bond_is_announced_when_the_bond_fails_over() {
    scenario_in_guest(|lab| {
        let mut nodes = nodes(lab, &["mode", "active-backup", "num_grat_arp", "0"])?;
        let mut client = lab.client("c1")?;
        let vlan = [Tag::customer(7)];
        for node in &mut nodes {
            node.join_vlan(&vlan)?;
        }
        client.join_vlan(&vlan)?;
        let scene = Scene::with(nodes, client, |router| {
            slow(router).had_lines("announce = { repeat_after = \"0s\", refresh = \"0s\" }")
        })?;
        let node = &scene.nodes[0];
        let found = interface(node)?;
        ensure!(found["bond"]["mode"] == "active-backup", "{found}");
        is_generic(node, "eth0.7", &["eth0", "s0", "s1"])?;

        let before = scene.nodes[1].events("transition")?;
        let active = node.active_link()?;
        let from = now();
        node.set_cable(&active, false)?;
        eventually(PATIENCE, "the VIP is announced", || {
            Ok(scene.sniffers[0].announcements(from, now()) > 1)
        })?;
        scene.wait_served_by(0)?;
        ensure!(node.log().contains("its bond goes on by"));

        // The bond gets both copies of a broadcast, and one answer leaves.
        node.set_cable(&active, true)?;
        wait_usable(node, 2)?;
        let from = now();
        eventually(PATIENCE, "some probes are answered", || {
            Ok(scene.prober.answers(from, now()).len() > 200)
        })?;
        let to = now().before(Nanos::from_millis(20));
        let echoes = scene.prober.answers(from, to).len();
        let arps = scene.prober.arp_answers(from, to).len();
        ensure!(arps * 2 < echoes * 3, "{arps} ARP answers, {echoes} echoes");

        // Released, it is an interface of its own; enslaved again, it is the bond's.
        let spare = LINKS
            .iter()
            .find(|link| **link != node.active_link().unwrap_or_default());
        let spare = spare.context("no other link")?;
        node.ns().ip(&["link", "set", spare, "nomaster"])?;
        wait_usable(node, 1)?;
        node.ns().ip(&["link", "set", spare, "down"])?;
        node.ns().ip(&["link", "set", spare, "master", "eth0"])?;
        wait_usable(node, 2)?;
        scene.wait_served_by(0)?;
        ensure!(scene.nodes[1].events("transition")? == before);
        Ok(())
    });
}

/// It would run on each slave instead, also on those whose frames the bond drops.
#[test]
fn native_xdp_on_a_bond_is_refused_and_status_says_so() {
    scenario_in_guest(|lab| {
        let mut node = lab.bonded_node("n1", &["mode", "active-backup"])?;
        node.set_dataplane("mode = \"native\"");
        node.start(Kind::Had, &[slow(node.router())])?;
        eventually(PATIENCE, "status tells why", || {
            let found = interface(&node)?;
            let error = found["error"].as_str().unwrap_or_default();
            Ok(found["mode"] == "none" && error.contains("bond"))
        })?;
        ensure!(xdp(&node, "eth0")?.is_none() && !node.has(VIP)?);
        ensure!(node.state(WEB)? != "active");
        Ok(())
    });
}
