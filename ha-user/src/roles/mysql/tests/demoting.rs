//! A primary lets go.

use std::time::Duration;

use ha_common::Nanos;
use ha_core::plan::{Context, Follows};
use mysql_async::{Conn, prelude::Queryable as _};
use tokio::time::{sleep, timeout};

use super::pair::{FOLLOW, Node, PROMOTE, Writer, order, pair, primary, unplanned};
use crate::roles::Role as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_loses_nothing() {
    let (mut one, mut other) = pair().await;
    let writer = Writer::start(&one, 1);
    writer.more(200).await;
    let context = Context::default();
    let demoted = one
        .plan(&["forbid-writes", "end-sessions"], 1, &context)
        .await;
    let end = one.try_run("settle", 1, &context).await.unwrap();
    // Its session was ended.
    let acknowledged = writer.end().await;
    let context = Context {
        target: end.position.map(|position| position.text),
        solo: true,
        ..Context::default()
    };
    let promoted = other.plan(&PROMOTE, 2, &context).await;
    println!("demoted in {demoted} µs, promoted in {promoted} µs");
    assert!(other.ids().await.is_superset(&acknowledged));
    let context = other.context().await;
    one.plan(&FOLLOW, 2, &context).await;
    other.plan(&["restore"], 2, &Context::default()).await;
    let writer = Writer::start(&other, 1_000_000);
    writer.more(50).await;
    let acknowledged = writer.end().await;
    // Semi-synchronously: what is acknowledged is there, received at least.
    let state = other.value("@@global.gtid_binlog_state").await;
    one.wait_for("@@global.gtid_binlog_state", &state).await;
    assert!(one.ids().await.is_superset(&acknowledged));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_tables_is_ended_the_hard_way() {
    let mut one = primary(Node::start(1).await).await;
    let mut holder = Conn::new(one.server.opts()).await.unwrap();
    holder
        .query_drop("LOCK TABLES shop.orders WRITE")
        .await
        .unwrap();
    let context = Context::default();
    let held = order("forbid-writes", 1, &context, Nanos::from_millis(400));
    let run = timeout(Duration::from_millis(400), one.executor.run(&held));
    assert!(run.await.is_err(), "it waits for the tables");
    // What was given up does not go on: it does not take effect later.
    one.observe().await;
    drop(holder);
    for _ in 0..20 {
        assert_eq!(one.observe().await.promoted, Some(true));
        sleep(Duration::from_millis(10)).await;
    }
    one.run("kill-server", 1, &context).await;
    let gone = one.observe().await;
    assert_eq!(gone.promoted, Some(false));
    assert!(gone.able.unwrap_err().contains("does not run"));
    // A server that is gone takes no writes: nothing more is to be done.
    for step in ["forbid-writes", "end-sessions", "settle"] {
        let done = one.run(step, 1, &context).await;
        assert_eq!(done.text, "the server does not run", "{step}");
    }
    one.run("start-as-replica", 1, &context).await;
    assert_eq!(one.value("@@global.read_only").await, "1");
    assert_eq!(one.observe().await.promoted, Some(false));
}

/// Everything that nobody acknowledged is taken back, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_takes_back_what_was_not_acknowledged() {
    let (mut one, mut other) = pair().await;
    let writer = Writer::start(&one, 1);
    writer.more(100).await;
    let acknowledged = writer.end().await;
    // The replica is gone, and the primary waits for it.
    other.server.kill();
    let waiting = Writer::start(&one, 5_000);
    one.wait_for(
        "VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'RPL_SEMI_SYNC_MASTER_WAIT_SESSIONS'",
        "1",
    )
    .await;
    let context = Context::default();
    let held = order("forbid-writes", 1, &context, Nanos::from_millis(300));
    assert!(
        timeout(Duration::from_millis(300), one.executor.run(&held))
            .await
            .is_err(),
        "it waits for an acknowledgement"
    );
    one.plan(&["kill-server", "start-as-replica"], 1, &context)
        .await;
    assert!(
        waiting.end().await.is_empty(),
        "none of those was acknowledged"
    );
    assert_eq!(one.ids().await, acknowledged);

    other.server.restart().await;
    other.new_executor();
    other.plan(&PROMOTE, 2, &unplanned()).await;
    assert!(other.ids().await.is_superset(&acknowledged));
    let context = other.context().await;
    one.plan(&FOLLOW, 2, &context).await;
    other.plan(&["restore"], 2, &Context::default()).await;
    let follows = one.observe().await.follows;
    assert!(
        matches!(
            &follows,
            Follows::Source {
                receives: true,
                acknowledges: true,
                ..
            }
        ),
        "{follows:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ignores_read_only_is_noticed() {
    let mut one = primary(Node::start(1).await).await;
    let context = Context::default();
    one.run("forbid-writes", 1, &context).await;
    // Root may write all the same.
    let writer = Writer::start(&one, 1);
    writer.more(5).await;
    // On a busy machine it may stand still for a while.
    let mut refused = None;
    for _ in 0..100 {
        let settle = order("settle", 1, &context, Nanos::from_millis(300));
        refused = one.executor.run(&settle).await.err();
        if refused.is_some() {
            break;
        }
    }
    assert!(
        refused
            .as_ref()
            .is_some_and(|why| why.contains("moves still")),
        "{refused:?}"
    );
    one.run("end-sessions", 1, &context).await;
    writer.end().await;
    one.run("settle", 1, &context).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_killed() {
    let mut one = primary(Node::start(1).await).await;
    one.observe().await;
    one.server.freeze().await;
    let hung = one.observe().await;
    assert_eq!(hung.promoted, None);
    assert!(hung.able.unwrap_err().contains("does not answer"));
    let context = Context::default();
    let held = order("forbid-writes", 1, &context, Nanos::from_millis(300));
    let run = timeout(Duration::from_millis(300), one.executor.run(&held));
    // On a busy machine it has given up by itself by then.
    assert!(!run.await.is_ok_and(|forbidden| forbidden.is_ok()));
    one.run("kill-server", 1, &context).await;
    one.run("start-as-replica", 1, &context).await;
    assert_eq!(one.observe().await.promoted, Some(false));
}

/// As scripts do it: what a killed primary took back, and the other one had received, does not come back to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_that_follows_at_once_skips_what_it_wrote_itself() {
    const TRIES: u32 = 30;
    for _ in 0..TRIES {
        let (mut one, mut other) = pair().await;
        let writer = Writer::start(&one, 1);
        writer.more(50).await;
        one.server.kill();
        writer.end().await;
        one.plan(&["start-as-replica"], 1, &Context::default())
            .await;
        other.plan(&PROMOTE, 2, &unplanned()).await;
        let taken_back = other.ids().await.len() > one.ids().await.len();
        if !taken_back {
            // All of it was committed by then.
            continue;
        }
        one.server
            .sql("SET GLOBAL rpl_semi_sync_slave_enabled = 0")
            .await;
        let password = super::pair::PASSWORD
            .replace('\\', "\\\\")
            .replace('\'', "''");
        one.server
            .sql(&format!(
                "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='repl', MASTER_PASSWORD='{password}', MASTER_USE_GTID=slave_pos, MASTER_DEMOTE_TO_SLAVE=1",
                other.address.port()
            ))
            .await;
        one.server.sql("START SLAVE").await;
        let position = other.value("@@global.gtid_binlog_pos").await;
        one.wait_for("@@global.gtid_slave_pos", &position).await;
        assert!(other.ids().await.len() > one.ids().await.len());
        return;
    }
    panic!("nothing was taken back in {TRIES} crashes");
}
