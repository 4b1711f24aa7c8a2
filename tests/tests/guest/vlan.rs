//! Instances on a VLAN's interface.

use anyhow::{Result, ensure};
use ha_tests::{
    Kind, Lab,
    guest::scenario_in_guest,
    scene::{Scene, WEB},
    vlan::Tag,
};

use crate::{GENERIC, slow, xdp};

const VLAN: &[Tag] = &[Tag::customer(7)];

const VLAN_IN_SERVICE_VLAN: &[Tag] = &[Tag::service(5), Tag::customer(7)];

/// Two nodes and a client in a VLAN.
fn scene(lab: &Lab, tags: &[Tag], mode: &str) -> Result<Scene> {
    let mut nodes = [lab.node("n1")?, lab.node("n2")?];
    let mut client = lab.client("c1")?;
    for node in &mut nodes {
        node.set_dataplane(&format!("mode = {mode:?}"));
        node.join_vlan(tags)?;
    }
    client.join_vlan(tags)?;
    Scene::with(nodes, client, slow)
}

/// The kernel's gate outlives the daemon, and a new one finds what the dead one left.
fn fails_over_both_ways(scene: &mut Scene) -> Result<()> {
    scene.nodes[0].kill()?;
    scene.nodes[1].wait_for(WEB, "active")?;
    scene.wait_served_by(1)?;
    scene.nodes[0].restart(Kind::Had)?;
    scene.nodes[0].wait_for(WEB, "backup")?;
    scene.nodes[1].power_off()?;
    scene.nodes[0].wait_for(WEB, "active")?;
    scene.wait_served_by(0)
}

/// On a veth, whose tags native XDP does not see.
fn generic_xdp_serves(tags: &[Tag], interface: &str) {
    scenario_in_guest(|lab| {
        let mut scene = scene(lab, tags, "auto")?;
        for node in &scene.nodes {
            ensure!(xdp(node, interface)? == Some(GENERIC) && xdp(node, "eth0")?.is_none());
        }
        fails_over_both_ways(&mut scene)
    });
}

#[test]
fn generic_xdp_serves_a_vlan() {
    generic_xdp_serves(VLAN, "eth0.7");
}

#[test]
fn generic_xdp_serves_a_vlan_in_a_service_vlan() {
    generic_xdp_serves(VLAN_IN_SERVICE_VLAN, "eth0.5.7");
}
