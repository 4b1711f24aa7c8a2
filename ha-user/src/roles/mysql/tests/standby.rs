//! A standby follows, and a primary sees to its replica.

use std::{fs, time::Duration};

use ha_core::plan::{Context, Follows};
use tokio::time::{sleep, timeout};

use super::pair::{FOLLOW, Node, PASSWORD, PROMOTE, Writer, joined, pair, primary, unplanned};
use crate::checks::mysql::tests::mariadbd::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_diverged_is_refused_and_what_it_has_is_kept() {
    let (mut one, mut other) = pair().await;
    let writer = Writer::start(&one, 1);
    writer.more(50).await;
    writer.end().await;
    // Somebody lets it acknowledge alone, and it dies before the replica has that.
    one.run("degrade", 1, &Context::default()).await;
    other.server.sql("STOP SLAVE IO_THREAD").await;
    one.server
        .sql("INSERT INTO shop.orders VALUES (777777, 1)")
        .await;
    one.server.kill();
    other.plan(&PROMOTE, 2, &unplanned()).await;
    let writer = Writer::start(&other, 1_000_000);
    writer.more(20).await;
    writer.end().await;

    one.server.restart().await;
    one.new_executor();
    let context = other.context().await;
    for _ in 0..2 {
        let refused = one.try_run("compare", 2, &context).await.unwrap_err();
        assert!(
            refused.contains("diverged: the primary never had 0-1-"),
            "{refused:?}"
        );
        assert!(refused.contains("is kept in"), "{refused:?}");
    }
    let kept = one.state_dir().join("diverged").join("db-epoch-2.sql");
    let kept = fs::read_to_string(kept).unwrap();
    // One transaction of the server that died.
    assert!(kept.contains("server id 1 "), "{kept}");
    assert!(kept.contains("GTID 0-1-"), "{kept}");
    assert!(!kept.contains("GTID 0-2-"), "{kept}");
    // By the numbers of the domain alone it is behind, and so nothing would be wrong with it (M16).
    let state = one.observe().await;
    assert_eq!(state.follows, Follows::Nobody);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_goes_on_alone_and_waits_again() {
    let (mut one, mut other) = pair().await;
    let writer = Writer::start(&one, 1);
    writer.more(100).await;
    other.server.freeze().await;
    one.wait_for(
        "VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'RPL_SEMI_SYNC_MASTER_WAIT_SESSIONS'",
        "1",
    )
    .await;
    let observed = one.observe().await.replicas.unwrap();
    assert_eq!((observed.waiting, observed.solo), (1, false));
    let took = one.plan(&["degrade"], 1, &Context::default()).await;
    println!("degraded in {took} µs");
    writer.more(100).await;
    assert!(one.observe().await.replicas.unwrap().solo);

    other.server.kill();
    other.server.restart().await;
    other.new_executor();
    let context = one.context().await;
    other.plan(&FOLLOW, 1, &context).await;
    let restored = one.run("restore", 1, &Context::default()).await;
    writer.more(100).await;
    let acknowledged = writer.end().await;
    assert!(!one.observe().await.replicas.unwrap().solo);
    let standby = other.observe().await.position.unwrap();
    assert!(standby.rank >= restored.position.unwrap().rank);
    one.server.kill();
    other.plan(&PROMOTE, 2, &unplanned()).await;
    assert!(other.ids().await.is_superset(&acknowledged));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_whose_replica_has_died_goes_on_alone() {
    const CLIENTS: &str = "VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'RPL_SEMI_SYNC_MASTER_CLIENTS'";
    const WAITING: &str = "VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'RPL_SEMI_SYNC_MASTER_WAIT_SESSIONS'";
    let (mut one, mut other) = pair().await;
    let writer = Writer::start(&one, 1);
    writer.more(100).await;
    other.server.kill();
    // Its session has ended, and somebody waits for it.
    one.wait_for(CLIENTS, "0").await;
    one.wait_for(WAITING, "1").await;
    one.plan(&["degrade"], 1, &Context::default()).await;
    writer.more(100).await;
    other.server.restart().await;
    other.new_executor();
    let context = one.context().await;
    other.plan(&FOLLOW, 1, &context).await;
    one.run("restore", 1, &Context::default()).await;
    writer.more(100).await;
    let acknowledged = writer.end().await;
    one.server.kill();
    other.plan(&PROMOTE, 2, &unplanned()).await;
    assert!(other.ids().await.is_superset(&acknowledged));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_is_no_reason_to_wait() {
    // A standby that was away for long joins asynchronously first.
    let (mut one, other) = tokio::join!(Node::start(1), Node::start(2));
    one = primary(one).await;
    let writer = Writer::start(&one, 1);
    writer.more(500).await;
    let (mut one, mut other) = joined(one, other).await;
    writer.more(100).await;
    let acknowledged = writer.end().await;
    one.server.kill();
    other.plan(&PROMOTE, 2, &unplanned()).await;
    assert!(other.ids().await.is_superset(&acknowledged));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_follow_each_other_have_one_writer() {
    let both = |role: &mut crate::config::MysqlRole| role.master_master = true;
    let (one, other) = tokio::join!(Node::with(1, &[], both), Node::with(2, &[], both));
    let (mut one, mut other) = joined(primary(one).await, other).await;
    // Hand over to the other one, which keeps its link, stopped.
    let context = Context::default();
    one.plan(&["forbid-writes", "end-sessions"], 1, &context)
        .await;
    let end = one.run("settle", 1, &context).await;
    let context = Context {
        target: end.position.map(|position| position.text),
        solo: true,
        ..Context::default()
    };
    other.plan(&PROMOTE, 2, &context).await;
    let link = other.observe().await.follows;
    assert!(
        matches!(
            &link,
            Follows::Source {
                receives: false,
                ..
            }
        ),
        "{link:?}"
    );
    let context = other.context().await;
    one.plan(&FOLLOW, 2, &context).await;
    other.run("restore", 2, &Context::default()).await;
    let writer = Writer::start(&other, 1);
    writer.more(100).await;
    let acknowledged = writer.end().await;
    // And back, by a crash.
    other.server.kill();
    one.plan(&PROMOTE, 3, &unplanned()).await;
    assert!(one.ids().await.is_superset(&acknowledged));
    let context = one.context().await;
    other.plan(&FOLLOW, 3, &context).await;
    one.run("restore", 3, &Context::default()).await;
    let state = one.value("@@global.gtid_binlog_state").await;
    other.wait_for("@@global.gtid_binlog_state", &state).await;
    assert_eq!(one.ids().await, other.ids().await);
    assert_eq!(other.value("@@global.read_only").await, "1");
}

/// Where two follow each other, what a primary writes comes back to it, and that it did may be on disk before the write
/// itself is: a crash takes back one of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_to_a_writer_that_has_lost_it_is_received_again() {
    let (mut one, mut other) = pair().await;
    one.plan(
        &["forbid-writes", "end-sessions", "settle"],
        1,
        &Context::default(),
    )
    .await;
    other.plan(&PROMOTE, 2, &unplanned()).await;
    // As if the other one had received it before the crash.
    other
        .server
        .sql("BEGIN NOT ATOMIC SET SESSION server_id = 1; INSERT INTO shop.orders VALUES (1, 1); END")
        .await;
    let lost = other.value("@@global.gtid_binlog_pos").await;
    assert!(lost.starts_with("0-1-"), "{lost}");
    let here = one.value("@@global.gtid_binlog_pos").await;
    one.server
        .sql(&format!("SET GLOBAL gtid_slave_pos = '{lost}'"))
        .await;
    let position = one.observe().await.position.map(|position| position.text);
    assert_eq!(position, Some(here));

    other
        .server
        .sql("INSERT INTO shop.orders VALUES (2, 1)")
        .await;
    let context = other.context().await;
    one.plan(&FOLLOW, 2, &context).await;
    other.run("restore", 2, &Context::default()).await;
    let state = other.value("@@global.gtid_binlog_state").await;
    one.wait_for("@@global.gtid_binlog_state", &state).await;
    assert_eq!(one.ids().await, [1, 2].into());
}

/// Who has skipped a write of its own would be promoted without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_skipped_a_write_of_its_own_is_refused() {
    let (mut one, mut other) = pair().await;
    one.plan(
        &["forbid-writes", "end-sessions", "settle"],
        1,
        &Context::default(),
    )
    .await;
    other.plan(&PROMOTE, 2, &unplanned()).await;
    other
        .server
        .sql("BEGIN NOT ATOMIC SET SESSION server_id = 1; INSERT INTO shop.orders VALUES (1, 1); END")
        .await;
    let skipped = other.value("@@global.gtid_binlog_pos").await;
    other
        .server
        .sql("INSERT INTO shop.orders VALUES (2, 1)")
        .await;
    // As scripts do it.
    let password = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
    for statement in [
        "SET GLOBAL rpl_semi_sync_master_enabled = 0".to_owned(),
        "SET GLOBAL rpl_semi_sync_slave_enabled = 0".to_owned(),
        format!("SET GLOBAL gtid_slave_pos = '{skipped}'"),
        format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='repl', MASTER_PASSWORD='{password}', MASTER_USE_GTID=slave_pos",
            other.address.port()
        ),
        "START SLAVE".to_owned(),
    ] {
        one.server.sql(&statement).await;
    }
    let position = other.value("@@global.gtid_binlog_pos").await;
    one.wait_for("@@global.gtid_slave_pos", &position).await;
    one.server.sql("STOP SLAVE").await;
    let context = other.context().await;
    let refused = one.try_run("compare", 2, &context).await.unwrap_err();
    assert!(
        refused.contains(&format!("{skipped}, which it wrote itself")),
        "{refused}"
    );
}

/// A replica that comes and leaves at once may leave a session behind that the server does not end, and is then kept
/// away by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_s_session_that_does_not_end_is_ended() {
    const TRIES: u32 = 400;
    const ENDING: &str = "(SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting to finalize termination')";
    let (mut one, mut other) = pair().await;
    // The primary waits for nobody.
    one.run("degrade", 1, &Context::default()).await;
    // A few dozen are enough; a later server may not do that any more.
    for _ in 0..TRIES {
        for statement in ["STOP SLAVE IO_THREAD", "START SLAVE IO_THREAD"] {
            other.server.sql(statement).await;
        }
        if one.value(ENDING).await != "0" {
            sleep(Duration::from_millis(100)).await;
            if one.value(ENDING).await != "0" {
                println!("a session does not end");
                break;
            }
        }
    }
    let ended = async {
        while one.value(ENDING).await != "0" {
            one.observe().await;
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, ended)
        .await
        .expect("the end of the session");
    let context = one.context().await;
    other.plan(&FOLLOW, 1, &context).await;
    one.run("restore", 1, &Context::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_follow_each_other_share_a_domain() {
    let both = |role: &mut crate::config::MysqlRole| role.master_master = true;
    let (one, mut other) = tokio::join!(
        Node::with(1, &[], both),
        Node::with(2, &["--gtid-domain-id=7"], both)
    );
    let one = primary(one).await;
    let context = one.context().await;
    let refused = other.try_run("follow", 1, &context).await.unwrap_err();
    assert!(
        refused.contains("gtid_domain_id is 7 here and 0 at"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_set_up_wrongly_is_not_promoted() {
    let mut one = Node::with(1, &["--gtid-strict-mode=OFF"], |_| {}).await;
    let why = one.observe().await.able.unwrap_err();
    assert!(
        why.contains("gtid_strict_mode is OFF") && why.contains("write `"),
        "{why}"
    );
    let mut two = Node::start(2).await;
    assert_eq!(two.observe().await.able, Ok(()));
}
