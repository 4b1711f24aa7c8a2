//! Against what drbdsetup printed; the real thing is in the guest lane.

use std::{fs, path::Path};

use ha_core::plan::Follows;

use super::{
    Drbd,
    judge::{Standing, promotable},
};
use crate::{config::DrbdRole, drbd::Report, roles::Role as _};
use ha_common::Nanos;

const PRIMARY: &str = include_str!("../../drbd/recorded/8.4-primary.txt");
const SECONDARY: &str = include_str!("../../drbd/recorded/8.4-secondary.txt");
const SYNC_TARGET: &str = include_str!("../../drbd/recorded/8.4-sync-target.txt");
const PEER_GONE: &str = include_str!("../../drbd/recorded/8.4-peer-gone.txt");
const SPLIT_PRIMARY: &str = include_str!("../../drbd/recorded/8.4-split-brain-primary.txt");
const SPLIT_SECONDARY: &str = include_str!("../../drbd/recorded/8.4-split-brain-secondary.txt");
const OUTDATED: &str = include_str!("../../drbd/recorded/8.4-outdated.txt");
const DOWN: &str = include_str!("../../drbd/recorded/8.4-down.txt");

/// As drbdsetup of DRBD 9 prints it on a standby of three nodes (from its source).
const NINE: &str = "\
exists resource name:r1 role:Secondary suspended:no may_promote:yes promotion_score:10102
exists connection name:r1 peer-node-id:1 conn-name:beta connection:Connected role:Secondary
exists connection name:r1 peer-node-id:2 conn-name:gamma connection:Connecting role:Unknown
exists device name:r1 volume:0 minor:1 backing_dev:/dev/vg/r1 disk:UpToDate client:no quorum:yes
exists peer-device name:r1 peer-node-id:1 conn-name:beta volume:0 replication:Established peer-disk:UpToDate peer-client:no resync-suspended:no
exists peer-device name:r1 peer-node-id:2 conn-name:gamma volume:0 replication:Off peer-disk:Outdated peer-client:no resync-suspended:no
exists -
";

fn role(resource: &str, state_dir: &Path) -> Drbd {
    let config = DrbdRole {
        resource: resource.to_owned(),
        promote_limit: Nanos::from_secs(1),
        demote_limit: Nanos::from_secs(1),
    };
    Drbd::new(&config, "disk", state_dir)
}

fn judged(printed: &str, standing: Standing) -> Result<String, String> {
    let resource = if printed.contains("name:r0") {
        "r0"
    } else {
        "r1"
    };
    promotable(resource, &Report::read(printed, resource), standing)
}

#[test]
fn whose_disk_has_everything_may_be_promoted() {
    for printed in [SECONDARY, PRIMARY, NINE] {
        judged(printed, Standing::Together).unwrap();
    }
    // Whether a peer is there, and is Primary, DRBD finds out itself.
    let lonely = PEER_GONE.replace("role:Primary", "role:Secondary");
    judged(&lonely, Standing::Together).unwrap();
    assert_eq!(
        judged(NINE, Standing::Together).unwrap(),
        "r1 is Secondary, UpToDate; beta Connected Secondary; gamma Connecting Unknown"
    );
}

