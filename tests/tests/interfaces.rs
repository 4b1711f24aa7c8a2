//! Interfaces that come late, go, return or change, and kinds of them: what an instance on one does. Needs root.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Client, Kind, Lab, Mac, Node, Prober, Probes, VirtualRouter, eventually,
    lab::VIP,
    node::PATIENCE,
    now, scenario,
    scene::{INTERVAL_MS, Scene, WEB},
    wait::throughout,
};

/// How long an unchanged state is watched.
const A_WHILE: Duration = Duration::from_secs(1);

/// How late the late interface is: as a bond or a card may be after a cold boot.
const LATENESS: Duration = Duration::from_secs(20);

/// How recent an answer must be to count as "is served".
const RECENTLY: Nanos = Nanos::from_millis(50);

/// Two nodes whose VIP is on another interface than eth0, which has no address; and a client.
struct Pair {
    nodes: [Node; 2],
    client: Client,
}

impl Pair {
    /// The interfaces are still to be made.
    fn new(lab: &Lab) -> Result<Self> {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        for node in &nodes {
            node.ns().ip(&["addr", "flush", "dev", "eth0"])?;
        }
        Ok(Self {
            nodes,
            client: lab.client("c1")?,
        })
    }

    fn start(&mut self, index: usize, interface: &str) -> Result<()> {
        let router = self.router(index, interface);
        self.nodes[index].start(Kind::Had, &[router])
    }

    /// The first node is the better one, and pre-empts nobody.
    fn router(&self, index: usize, interface: &str) -> VirtualRouter {
        let mut router = self.nodes[index]
            .router()
            .interval_ms(INTERVAL_MS)
            .priority(if index == 0 { 200 } else { 100 })
            .preempt(false)
            .peers(&[self.nodes[1 - index].address()]);
        interface.clone_into(&mut router.interface);
        router
    }

    fn wait_served_by(&self, prober: &Prober, station: Mac) -> Result<()> {
        let what = format!("{} is served by {station}", self.client.address());
        eventually(PATIENCE, &what, || {
            Ok(prober.answered_within(RECENTLY) == Some(station))
        })
    }
}

fn address(node: &Node, interface: &str) -> Result<()> {
    let address = format!("{}/24", node.address());
    let arguments = ["addr", "add", &address, "dev", interface];
    node.ns().ip(&arguments).map(drop)
}

/// A further interface with the node's address.
fn plug(node: &Node, interface: &str) -> Result<()> {
    node.plug(interface)?;
    address(node, interface)
}

fn wait_explained(node: &Node, words: &str) -> Result<()> {
    let what = format!("{} explains: {words}", node.name());
    eventually(PATIENCE, &what, || {
        Ok(node.hactl(&["explain", WEB])?.to_string().contains(words))
    })
}

/// The daemon of a node that has just booted, with nothing of an earlier run, is there before any interface is.
#[test]
fn a_cold_boot_with_an_interface_20_s_late_takes_nothing_over_without_preempt() {
    scenario(|lab| {
        let mut pair = Pair::new(lab)?;
        plug(&pair.nodes[1], "eth1")?;
        pair.start(1, "eth1")?;
        pair.nodes[1].wait_for(WEB, "active")?;
        let prober = Prober::start(&pair.client, VIP, Probes::EchoAndArp)?;
        let station = pair.nodes[1].mac_of("eth1")?;
        pair.wait_served_by(&prober, station)?;
        let before = pair.nodes[1].events("transition")?;

        pair.nodes[0].ns().ip(&["link", "del", "eth0"])?;
        let from = now();
        pair.start(0, "eth1")?;
        let late = &pair.nodes[0];
        wait_explained(late, "does not exist")?;
        let process = late.hactl(&["status"])?["pid"].clone();
        throughout(LATENESS, "the late node waits, and says for what", || {
            let web = late.instance(WEB)?;
            Ok(
                ["initialize", "fault"].contains(&web["state"].as_str().unwrap_or_default())
                    && web["cause"]
                        .as_str()
                        .is_some_and(|why| why.contains("does not exist")),
            )
        })?;
        late.plug("eth1")?;
        wait_explained(late, "lacks the source address")?;
        address(late, "eth1")?;
        late.wait_for(WEB, "backup")?;
        late.wait_for_active_peer(WEB, pair.nodes[1].address())?;
        throughout(A_WHILE, "the late node takes nothing over", || {
            Ok(late.state(WEB)? == "backup" && pair.nodes[1].state(WEB)? == "active")
        })?;
        ensure!(!late.addresses("eth1")?.contains(&VIP.into()));
        ensure!(
            late.hactl(&["status"])?["pid"] == process,
            "it is another process"
        );
        let active = format!("{WEB} is active");
        let transitions = late.events("transition")?;
        ensure!(
            !transitions.iter().any(|one| one.starts_with(&active)),
            "{transitions:?}"
        );
        ensure!(
            pair.nodes[1].events("transition")? == before,
            "a transition on the Active node"
        );
        let gap = prober.longest_gap(from, now())?.length();
        ensure!(gap < Nanos::from_millis(500), "the client waited {gap}");
        // It is ready all the same.
        pair.nodes[1].stop()?;
        pair.nodes[0].wait_for(WEB, "active")?;
        pair.wait_served_by(&prober, pair.nodes[0].mac_of("eth1")?)
    });
}

