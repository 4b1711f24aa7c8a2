//! Against what drbdsetup printed; the real thing is in the guest lane.

use ha_common::{MonoNs, Nanos};
use ha_core::check::Observation;
use tokio::sync::watch;

use super::{
    DrbdProbe,
    judge::{Rules, Standing},
};
use crate::{
    checks::probe::{Probe as _, Role},
    config::Drbd,
    drbd::{Report, observe},
    sys::clock,
};

const PRIMARY: &str = include_str!("../../drbd/recorded/8.4-primary.txt");
const SECONDARY: &str = include_str!("../../drbd/recorded/8.4-secondary.txt");
const SYNC_TARGET: &str = include_str!("../../drbd/recorded/8.4-sync-target.txt");
const PEER_GONE: &str = include_str!("../../drbd/recorded/8.4-peer-gone.txt");
const SPLIT_PRIMARY: &str = include_str!("../../drbd/recorded/8.4-split-brain-primary.txt");
const SPLIT_SECONDARY: &str = include_str!("../../drbd/recorded/8.4-split-brain-secondary.txt");
const OUTDATED: &str = include_str!("../../drbd/recorded/8.4-outdated.txt");
const DISKLESS: &str = include_str!("../../drbd/recorded/8.4-diskless.txt");
const INCONSISTENT: &str = include_str!("../../drbd/recorded/8.4-inconsistent.txt");
const DOWN: &str = include_str!("../../drbd/recorded/8.4-down.txt");
const EVENTS: &str = include_str!("../../drbd/recorded/8.4-events.txt");

/// As drbdsetup of DRBD 9 prints it with three nodes (from its source).
const NINE: &str = "\
exists resource name:r0 role:Primary suspended:no may_promote:no promotion_score:10103
exists connection name:r0 peer-node-id:1 conn-name:beta connection:Connected role:Secondary
exists connection name:r0 peer-node-id:2 conn-name:gamma connection:Connecting role:Unknown
exists device name:r0 volume:0 minor:0 backing_dev:/dev/vg/r0 disk:UpToDate client:no quorum:yes
exists peer-device name:r0 peer-node-id:1 conn-name:beta volume:0 replication:Established peer-disk:UpToDate peer-client:no resync-suspended:no
exists peer-device name:r0 peer-node-id:2 conn-name:gamma volume:0 replication:Off peer-disk:Outdated peer-client:no resync-suspended:no
exists path name:r0 peer-node-id:1 conn-name:beta local:ipv4:10.0.3.1:7789 peer:ipv4:10.0.3.2:7789 established:yes
exists -
";

fn rules(resource: &str) -> Rules {
    Rules {
        resource: resource.to_owned(),
        promote_within: Nanos::from_secs(30),
    }
}

fn judged(printed: &str, role: Role, after: Nanos) -> Result<String, String> {
    let resource = if printed.contains("name:r1") || printed == DOWN {
        "r1"
    } else {
        "r0"
    };
    let standing = Standing::begun(role);
    let now = MonoNs(clock::now().0 + after.0);
    rules(resource).judge(&Report::read(printed, resource), standing, now)
}

fn soon(printed: &str, role: Role) -> Result<String, String> {
    judged(printed, role, Nanos::ZERO)
}

#[test]
fn each_node_has_what_its_role_needs() {
    assert_eq!(
        soon(PRIMARY, Role::Active).unwrap(),
        "r0 is Primary, UpToDate; peer Connected"
    );
    assert_eq!(
        soon(SECONDARY, Role::Standby).unwrap(),
        "r1 is Secondary, UpToDate; peer Connected"
    );
    assert_eq!(
        soon(NINE, Role::Active).unwrap(),
        "r0 is Primary, UpToDate; beta Connected; gamma Connecting"
    );
}

#[test]
fn a_peer_that_is_gone_is_no_failure() {
    assert!(soon(PEER_GONE, Role::Active).is_ok());
    assert!(soon(&PEER_GONE.replace("Primary", "Secondary"), Role::Standby).is_ok());
}

