//! Leases between two `had` nodes: take-over by proven silence, hand-over.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Kind, Node, Prober, Probes, Sniffer, VirtualRouter, eventually,
    lab::{VIP, VIP_2},
    node::PATIENCE,
    now, scenario,
    scene::{Scene, WEB},
    wait::throughout,
};

/// Adverts so slow that no take-over within a second can be by their absence.
const SLOW_ADVERTS_MS: u32 = 1_000;

/// Comfortable on a busy machine; a lease lasts 200 ms.
const TIMES: &str = "interval = \"20ms\", multiplier = 10";

/// Far below the Active_Down_Interval of those adverts.
const SOON: Nanos = Nanos::from_millis(1_500);

/// How recent an answer must be to count as "is served".
const RECENTLY: Nanos = Nanos::from_millis(50);

/// A third virtual address.
const VIP_3: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 102);

const A_WHILE: Duration = Duration::from_secs(1);

fn with_leases(router: VirtualRouter) -> VirtualRouter {
    router
        .interval_ms(SLOW_ADVERTS_MS)
        .had_lines(&format!("heartbeat = {{ {TIMES} }}"))
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
        let path = scene.nodes[0].path("eth0")?;
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
            // So often that the Backup has not read the stamp of the last one when the silence is proven.
            with_leases(ranked(first, router)).interval_ms(100)
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

/// Of [`group_of_three`].
const LONG_LEASE: Nanos = Nanos::from_secs(1);

/// Three virtual routers in a group, with leases so long that who waits for their end is found out.
fn group_of_three(node: &Node, peer: Ipv4Addr) -> [VirtualRouter; 3] {
    let web = node
        .router()
        .peers(&[peer])
        .interval_ms(SLOW_ADVERTS_MS)
        .group("all")
        .had_lines("heartbeat = { interval = \"100ms\", multiplier = 10 }");
    let mail = web.clone().sibling("mail", 52, VIP_2);
    let news = web.clone().sibling("news", 53, VIP_3);
    [web, mail, news]
}

#[test]
fn a_group_is_handed_over_at_once() {
    scenario(|lab| {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        let client = lab.client("c1")?;
        let addresses = [nodes[0].address(), nodes[1].address()];
        for (index, state) in ["active", "backup"].into_iter().enumerate() {
            let routers = group_of_three(&nodes[index], addresses[1 - index]);
            nodes[index].start(Kind::Had, &routers)?;
            nodes[index].wait_for(WEB, "backup")?;
            nodes[index].wait_for(WEB, state)?;
        }
        for router in [WEB, "mail", "news"] {
            nodes[0].wait_for(router, "active")?;
            nodes[1].wait_for_active_peer(router, addresses[0])?;
        }
        let probers =
            [VIP, VIP_2, VIP_3].map(|vip| Prober::start(&client, vip, Probes::EchoAndArp));
        let probers = probers.into_iter().collect::<Result<Vec<_>>>()?;
        let served_by = |node: &Node| {
            eventually(PATIENCE, "every address is served", || {
                let mut servers = probers
                    .iter()
                    .map(|prober| prober.answered_within(RECENTLY));
                Ok(servers.all(|server| server == Some(node.mac())))
            })
        };
        served_by(&nodes[0])?;
        let from = now();
        nodes[0].stop()?;
        served_by(&nodes[1])?;
        for prober in &probers {
            let gap = prober.longest_gap(from, now())?;
            ensure!(gap.length() < LONG_LEASE, "{}", gap.length());
        }
        Ok(())
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

/// When a node's gate closed last, and how.
fn last_closing(node: &Node) -> Result<(MonoNs, String)> {
    let events = node.hactl(&["events", "-n", "1000"])?;
    let mut events = events.as_array().into_iter().flatten();
    let last = events
        .rfind(|event| event["kind"] == "gate_closed")
        .context("no gate closed")?;
    let at = last["at_ns"].as_u64().context("without a time")?;
    Ok((MonoNs(at), last["sentence"].to_string()))
}

#[test]
fn events_tell_when_and_how_a_gate_closed() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, with_leases)?;
        // The lease that opened it has ended long ago.
        scene.stays(0, A_WHILE)?;
        let from = now();
        scene.nodes[0].daemon()?.freeze()?;
        scene.wait_served_by(1)?;
        let to = now();
        scene.nodes[0].daemon()?.thaw()?;
        scene.nodes[0].wait_for(WEB, "backup")?;
        let (at, how) = last_closing(&scene.nodes[0])?;
        ensure!(how.contains("closed by itself"), "{how}");
        ensure!((from..to).contains(&at), "{from:?} <= {at:?} < {to:?}");

        scene.stays(1, A_WHILE)?;
        let from = now();
        scene.nodes[1].hactl(&["switchover", WEB])?;
        scene.wait_served_by(0)?;
        let (at, how) = last_closing(&scene.nodes[1])?;
        ensure!(how.contains("the gate was closed"), "{how}");
        ensure!((from..now()).contains(&at), "{from:?} <= {at:?}");
        Ok(())
    });
}

