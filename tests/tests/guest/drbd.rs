//! Checks of kind `drbd` against a real DRBD: `r0` is the first node's, `r1` the second one's.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Lab, VirtualRouter,
    checks::{check, wait_until_found},
    drbd::Mirrored,
    guest::scenario_in_guest,
    now,
    scene::{Scene, WEB},
};

use crate::slow;

/// Two probes in a row have to fail: more than this passes, unless DRBD tells of a change.
const INTERVAL_SECS: u64 = 6;

const A_WHILE: Duration = Duration::from_secs(3);

/// `usable` moves the VIP. `role` is about who is Primary, and moves nothing here.
fn with_checks(router: VirtualRouter, resource: &str) -> VirtualRouter {
    slow(router).had_lines(&format!(
        "track = [{{ check = \"usable\" }}, {{ check = \"role\", weight = -1 }}]\n\
         [[check]]\nname = \"usable\"\nkind = \"drbd\"\nresource = \"{resource}\"\npromote_within = \"0s\"\n\
         interval = \"{INTERVAL_SECS}s\"\ntimeout = \"10s\"\nfall = 2\nrise = 1\ndamping = \"0s\"\n\
         [[check]]\nname = \"role\"\nkind = \"drbd\"\nresource = \"{resource}\"\npromote_within = \"3s\"\n\
         interval = \"1s\"\ntimeout = \"10s\"\nfall = 1\nrise = 1\ndamping = \"0s\"\n"
    ))
}

/// The first node is Active and Primary, the second Backup and Secondary, and their disks are the same.
fn scene(lab: &Lab) -> Result<(Mirrored, Scene)> {
    let nodes = [lab.node("n1")?, lab.node("n2")?];
    let drbd = Mirrored::new(nodes[0].dir())?;
    drbd.promote(0)?;
    let first = nodes[0].address();
    let scene = Scene::of(lab, nodes, |router| {
        let resource = drbd.resource(usize::from(router.source != first));
        with_checks(router, resource)
    })?;
    for check in ["usable", "role"] {
        let [one, other] = &scene.nodes;
        wait_until_found(one, check, "up", "r0 is Primary, UpToDate; peer Connected")?;
        wait_until_found(
            other,
            check,
            "up",
            "r1 is Secondary, UpToDate; peer Connected",
        )?;
    }
    Ok((drbd, scene))
}

#[test]
fn a_node_without_its_disk_lets_go_and_the_other_one_has_to_be_promoted() {
    scenario_in_guest(|lab| {
        let (drbd, scene) = scene(lab)?;
        let [one, other] = &scene.nodes;
        let detached = now();
        drbd.detach(0)?;
        scene.wait_served_by(1)?;
        let noticed = now().since(detached);
        println!("a disk that is detached moves the VIP in {noticed}");
        ensure!(noticed < Nanos::from_secs(INTERVAL_SECS), "{noticed}");
        wait_until_found(one, "usable", "down", "r0/0 is Diskless")?;

        // The role that this node should have.
        let why = "r1 is Secondary for longer than 3.000 s on the active node";
        wait_until_found(other, "role", "down", why)?;
        drbd.demote(0)?;
        drbd.promote(1)?;
        wait_until_found(
            other,
            "role",
            "up",
            "r1 is Primary, UpToDate; peer Connected",
        )?;

        drbd.attach(0)?;
        wait_until_found(
            one,
            "usable",
            "up",
            "r0 is Secondary, UpToDate; peer Connected",
        )?;
        one.wait_for(WEB, "backup")?;
        scene.wait_served_by(1)
    });
}

#[test]
fn a_peer_that_is_gone_is_no_failure_and_data_of_ones_own_are() {
    scenario_in_guest(|lab| {
        let (drbd, scene) = scene(lab)?;
        let [one, other] = &scene.nodes;
        // Without a peer: whoever has the data goes on, and the other one says what to do.
        drbd.down(1)?;
        wait_until_found(
            other,
            "usable",
            "down",
            "r1 is not there: run: drbdadm up r1",
        )?;
        wait_until_found(
            one,
            "usable",
            "up",
            "r0 is Primary, UpToDate; peer Connecting",
        )?;
        other.wait_for(WEB, "fault")?;
        drbd.up(1)?;
        wait_until_found(
            other,
            "usable",
            "up",
            "r1 is Secondary, UpToDate; peer Connected",
        )?;

        // Both have been Primary without the other one.
        drbd.disconnect(1)?;
        let connection = "the connection of r1 to peer is StandAlone";
        wait_until_found(other, "usable", "down", connection)?;
        drbd.promote(1)?;
        drbd.demote(1)?;
        drbd.connect(1)?;
        let connection = "after a split brain decide whose data stay";
        wait_until_found(other, "role", "down", connection)?;
        wait_until_found(one, "role", "up", connection)?;
        ensure!(check(one, "usable")?["state"] == "up");
        scene.wait_served_by(0)?;
        // Its clients' data are the first node's.
        scene.nodes[0].power_off()?;
        other.wait_for(WEB, "fault")?;
        ha_tests::wait::throughout(A_WHILE, "nobody takes over with other data", || {
            Ok(other.state(WEB)? == "fault")
        })
    });
}
