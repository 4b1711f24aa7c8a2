//! Two machines with a real DRBD between them: this guest and a second one.

use anyhow::{Result, ensure};
use ha_tests::{guest, mirrored_pair::MirroredPair};

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
