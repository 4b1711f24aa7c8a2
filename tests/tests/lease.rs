//! Leases between two `had` nodes: take-over by proven silence, further paths, hand-over.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Kind, Lab, Node, VirtualRouter, eventually,
    lab::VIP,
    node::PATIENCE,
    now, scenario,
    scene::{Scene, WEB},
    wait::throughout,
};
use serde_json::Value;

/// Adverts so slow that no take-over within a second can be by their absence.
const SLOW_ADVERTS_MS: u32 = 1_000;

/// Comfortable on a busy machine; a lease lasts 200 ms.
const TIMES: &str = "interval = \"20ms\", multiplier = 10";

/// Far below the Active_Down_Interval of those adverts.
const SOON: Nanos = Nanos::from_millis(1_500);

const A_WHILE: Duration = Duration::from_secs(1);

fn with_leases(router: VirtualRouter) -> VirtualRouter {
    router
        .interval_ms(SLOW_ADVERTS_MS)
        .had_lines(&format!("heartbeat = {{ {TIMES} }}"))
}

/// Two nodes with a second cable of their own between them, on which leases go, too.
fn with_direct_cable(lab: &Lab) -> Result<Scene> {
    let nodes = [lab.node("n1")?, lab.node("n2")?];
    for (number, node) in (1..).zip(&nodes) {
        node.plug("eth1")?;
        let address = format!("10.99.0.{number}/24");
        node.ns().ip(&["addr", "add", &address, "dev", "eth1"])?;
    }
    let first = nodes[0].address();
    Scene::of(lab, nodes, |router| {
        let (local, peer) = if router.source == first {
            (1, 2)
        } else {
            (2, 1)
        };
        with_leases(router).had_lines(&format!(
            "channels = [\"direct\"]\n\n[[channel]]\nname = \"direct\"\nkind = \"lease\"\ninterface = \"eth1\"\n\
             local = \"10.99.0.{local}\"\npeer = \"10.99.0.{peer}\"\ninterval = \"20ms\"\nmultiplier = 10"
        ))
    })
}

/// What `hactl status` says of a path.
fn path(node: &Node, name: &str) -> Result<Value> {
    let status = node.hactl(&["status"])?;
    let paths = status["paths"].as_array().cloned().unwrap_or_default();
    Ok(paths
        .into_iter()
        .find(|path| path["name"] == name)
        .unwrap_or_default())
}

fn wait_for_path(node: &Node, name: &str, up: bool) -> Result<()> {
    let what = format!("{}: path {name}, up: {up}", node.name());
    let mut last = Value::Null;
    eventually(PATIENCE, &what, || {
        last = path(node, name)?;
        Ok(last["up"] == up)
    })
    .with_context(|| last.to_string())
}

#[test]
fn silence_is_believed_long_before_adverts_are_missed() {
    scenario(|lab| {
        let scene = Scene::new(lab, with_leases)?;
        let lease = scene.nodes[0].instance(WEB)?["leases"][0].clone();
        ensure!(
            lease["self_renewed"] == false && lease["deadline_ns"].as_u64() > Some(now().0),
            "{lease}"
        );
        let path = path(&scene.nodes[0], "eth0")?;
        ensure!(path["rtt_median_us"].as_u64() > Some(0), "{path}");
        let from = now();
        scene.nodes[0].power_off()?;
        scene.wait_served_by(1)?;
        let gap = scene.prober.longest_gap(from, now())?;
        ensure!(gap.length() < SOON, "{}", gap.length());
        Ok(())
    });
}

#[test]
fn the_last_advert_of_a_dead_node_with_a_higher_priority_is_no_objection() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let first = nodes[0].address();
        let scene = Scene::of(lab, nodes, |router| {
            let priority = if router.source == first { 200 } else { 100 };
            // So often that the Backup has not read the stamp of the last one when the silence is proven.
            with_leases(router.priority(priority)).interval_ms(100)
        })?;
        scene.nodes[0].power_off()?;
        scene.wait_served_by(1)?;
        let events = scene.nodes[1].events("transition")?;
        let elected = events.iter().filter(|event| event.contains("is promoting"));
        ensure!(elected.count() == 1, "{events:?}");
        Ok(())
    });
}

#[test]
fn a_cut_of_the_direct_cable_moves_nothing() {
    scenario(|lab| {
        let scene = with_direct_cable(lab)?;
        let from = now();
        for _ in 0..3 {
            for name in ["eth0", "direct"] {
                wait_for_path(&scene.nodes[0], name, true)?;
            }
            scene.nodes[1].set_link("eth1", false)?;
            wait_for_path(&scene.nodes[0], "direct", false)?;
            throughout(
                Duration::from_millis(400),
                "the first node stays Active",
                || Ok(scene.nodes[0].state(WEB)? == "active"),
            )?;
            scene.nodes[1].set_link("eth1", true)?;
        }
        wait_for_path(&scene.nodes[0], "direct", true)?;
        scene.stays(0, A_WHILE)?;
        let gap = scene.prober.longest_gap(from, now())?;
        ensure!(gap.length() < Nanos::from_millis(200), "{}", gap.length());
        let events = scene.nodes[0].events("channel")?;
        ensure!(
            events.iter().any(|event| event.contains("was heard")),
            "{events:?}"
        );
        Ok(())
    });
}

#[test]
fn sigterm_hands_over_at_once() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, with_leases)?;
        let from = now();
        scene.nodes[0].stop()?;
        scene.wait_served_by(1)?;
        let gap = scene.prober.longest_gap(from, now())?;
        ensure!(gap.length() < SOON, "{}", gap.length());
        scene.one_after_the_other(from)?;
        scene.nodes[0].restart(Kind::Had)?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn a_daemon_that_hangs_loses_its_leases_before_the_other_one_speaks() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, with_leases)?;
        let from = now();
        scene.nodes[0].daemon()?.freeze()?;
        scene.wait_served_by(1)?;
        scene.one_after_the_other(from)?;
        scene.nodes[0].daemon()?.thaw()?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn a_killed_daemon_s_promises_and_programs_are_adopted() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, with_leases)?;
        let from = now();
        scene.nodes[0].kill()?;
        scene.wait_served_by(1)?;
        scene.one_after_the_other(from)?;
        scene.nodes[0].restart(Kind::Had)?;
        scene.nodes[0].wait_for_vip(VIP, false)?;
        scene.stays(1, A_WHILE)
    });
}