#[test]
fn a_node_that_wakes_takes_nothing_back() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let first = nodes[0].address();
        let mut scene = Scene::of(lab, nodes, |router| with_leases(ranked(first, router)))?;
        scene.nodes[0].daemon()?.freeze()?;
        // Its first advert waits for the other node, whose answer would outrank it.
        scene.wait_served_by(1)?;
        scene.nodes[0].daemon()?.thaw()?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn a_node_that_wakes_before_anybody_took_over_goes_on() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, with_leases)?;
        // As where the machine beneath both of them stands still; their kernels do not here.
        scene.nodes[1].daemon()?.freeze()?;
        scene.nodes[0].daemon()?.freeze()?;
        scene.wait_unserved()?;
        scene.nodes[0].daemon()?.thaw()?;
        scene.wait_served_by(0)?;
        scene.nodes[1].daemon()?.thaw()?;
        scene.stays(0, A_WHILE)?;
        let told = scene.nodes[0].events("transition")?.join("\n");
        ensure!(told.contains("this node was held up"), "{told}");
        ensure!(!told.contains("is backup: this node was held up"), "{told}");
        let of_vips = scene.nodes[0].events("vips_removed")?;
        ensure!(of_vips.is_empty(), "{of_vips:?}");
        Ok(())
    });
}

#[test]
fn a_killed_daemon_s_addresses_move_and_do_not_return_with_it() {
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

#[test]
fn at_tc() {
    scenario(|lab| {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        for node in &mut nodes {
            node.set_dataplane("mode = \"tc\"");
        }
        let mut scene = Scene::of(lab, nodes, with_leases)?;
        let status = scene.nodes[0].hactl(&["status"])?;
        ensure!(status["dataplane"]["mode"] == "tc", "{status}");
        scene.nodes[0].wait_for_path("eth0", true)?;
        scene.stays(0, A_WHILE)?;
        let from = now();
        scene.nodes[0].daemon()?.freeze()?;
        scene.wait_served_by(1)?;
        let gap = scene.prober.longest_gap(from, now())?;
        ensure!(gap.length() < SOON, "{}", gap.length());
        scene.one_after_the_other(from)?;
        scene.nodes[0].daemon()?.thaw()?;
        scene.stays(1, A_WHILE)?;
        let from = now();
        scene.nodes[1].power_off()?;
        scene.wait_served_by(0)?;
        let gap = scene.prober.longest_gap(from, now())?;
        ensure!(gap.length() < SOON, "{}", gap.length());
        Ok(())
    });
}

/// Which nodes spoke for the VIP since `from`.
fn speakers(sniffers: &[Sniffer], from: MonoNs) -> Vec<usize> {
    let spoke = |sniffer: &&Sniffer| !sniffer.spoken(from, now()).is_empty();
    (0..)
        .zip(sniffers)
        .filter(|(_, sniffer)| spoke(sniffer))
        .map(|(index, _)| index)
        .collect()
}

#[test]
fn of_three_nodes_one_takes_over() {
    scenario(|lab| {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?, lab.node("n3")?];
        let addresses = [0, 1, 2].map(|index: usize| nodes[index].address());
        let client = lab.client("c1")?;
        let sniffers = [
            nodes[0].sniff(VIP)?,
            nodes[1].sniff(VIP)?,
            nodes[2].sniff(VIP)?,
        ];
        let prober = Prober::start(&client, VIP, Probes::EchoAndArp)?;
        for (index, state) in ["active", "backup", "backup"].into_iter().enumerate() {
            let others: Vec<_> = (0..3)
                .filter(|other| *other != index)
                .map(|other| addresses[other])
                .collect();
            let router = with_leases(nodes[index].router().peers(&others));
            nodes[index].start(Kind::Had, &[router])?;
            nodes[index].wait_for(WEB, state)?;
        }
        for node in &nodes[1..] {
            node.wait_for_active_peer(WEB, addresses[0])?;
        }
        let served_by = |index: usize| prober.answered_within(RECENTLY) == Some(nodes[index].mac());
        eventually(PATIENCE, "the first node serves", || Ok(served_by(0)))?;

        let from = now();
        nodes[0].power_off()?;
        let mut heir = 0;
        eventually(PATIENCE, "another node serves", || {
            heir = usize::from(served_by(1)) + 2 * usize::from(served_by(2));
            Ok(heir != 0)
        })?;
        let gap = prober.longest_gap(from, now())?.length();
        ensure!(gap < SOON, "{gap}");
        let last = 3 - heir;
        nodes[last].wait_for(WEB, "backup")?;
        nodes[0].power_on()?;
        nodes[0].wait_for(WEB, "backup")?;
        let returned = now();
        throughout(A_WHILE, "the heir stays Active", || {
            Ok(nodes[heir].state(WEB)? == "active")
        })?;
        ensure!(speakers(&sniffers, returned) == [heir]);
        ensure!(speakers(&sniffers[1..], from) == [heir - 1]);

        // A Backup that dies is missed by nobody.
        let from = now();
        nodes[last].power_off()?;
        let gone = addresses[last].to_string();
        eventually(PATIENCE, "its path is silent", || {
            let status = nodes[heir].hactl(&["status"])?;
            let mut paths = status["paths"].as_array().into_iter().flatten();
            Ok(paths.any(|path| path["peer"] == *gone && path["up"] == false))
        })?;
        throughout(A_WHILE, "the heir stays Active", || {
            Ok(nodes[heir].state(WEB)? == "active")
        })?;
        let gap = prober.longest_gap(from, now())?.length();
        ensure!(gap < RECENTLY.times(4), "{gap}");
        ensure!(speakers(&sniffers, from) == [heir]);
        Ok(())
    });
}

