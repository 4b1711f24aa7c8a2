//! Loss and jitter by the kernel: fewer packets in a row than it takes are never a reason to take over.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_common::{lease, wire::bfd};
use ha_tests::{
    Lab, VirtualRouter, eventually,
    guest::scenario_in_guest,
    netem::{Flow, Netem},
    node::PATIENCE,
    scene::{Scene, WEB},
    wait::throughout,
};

use crate::slow;

/// Every third packet or so is lost, never two in a row; the others come 5 to 35 ms later, perhaps in another
/// order.
const ISOLATED: &str = "loss gemodel 50% 100% delay 20ms 15ms";

/// In which at least [`MANY`] packets of a flow must be lost.
const A_WHILE: Duration = Duration::from_secs(15);

const MANY: u64 = 4;

const BFD_TIMES: &str = "interval = \"200ms\", multiplier = 5";

const BFD: Flow = Flow::Udp(bfd::PORT);

const ECHOES: Flow = Flow::Udp(lease::PORT);

/// With a BFD channel over the LAN, whose death and an overdue advert would be proof of the other node's.
pub(crate) fn with_bfd(
    router: VirtualRouter,
    nodes: [std::net::IpAddr; 2],
    times: &str,
) -> VirtualRouter {
    let peer = nodes[usize::from(router.source == nodes[0])];
    let local = router.source;
    let times = times.replace(", ", "\n");
    router.had_lines(&format!(
        "channels = [\"path\"]\n\n[[channel]]\nname = \"path\"\nkind = \"bfd\"\ninterface = \"eth0\"\n\
         local = \"{local}\"\npeer = \"{peer}\"\n{times}\n"
    ))
}

/// With leases, each of 2 s.
fn with_leases(router: VirtualRouter) -> VirtualRouter {
    slow(router).had_lines("heartbeat = { interval = \"200ms\", multiplier = 10 }")
}

/// What the nodes say of their instance's changes.
pub(crate) fn transitions(scene: &Scene) -> Result<[Vec<String>; 2]> {
    let [one, other] = &scene.nodes;
    Ok([one.events("transition")?, other.events("transition")?])
}

/// For some time the first node is Active and the second Backup, and neither changes its state.
pub(crate) fn nothing_happens(scene: &Scene, span: Duration) -> Result<()> {
    let before = transitions(scene)?;
    let what = "the first node is Active, the second Backup";
    throughout(span, what, || {
        Ok(scene.nodes[0].state(WEB)? == "active" && scene.nodes[1].state(WEB)? == "backup")
    })?;
    let after = transitions(scene)?;
    ensure!(after == before, "{after:?}");
    Ok(())
}

/// Nothing happens while the flows lose packets.
fn stays_the_same(scene: &Scene, flows: &[Flow]) -> Result<()> {
    let settings: Vec<_> = flows.iter().map(|flow| (*flow, ISOLATED)).collect();
    let lossy = [
        Netem::new(&scene.nodes[0], &settings)?,
        Netem::new(&scene.nodes[1], &settings)?,
    ];
    nothing_happens(scene, A_WHILE)?;
    // The adverts have this direction alone.
    for flow in flows {
        let tally = lossy[1].tally(*flow)?;
        println!("to the Backup: {flow:?}: {tally:?}");
        ensure!(tally.lost >= MANY, "{flow:?}: {tally:?}");
    }
    Ok(())
}

/// And what is then a real failure is noticed all the same.
fn take_over(scene: &Scene) -> Result<()> {
    scene.nodes[0].power_off()?;
    scene.nodes[1].wait_for(WEB, "active")?;
    scene.wait_served_by(1)
}

#[test]
fn isolated_losses_end_no_bfd_session_and_no_reign() {
    scenario_in_guest(|lab: &Lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let addresses = [nodes[0].address().into(), nodes[1].address().into()];
        let scene = Scene::of(lab, nodes, |router| {
            with_bfd(slow(router), addresses, BFD_TIMES)
        })?;
        let channel = |index: usize| -> Result<serde_json::Value> {
            Ok(scene.nodes[index].hactl(&["status"])?["channels"][0].clone())
        };
        for index in [0, 1] {
            let mut last = serde_json::Value::Null;
            eventually(PATIENCE, "the session is up at its own pace", || {
                last = channel(index)?;
                Ok(last["state"] == "up" && last["detection_time_us"] == 1_000_000)
            })
            .with_context(|| last.to_string())?;
        }
        let flaps = [channel(0)?["flaps"].clone(), channel(1)?["flaps"].clone()];
        stays_the_same(&scene, &[Flow::Adverts, BFD])?;
        for (index, before) in flaps.iter().enumerate() {
            let after = channel(index)?;
            ensure!(
                after["state"] == "up" && after["flaps"] == *before,
                "{after}"
            );
        }
        take_over(&scene)
    });
}

#[test]
fn isolated_losses_cost_no_lease_and_no_reign() {
    scenario_in_guest(|lab| {
        let scene = Scene::new(lab, with_leases)?;
        scene.nodes[0].wait_for_path("eth0", true)?;
        stays_the_same(&scene, &[Flow::Adverts, ECHOES])?;
        take_over(&scene)
    });
}