#[test]
fn what_cannot_be_used_is_a_failure_in_either_role() {
    for (printed, words) in [
        (OUTDATED, "r1/0 is Outdated"),
        (DISKLESS, "r1/0 is Diskless"),
        (INCONSISTENT, "r1/0 is Inconsistent"),
        (
            SYNC_TARGET,
            "r1/0 is Inconsistent and is being synced (SyncTarget)",
        ),
        (DOWN, "r1 is not there: run: drbdadm up r1"),
    ] {
        for role in [Role::Active, Role::Standby] {
            assert_eq!(soon(printed, role).unwrap_err(), words);
        }
    }
    let suspended = NINE.replace("suspended:no", "suspended:quorum");
    assert!(
        soon(&suspended, Role::Active)
            .unwrap_err()
            .contains("suspended (quorum)")
    );
    let minority = NINE.replace("quorum:yes", "quorum:no");
    assert!(
        soon(&minority, Role::Active)
            .unwrap_err()
            .contains("no quorum")
    );
    assert!(soon("", Role::Standby).is_err());
    // Another resource's lines say nothing.
    let other = Report::read(&PRIMARY.replace("name:r0", "name:r00"), "r0");
    assert_eq!(other, Report::default());
}

#[test]
fn after_a_split_brain_only_who_uses_the_resource_goes_on() {
    let error = soon(SPLIT_SECONDARY, Role::Standby).unwrap_err();
    assert!(
        error.contains("StandAlone") && error.contains("split brain"),
        "{error}"
    );
    let detail = soon(SPLIT_PRIMARY, Role::Active).unwrap();
    assert!(detail.contains("split brain"), "{detail}");
    assert!(soon(SPLIT_PRIMARY, Role::Standby).is_err());
}

#[test]
fn a_promotion_takes_its_time() {
    let after = |seconds| judged(SECONDARY, Role::Active, Nanos::from_secs(seconds));
    assert!(after(1).unwrap().contains("to be promoted"));
    assert!(after(31).unwrap_err().contains("drbdadm primary r1"));
    let standing = Standing::begun(Role::Active);
    let found = Report::read(SECONDARY, "r1");
    let never = Rules {
        promote_within: Nanos::ZERO,
        ..rules("r1")
    };
    let much_later = MonoNs(clock::now().0 + Nanos::from_secs(100).0);
    assert!(never.judge(&found, standing, much_later).is_ok());
}

#[test]
fn a_node_without_a_disk_on_purpose_is_right() {
    let client = NINE.replace("disk:UpToDate client:no", "disk:Diskless client:yes");
    assert!(soon(&client, Role::Active).is_ok());
}

#[test]
fn news_is_told_apart_from_noise() {
    let suspects = |active| {
        let news = EVENTS.lines().filter_map(move |line| observe(line, active));
        news.filter(|news| matches!(news, Observation::Suspect(_)))
            .count()
    };
    // The disk's states and what goes; and a connection that was given up, by hand and after a split brain.
    assert_eq!(suspects(true), 7);
    assert_eq!(suspects(false), 7 + 2);
    for noise in [
        "- skipped 2",
        "exists -",
        "call helper name:r1 peer-node-id:0 conn-name:peer volume:0 minor:1 helper:split-brain",
        "change connection name:r1 peer-node-id:0 conn-name:peer",
        "change peer-device name:r1 peer-node-id:0 conn-name:peer volume:0 done:7.22",
    ] {
        assert_eq!(observe(noise, true), None, "{noise}");
    }
    let synced =
        "change peer-device name:r1 peer-node-id:0 conn-name:peer volume:0 replication:Established";
    assert_eq!(observe(synced, false), Some(Observation::Changed));
}

/// There is no DRBD in this kernel, or no such resource: drbdsetup says so itself.
#[tokio::test]
async fn the_real_tool_is_asked() {
    let (_roles, watched) = watch::channel(Role::Standby);
    let config = Drbd {
        resource: "had-no-such-resource".to_owned(),
        promote_within: Nanos::ZERO,
    };
    let error = DrbdProbe::new(&config, watched).probe().await.unwrap_err();
    assert!(
        error.starts_with("drbdsetup failed (exit status: ")
            || error.starts_with("there is no drbdsetup")
            || error.starts_with("had-no-such-resource is not there"),
        "{error}"
    );
}
