//! An arbitrator: where nothing is heard from the other node, who does not reach the gateway does not serve.

use std::{net::TcpListener, time::Duration};

use anyhow::{Result, ensure};
use ha_tests::{
    Client, Lab, VirtualRouter, eventually,
    lab::VIP,
    node::PATIENCE,
    scenario,
    scene::{Scene, WEB},
    wait::throughout,
};

const PORT: u16 = 80;
const A_WHILE: Duration = Duration::from_secs(1);

/// A gateway that accepts connections, and two nodes that ask it. Its own probes are so rare that what is found out
/// was asked for.
fn asked(
    lab: &Lab,
    shape: impl Fn(VirtualRouter) -> VirtualRouter,
) -> Result<(Scene, Client, TcpListener)> {
    let gateway = lab.client("gw")?;
    let address = gateway.address();
    let listener = gateway
        .ns()
        .enter(move || TcpListener::bind((address, PORT)))??;
    let scene = Scene::new(lab, |router| {
        shape(router).had_lines(&format!(
            "track = [{{ check = \"gateway\", when = \"isolated\" }}]\n[[check]]\nname = \"gateway\"\n\
             kind = \"tcp\"\naddress = \"{address}:{PORT}\"\nkeep_open = false\ninterval = \"1h\"\n\
             timeout = \"300ms\""
        ))
    })?;
    Ok((scene, gateway, listener))
}

fn explained(scene: &Scene, index: usize) -> Result<String> {
    Ok(scene.nodes[index].hactl(&["explain", WEB])?["sentences"].to_string())
}

#[test]
fn a_node_that_reaches_the_gateway_takes_over_from_a_dead_one() {
    scenario(|lab| {
        let (scene, _gateway, _listener) = asked(lab, |router| router)?;
        scene.nodes[0].power_off()?;
        scene.wait_served_by(1)
    });
}

#[test]
fn a_backup_that_is_cut_off_does_not_take_over_and_says_why() {
    scenario(|lab| {
        let (scene, _gateway, _listener) = asked(lab, |router| router)?;
        lab.cut_off(&scene.nodes[1], "eth0")?;
        eventually(PATIENCE, "it says that it may be cut off", || {
            Ok(explained(&scene, 1)?.contains("this node may be cut off"))
        })?;
        throughout(A_WHILE, "it stays Backup", || {
            Ok(scene.nodes[1].state(WEB)? == "backup" && !scene.nodes[1].has(VIP)?)
        })?;
        lab.heal()?;
        scene.nodes[1].wait_for_active_peer(WEB, scene.nodes[0].address())?;
        scene.stays(0, A_WHILE)
    });
}

#[test]
fn an_active_node_that_is_cut_off_lets_go_and_the_other_one_serves() {
    scenario(|lab| {
        let leases = "heartbeat = { interval = \"20ms\", multiplier = 10 }";
        let (scene, _gateway, _listener) = asked(lab, |router| router.had_lines(leases))?;
        lab.cut_off(&scene.nodes[0], "eth0")?;
        scene.wait_served_by(1)?;
        scene.nodes[0].wait_for(WEB, "backup")?;
        let explained = explained(&scene, 0)?;
        ensure!(explained.contains("check gateway is down"), "{explained}");
        lab.heal()?;
        scene.nodes[0].wait_for_active_peer(WEB, scene.nodes[1].address())?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn a_gateway_that_nobody_reaches_changes_nothing_as_long_as_the_nodes_hear_each_other() {
    scenario(|lab| {
        let leases = "heartbeat = { interval = \"20ms\", multiplier = 10 }";
        let (mut scene, _gateway, listener) = asked(lab, |router| router.had_lines(leases))?;
        drop(listener);
        scene.stays(0, A_WHILE)?;
        // Who lets go was heard.
        scene.nodes[0].hand_over(WEB)?;
        scene.stays(1, A_WHILE)
    });
}
