//! Against what gluster printed, and against a real glusterd.

mod glusterd;

use std::{collections::HashMap, time::Duration};

use ha_core::check::Observation;
use tokio::time::timeout;

use self::glusterd::Glusterd;
use super::{GlusterProbe, answer::Answer, volume::Volume};
use crate::{checks::probe::Probe as _, config::Gluster};

const INFO: &str = include_str!("recorded/three-info.xml");
const STATUS: &str = include_str!("recorded/three.xml");
const DEAD: &str = include_str!("recorded/three-dead.xml");
const STOPPED: &str = include_str!("recorded/stopped.xml");
const ABSENT: &str = include_str!("recorded/nope-info.xml");
const UUID: &str = include_str!("recorded/uuid.xml");

const NODE: &str = "433d6bf9-4a25-4a86-8815-21da20deeec5";
const PATIENCE: Duration = Duration::from_secs(60);

fn layout(info: &str) -> Result<Volume, String> {
    Volume::of(&Answer::read(info).unwrap(), "v3")
}

fn judged(info: &str, status: &str, node: &str) -> Result<String, String> {
    let online = Answer::read(status).unwrap().online()?;
    layout(info)?.judge(&online, node)
}

#[test]
fn a_volume_with_all_its_bricks_is_right() {
    assert_eq!(Answer::read(UUID).unwrap().node().unwrap(), NODE);
    assert_eq!(
        judged(INFO, STATUS, NODE).unwrap(),
        "v3 is started, 3 of 3 bricks online, 3 of them here"
    );
}

#[test]
fn a_brick_of_this_node_that_is_offline_is_a_failure() {
    let error = judged(INFO, DEAD, NODE).unwrap_err();
    assert!(
        error.starts_with("this node's brick /srv/b2 of v3 is offline"),
        "{error}"
    );
    let error = judged(INFO, STATUS, "somebody else").unwrap_err();
    assert_eq!(error, "this node has no brick of v3");
}

#[test]
fn bricks_of_others_may_be_missing_down_to_the_quorum() {
    // Of the three bricks, the last is this node's.
    let mine = "11111111-4a25-4a86-8815-21da20deeec5";
    let mut volume = layout(INFO).unwrap();
    volume.bricks[2].0 = mine.to_owned();
    let mut online: HashMap<_, _> = volume
        .bricks
        .iter()
        .cloned()
        .map(|one| (one, None))
        .collect();
    assert!(volume.judge(&online, mine).is_ok());
    online.remove(&volume.bricks[0]);
    assert!(volume.judge(&online, mine).is_ok());
    online.remove(&volume.bricks[1]);
    assert_eq!(
        volume.judge(&online, mine).unwrap_err(),
        "1 of the 3 bricks of subvolume 1 of v3 are online, and 2 are needed"
    );
}

#[test]
fn a_volume_that_does_not_run_is_said_so() {
    let stopped = INFO.replace("<statusStr>Started<", "<statusStr>Stopped<");
    let error = layout(&stopped).unwrap_err();
    assert_eq!(error, "v3 is Stopped: run: gluster volume start v3");
    let error = judged(INFO, STOPPED, NODE).unwrap_err();
    assert_eq!(error, "glusterd answers: Volume v3 is not started");
    let error = layout(ABSENT).unwrap_err();
    assert_eq!(
        error,
        "glusterd answers: Volume does not exist: see `volume`"
    );
    assert!(Answer::read("Connection failed.").is_err());
    let locked = STOPPED.replace(
        "Volume v3 is not started",
        "Another transaction is in progress",
    );
    assert!(Answer::read(&locked).unwrap().is_locked());
}

#[tokio::test]
#[ignore = "needs root and glusterfs-server: cargo xtask test runs it"]
async fn a_real_volume_is_watched() {
    let glusterd = Glusterd::start().await;
    let mut probe = GlusterProbe::new(&Gluster {
        volume: "gv0".to_owned(),
    });
    probe.socket = Some(glusterd.socket());
    let found = timeout(PATIENCE, probe.probe()).await.expect("an answer");
    assert_eq!(
        found.unwrap(),
        "gv0 is started, 1 of 1 bricks online, 1 of them here"
    );
    glusterd.kill_brick();
    let news = timeout(PATIENCE, probe.watch()).await.expect("news");
    assert!(matches!(news, Observation::Failed(why) if why.contains("brick")));
    let error = timeout(PATIENCE, probe.probe()).await.expect("an answer");
    assert!(error.unwrap_err().contains("is offline"));
    drop(glusterd);
    let error = timeout(PATIENCE, probe.probe()).await.expect("an answer");
    assert!(error.unwrap_err().starts_with("gluster failed"));
}
