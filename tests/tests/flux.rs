//! Several interfaces in one network: only the instance's own answers for its VIPs (ARP flux), and packets to them
//! meet its gate whichever way they come. Needs root.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use ha_common::Nanos;
use ha_tests::{
    Kind, Node, Prober, Probes,
    asker::{Asker, node_with_two},
    eventually,
    lab::VIP,
    node::PATIENCE,
    now, scenario,
    scene::{Scene, WEB},
    wait::throughout,
};

/// How long an unchanged state is watched.
const A_WHILE: Duration = Duration::from_secs(1);

/// The VIP's interface of a node, and another one in its network.
const BOTH: [&str; 2] = ["eth0", "eth1"];

fn guarded(node: &Node) -> Result<Vec<String>> {
    let status = node.hactl(&["status"])?;
    let names = status["dataplane"]["guarded"]
        .as_array()
        .context("no list")?;
    Ok(names
        .iter()
        .filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect())
}

fn wait_guarded(node: &Node, expected: &[&str]) -> Result<()> {
    let what = format!("{} guards {expected:?}", node.name());
    eventually(PATIENCE, &what, || Ok(guarded(node)? == expected))
}

/// Whether the guard is at an interface.
fn has_guard(node: &Node, interface: &str) -> Result<bool> {
    let (_, programs) = node
        .ns()
        .enter(|| SchedClassifier::query_tcx(interface, TcAttachType::Ingress))??;
    Ok(programs.iter().any(|one| one.name() == b"had_guard"))
}

fn sysctl(node: &Node, interface: &str, key: &str) -> Result<String> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/{key}");
    let text = node.ns().enter(|| std::fs::read_to_string(path))??;
    Ok(text.trim().to_owned())
}

