//! Two machines with a real DRBD between them: this guest and a second one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    eventually, guest,
    ha_pair::{HaPair, Settings},
    mirrored_pair::MirroredPair,
    now,
    wait::throughout,
};

/// Longer than a take-over would take.
const A_WHILE: Duration = Duration::from_secs(10);

fn in_two_guests(body: impl FnOnce(&mut MirroredPair) -> Result<()>) {
    assert!(
        guest::is_here(),
        "this test needs two of QEMU's guests: run `cargo xtask vm-test`"
    );
    let outcome = MirroredPair::new().and_then(|mut pair| body(&mut pair));
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

/// What all that follows rests on: the machines are two, and what one of them has synced the other one has.
#[test]
fn what_was_synced_is_there_on_the_other_machine_when_the_first_loses_its_power() {
    in_two_guests(|pair| {
        pair.format(1)?;
        pair.second.run(
            "set -e; drbdadm primary r0; mount /dev/drbd0 /srv/pair; cd /srv/pair\n\
             echo kept >file; sync -f file; echo lost >never-synced",
        )?;
        pair.second.power_off()?;
        pair.wait_for(0, &["connection:Connecting", " disk:UpToDate"])?;
        pair.first("set -e; drbdadm primary r0; mount /dev/drbd0 /srv/pair")?;
        ensure!(pair.read("file")? == "kept\n");
        pair.first("echo newer >/srv/pair/file; sync -f /srv/pair/file")?;

        pair.return_second()?;
        pair.wait_for(
            1,
            &["connection:Connected", "role:Secondary", " disk:UpToDate"],
        )?;
        pair.first("umount /srv/pair && drbdadm secondary r0")?;
        let read =
            "set -e; drbdadm primary r0; mount -o ro /dev/drbd0 /srv/pair; cat /srv/pair/file";
        ensure!(pair.second.run(read)? == "newer\n");
        pair.second
            .run("umount /srv/pair && drbdadm secondary r0")
            .map(drop)
    });
}

fn with_had(body: impl FnOnce(&mut HaPair) -> Result<()>) {
    assert!(
        guest::is_here(),
        "this test needs two of QEMU's guests: run `cargo xtask vm-test`"
    );
    let outcome = HaPair::new(Settings::default()).and_then(|mut pair| body(&mut pair));
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

#[test]
fn a_node_that_loses_its_power_is_taken_over_from_with_its_data_and_returns() {
    with_had(|pair| {
        pair.start(1)?;
        pair.wait_served_by(1)?;
        pair.start(0)?;
        pair.wait_for(0, "backup")?;
        pair.ensure_demoted(0)?;
        pair.ask_from(0)?;
        pair.machines
            .second
            .run("cd /srv/pair && echo kept >file && sync -f file")?;

        let from = now();
        pair.machines.second.power_off()?;
        pair.wait_served_by(0)?;
        println!("power-off to served: {}", now().since(from));
        ensure!(pair.machines.read("file")? == "kept\n");
        ensure!(pair.machines.read("served")? == "second\nguest\n");

        // It returns, gets what it missed, and is a Secondary.
        pair.machines
            .first("echo newer >/srv/pair/file; sync -f /srv/pair/file")?;
        pair.machines.return_second()?;
        pair.prepare(1)?;
        pair.start(1)?;
        pair.machines.wait_for(
            1,
            &["connection:Connected", "role:Secondary", " disk:UpToDate"],
        )?;
        pair.wait_for(1, "backup")?;
        pair.ensure_demoted(1)?;
        pair.ask_from(1)?;

        // And is switched over to.
        let from = now();
        pair.hactl(0, "switchover db")?;
        pair.wait_served_by(1)?;
        println!("switchover to served: {}", now().since(from));
        pair.wait_for(0, "backup")?;
        pair.ensure_demoted(0)?;
        pair.ask_from(0)?;
        ensure!(pair.machines.second.run("cat /srv/pair/file")? == "newer\n");
        Ok(())
    });
}

#[test]
fn after_a_split_brain_nothing_is_promoted_until_somebody_has_decided() {
    with_had(|pair| {
        pair.start(0)?;
        pair.wait_served_by(0)?;
        // The second node writes without the first one, behind had's back.
        pair.machines.second.run(
            "set -e; drbdadm disconnect r0; drbdadm primary r0; mount /dev/drbd0 /srv/pair\n\
             echo other >/srv/pair/other; umount /srv/pair; drbdadm secondary r0",
        )?;
        pair.machines
            .first("echo own >/srv/pair/own; sync -f /srv/pair/own")?;
        // It comes back, as after a cut, and finds out by itself.
        pair.start(1)?;
        let told = |said: &str| {
            said.contains("split brain of r0") && said.contains("connect --discard-my-data r0")
        };
        wait_until(pair, 1, told)?;
        // Who serves goes on, and the other one does not take over, whatever happens to it.
        pair.wait_served_by(0)?;
        pair.stop(0)?;
        pair.ensure_demoted(0)?;
        throughout(A_WHILE, "nobody serves other data", || {
            Ok(pair.state(1)? != "active")
        })?;
        pair.ensure_demoted(1)?;
        // The first part of the guidance: who starts now finds a resource that looks for its peer, and remembers why.
        pair.machines.first("drbdadm connect r0 || true")?;
        pair.start(0)?;
        wait_until(pair, 0, told)?;
        throughout(A_WHILE, "nobody is promoted", || {
            Ok(pair.state(0)? != "active" && pair.state(1)? != "active")
        })?;

        // The other part.
        pair.machines.second.run(
            "drbdadm disconnect r0; drbdadm secondary r0; drbdadm connect --discard-my-data r0",
        )?;
        for side in [0, 1] {
            pair.machines
                .wait_for(side, &["connection:Connected", " disk:UpToDate"])?;
        }
        eventually(A_WHILE * 4, "one is promoted again", || {
            Ok(pair.state(0)? == "active" || pair.state(1)? == "active")
        })?;
        let side = usize::from(pair.state(1)? == "active");
        pair.wait_served_by(side)?;
        let files = pair.machines.on(side, "ls /srv/pair")?;
        ensure!(files.contains("own") && !files.contains("other"), "{files}");
        Ok(())
    });
}

/// Waits until what can be read there says so.
fn wait_until(pair: &mut HaPair, side: usize, told: impl Fn(&str) -> bool) -> Result<()> {
    let mut said = String::new();
    eventually(A_WHILE * 4, &format!("side {side} says so"), || {
        said = pair.said(side);
        Ok(told(&said))
    })
    .with_context(|| said.clone())
}
