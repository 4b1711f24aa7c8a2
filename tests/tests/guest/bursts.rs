//! Heartbeats lost in a row, while the others come sooner or later by chance: fewer of them than it takes move
//! nothing, more do, and then all is well again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_common::{lease, wire::bfd};
use ha_tests::{
    Lab, VirtualRouter,
    burst::{
        Bursts,
        Heartbeats::{self, Adverts, Answers, Bfd, Echoes},
    },
    eventually,
    guest::scenario_in_guest,
    netem::{Flow, Netem},
    node::PATIENCE,
    now,
    scene::{Scene, WEB},
};
use serde_json::Value;

use crate::netem::{nothing_happens, transitions, with_bfd};

/// What comes, comes 5 to 35 ms later.
const JITTER: &str = "delay 20ms 15ms";

/// Between two adverts, in milliseconds. Three of them and 0.49 s make the Active_Down_Interval.
const ADVERTS_MS: u32 = 800;

/// Of BFD's packets, and of echoes. Ten of them make a lease, and the time after which BFD gives up.
const HEARTBEATS: &str = "interval = \"250ms\", multiplier = 10";

const DETECTION_US: u64 = 2_500_000;

/// Of heartbeats and of adverts, time and again: after as many the next one comes half a second before it is too late.
const SHORT: (u32, u32) = (7, 10);
const SHORT_OF_ADVERTS: (u32, u32) = (2, 4);

/// Of heartbeats and of adverts, once.
const LONG: (u32, u32) = (20, 1_000_000);
const LONG_OF_ADVERTS: (u32, u32) = (8, 1_000_000);

/// In which at least [`MANY`] bursts come.
const A_WHILE: Duration = Duration::from_secs(10);

const MANY: u64 = 3;

/// Nothing happens while heartbeats that these nodes send by these interfaces are lost in short bursts.
fn short_bursts(scene: &Scene, losses: &[(usize, &str, Heartbeats)]) -> Result<()> {
    let mut bursts = Vec::new();
    for (node, interface, heartbeats) in losses {
        let size = if *heartbeats == Adverts {
            SHORT_OF_ADVERTS
        } else {
            SHORT
        };
        let burst = Bursts::new(&scene.nodes[*node], interface, *heartbeats, size)?;
        bursts.push((burst, *heartbeats, u64::from(size.0)));
    }
    nothing_happens(scene, A_WHILE)?;
    for (burst, heartbeats, size) in &bursts {
        let lost = burst.lost()?;
        println!("{heartbeats:?}: {lost} lost, {size} in a row");
        ensure!(lost >= MANY * size, "{heartbeats:?}: {lost}");
    }
    Ok(())
}

/// The first node's heartbeats do not pass for longer than the second one waits, which takes over, the first being
/// silent by then where it has leases; and stays Active when they pass again.
fn a_long_burst(scene: &Scene, interface: &str, heartbeats: Heartbeats) -> Result<()> {
    let from = now();
    let losses = [
        Bursts::new(&scene.nodes[0], interface, heartbeats, LONG)?,
        Bursts::new(&scene.nodes[0], "eth0", Adverts, LONG_OF_ADVERTS)?,
    ];
    scene.nodes[1].wait_for(WEB, "active")?;
    scene.wait_served_by(1)?;
    if heartbeats == Echoes {
        scene.one_after_the_other(from)?;
    }
    scene.nodes[0].wait_for(WEB, "backup")?;
    // A guest that stood still meanwhile has sent less in the time that a lease lasts; the burst goes on.
    eventually(PATIENCE, "the burst is a long one", || {
        Ok(losses[0].lost()? > u64::from(SHORT.1))
    })
}

fn with_leases(router: VirtualRouter) -> VirtualRouter {
    let lines = format!("heartbeat = {{ {HEARTBEATS} }}");
    router.interval_ms(ADVERTS_MS).had_lines(&lines)
}

/// What status says of the only BFD session of a node.
fn session(scene: &Scene, index: usize) -> Result<Value> {
    Ok(scene.nodes[index].hactl(&["status"])?["channels"][0].clone())
}

