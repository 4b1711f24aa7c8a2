//! What a promotion changes, without another node.

use std::{fs, time::Duration};

use ha_common::{MonoNs, Nanos, Priority};
use tokio::time::timeout;

use super::{target::tests::follow, *};

const PATIENCE: Duration = Duration::from_secs(20);

fn sync(dir: &std::path::Path) -> Sync {
    let rules = dir.join("rules");
    fs::create_dir_all(&rules).unwrap();
    let config = Config {
        paths: vec![rules],
        exclude: Vec::new(),
        every: Nanos::from_secs(600),
    };
    let setting = Setting {
        node: "n1".to_owned(),
        group: "web".to_owned(),
        role: "rules".to_owned(),
        priority: Priority(100),
        state_dir: dir.join("state"),
        runtime_dir: dir.join("run"),
        mask_units: true,
        arbitrators: Vec::new(),
        peers: 1,
        database: None,
    };
    Sync::new(&config, setting, Arc::default())
}

async fn run(sync: &mut Sync, step: &'static str, epoch: u64) -> String {
    let order = Order {
        serial: 1,
        role: 0,
        step,
        deadline: MonoNs(u64::MAX),
        epoch,
        context: ha_core::plan::Context::default(),
    };
    let done = timeout(PATIENCE, sync.run(&order)).await.expect("an end");
    done.unwrap().text
}

#[tokio::test]
async fn who_has_served_copies_nothing_that_is_older() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = sync(dir.path());
    assert_eq!(run(&mut one, "deactivate", 5).await, "was not active");
    // A promotion that came to nothing changes nothing.
    run(&mut one, "activate", 6).await;
    run(&mut one, "deactivate", 6).await;
    let why = follow(&one.job, "n2", 5).await.unwrap_err();
    assert!(why.contains("there is no link"), "{why}");

    assert!(run(&mut one, "activate", 6).await.starts_with("active"));
    assert_eq!(run(&mut one, "activate", 6).await, "was active already");
    one.job.neighbours.note_service();
    assert_eq!(one.look().promoted, Some(true));
    let said = run(&mut one, "deactivate", 6).await;
    assert_eq!(
        said,
        "not active any more; no other node asks for the files"
    );
    assert_eq!(one.look().promoted, Some(false));
    // Nor after the daemon was killed.
    drop(one);
    let again = sync(dir.path());
    let why = follow(&again.job, "n2", 5).await.unwrap_err();
    assert!(why.contains("what n1 had in epoch 6"), "{why}");
    let why = follow(&again.job, "n2", 7).await.unwrap_err();
    assert!(why.contains("there is no link"), "{why}");
}

#[tokio::test]
async fn who_has_only_a_part_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = sync(dir.path());
    // It begins, and comes to nothing.
    follow(&one.job, "n2", 3).await.unwrap_err();
    drop(one);
    one = sync(dir.path());
    let said = run(&mut one, "activate", 4).await;
    assert!(said.contains("the last copy from n2"), "{said}");
    let note = one.look().note.unwrap();
    assert!(note.contains("some files may be older"), "{note}");
}
