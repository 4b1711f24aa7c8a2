//! What a promotion changes, without another node.

use std::{path::Path, time::Duration};

use ha_common::{MonoNs, Nanos, Priority};
use tokio::time::timeout;

use super::{target::tests::follow, *};

const PATIENCE: Duration = Duration::from_secs(20);

fn sync(dir: &Path) -> Sync {
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
async fn who_has_only_a_part_says_so_and_sends_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = sync(dir.path());
    let rules = dir.path().join("rules");
    let noted = one.job.copied_file();
    fs::create_dir_all(noted.parent().unwrap()).unwrap();
    let text = format!("{{\"parts\":{{{rules:?}:{{\"node\":\"n2\",\"epoch\":3}}}}}}");
    fs::write(&noted, text).unwrap();
    let said = run(&mut one, "activate", 4).await;
    assert!(said.contains("the last copy from n2"), "{said}");
    let note = one.look().note.unwrap();
    assert!(note.contains("some files may be older"), "{note}");
    assert_eq!(one.job.note_own(4).await.unwrap(), [rules]);
    // What cannot be read keeps nobody from serving, and is not copied over either.
    fs::write(&noted, "rubbish").unwrap();
    let why = follow(&one.job, "n2", 5).await.unwrap_err();
    assert!(why.contains("cannot be read"), "{why}");
    assert_eq!(
        one.job.note_own(6).await.unwrap(),
        [""; 0].map(PathBuf::from)
    );
    let why = follow(&one.job, "n2", 5).await.unwrap_err();
    assert!(why.contains("what n1 had in epoch 6"), "{why}");
}

#[tokio::test]
async fn two_roles_of_a_group_both_know_that_it_served() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let neighbours: Arc<Neighbours> = Arc::default();
    let mut roles = dirs.each_ref().map(|dir| {
        let one = sync(dir.path());
        let job = Arc::into_inner(one.job).unwrap();
        Sync::new(&job.config, job.setting, Arc::clone(&neighbours))
    });
    for one in &mut roles {
        run(one, "activate", 6).await;
    }
    neighbours.note_service();
    for one in &mut roles {
        run(one, "deactivate", 6).await;
        let why = follow(&one.job, "n2", 5).await.unwrap_err();
        assert!(why.contains("what n1 had in epoch 6"), "{why}");
    }
}
