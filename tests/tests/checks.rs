//! What is watched beside the instance's own interface: services and other interfaces.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    Lab, Node, VirtualRouter, eventually,
    node::PATIENCE,
    now, scenario,
    scene::{INTERVAL, INTERVAL_MS, Scene, WEB},
};
use serde_json::Value;

const A_WHILE: Duration = Duration::from_secs(1);
const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// A service of a node: connections wait for it, and break when it ends.
fn service(node: &Node) -> Result<TcpListener> {
    Ok(node.ns().enter(|| TcpListener::bind(API))??)
}

/// Tracks `api`, which is probed each 10 s: what is noticed sooner is noticed by an event.
fn tracks_api(router: VirtualRouter, how: &str) -> VirtualRouter {
    router.had_lines(&format!(
        "track = [{{ check = \"api\"{how} }}]\n[[check]]\nname = \"api\"\nkind = \"tcp\"\n\
         address = \"{API}\"\ninterval = \"10s\"\nrise = 1"
    ))
}

/// Both nodes with the service, and what ends it.
fn watched(lab: &Lab, how: &str) -> Result<(Scene, Vec<Option<TcpListener>>)> {
    let nodes = [lab.node("n1")?, lab.node("n2")?];
    let services = nodes
        .iter()
        .map(|node| service(node).map(Some))
        .collect::<Result<Vec<_>>>()?;
    let scene = Scene::of(lab, nodes, |router| tracks_api(router, how))?;
    Ok((scene, services))
}

fn check(node: &Node, name: &str) -> Result<Value> {
    let report = node.hactl(&["checks"])?;
    let checks = report["checks"].as_array().into_iter().flatten();
    let found = checks.into_iter().find(|check| check["name"] == name);
    found.cloned().with_context(|| format!("{report}"))
}

fn explained(node: &Node) -> Result<String> {
    Ok(node.hactl(&["explain", WEB])?["sentences"].to_string())
}

#[test]
fn a_service_that_ends_moves_the_vip_at_once_and_its_return_moves_nothing() {
    scenario(|lab| {
        let (scene, mut services) = watched(lab, "")?;
        let up = check(&scene.nodes[0], "api")?;
        ensure!(
            up["state"] == "up" && up["tracked"]["effects"][0]["kind"] == "veto",
            "{up}"
        );

        let from = now();
        services[0] = None;
        scene.wait_served_by(1)?;
        scene.nodes[0].wait_for(WEB, "fault")?;
        scene.one_after_the_other(from)?;
        let down = check(&scene.nodes[0], "api")?;
        ensure!(down["state"] == "down", "{down}");
        let why = down["why"].as_str().unwrap_or_default();
        ensure!(why.contains("refused"), "{down}");
        let explained = explained(&scene.nodes[0])?;
        ensure!(explained.contains("check api is down"), "{explained}");
        let events = scene.nodes[0].events("check")?;
        ensure!(events.len() == 2, "up, and down: {events:?}");
        // The next probe would have come 10 s later.
        let gap = scene.prober.longest_gap(from, now())?;
        ensure!(gap.length() < INTERVAL.times(100), "{}", gap.length());

        services[0] = Some(service(&scene.nodes[0])?);
        scene.nodes[0].wait_for(WEB, "backup")?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn a_node_without_its_service_does_not_take_over() {
    scenario(|lab| {
        let (mut scene, mut services) = watched(lab, "")?;
        services[1] = None;
        scene.nodes[1].wait_for(WEB, "fault")?;
        scene.nodes[0].stop()?;
        scene.wait_unserved()?;
        ensure!(scene.nodes[1].state(WEB)? == "fault");
        services[1] = Some(service(&scene.nodes[1])?);
        scene.wait_served_by(1)
    });
}

#[test]
fn a_muted_check_moves_nothing_until_it_counts_again() {
    scenario(|lab| {
        let (scene, mut services) = watched(lab, "")?;
        scene.nodes[0].hactl(&["mute", "api", "--for", "1h"])?;
        services[0] = None;
        eventually(PATIENCE, "the check is down", || {
            Ok(check(&scene.nodes[0], "api")?["state"] == "down")
        })?;
        let muted = check(&scene.nodes[0], "api")?;
        ensure!(muted["tracked"]["muted"] == true, "{muted}");
        scene.stays(0, A_WHILE)?;
        scene.nodes[0].hactl(&["unmute", "api"])?;
        scene.wait_served_by(1)?;
        let unknown = scene.nodes[0].hactl(&["mute", "nothing"]);
        let error = format!("{:#}", unknown.err().context("there is no such check")?);
        ensure!(error.contains("check api"), "{error}");
        Ok(())
    });
}

#[test]
fn a_weight_moves_the_vip_to_a_node_that_pre_empts() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let mut services = [Some(service(&nodes[0])?), Some(service(&nodes[1])?)];
        let first = nodes[0].address();
        let scene = Scene::of(lab, nodes, |router| {
            let priority = if router.source == first { 110 } else { 100 };
            let router = router.priority(priority).preempt(true);
            tracks_api(router, ", weight = -20")
        })?;
        services[0] = None;
        scene.wait_served_by(1)?;
        let low = scene.nodes[0].instance(WEB)?;
        ensure!(
            low["priority"] == 110 && low["effective_priority"] == 90 && low["state"] == "backup",
            "{low}"
        );
        let explained = explained(&scene.nodes[0])?;
        ensure!(explained.contains("priority is 90"), "{explained}");
        services[0] = Some(service(&scene.nodes[0])?);
        scene.wait_served_by(0)
    });
}

