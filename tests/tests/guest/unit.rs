//! Checks of kind `unit` against systemd itself, which the lab on the host's kernel does not have.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    Node,
    checks::{check, wait_for_check, wait_for_probe},
    guest::scenario_in_guest,
    now,
    scene::{Scene, WEB},
    unit::{Unit, systemctl},
    wait::throughout,
};

use crate::slow;

/// By probes it would never be down: what is noticed, is noticed by what systemd says of itself.
const BY_EVENTS: &str = "interval = \"1s\"\nfall = 1000\nrise = 1\ndamping = \"0s\"";

/// As somebody may have it, on a machine with such processors.
const BY_BOTH: &str = "interval = \"2s\"\ntimeout = \"2s\"\nfall = 5\nrise = 1\ndamping = \"0s\"";

/// How long a connection that was built anew is looked at.
const A_WHILE: Duration = Duration::from_secs(5);

fn section(name: &str, unit: &str, how: &str) -> String {
    format!("\n[[check]]\nname = \"{name}\"\nkind = \"unit\"\nunit = \"{unit}\"\n{how}\n")
}

/// A node's unit, named after what is the node's alone.
fn unit(node: &Node, lines: &str) -> Result<Unit> {
    Unit::start(node.ns().name(), lines)
}

/// The check `service` of a node is down, or up, and this is why.
fn service(scene: &Scene, index: usize, state: &str, why: &str) -> Result<()> {
    wait_for_check(&scene.nodes[index], "service", state, why)
}

#[test]
fn a_unit_that_is_stopped_or_dies_moves_the_vip_and_comes_back() {
    scenario_in_guest(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let units = [
            unit(&nodes[0], "Restart=on-failure\nRestartSec=5s")?,
            unit(&nodes[1], "")?,
        ];
        let first = nodes[0].address();
        let scene = Scene::of(lab, nodes, |router| {
            let index = usize::from(router.source != first);
            let section = section("service", units[index].name(), BY_EVENTS);
            slow(router).had_lines(&format!("track = [{{ check = \"service\" }}]\n{section}"))
        })?;
        for index in [0, 1] {
            service(&scene, index, "up", "is active (running)")?;
        }

        // Stopped, as an operator does it.
        let from = now();
        units[0].tell("stop")?;
        scene.wait_served_by(1)?;
        scene.one_after_the_other(from)?;
        scene.nodes[0].wait_for(WEB, "fault")?;
        service(&scene, 0, "down", "is inactive (dead)")?;
        units[0].tell("start")?;
        service(&scene, 0, "up", "is active (running)")?;
        scene.nodes[0].wait_for(WEB, "backup")?;

        // Its main process dies, and systemd has been told nothing for that case.
        units[1].kill()?;
        scene.wait_served_by(0)?;
        service(&scene, 1, "down", "is failed (failed)")?;
        // A failed one stays so.
        wait_for_probe(&scene.nodes[1], "service", now(), false, "is failed")?;
        units[1].tell("start")?;
        service(&scene, 1, "up", "is active (running)")?;
        scene.nodes[1].wait_for(WEB, "backup")?;

        // The same where systemd starts it again.
        units[0].kill()?;
        service(&scene, 0, "down", "systemd will start it again")?;
        scene.wait_served_by(1)?;
        service(&scene, 0, "up", "is active (running)")?;
        scene.nodes[0].wait_for(WEB, "backup")?;

        // Restarted: for a moment there is no service.
        let before = scene.nodes[1].events("check")?.len();
        units[1].tell("restart")?;
        scene.wait_served_by(0)?;
        service(&scene, 1, "up", "is active (running)")?;
        let events = scene.nodes[1].events("check")?;
        ensure!(events.len() == before + 2, "down, and up: {events:?}");
        scene.nodes[1].wait_for(WEB, "backup")
    });
}

#[test]
fn a_unit_may_not_exist_and_systemd_and_its_bus_may_start_anew() {
    scenario_in_guest(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let name = nodes[0].ns().name().to_owned();
        let watched = unit(&nodes[0], "")?;
        let late = format!("{name}-late");
        let sections = [
            section("service", watched.name(), BY_BOTH),
            section("events", watched.name(), BY_EVENTS),
            section("late", &format!("{late}.service"), BY_BOTH),
        ];
        let lines = format!("track = [{{ check = \"service\" }}]\n{}", sections.concat());
        let first = nodes[0].address();
        let scene = Scene::of(lab, nodes, |router| {
            let first = router.source == first;
            slow(router).had_lines(if first { &lines } else { "" })
        })?;
        let node = &scene.nodes[0];
        for name in ["service", "events"] {
            wait_for_check(node, name, "up", "is active (running)")?;
        }

        // Who mistyped a name reads it; and a unit may be installed later.
        let no_unit = format!("there is no unit {late}.service");
        wait_for_check(node, "late", "down", &no_unit)?;
        let _late = Unit::start(&late, "")?;
        wait_for_check(node, "late", "up", "is active (running)")?;

        // systemd reads its files, starts anew, and its bus does: units are as they were all the time.
        for what in [
            &["daemon-reload"][..],
            &["daemon-reexec"],
            &["restart", "dbus.service"],
        ] {
            let since = check(node, "service")?["since_ns"].clone();
            systemctl(what)?;
            let from = now();
            for name in ["service", "events", "late"] {
                wait_for_probe(node, name, from, true, "is active (running)")?;
            }
            throughout(A_WHILE, "nothing happens to the check", || {
                Ok(check(node, "service")?["since_ns"] == since)
            })
            .with_context(|| format!("{what:?}"))?;

            // And what happens to them is heard as before.
            watched.tell("stop")?;
            wait_for_check(node, "events", "down", "is inactive (dead)")
                .with_context(|| format!("{what:?}"))?;
            watched.tell("start")?;
            for name in ["service", "events"] {
                wait_for_check(node, name, "up", "is active (running)")?;
            }
        }
        Ok(())
    });
}