#[test]
fn whose_disk_lacks_something_may_not() {
    for (printed, words) in [
        (OUTDATED, "r1/0 is Outdated"),
        (SYNC_TARGET, "being synced"),
        (DOWN, "drbdadm up r1"),
    ] {
        let why = judged(printed, Standing::Together).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
    let minority = NINE.replace("quorum:yes", "quorum:no");
    let why = judged(&minority, Standing::Together).unwrap_err();
    assert!(why.contains("no quorum"), "{why}");
    let frozen = NINE.replace("suspended:no ", "suspended:quorum ");
    let why = judged(&frozen, Standing::Together).unwrap_err();
    assert!(why.contains("suspended (quorum)"), "{why}");
}

#[test]
fn after_a_split_brain_nobody_is_promoted_and_the_way_out_is_said() {
    let why = judged(SPLIT_SECONDARY, Standing::SplitBrain).unwrap_err();
    for words in [
        "split brain of r1",
        "drbdadm connect --discard-my-data r1",
        "Decide whose are thrown away",
    ] {
        assert!(why.contains(words), "{why}");
    }
    // Who only was disconnected is told something else; who cannot know is told both.
    let alone = judged(SPLIT_SECONDARY, Standing::Alone).unwrap_err();
    assert!(
        alone.contains("drbdadm connect r1") && !alone.contains("discard"),
        "{alone}"
    );
    let unclear = judged(SPLIT_SECONDARY, Standing::Unclear).unwrap_err();
    assert!(
        unclear.contains("unless somebody disconnected it") && unclear.contains("discard"),
        "{unclear}"
    );
    // Who has let its data go looks for its peer, and is not promoted before that is there.
    let looking = PEER_GONE.replace("role:Primary", "role:Secondary");
    assert!(judged(&looking, Standing::SplitBrain).is_err());
    // Its clients have these data.
    assert!(judged(SPLIT_PRIMARY, Standing::SplitBrain).is_ok());
}

/// There is no DRBD in this kernel: that is said, and nothing is promoted or demoted.
#[tokio::test]
async fn without_drbd_nothing_can_be_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut role = role("had-no-such-resource", dir.path());
    let found = role.observe().await;
    assert_ne!(found.promoted, Some(true));
    assert!(found.able.is_err());
    let deadline = crate::sys::clock::now().after(Nanos::from_secs(5));
    role.step("inspect", deadline).await.unwrap_err();
    role.step("primary", deadline).await.unwrap_err();
    let why = role.step("promote", deadline).await.unwrap_err();
    assert_eq!(why, "a role of kind drbd has no step promote");
}

#[test]
fn only_what_a_person_must_decide_is_not_tried() {
    let follows = |standing| {
        let mut role = role("r0", Path::new("/nowhere"));
        role.standing = standing;
        role.follows()
    };
    for standing in [Standing::Absent, Standing::Alone, Standing::Unclear] {
        assert_eq!(follows(standing), Follows::Nobody, "{standing:?}");
    }
    for standing in [Standing::Together, Standing::SplitBrain, Standing::Unknown] {
        assert_ne!(follows(standing), Follows::Nobody, "{standing:?}");
    }
}

/// The kernel's log is this machine's, which has no DRBD: only what was written down tells.
#[tokio::test]
async fn a_split_brain_is_remembered_until_the_two_are_connected() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles/disk.split-brain");
    let read = |printed: &str| Report::read(printed, "r1");
    let alone = read(SPLIT_SECONDARY);
    let looking = PEER_GONE.replace("role:Primary", "role:Secondary");
    let looking = read(&looking.replace("name:r0", "name:r1"));
    let connected = read(SECONDARY);
    assert!(alone.is_alone() && !looking.is_alone() && !looking.is_connected());
    assert!(connected.is_connected() && connected.role.is_some());

    // A peer that is away is none.
    let mut first = role("r1", dir.path());
    first.note(&looking).await;
    assert_eq!(first.standing, Standing::Together);
    first.promotable(&looking).unwrap();
    assert!(!file.exists());

    // Whoever has seen it, has it on disk.
    first.standing = Standing::SplitBrain;
    first.note(&alone).await;
    assert!(file.exists());
    first.note(&looking).await;
    let why = first.promotable(&looking).unwrap_err();
    assert!(
        why.contains("split brain of r1") && why.contains("gone for good"),
        "{why}"
    );

    // The next daemon begins in the middle of a recovery; and so does one whose resource is brought up.
    let mut second = role("r1", dir.path());
    second.note(&looking).await;
    assert_eq!(second.standing, Standing::SplitBrain);
    second.note(&read(DOWN)).await;
    assert_eq!(second.standing, Standing::Absent);
    second.note(&looking).await;
    second.promotable(&looking).unwrap_err();
    assert!(file.exists());

    // The other node is gone for good.
    fs::remove_file(&file).unwrap();
    second.note(&looking).await;
    second.promotable(&looking).unwrap();

    // Or the two have agreed.
    fs::write(&file, "").unwrap();
    let mut third = role("r1", dir.path());
    third.note(&alone).await;
    assert_eq!(third.standing, Standing::SplitBrain);
    third.note(&connected).await;
    third.promotable(&connected).unwrap();
    assert!(!file.exists());
    third.note(&looking).await;
    third.promotable(&looking).unwrap();
}
