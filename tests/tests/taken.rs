//! Hosts where somebody else has XDP: the gate is at tc.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use ha_common::Nanos;
use ha_tests::{
    Kind, Lab, Node, eventually,
    lab::VIP,
    node::PATIENCE,
    now,
    prober::DirectProber,
    scenario,
    scene::{Scene, WEB},
    stray::Stray,
    wait::throughout,
};

/// Far below what a client gives up after.
const SOON: Nanos = Nanos::from_secs(3);

/// How long an unchanged state is watched.
const A_WHILE: Duration = Duration::from_secs(1);

fn nodes(lab: &Lab, mode: &str) -> Result<[Node; 2]> {
    let mut nodes = [lab.node("n1")?, lab.node("n2")?];
    for node in &mut nodes {
        node.set_dataplane(&format!("mode = {mode:?}"));
    }
    Ok(nodes)
}

/// The programs of `had` at a node's tc.
fn at_tc(node: &Node) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for side in [TcAttachType::Ingress, TcAttachType::Egress] {
        let (_, programs) = node
            .ns()
            .enter(|| SchedClassifier::query_tcx("eth0", side))??;
        for program in programs {
            names.push(program.name_as_str().context("no name")?.to_owned());
        }
    }
    Ok(names)
}

fn xdp(node: &Node) -> Result<serde_json::Value> {
    let text = node.ns().ip(&["-d", "-j", "link", "show", "dev", "eth0"])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    Ok(links[0]["xdp"].clone())
}

#[test]
fn beside_a_foreign_program_the_gate_is_at_tc_and_outlives_the_daemon() {
    scenario(|lab| {
        let nodes = nodes(lab, "auto")?;
        let foreign = [nodes[0].take_xdp()?, nodes[1].take_xdp()?];
        let taken = xdp(&nodes[0])?;
        let mut scene = Scene::of(lab, nodes, |router| router)?;
        let status = scene.nodes[0].hactl(&["status"])?;
        ensure!(status["dataplane"]["mode"] == "tc", "{status}");
        ensure!(scene.nodes[0].log().contains("no XDP, but tc"));
        ensure!(at_tc(&scene.nodes[0])? == ["had_ingress_tc", "had_egress"]);

        let stray = Stray::start(&scene.nodes[0], VIP, scene.client.address())?;
        let direct = DirectProber::start(&scene.client, VIP, scene.nodes[0].mac())?;
        let from = now();
        eventually(PATIENCE, "the stray process is heard", || {
            Ok(scene.sniffers[0].spoken(from, now()).len() > 100)
        })?;
        scene.nodes[0].kill()?;
        scene.wait_served_by(1)?;
        ensure!(scene.nodes[0].has(VIP)?, "SIGKILL does not remove the VIP");
        throughout(A_WHILE, "the client is served by the other node", || {
            Ok(scene.prober.answered_within(SOON) == Some(scene.nodes[1].mac()))
        })?;
        let deadline = scene.gate_deadline(0, now())?;
        let spoken = scene.sniffers[0].spoken(deadline, now());
        ensure!(spoken.is_empty(), "{:?}", spoken.first());

        scene.nodes[0].restart(Kind::Had)?;
        scene.nodes[0].wait_for_vip(VIP, false)?;
        drop((stray, direct));
        scene.stays(1, A_WHILE)?;
        // And back, since the answers of the one that returned come from tc as well.
        scene.nodes[1].stop()?;
        scene.wait_served_by(0)?;
        ensure!(xdp(&scene.nodes[0])? == taken, "the foreign program stays");
        ensure!(at_tc(&scene.nodes[1])?.is_empty(), "nothing is left");
        drop(foreign);
        Ok(())
    });
}

#[test]
fn another_mode_after_a_restart_leaves_nothing_of_the_former() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        ensure!(xdp(&scene.nodes[0])? != serde_json::Value::Null);
        scene.nodes[0].kill()?;
        scene.wait_served_by(1)?;
        scene.nodes[0].set_dataplane("mode = \"tc\"");
        let router = scene.nodes[0].router().interval_ms(50);
        let router = router.peers(&[scene.nodes[1].address()]);
        scene.nodes[0].start(Kind::Had, &[router])?;
        scene.nodes[0].wait_for(WEB, "backup")?;
        ensure!(xdp(&scene.nodes[0])? == serde_json::Value::Null);
        ensure!(at_tc(&scene.nodes[0])? == ["had_ingress_tc", "had_egress"]);
        scene.nodes[1].stop()?;
        scene.wait_served_by(0)
    });
}
