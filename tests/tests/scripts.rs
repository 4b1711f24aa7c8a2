//! Scripts that misbehave: each is a failed check, and nothing else.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    checks::{check, wait_for_check},
    eventually,
    gaps::Gaps,
    node::PATIENCE,
    now,
    processes::{descriptors, naming},
    scenario,
    scene::{INTERVAL, Scene, VRID, WEB},
    wait::throughout,
};

/// How long all of them misbehave at once.
const A_WHILE: Duration = Duration::from_secs(3);

/// Each runs for long enough to be found among the processes, if it is left.
const SCRIPTS: [(&str, &str); 4] = [
    ("good", "#!/bin/sh\necho fine\n"),
    (
        "deaf",
        "#!/bin/sh\ntrap '' TERM INT HUP\nsleep 1000 &\nwhile :; do sleep 1000; done\n",
    ),
    ("flood", "#!/bin/sh\nexec yes \"$0 prints and prints\"\n"),
    ("leaves", "#!/bin/sh\nsleep 1000 &\nexit 0\n"),
];

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// A directory of scripts beside a node's files, and a check for each, and for one that is missing.
fn checks(dir: &Path) -> Result<String> {
    fs::create_dir(dir)?;
    for (name, text) in SCRIPTS {
        write(&dir.join(name), text, 0o755)?;
    }
    write(&dir.join("data"), "#!/bin/sh\nexit 0\n", 0o644)?;
    write(&dir.join("replaced"), "#!/bin/sh\nexit 0\n", 0o755)?;
    let names = SCRIPTS.iter().map(|(name, _)| *name);
    let lines = names.chain(["data", "replaced", "missing"]).map(|name| {
        format!(
            "\n[[check]]\nname = \"{name}\"\nkind = \"script\"\ncommand = [\"{}\"]\n\
             interval = \"100ms\"\ntimeout = \"300ms\"\nfall = 1\nrise = 1\ndamping = \"0s\"\n",
            dir.join(name).display()
        )
    });
    Ok(lines.collect())
}

#[test]
fn scripts_that_misbehave_are_failed_checks_and_nothing_else() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let dir = nodes[0].dir().join("scripts");
        let sections = checks(&dir)?;
        let first = nodes[0].address();
        let scene = Scene::of(lab, nodes, |router| {
            if router.source == first {
                router.had_lines(&sections)
            } else {
                router
            }
        })?;
        let node = &scene.nodes[0];
        wait_for_check(node, "good", "up", "fine")?;
        wait_for_check(node, "leaves", "up", "exit code 0")?;
        wait_for_check(node, "replaced", "up", "exit code 0")?;
        wait_for_check(node, "deaf", "down", "no answer within 300 ms")?;
        wait_for_check(node, "flood", "down", "no answer within 300 ms")?;
        wait_for_check(node, "missing", "down", "does not exist")?;
        wait_for_check(node, "data", "down", "is not executable")?;
        let lines = check(node, "flood")?["output"].clone();
        let lines = lines.as_array().context("it printed something")?;
        ensure!(
            !lines.is_empty() && lines.len() <= 20,
            "{} lines are kept",
            lines.len()
        );

        // Replaced while it may be running: the next run is the new one's.
        let new = dir.join("new");
        write(
            &new,
            "#!/bin/sh\necho it is another one now\nexit 7\n",
            0o755,
        )?;
        fs::rename(&new, dir.join("replaced"))?;
        wait_for_check(
            node,
            "replaced",
            "down",
            "exit code 7: it is another one now",
        )?;

        let pid = node.hactl(&["status"])?["pid"].as_u64().context("a pid")?;
        let pid = u32::try_from(pid)?;
        let before = descriptors(pid)?;
        let from = now();
        throughout(A_WHILE, "the node stays Active", || {
            Ok(node.state(WEB)? == "active")
        })?;
        let after = descriptors(pid)?;
        // Those of the runs under way come and go.
        ensure!(after <= before + 16, "{before} descriptors, then {after}");
        let gaps = Gaps::of(&scene.sniffers[0].adverts(VRID, from, now()), INTERVAL);
        println!("while scripts misbehave: {gaps}");
        ensure!(
            gaps.count() > 0 && gaps.longest() < INTERVAL.times(3),
            "{gaps}"
        );
        // One run of each at most, and what it started.
        let running = naming(&dir)?;
        ensure!(running.len() <= 8, "{running:?}");
        let mut scene = scene;
        scene.nodes[0].stop()?;
        eventually(PATIENCE, "no script is left", || {
            Ok(naming(&dir)?.is_empty())
        })
    });
}