#[test]
fn an_interface_that_goes_and_returns() {
    scenario(|lab| {
        let mut pair = Pair::new(lab)?;
        for index in 0..2 {
            plug(&pair.nodes[index], "eth1")?;
            pair.start(index, "eth1")?;
            pair.nodes[index].wait_for(WEB, ["active", "backup"][index])?;
        }
        pair.nodes[1].wait_for_active_peer(WEB, pair.nodes[0].address())?;
        let [first, second] = &pair.nodes;
        let prober = Prober::start(&pair.client, VIP, Probes::EchoAndArp)?;
        pair.wait_served_by(&prober, first.mac_of("eth1")?)?;
        first.ns().ip(&["link", "del", "eth1"])?;
        second.wait_for(WEB, "active")?;
        first.wait_for(WEB, "fault")?;
        wait_explained(first, "does not exist")?;
        pair.wait_served_by(&prober, second.mac_of("eth1")?)?;
        plug(first, "eth1")?;
        first.wait_for(WEB, "backup")?;
        throughout(A_WHILE, "it takes nothing back", || {
            Ok(first.state(WEB)? == "backup")
        })?;
        first.wait_for_active_peer(WEB, second.address())?;
        second.hactl(&["switchover", WEB])?;
        first.wait_for(WEB, "active")?;
        pair.wait_served_by(&prober, first.mac_of("eth1")?)
    });
}

#[test]
fn an_active_node_that_loses_its_own_address_lets_go() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let node = &scene.nodes[0];
        let own = format!("{}/24", node.address());
        node.ns().ip(&["addr", "del", &own, "dev", "eth0"])?;
        scene.wait_served_by(1)?;
        node.wait_for(WEB, "fault")?;
        wait_explained(node, "lacks the source address")?;
        ensure!(!node.has(VIP)?);
        address(node, "eth0")?;
        node.wait_for(WEB, "backup")?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn another_mtu_disturbs_nobody() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let from = now();
        for mtu in ["1400", "1280", "1500"] {
            for node in &scene.nodes {
                node.ns().ip(&["link", "set", "eth0", "mtu", mtu])?;
            }
            scene.stays(0, Duration::from_millis(300))?;
        }
        let spoken = scene.sniffers[1].spoken(from, now());
        ensure!(spoken.is_empty(), "the Backup spoke for the VIP");
        Ok(())
    });
}

#[test]
fn another_mac_address_is_announced_at_once() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| {
            // Nothing else announces in the time of this test.
            router.had_lines("announce = { repeat_after = \"0s\", refresh = \"0s\" }")
        })?;
        let node = &scene.nodes[0];
        let announced = || {
            let events = node.events("announced")?;
            Ok::<_, anyhow::Error>(events.len())
        };
        let before = announced()?;
        let from = now();
        let station = Mac([2, 0, 0, 0, 9, 9]);
        node.ns()
            .ip(&["link", "set", "eth0", "address", &station.to_string()])?;
        eventually(PATIENCE, "it announces the VIP", || {
            Ok(scene.sniffers[0].first_announcement(from).is_some())
        })?;
        eventually(PATIENCE, "the client is served by the new address", || {
            Ok(scene.prober.answered_within(RECENTLY) == Some(station))
        })?;
        eventually(PATIENCE, "the new address answers ARP", || {
            let answers = scene.prober.arp_answers(now().before(RECENTLY), now());
            Ok(!answers.is_empty() && answers.iter().all(|(_, by)| *by == station))
        })?;
        ensure!(node.state(WEB)? == "active" && announced()? >= before);
        Ok(())
    });
}

/// On an interface that lies on eth0, made by `ip` with these arguments.
fn serves_on(lab: &Lab, make: impl Fn(&Node) -> Result<()>, interface: &str) -> Result<()> {
    let mut pair = Pair::new(lab)?;
    for index in 0..2 {
        make(&pair.nodes[index])?;
        let node = &mut pair.nodes[index];
        node.ns().ip(&["link", "set", interface, "up"])?;
        address(node, interface)?;
        node.set_dataplane("mode = \"auto\"");
        pair.start(index, interface)?;
        pair.nodes[index].wait_for(WEB, ["active", "backup"][index])?;
    }
    let [first, second] = &pair.nodes;
    second.wait_for_active_peer(WEB, first.address())?;
    let status = first.hactl(&["status"])?;
    ensure!(status["dataplane"]["mode"] == "generic", "{status}");
    let prober = Prober::start(&pair.client, VIP, Probes::EchoAndArp)?;
    let stations = [first.mac_of(interface)?, second.mac_of(interface)?];
    pair.wait_served_by(&prober, stations[0])?;
    let from = now();
    first.power_off()?;
    second.wait_for(WEB, "active")?;
    pair.wait_served_by(&prober, stations[1])?;
    first.power_on()?;
    first.wait_for(WEB, "backup")?;
    let lately = now();
    throughout(A_WHILE, "one node answers", || {
        let answers = prober.arp_answers(lately, now());
        Ok(answers.iter().all(|(_, by)| *by == stations[1]))
    })?;
    ensure!(!prober.arp_answers(from, now()).is_empty());
    pair.nodes[1].stop()?;
    pair.wait_served_by(&prober, stations[0])
}

#[test]
fn an_instance_on_a_bridge() {
    scenario(|lab| {
        let make = |node: &Node| -> Result<()> {
            let ip = |arguments: &[&str]| node.ns().ip(arguments).map(drop);
            ip(&[
                "link",
                "add",
                "lan",
                "type",
                "bridge",
                "stp_state",
                "0",
                "forward_delay",
                "0",
            ])?;
            ip(&["link", "set", "eth0", "master", "lan"])
        };
        serves_on(lab, make, "lan")
    });
}

#[test]
fn an_instance_on_a_macvlan() {
    scenario(|lab| {
        let make = |node: &Node| -> Result<()> {
            let kind = ["type", "macvlan", "mode", "bridge"];
            let arguments = [&["link", "add", "lan", "link", "eth0"][..], &kind].concat();
            node.ns().ip(&arguments).map(drop)
        };
        serves_on(lab, make, "lan")
    });
}
