//! Checks of kind `mdadm` against real arrays.

use anyhow::ensure;
use ha_common::Nanos;
use ha_tests::{
    checks::wait_until_found,
    guest::scenario_in_guest,
    now,
    raid::Mirror,
    scene::{Scene, WEB},
};

use crate::slow;

/// Two probes in a row have to fail: more than this passes, unless the kernel tells of a change.
const INTERVAL_SECS: u64 = 6;

/// One that lets an array pass while it is rebuilt, and moves the VIP; and one that does not, and moves nothing.
fn checks() -> String {
    let check = |name: &str, allow: bool| {
        format!(
            "[[check]]\nname = \"{name}\"\nkind = \"mdadm\"\narray = \"md0\"\nallow_recovery = {allow}\n\
             interval = \"{INTERVAL_SECS}s\"\ntimeout = \"5s\"\nfall = 2\nrise = 1\ndamping = \"0s\"\n"
        )
    };
    format!(
        "track = [{{ check = \"usable\" }}]\n{}{}",
        check("usable", true),
        check("whole", false)
    )
}

#[test]
fn a_member_that_fails_moves_the_vip_at_once() {
    scenario_in_guest(|lab| {
        let mut scene = Scene::new(lab, slow)?;
        let mirror = Mirror::unassembled("md0", scene.nodes[0].dir())?;
        let [one, two, spare] = &mirror.disks;
        let peer = scene.nodes[1].address();
        let router = slow(scene.nodes[0].router().peers(&[peer]));
        scene.nodes[0].reload(&[router.had_lines(&checks())])?;
        let [node, other] = &scene.nodes;
        // Or no list of arrays, where no test has had the kernel's module loaded yet.
        wait_until_found(node, "usable", "down", "there is no ")?;
        scene.wait_served_by(1)?;

        mirror.create()?;
        for check in ["usable", "whole"] {
            wait_until_found(node, check, "up", "md0 is whole")?;
        }
        node.wait_for(WEB, "backup")?;
        node.wait_for_active_peer(WEB, peer)?;
        other.hactl(&["switchover", WEB])?;
        scene.wait_served_by(0)?;

        let failed = now();
        mirror.fail(two)?;
        scene.wait_served_by(1)?;
        let noticed = now().since(failed);
        println!("a failed member moves the VIP in {noticed}");
        ensure!(noticed < Nanos::from_secs(INTERVAL_SECS), "{noticed}");
        let why = format!("md0 has 1 of 2 members (faulty: {})", two.name());
        for check in ["usable", "whole"] {
            wait_until_found(node, check, "down", &why)?;
        }

        mirror.hold_up(true)?;
        mirror.remove(two)?;
        mirror.add(spare)?;
        wait_until_found(node, "usable", "up", "md0 is rebuilt (")?;
        let why = "md0 has 1 of 2 members, and is rebuilt (";
        wait_until_found(node, "whole", "down", why)?;
        node.wait_for(WEB, "backup")?;
        mirror.hold_up(false)?;
        for check in ["usable", "whole"] {
            wait_until_found(node, check, "up", "md0 is whole")?;
        }

        mirror.stop()?;
        wait_until_found(node, "usable", "down", "there is no array md0")?;
        // As a machine comes up whose other disk is dead.
        mirror.assemble(&[one])?;
        wait_until_found(node, "usable", "down", "md0 has 1 of 2 members")?;
        Ok(())
    });
}