/// keepalived's `track_file`.
#[test]
fn a_number_in_a_file_moves_the_vip_to_a_node_that_pre_empts() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let first = nodes[0].address();
        let files = nodes.each_ref().map(|node| node.dir().join("load"));
        for file in &files {
            fs::write(file, "0")?;
        }
        let scene = Scene::of(lab, nodes, |router| {
            let (priority, file) = match router.source == first {
                true => (110, &files[0]),
                false => (100, &files[1]),
            };
            // What is not announced by inotify here is found by a probe each 10 s.
            let lines = format!(
                "track = [{{ check = \"load\", weight_per_unit = -2 }}]\n[[check]]\nname = \"load\"\n\
                 kind = \"file\"\nexpect = \"number\"\ninterval = \"10s\"\npath = \"{}\"",
                file.display()
            );
            router.priority(priority).preempt(true).had_lines(&lines)
        })?;
        let has = |number: &str, priority: u8, server: usize| {
            fs::write(&files[0], number)?;
            scene.wait_served_by(server)?;
            eventually(PATIENCE, "the priority is what the number makes it", || {
                Ok(scene.nodes[0].instance(WEB)?["effective_priority"] == priority)
            })
        };
        has("7\n", 96, 1)?;
        has("3\n", 104, 0)?;
        has("-3\n", 116, 0)
    });
}

#[test]
fn a_tracked_interface_without_carrier_moves_the_vip() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        for node in &nodes {
            node.plug("eth1")?;
        }
        let scene = Scene::of(lab, nodes, |router| {
            router.had_lines("track = [{ interface = \"eth1\" }]")
        })?;
        scene.nodes[0].set_cable("eth1", false)?;
        scene.wait_served_by(1)?;
        scene.nodes[0].wait_for(WEB, "fault")?;
        let report = scene.nodes[0].hactl(&["checks"])?;
        let eth1 = &report["interfaces"][0];
        ensure!(
            eth1["reported"] == "down" && eth1["why"] == "it has no carrier",
            "{report}"
        );
        let explained = explained(&scene.nodes[0])?;
        ensure!(explained.contains("interface eth1 is down"), "{explained}");
        scene.nodes[0].set_cable("eth1", true)?;
        scene.nodes[0].wait_for(WEB, "backup")?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn a_reload_adds_a_check_without_a_transition_and_removes_it_again() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let peer = scene.nodes[1].address();
        let plain = scene.nodes[0]
            .router()
            .interval_ms(INTERVAL_MS)
            .peers(&[peer]);
        let mut running = Some(service(&scene.nodes[0])?);
        scene.nodes[0].reload(&[tracks_api(plain.clone(), "")])?;
        eventually(PATIENCE, "the check is up", || {
            Ok(check(&scene.nodes[0], "api").is_ok_and(|check| check["state"] == "up"))
        })?;
        scene.stays(0, A_WHILE)?;
        drop(running.take());
        scene.wait_served_by(1)?;
        scene.nodes[0].wait_for(WEB, "fault")?;
        scene.nodes[0].reload(&[plain])?;
        scene.nodes[0].wait_for(WEB, "backup")?;
        ensure!(check(&scene.nodes[0], "api").is_err(), "it is gone");
        Ok(())
    });
}