/// Waits until both nodes' sessions are up, at their own pace.
fn wait_for_sessions(scene: &Scene) -> Result<()> {
    for index in [0, 1] {
        let mut last = Value::Null;
        eventually(PATIENCE, "the session is up at its own pace", || {
            last = session(scene, index)?;
            Ok(last["state"] == "up" && last["detection_time_us"] == DETECTION_US)
        })
        .with_context(|| last.to_string())?;
    }
    Ok(())
}

#[test]
fn bursts_and_a_bfd_session() {
    scenario_in_guest(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let addresses = [nodes[0].address().into(), nodes[1].address().into()];
        let scene = Scene::of(lab, nodes, |router| {
            with_bfd(router.interval_ms(ADVERTS_MS), addresses, HEARTBEATS)
        })?;
        wait_for_sessions(&scene)?;
        let flaps = || -> Result<_> {
            let flaps = |index| -> Result<u64> {
                let session = session(&scene, index)?;
                session["flaps"].as_u64().context("no flaps")
            };
            Ok([flaps(0)?, flaps(1)?])
        };
        let before = flaps()?;
        let flows = [(Flow::Adverts, JITTER), (Flow::Udp(bfd::PORT), JITTER)];
        let [one, other] = &scene.nodes;
        let _jitter = [Netem::new(one, &flows)?, Netem::new(other, &flows)?];
        short_bursts(
            &scene,
            &[(0, "eth0", Adverts), (0, "eth0", Bfd), (1, "eth0", Bfd)],
        )?;
        ensure!(flaps()? == before, "{:?}, not {before:?}", flaps()?);

        // A session that ends while adverts come proves nothing.
        let still = transitions(&scene)?;
        let ends = Bursts::new(&scene.nodes[0], "eth0", Bfd, LONG)?;
        eventually(PATIENCE, "the session ends", || Ok(flaps()?[1] > before[1]))?;
        wait_for_sessions(&scene)?;
        drop(ends);
        let after = transitions(&scene)?;
        ensure!(after == still, "{after:?}");

        a_long_burst(&scene, "eth0", Bfd)?;
        wait_for_sessions(&scene)
    });
}

/// A channel on eth1, which is as fast as the LAN.
fn with_channel(router: VirtualRouter, index: usize) -> VirtualRouter {
    let (local, peer) = (index + 1, 2 - index);
    with_leases(router).had_lines(&format!(
        "channels = [\"direct\"]\n\n[[channel]]\nname = \"direct\"\nkind = \"lease\"\ninterface = \"eth1\"\n\
         local = \"10.99.0.{local}\"\npeer = \"10.99.0.{peer}\"\n{}",
        HEARTBEATS.replace(", ", "\n")
    ))
}

#[test]
fn bursts_and_leases() {
    scenario_in_guest(|lab: &Lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        for (index, node) in nodes.iter().enumerate() {
            node.plug("eth1")?;
            let address = format!("10.99.0.{}/24", index + 1);
            node.ns().ip(&["addr", "add", &address, "dev", "eth1"])?;
        }
        let first = nodes[0].address();
        let scene = Scene::of(lab, nodes, |router| {
            let index = usize::from(router.source != first);
            with_channel(router, index)
        })?;
        let [one, other] = &scene.nodes;
        for node in [one, other] {
            node.wait_for_path("eth0", true)?;
            node.wait_for_path("direct", true)?;
        }
        let flows = [(Flow::Adverts, JITTER), (Flow::Udp(lease::PORT), JITTER)];
        let _jitter = [Netem::new(one, &flows)?, Netem::new(other, &flows)?];
        short_bursts(&scene, &[(0, "eth0", Echoes), (0, "eth1", Echoes)])?;

        // The channel alone, which is no better.
        lab.cut(one, other)?;
        one.wait_for_path("eth0", false)?;
        short_bursts(&scene, &[(1, "eth1", Answers)])?;
        a_long_burst(&scene, "eth1", Echoes)?;
        lab.heal()?;
        one.wait_for_path("eth0", true)?;
        one.wait_for(WEB, "backup")?;
        other.wait_for(WEB, "active")
    });
}
