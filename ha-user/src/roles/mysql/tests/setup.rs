//! Before anything is promoted: what the audit finds, and how a pair begins.

use ha_core::plan::Context;

use super::pair::{FOLLOW, Node, PASSWORD, PROMOTE, unplanned};
use crate::roles::mysql::{audit::findings, init_replication};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_audited() {
    let good = Node::start(1).await;
    let findings_of = |found: Result<Vec<String>, String>| found.unwrap().join("\n");
    // Of the settings nothing is wrong; of the accounts it is told who writes all the same.
    let found = findings_of(findings(&good.role).await);
    assert!(!found.contains("write `"), "{found}");
    good.server
        .sql("CREATE USER admin@'%' IDENTIFIED BY 'x'")
        .await;
    good.server
        .sql("GRANT ALL PRIVILEGES ON *.* TO admin@'%'")
        .await;
    good.server
        .sql("CREATE USER app@'%' IDENTIFIED BY 'x'")
        .await;
    let found = findings_of(findings(&good.role).await);
    assert!(found.contains("'admin'@'%' may write while"), "{found}");
    assert!(
        !found.contains("'app'@") && !found.contains("'root'@"),
        "{found}"
    );

    let bad = Node::with(
        2,
        &[
            "--binlog-format=MIXED",
            "--sync-binlog=0",
            "--rpl-semi-sync-master-timeout=10000",
        ],
        |_| {},
    );
    let bad = bad.await;
    let found = findings_of(findings(&bad.role).await);
    for wrong in [
        "binlog_format is MIXED",
        "sync_binlog is 0",
        "rpl_semi_sync_master_timeout is 10000",
    ] {
        assert!(found.contains(wrong), "{wrong}: {found}");
    }
    let mut gone = bad;
    gone.server.kill();
    findings(&gone.role).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_begins_with_an_account_and_an_empty_standby() {
    let (mut one, mut other) = tokio::join!(Node::start(1), Node::start(2));
    one.plan(&PROMOTE, 1, &unplanned()).await;
    for done in ["is made", "was there"] {
        let said = init_replication(&one.role).await.unwrap().join("\n");
        assert!(said.contains(done) && !said.contains(PASSWORD), "{said}");
    }
    one.server.sql("CREATE DATABASE shop").await;
    one.server
        .sql("CREATE TABLE shop.orders (id BIGINT PRIMARY KEY)")
        .await;
    let said = init_replication(&other.role).await.unwrap().join("\n");
    assert!(said.contains("is empty"), "{said}");
    let context = one.context().await;
    other.plan(&FOLLOW, 1, &context).await;
    one.plan(&["restore"], 1, &Context::default()).await;
    let state = one.value("@@global.gtid_binlog_state").await;
    other.wait_for("@@global.gtid_binlog_state", &state).await;
    assert_eq!(other.server.sql("SHOW TABLES FROM shop").await, ["orders"]);
}

/// What somebody loaded there is not mixed with the primary's.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_with_data_of_its_own_is_refused() {
    let (mut one, mut other) = tokio::join!(Node::start(1), Node::start(2));
    one.plan(&PROMOTE, 1, &unplanned()).await;
    other
        .server
        .sql("SET STATEMENT sql_log_bin = 0 FOR CREATE DATABASE precious")
        .await;
    let refused = init_replication(&other.role).await.unwrap_err();
    assert!(refused.contains("precious"), "{refused}");
    let context = one.context().await;
    let refused = other.try_run("compare", 1, &context).await.unwrap_err();
    assert!(refused.contains("precious"), "{refused}");
}