fn wait_sysctls(node: &Node, announce: [&str; 2], ignore: [&str; 2]) -> Result<()> {
    let what = format!(
        "{}: arp_announce {announce:?}, arp_ignore {ignore:?}",
        node.name()
    );
    eventually(PATIENCE, &what, || {
        for index in 0..2 {
            if sysctl(node, BOTH[index], "arp_announce")? != announce[index]
                || sysctl(node, BOTH[index], "arp_ignore")? != ignore[index]
            {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// What the tests below would not notice if Linux did not do it.
#[test]
fn linux_alone_answers_by_every_interface() {
    scenario(|lab| {
        let node = node_with_two(lab, "n1")?;
        let client = lab.client("c1")?;
        node.ns()
            .ip(&["addr", "add", "10.77.0.100/24", "dev", "eth0"])?;
        let asker = Asker::new(&client, &node, "eth1")?;
        let from = now();
        let mut both = [node.mac(), node.mac_of("eth1")?];
        both.sort_unstable_by_key(|mac| mac.0);
        eventually(PATIENCE, "both answer", || Ok(asker.stations(from) == both))?;
        eventually(PATIENCE, "packets are taken by the other one", || {
            Ok(asker.is_served(from))
        })
    });
}

#[test]
fn only_the_instances_interface_answers_and_the_gate_is_at_both() {
    scenario(|lab| {
        let mut node = node_with_two(lab, "n1")?;
        let client = lab.client("c1")?;
        let routers = [node.router()];
        node.start(Kind::Had, &routers)?;
        node.wait_for(WEB, "active")?;
        wait_guarded(&node, &["eth1"])?;
        let asker = Asker::new(&client, &node, "eth1")?;
        let from = now();
        eventually(PATIENCE, "packets to the VIP pass the open gate", || {
            Ok(asker.is_served(from))
        })?;
        let own = [node.mac()];
        eventually(PATIENCE, "its own interface answers", || {
            Ok(asker.stations(from) == own)
        })?;
        throughout(A_WHILE, "no other one does", || {
            Ok(asker.stations(from) == own)
        })?;

        // The VIP stays, and both gates close and stay closed.
        node.kill()?;
        eventually(PATIENCE, "the gate closes", || {
            let lately = now().before(Nanos::from_millis(100));
            Ok(!asker.is_served(lately) && asker.stations(lately).is_empty())
        })?;
        ensure!(node.has(VIP)?);
        let from = now();
        throughout(A_WHILE, "it stays closed", || {
            Ok(!asker.is_served(from) && asker.stations(from).is_empty())
        })?;

        // The next daemon takes the guard over.
        let before = has_guard(&node, "eth1")?;
        node.restart(Kind::Had)?;
        node.wait_for(WEB, "active")?;
        wait_guarded(&node, &["eth1"])?;
        ensure!(before && has_guard(&node, "eth1")?);
        node.stop()?;
        ensure!(!has_guard(&node, "eth1")?, "the guard stays");
        Ok(())
    });
}

#[test]
fn sysctls_are_set_where_they_are_needed_and_put_back_also_after_a_kill() {
    scenario(|lab| {
        let mut node = node_with_two(lab, "n1")?;
        node.ns().sysctl("net/ipv4/conf/eth1/arp_announce", "1")?;
        let routers = [node.router()];
        node.start(Kind::Had, &routers)?;
        // XDP answers for the VIPs, and the guard for none: the kernel need not be told not to.
        wait_sysctls(&node, ["2", "2"], ["0", "0"])?;
        node.kill()?;
        wait_sysctls(&node, ["2", "2"], ["0", "0"])?;
        node.set_dataplane("mode = \"off\"");
        node.start(Kind::Had, &routers)?;
        wait_sysctls(&node, ["2", "2"], ["1", "1"])?;
        node.wait_for(WEB, "active")?;
        let client = lab.client("c1")?;
        let asker = Asker::new(&client, &node, "eth1")?;
        let (from, own) = (now(), [node.mac()]);
        eventually(PATIENCE, "its own interface answers", || {
            Ok(asker.stations(from) == own)
        })?;
        throughout(A_WHILE, "no other one does", || {
            Ok(asker.stations(from) == own)
        })?;
        node.stop()?;
        wait_sysctls(&node, ["0", "1"], ["0", "0"])
    });
}

#[test]
fn a_port_of_a_bridge_is_let_go_of_and_a_released_one_is_guarded_again() {
    scenario(|lab| {
        let mut node = node_with_two(lab, "n1")?;
        let routers = [node.router()];
        node.start(Kind::Had, &routers)?;
        wait_guarded(&node, &["eth1"])?;
        let ip = |arguments: &[&str]| node.ns().ip(arguments).map(drop);
        ip(&["link", "add", "br1", "type", "bridge"])?;
        ip(&["link", "set", "br1", "up"])?;
        wait_guarded(&node, &["eth1", "br1"])?;
        ip(&["link", "set", "eth1", "master", "br1"])?;
        wait_guarded(&node, &["br1"])?;
        ensure!(!has_guard(&node, "eth1")?);
        ip(&["link", "set", "eth1", "nomaster"])?;
        wait_guarded(&node, &["eth1", "br1"])?;
        ip(&["link", "del", "br1"])?;
        wait_guarded(&node, &["eth1"])?;
        // An instance comes to it, and goes again.
        let mut second = node.router().sibling("second", 52, [10, 77, 0, 102].into());
        "eth1".clone_into(&mut second.interface);
        second.source = [10, 77, 0, 51].into();
        node.reload(&[node.router(), second])?;
        wait_guarded(&node, &[])?;
        node.wait_for("second", "active")?;
        node.reload(&routers)?;
        wait_guarded(&node, &["eth1"])
    });
}

/// A Backup that is a router is the way to the Active node for whoever comes by its other interface.
#[test]
fn a_backup_still_forwards_to_the_active_node() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, node_with_two(lab, "n2")?];
        let scene = Scene::of(lab, nodes, |router| router)?;
        let [active, backup] = &scene.nodes;
        wait_guarded(backup, &["eth1"])?;
        backup.ns().sysctl("net/ipv4/ip_forward", "1")?;
        backup
            .ns()
            .ip(&["addr", "add", "10.79.0.2/24", "dev", "eth1"])?;
        let back = format!("{}", backup.address());
        active
            .ns()
            .ip(&["route", "add", "10.79.0.0/24", "via", &back])?;
        let client = lab.client("c2")?;
        client
            .ns()
            .ip(&["addr", "add", "10.79.0.9/24", "dev", "eth0"])?;
        // Its eth0 would answer for that address as well: the flux of an ordinary address.
        let station = backup.mac_of("eth1")?.to_string();
        client.ns().ip(&[
            "neigh",
            "add",
            "10.79.0.2",
            "lladdr",
            &station,
            "dev",
            "eth0",
        ])?;
        client.ns().ip(&[
            "route",
            "add",
            "10.77.0.100/32",
            "via",
            "10.79.0.2",
            "src",
            "10.79.0.9",
        ])?;
        let from = now();
        let through_kernel = Prober::start(&client, VIP, Probes::Echo)?;
        eventually(
            PATIENCE,
            "the client gets through to the Active node",
            || Ok(!through_kernel.answers(from, now()).is_empty()),
        )?;
        drop(through_kernel);
        let counters = backup.hactl(&["status"])?["dataplane"]["counters"].clone();
        for reason in ["pass_vip_forwarded", "egress_forwarded"] {
            ensure!(
                counters[reason].as_u64().is_some_and(|count| count > 0),
                "{reason}: {counters}"
            );
        }
        // If it has the address after all, nothing passes.
        backup
            .ns()
            .ip(&["addr", "add", "10.77.0.100/32", "dev", "lo"])?;
        let from = now();
        let asker = Asker::new(&client, backup, "eth1")?;
        throughout(A_WHILE, "it does not answer itself", || {
            Ok(!asker.is_served(from))
        })
    });
}
