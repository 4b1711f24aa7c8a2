//! A bond as an instance's interface.

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Lab, Mac, Node, Prober, Probes,
    bond::LINKS,
    eventually,
    guest::scenario_in_guest,
    node::PATIENCE,
    now,
    scene::{Scene, WEB},
};

use crate::slow;

const ACTIVE_BACKUP: &[&str] = &["mode", "active-backup"];

/// How often the active link fails for a figure.
const FAILURES: usize = 8;

/// More than this beside the bond's own silence is no accident of emulated processors.
const MARGIN: Nanos = Nanos::from_millis(50);

/// How recent an answer must be to count as "is served".
const RECENTLY: Nanos = Nanos::from_millis(50);

fn bonded(lab: &Lab, name: &str) -> Result<Node> {
    let mut node = lab.bonded_node(name, ACTIVE_BACKUP)?;
    node.set_dataplane("mode = \"auto\"");
    Ok(node)
}

fn wait_served(prober: &Prober, station: Mac, what: &str) -> Result<()> {
    eventually(PATIENCE, what, || {
        Ok(prober.answered_within(RECENTLY) == Some(station))
    })
}

/// Fails the active link [`FAILURES`] times, each time once the other one is back. How long the client heard nothing,
/// sorted.
fn silences(node: &Node, prober: &Prober) -> Result<Vec<Nanos>> {
    let mut silences = Vec::new();
    for _ in 0..FAILURES {
        wait_served(
            prober,
            node.mac(),
            "the client is served before a link fails",
        )?;
        let active = node.active_link()?;
        let from = now();
        node.set_cable(&active, false)?;
        eventually(PATIENCE, "the other link is the active one", || {
            Ok(node.active_link()? != active)
        })?;
        let switched = now();
        eventually(PATIENCE, "the client hears from it", || {
            Ok(!prober.answers(switched, MonoNs(u64::MAX)).is_empty())
        })?;
        silences.push(prober.longest_gap(from, now())?.length());
        node.set_cable(&active, true)?;
        eventually(PATIENCE, "the link is usable again", || {
            let state = format!("/sys/class/net/{active}/bonding_slave/mii_status");
            let state = node.ns().run("cat", &[&state])?;
            Ok(state.trim() == "up")
        })?;
    }
    silences.sort_unstable();
    Ok(silences)
}

fn median(sorted: &[Nanos]) -> Result<Nanos> {
    sorted.get(sorted.len() / 2).copied().context("no figures")
}

#[test]
fn the_active_link_s_failure_is_the_bond_s_business() {
    scenario_in_guest(|lab| {
        // Without had: the kernel answers for the address.
        let plain = bonded(lab, "n9")?;
        let other = lab.client("c9")?;
        let address = std::net::Ipv4Addr::new(10, 77, 0, 109);
        plain
            .ns()
            .ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        let prober = Prober::start(&other, address, Probes::EchoAndArp)?;
        let own = silences(&plain, &prober)?;
        drop(prober);

        let nodes = [bonded(lab, "n1")?, bonded(lab, "n2")?];
        let scene = Scene::of(lab, nodes, slow)?;
        let status = scene.nodes[0].hactl(&["status"])?;
        ensure!(status["dataplane"]["mode"] == "generic", "{status}");
        let transitions = || -> Result<_> {
            Ok([
                scene.nodes[0].events("transition")?,
                scene.nodes[1].events("transition")?,
            ])
        };
        let before = transitions()?;
        let with_had = silences(&scene.nodes[0], &scene.prober)?;
        println!("client silence when the active link of a bond fails (miimon 20 ms):");
        println!("  without had: {own:?}\n  with had:    {with_had:?}");
        ensure!(transitions()? == before, "{:?}", transitions()?);
        let (own, with_had) = (median(&own)?, median(&with_had)?);
        ensure!(with_had <= own.plus(MARGIN), "{with_had} beside {own}");

        // No usable link any more.
        for link in LINKS {
            scene.nodes[0].set_cable(link, false)?;
        }
        scene.nodes[1].wait_for(WEB, "active")?;
        scene.wait_served_by(1)
    });
}
