//! The engine thread does not get its CPU.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use ha_common::Nanos;
use ha_tests::{
    eventually, hog,
    lab::VIP,
    node::PATIENCE,
    now,
    prober::DirectProber,
    scenario,
    scene::{Scene, WEB},
    stray::Stray,
};

/// Longer than a gate stays open, and than it takes the other node to act.
const STARVED: Nanos = Nanos::from_millis(600);

#[test]
fn a_starved_engine_thread_is_silent_and_says_that_it_was_late() {
    scenario(|lab| {
        let cpu = hog::last_cpu()?;
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        nodes[0].set_dataplane(&format!(
            "mode = \"native\"\nrealtime_priority = 50\ncpu_affinity = [{cpu}]"
        ));
        let mut scene = Scene::of(lab, nodes, |router| router)?;
        let status = scene.nodes[0].hactl(&["status"])?;
        ensure!(status["engine"]["cpu_affinity"][0] == cpu, "{status}");
        let (process, thread) = (&status["pid"], &status["engine"]["thread"]);
        let shown = fs::read_to_string(format!("/proc/{process}/task/{thread}/status"))?;
        let allowed = shown
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .context("no Cpus_allowed_list")?;
        ensure!(allowed.trim() == cpu.to_string(), "{allowed}");

        let stray = Stray::start(&scene.nodes[0], VIP, scene.client.address())?;
        let direct = DirectProber::start(&scene.client, VIP, scene.nodes[0].mac())?;
        let from = now();
        eventually(PATIENCE, "the stray process is heard", || {
            Ok(scene.sniffers[0].spoken(from, now()).len() > 100)
        })?;
        let starved = now();
        hog::take(cpu, STARVED)?;
        let deadline = scene.gate_deadline(0, now())?;
        ensure!(deadline > starved, "the gate was open when it began");
        scene.nodes[0].wait_for(WEB, "backup")?;
        scene.nodes[0].wait_for_vip(VIP, false)?;
        scene.wait_served_by(1)?;
        drop((stray, direct));
        scene.stays(1, Duration::from_secs(1))?;
        let spoken = scene.sniffers[0].spoken(deadline, now());
        ensure!(
            spoken.is_empty(),
            "{} frames, the first {:?}",
            spoken.len(),
            spoken.first()
        );
        let transitions = scene.nodes[0].events("transition")?;
        ensure!(
            transitions
                .iter()
                .any(|sentence| sentence.contains("this node was held up until")),
            "{transitions:?}"
        );
        let closed = scene.nodes[0].events("gate_closed")?;
        ensure!(
            closed
                .iter()
                .any(|sentence| sentence.contains("closed by itself")),
            "{closed:?}"
        );
        scene.nodes[0].stop()
    });
}
