//! Before anything is promoted: what the audit finds, and how a pair begins.

use std::time::Duration;

use ha_common::Nanos;
use ha_core::plan::Context;
use tokio::time::sleep;

use super::pair::{FOLLOW, Held, Node, PASSWORD, PROMOTE, Writer, pair, unplanned};
use crate::{
    roles::mysql::{audit::findings, grants::NEEDED, init_replication},
    sys::clock,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_audited() {
    let good = Node::start(1).await;
    let findings_of = |found: Result<Vec<String>, String>| found.unwrap().join("\n");
    // Of the settings nothing is wrong; of the accounts it is told who writes all the same.
    let found = findings_of(findings(&good.role, false).await);
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
    let found = findings_of(findings(&good.role, false).await);
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
    let found = findings_of(findings(&bad.role, false).await);
    for wrong in [
        "binlog_format is MIXED",
        "sync_binlog is 0",
        "rpl_semi_sync_master_timeout is 10000",
    ] {
        assert!(found.contains(wrong), "{wrong}: {found}");
    }
    let mut gone = bad;
    gone.server.kill();
    findings(&gone.role, false).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_begins_with_an_account_and_an_empty_standby() {
    let (mut one, mut other) = tokio::join!(Node::start(1), Node::start(2));
    one.plan(&PROMOTE, 1, &unplanned()).await;
    for done in ["is made", "was there"] {
        let said = init_replication(&one.role).await.unwrap().join("\n");
        assert!(said.contains(done) && !said.contains(PASSWORD), "{said}");
        assert!(said.contains(&format!("come to {}", one.address)), "{said}");
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
    let source = format!("from {}", one.address);
    let said = init_replication(&other.role).await.unwrap().join("\n");
    assert!(said.contains("already") && said.contains(&source), "{said}");

    // Where the source is not reached, it is told where it was looked for.
    one.server.kill();
    let deadline = clock::now().after(Nanos::from_secs(60));
    loop {
        let said = init_replication(&other.role).await.unwrap().join("\n");
        if said.contains("receives nothing") {
            assert!(
                said.contains(&source) && said.contains("bind_address"),
                "{said}"
            );
            break;
        }
        assert!(clock::now() < deadline, "{said}");
        sleep(Duration::from_millis(50)).await;
    }
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

/// What `had --check` says that is missing, with the statements that give it, and where the server listens.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_lacks_something_is_told_what() {
    let node = Node::with(1, &["--binlog-expire-logs-seconds=86400"], |_| {}).await;
    node.server
        .sql("CREATE USER had@localhost IDENTIFIED BY 'own'")
        .await;
    node.server
        .sql("GRANT PROCESS, RELOAD ON *.* TO had@localhost")
        .await;
    let mut role = node.role.clone();
    role.server = node.server.config_of("had", "own");
    let found = findings(&role, true).await.unwrap();
    let given = |text: &String| Some(text.split_once("fail: GRANT ")?.1.to_owned());
    let statements: Vec<String> = found.iter().filter_map(given).collect();
    assert_eq!(statements.len(), 2, "{found:?}");
    for statement in statements {
        assert!(!statement.contains("PROCESS"), "{statement}");
        node.server.sql(&format!("GRANT {statement}")).await;
    }
    let found = findings(&role, true).await.unwrap().join("\n");
    assert!(!found.contains("lacks"), "{found}");
    assert!(
        found.contains("`binlog_expire_logs_seconds = 0`"),
        "{found}"
    );

    // As root, who may read who else may do what.
    let told = findings(&node.role, true).await.unwrap().join("\n");
    assert!(told.contains("there is no account 'repl'"), "{told}");
    node.server
        .sql("CREATE USER repl@'%' IDENTIFIED BY 'x'")
        .await;
    let told = findings(&node.role, true).await.unwrap().join("\n");
    assert!(told.contains("may not replicate"), "{told}");
    node.server
        .sql("GRANT REPLICATION SLAVE ON *.* TO repl@'%'")
        .await;
    let mut elsewhere = node.role.clone();
    elsewhere.replication_address.set_ip([10, 0, 0, 1].into());
    let told = findings(&elsewhere, true).await.unwrap().join("\n");
    assert!(!told.contains("'repl'"), "{told}");
    assert!(told.contains("bind_address is 127.0.0.1"), "{told}");
}

/// What the documentation says that the account needs is enough for all steps.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_its_own_is_enough() {
    let (mut one, mut other) = pair().await;
    one.server
        .sql("CREATE USER had@localhost IDENTIFIED BY 'own'")
        .await;
    let needed = format!("{} ON *.*", NEEDED.join(", "));
    for grant in [needed.as_str(), "ALL PRIVILEGES ON had.*"] {
        one.server
            .sql(&format!("GRANT {grant} TO had@localhost"))
            .await;
    }
    let state = one.value("@@global.gtid_binlog_state").await;
    other.wait_for("@@global.gtid_binlog_state", &state).await;
    for node in [&mut one, &mut other] {
        node.role.server = node.server.config_of("had", "own");
        node.new_executor();
    }
    let writer = Writer::start(&one, 1);
    writer.more(20).await;
    let context = Context::default();
    one.plan(&["forbid-writes", "end-sessions"], 1, &context)
        .await;
    let end = one.run("settle", 1, &context).await;
    let acknowledged = writer.end().await;
    let context = Context {
        target: end.position.map(|position| position.text),
        solo: true,
        ..Context::default()
    };
    other.plan(&PROMOTE, 2, &context).await;
    let context = other.context().await;
    one.plan(&FOLLOW, 2, &context).await;
    other
        .plan(&["restore", "degrade", "restore"], 2, &Context::default())
        .await;
    assert!(one.observe().await.able.is_ok());
    // A lagging replica that is restarted, as that account.
    let held = Held::hold(&one).await;
    let more = Writer::start(&other, 1_000_000);
    more.more(20).await;
    other.server.kill();
    let more = more.end().await;
    drop(held);
    one.server.kill();
    one.server.restart().await;
    one.new_executor();
    one.plan(&PROMOTE, 3, &unplanned()).await;
    let there = one.ids().await;
    assert!(there.is_superset(&acknowledged) && there.is_superset(&more));
}