/// The first of two nodes outranks the second one.
fn ranked(first: Ipv4Addr, router: VirtualRouter) -> VirtualRouter {
    let priority = if router.source == first { 200 } else { 100 };
    router.priority(priority)
}

#[test]
fn a_node_whose_interface_comes_later_than_its_daemon_takes_over() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let first = nodes[0].address();
        let mut scene = Scene::of(lab, nodes, |router| with_leases(ranked(first, router)))?;
        scene.nodes[1].stop()?;
        let ns = scene.nodes[1].ns();
        ns.ip(&["link", "set", "eth0", "name", "eth9"])?;
        scene.nodes[1].restart(Kind::Had)?;
        let node = &scene.nodes[1];
        eventually(PATIENCE, "it waits for its interface", || {
            let notes = node.events("note")?;
            Ok(notes.iter().any(|note| note.contains("waits for eth0")))
        })?;
        node.ns().ip(&["link", "set", "eth9", "name", "eth0"])?;
        node.wait_for_active_peer(WEB, first)?;
        scene.nodes[0].power_off()?;
        scene.wait_served_by(1)
    });
}

#[test]
fn leases_that_a_reload_brings_are_granted() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let addresses = [nodes[0].address(), nodes[1].address()];
        let shape = |router| ranked(addresses[0], router).interval_ms(SLOW_ADVERTS_MS);
        let mut scene = Scene::of(lab, nodes, shape)?;
        for index in [1, 0] {
            let router = scene.nodes[index].router();
            let router = with_leases(shape(router.peers(&[addresses[1 - index]])));
            scene.nodes[index].reload(&[router])?;
            let node = &scene.nodes[index];
            eventually(PATIENCE, "the reload is applied", || {
                Ok(node.log().contains("reloaded: web: heartbeat changed"))
            })?;
            if index == 1 {
                node.wait_for_active_peer(WEB, addresses[0])?;
            }
        }
        // The Active node became another router, which hands over.
        scene.stays(1, A_WHILE)?;
        scene.nodes[1].power_off()?;
        scene.wait_served_by(0)
    });
}
