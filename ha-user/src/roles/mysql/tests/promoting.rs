//! A replica becomes the primary.

use std::time::Duration;

use ha_common::Nanos;
use ha_core::plan::{Context, Follows};
use mysql_async::{Conn, prelude::Queryable as _};
use tokio::time::sleep;

use super::pair::{FOLLOW, Held, PROMOTE, Writer, order, pair, unplanned};
use crate::roles::Role as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_loses_nothing() {
    let (mut one, mut other) = pair().await;
    let writer = Writer::start(&one, 1);
    writer.more(300).await;
    one.server.kill();
    let acknowledged = writer.end().await;
    let took = other.plan(&PROMOTE, 2, &unplanned()).await;
    println!("promoted in {took} µs");
    let there = other.ids().await;
    assert!(
        there.is_superset(&acknowledged),
        "{:?}",
        acknowledged.difference(&there)
    );
    assert_eq!(other.value("@@global.read_only").await, "0");
    assert_eq!(
        other
            .value("epoch FROM had.epoch ORDER BY epoch DESC LIMIT 1")
            .await,
        "2"
    );
    // Whom it followed is forgotten once it takes writes.
    let follows = other.observe().await.follows;
    assert!(
        matches!(
            follows,
            Follows::Source {
                receives: false,
                ..
            }
        ),
        "{follows:?}"
    );
    other.run("detach", 2, &Context::default()).await;
    assert_eq!(other.observe().await.follows, Follows::Nobody);
    // It writes without any replica.
    let writer = Writer::start(&other, 1_000_000);
    writer.more(10).await;
    writer.end().await;

    // The one before comes back as a replica, with what was not acknowledged taken back.
    let context = other.context().await;
    one.plan(&FOLLOW, 2, &context).await;
    other.plan(&["restore"], 2, &Context::default()).await;
    let state = other.value("@@global.gtid_binlog_state").await;
    one.wait_for("@@global.gtid_binlog_state", &state).await;
    assert_eq!(one.ids().await, other.ids().await);
    assert_eq!(one.value("@@global.read_only").await, "1");
}

/// Every write that the replica has received is applied before it takes writes.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_lagging_replica_has_received_is_drained() {
    let (mut one, mut other) = pair().await;
    let held = Held::hold(&other).await;
    let writer = Writer::start(&one, 1);
    writer.more(300).await;
    one.server.kill();
    let acknowledged = writer.end().await;
    let behind = acknowledged.difference(&other.ids().await).count();
    assert!(behind > 200, "it lags by {behind}");
    let opts = other.server.opts();
    let release = async {
        sleep(Duration::from_millis(500)).await;
        // Until then nothing was opened.
        let mut conn = Conn::new(opts).await.unwrap();
        let closed: Option<u8> = conn.query_first("SELECT @@global.read_only").await.unwrap();
        assert_eq!(closed, Some(1));
        held.release().await;
    };
    let context = unplanned();
    tokio::join!(other.plan(&PROMOTE, 2, &context), release);
    assert!(other.ids().await.is_superset(&acknowledged));
}

/// As scripts do it: the test of the test before.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_promoted_without_being_drained_loses_writes() {
    let (mut one, other) = pair().await;
    let held = Held::hold(&other).await;
    let writer = Writer::start(&one, 1);
    writer.more(300).await;
    one.server.kill();
    let acknowledged = writer.end().await;
    let (stop, release) = (other.server.sql("STOP SLAVE"), async {
        sleep(Duration::from_millis(100)).await;
        held.release().await;
    });
    tokio::join!(stop, release);
    other.server.sql("SET GLOBAL read_only = 0").await;
    let lost = acknowledged.difference(&other.ids().await).count();
    println!("lost {lost} of {}", acknowledged.len());
    assert!(lost > 200);
}

/// With both threads stopped MariaDB throws away what was received as soon as one is started.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_restarted_replica_had_received_is_salvaged() {
    let (mut one, mut other) = pair().await;
    let held = Held::hold(&other).await;
    let writer = Writer::start(&one, 1);
    writer.more(300).await;
    one.server.kill();
    let acknowledged = writer.end().await;
    drop(held);
    other.server.kill();
    other.server.restart().await;
    other.new_executor();
    let before = other.ids().await;
    assert!(acknowledged.difference(&before).count() > 200);
    other.run("inspect", 2, &unplanned()).await;
    other.plan(&PROMOTE, 2, &unplanned()).await;
    let lost: Vec<_> = acknowledged
        .difference(&other.ids().await)
        .copied()
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    let writer = Writer::start(&other, 1_000_000);
    writer.more(10).await;
    writer.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_may_be_run_twice() {
    let (mut one, mut other) = pair().await;
    let writer = Writer::start(&one, 1);
    writer.more(50).await;
    writer.end().await;
    for step in ["forbid-writes", "end-sessions", "settle"] {
        one.run(step, 1, &Context::default()).await;
    }
    let target = one.run("settle", 1, &Context::default()).await.position;
    let context = Context {
        target: target.map(|position| position.text),
        solo: true,
        ..Context::default()
    };
    for step in PROMOTE {
        other.run(step, 2, &context).await;
    }
    let context = other.context().await;
    for step in FOLLOW {
        one.run(step, 2, &context).await;
    }
    other.run("restore", 2, &Context::default()).await;
    other.run("degrade", 2, &Context::default()).await;
    other.run("restore", 2, &Context::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_could_not_apply_is_not_promoted() {
    let (mut one, mut other) = pair().await;
    other
        .server
        .sql("SET STATEMENT sql_log_bin = 0 FOR INSERT INTO shop.orders VALUES (7, 9)")
        .await;
    let writer = Writer::start(&one, 1);
    writer.more(20).await;
    other.wait_for_error().await;
    one.server.kill();
    writer.end().await;
    let refused = other.try_run("inspect", 2, &unplanned()).await.unwrap_err();
    assert!(refused.contains("1062"), "{refused:?}");
    let observation = other.observe().await;
    assert!(observation.able.unwrap_err().contains("1062"));
}

/// The node before told where it ended, and not all of that has come.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_received_is_not_given_up() {
    let (mut one, mut other) = pair().await;
    let context = Context {
        target: Some("0-1-999999".to_owned()),
        solo: true,
        ..Context::default()
    };
    let order = order("stop-receiving", 2, &context, Nanos::from_millis(300));
    let refused = other.executor.run(&order).await.unwrap_err();
    assert!(refused.contains("0-1-999999"), "{refused:?}");
    // Nothing was done: it follows and acknowledges still.
    let writer = Writer::start(&one, 1);
    writer.more(10).await;
    writer.end().await;
    one.server.kill();
    let refused = other.try_run("prove", 2, &context).await.unwrap_err();
    assert!(refused.contains("lacks 0-1-999999"), "{refused:?}");
    let refused = other.try_run("detach", 2, &context).await.unwrap_err();
    assert!(refused.contains("lacks 0-1-999999"), "{refused:?}");
}
