//! A check's script that nobody can kill: it waits for a file system that is frozen.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Node,
    checks::{wait_for_check, wait_for_probe},
    eventually,
    frozen::Disk,
    gaps::Gaps,
    guest::scenario_in_guest,
    node::PATIENCE,
    now,
    processes::{Process, descriptors, naming},
    scene::{Scene, VRID, WEB},
    wait::throughout,
};

use crate::{INTERVAL_MS, slow};

const INTERVAL: Nanos = Nanos::from_millis(INTERVAL_MS as u64);

/// Some ten probes.
const A_WHILE: Duration = Duration::from_secs(12);

/// The end of the daemon may take that much longer than its hand-over, here.
const END: Nanos = Nanos::from_secs(20);

/// A script in `dir` that writes to the disk, and a check that runs it.
fn check(dir: &Path, disk: &Path) -> Result<String> {
    fs::create_dir(dir)?;
    let script = dir.join("writes");
    let text = format!("#!/bin/sh\nexec touch {}/alive\n", disk.display());
    fs::write(&script, text).with_context(|| format!("writing {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(format!(
        "\n[[check]]\nname = \"disk\"\nkind = \"script\"\ncommand = [\"{}\"]\n\
         interval = \"1s\"\ntimeout = \"2s\"\nfall = 1\nrise = 1\ndamping = \"0s\"\n",
        script.display()
    ))
}

/// The runs of the script: it becomes `touch`, which names the disk.
fn runs(disk: &Path) -> Result<Vec<Process>> {
    let mut processes = naming(disk)?;
    processes.retain(|process| process.command.starts_with("touch "));
    Ok(processes)
}

fn wait_for_none(disk: &Path) -> Result<()> {
    eventually(PATIENCE, "no run is left", || Ok(runs(disk)?.is_empty()))
}

/// The most descriptors that a node's daemon has while its script is run again and again.
fn most_descriptors(node: &Node, pid: u32) -> Result<usize> {
    let mut most = 0;
    throughout(A_WHILE, "the node stays Active", || {
        most = most.max(descriptors(pid)?);
        Ok(node.state(WEB)? == "active")
    })?;
    Ok(most)
}

#[test]
fn a_script_that_cannot_be_killed_is_a_failed_check_and_nothing_else() {
    scenario_in_guest(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let place = nodes[0].dir().join("disk");
        let disk = Disk::mount(&place)?;
        let section = check(&nodes[0].dir().join("scripts"), &place)?;
        let first = nodes[0].address();
        let mut scene = Scene::of(lab, nodes, |router| {
            let first = router.source == first;
            slow(router).had_lines(if first { &section } else { "" })
        })?;
        let node = &scene.nodes[0];
        wait_for_check(node, "disk", "up", "exit code 0")?;
        let pid = node.hactl(&["status"])?["pid"].as_u64().context("a pid")?;
        let pid = u32::try_from(pid)?;
        let healthy = most_descriptors(node, pid)?;

        let from = now();
        disk.freeze()?;
        wait_for_probe(node, "disk", from, false, "no answer within 2 s")?;
        wait_for_probe(node, "disk", from, false, "was killed and does not end")?;
        let hanging = runs(&place)?;
        ensure!(
            hanging.len() == 1 && hanging[0].state == 'D',
            "one that cannot be killed: {hanging:?}"
        );
        let frozen = most_descriptors(node, pid)?;
        // One run and no other, however often it was due.
        ensure!(runs(&place)? == hanging, "{:?}", runs(&place)?);
        ensure!(
            frozen <= healthy + 4,
            "{healthy}, then {frozen} descriptors"
        );
        let gaps = Gaps::of(&scene.sniffers[0].adverts(VRID, from, now()), INTERVAL);
        println!("while a script hangs: {gaps}");
        ensure!(
            gaps.count() > 0 && gaps.longest() < INTERVAL.times(3),
            "{gaps}"
        );

        disk.thaw()?;
        wait_for_check(node, "disk", "up", "exit code 0")?;
        let after = most_descriptors(node, pid)?;
        ensure!(after <= healthy + 2, "{healthy}, then {after} descriptors");
        ensure!(
            runs(&place)?.iter().all(|run| run.pid != hanging[0].pid),
            "the run that hung is still there"
        );

        // The daemon ends all the same, while nothing else can end the script.
        let from = now();
        disk.freeze()?;
        wait_for_probe(node, "disk", from, false, "no answer within 2 s")?;
        let from = now();
        scene.nodes[0].stop()?;
        let took = now().since(from);
        println!("the daemon ended {took} after SIGTERM");
        ensure!(took < END, "the daemon took {took} to end");
        scene.wait_served_by(1)?;
        let left = runs(&place)?;
        ensure!(left.len() == 1 && left[0].state == 'D', "{left:?}");
        disk.thaw()?;
        wait_for_none(&place)
    });
}
