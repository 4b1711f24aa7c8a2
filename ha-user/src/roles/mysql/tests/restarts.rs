//! A server that is started again: it may have less than it had acknowledged, or had received.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    path::PathBuf,
};

use ha_core::plan::Context;

use super::pair::{Held, Node, PROMOTE, Writer, pair, unplanned};

/// A replica that applies nothing of what it has received, whose server is killed after the primary's; and what was
/// acknowledged.
async fn replica_behind(other: &mut Node, one: &mut Node) -> BTreeSet<u64> {
    let held = Held::hold(other).await;
    let writer = Writer::start(one, 1);
    writer.more(300).await;
    one.server.kill();
    let acknowledged = writer.end().await;
    drop(held);
    other.server.kill();
    acknowledged
}

async fn lost(node: &Node, acknowledged: &BTreeSet<u64>) -> usize {
    acknowledged.difference(&node.ids().await).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_restarted_replica_is_shows_once_it_has_read_what_it_had_received() {
    let (mut one, mut other) = pair().await;
    let before = other.observe().await;
    assert!(!before.unread && before.position.is_some());
    let acknowledged = replica_behind(&mut other, &mut one).await;
    assert_eq!(other.observe().await.runs, Some(false));
    other.server.restart().await;

    let found = other.observe().await;
    assert!(found.unread && found.position.is_none(), "{found:?}");
    assert_ne!(found.incarnation, before.incarnation);
    assert!(lost(&other, &acknowledged).await > 200);
    other.run("salvage", 1, &Context::default()).await;
    assert_eq!(lost(&other, &acknowledged).await, 0);
    let found = other.observe().await;
    assert!(!found.unread, "{found:?}");
    assert!(
        found.position.map(|position| position.rank) >= before.position.map(|it| it.rank + 300)
    );

    // Another daemon does not know that, and finds the same.
    other.new_executor();
    assert!(other.observe().await.unread);
    other.plan(&PROMOTE, 2, &unplanned()).await;
    assert_eq!(lost(&other, &acknowledged).await, 0);
}

/// The newest relay log that there is anything in.
fn relay_log(node: &Node) -> PathBuf {
    let files = fs::read_dir(node.server.dir().join("data")).unwrap();
    let logs = files.map(|file| file.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("relay.0")
    });
    logs.max().expect("a relay log")
}

/// A server that is killed while it writes leaves a part of an event, which it cannot have acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn the_torn_end_of_a_relay_log_is_no_reason_not_to_read_the_rest() {
    let (mut one, mut other) = pair().await;
    let acknowledged = replica_behind(&mut other, &mut one).await;
    let log = relay_log(&other);
    let size = fs::metadata(&log).unwrap().len();
    let file = OpenOptions::new().write(true).open(&log).unwrap();
    file.set_len(size - 7).unwrap();
    other.server.restart().await;
    other.run("salvage", 1, &Context::default()).await;
    // What was cut off had been acknowledged here, and nothing else is missing.
    assert!(lost(&other, &acknowledged).await <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_s_server_that_was_started_again_is_not_opened() {
    let (mut one, _other) = pair().await;
    let before = one.observe().await.incarnation;
    assert!(before.is_some());
    let held = Context {
        incarnation: before,
        ..Context::default()
    };
    one.server.sql("SET GLOBAL read_only = 1").await;
    let done = one.run("become-primary", 1, &held).await;
    assert_eq!(done.incarnation, before);

    one.server.kill();
    one.server.restart().await;
    let refused = one.try_run("become-primary", 1, &held).await.unwrap_err();
    assert!(refused.contains("started again"), "{refused}");
    // The session that was kept has ended with the server.
    one.observe().await;
    let found = one.observe().await;
    assert_eq!(found.promoted, Some(false), "{found:?}");
    assert!(found.incarnation.is_some() && found.incarnation != before);
}
