//! A server that is started again: it may have less than it had acknowledged, or had received.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    path::PathBuf,
};

use ha_core::plan::Context;
use rustix::process::Signal;
use tokio::time::timeout;

use super::pair::{Held, Node, PROMOTE, Writer, pair, unplanned};
use crate::{checks::mysql::tests::mariadbd::PATIENCE, roles::database::Server, sys::clock};

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
    other.ends().await;
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
        name.contains("-relay-bin.0")
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

/// A server that crashes may take back what it had applied, though the log that it came from has been purged.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_log_that_begins_too_late_leaves_a_replica_with_what_it_has() {
    let (mut one, mut other) = pair().await;
    let held = Held::hold(&other).await;
    let writer = Writer::start(&one, 1);
    writer.more(50).await;
    one.server.sql("FLUSH BINARY LOGS").await;
    writer.more(50).await;
    one.server.kill();
    writer.end().await;
    drop(held);
    other.server.kill();
    let last = relay_log(&other);
    let name = last.file_name().unwrap().to_string_lossy().into_owned();
    let info = other.server.dir().join("data").join("relay-log.info");
    let text = fs::read_to_string(&info).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let later = format!("./{name}");
    assert_ne!(
        lines[1], later,
        "the relay log did not go on in another file"
    );
    lines[1] = &later;
    lines[2] = "4";
    fs::write(&info, lines.join("\n") + "\n").unwrap();
    other.server.restart().await;
    let here = other.value("@@global.gtid_binlog_pos").await;

    let done = other.run("salvage", 1, &Context::default()).await;
    assert!(done.text.contains("begins after"), "{}", done.text);
    let found = other.observe().await;
    assert!(!found.unread, "{found:?}");
    assert_eq!(found.position.map(|position| position.text), Some(here));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_a_server_answers_late_counts_from_when_it_began() {
    let (_one, mut other) = pair().await;
    let before = other.observe().await.began_at;
    other.server.freeze().await;
    assert!(other.observe().await.position.is_none());
    let later = clock::now();
    other.server.signal(Signal::CONT);
    let answered = async {
        loop {
            let found = other.observe().await;
            if found.position.is_some() {
                break found;
            }
        }
    };
    let found = timeout(PATIENCE, answered).await.expect("an answer");
    assert!(before < found.began_at && found.began_at < later);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_meets_two_runs_was_not_carried_out_on_the_one_that_is_expected() {
    let (mut one, _other) = pair().await;
    let mut server = Server::new(&one.server.config());
    server.begin();
    server.table("SELECT 1").await.unwrap();
    let first = server.incarnation();
    assert!(first.is_some());
    assert_eq!(server.carried_out_on(None), first);
    assert_eq!(server.carried_out_on(first), first);
    one.server.kill();
    one.server.restart().await;
    server.table("SELECT 1").await.unwrap();
    let second = server.incarnation();
    assert_ne!(second, first);
    assert_eq!(server.carried_out_on(None), first, "it looked at that one");
    assert_eq!(server.carried_out_on(first), second);
    assert_eq!(server.carried_out_on(second), first);
    server.begin();
    server.table("SELECT 1").await.unwrap();
    assert_eq!(server.carried_out_on(None), second);
}
