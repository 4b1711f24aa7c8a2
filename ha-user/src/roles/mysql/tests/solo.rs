//! A primary without a replica dies, and starts as a replica: nobody else has its last writes.

use std::collections::BTreeSet;

use ha_core::plan::Context;

use super::pair::{FOLLOW, Node, PROMOTE, Writer, pair, primary, unplanned};

const CLIENTS: u64 = 4;
/// Rows for each client, and round.
const ROOM: u64 = 1_000_000;
const FLUSH: &str = "@@global.innodb_flush_log_at_trx_commit";

/// Kills a server that several write to, and has it started as a replica, some times.
async fn dies_under_load(mut one: Node, rounds: u64) {
    for round in 0..rounds {
        let clients = 0..CLIENTS;
        let writers: Vec<Writer> = clients
            .map(|client| Writer::start(&one, (round * CLIENTS + client) * ROOM))
            .collect();
        for writer in &writers {
            writer.more(50 + round * 7).await;
        }
        one.kill_server();
        let mut acknowledged = BTreeSet::new();
        for writer in writers {
            acknowledged.extend(writer.end().await);
        }
        one.new_executor();
        one.run("start-as-replica", 1, &Context::default()).await;
        let there = one.ids().await;
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} are lost");
        one.plan(&PROMOTE, round + 2, &unplanned()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_promoted_alone_keeps_what_it_acknowledged() {
    dies_under_load(primary(Node::start(1).await).await, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_on_alone_keeps_what_it_acknowledged() {
    let (mut one, mut other) = pair().await;
    // With a replica that has everything nobody waits for that.
    assert_eq!(one.value(FLUSH).await, "1");
    other.server.kill();
    one.run("degrade", 1, &Context::default()).await;
    assert_eq!(one.value(FLUSH).await, "3");
    dies_under_load(one, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_commits_were_flushed_is_put_back_once_a_replica_has_them() {
    let (mut one, mut other) = pair().await;
    one.server
        .sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        .await;
    let nothing = Context::default();
    one.plan(&["degrade"], 1, &nothing).await;
    assert_eq!(one.value(FLUSH).await, "3");
    let context = one.context().await;
    other.plan(&FOLLOW, 1, &context).await;
    one.plan(&["restore"], 1, &nothing).await;
    assert_eq!(one.value(FLUSH).await, "2");
    // A daemon that does not know how it was.
    one.server
        .sql("SET GLOBAL innodb_flush_log_at_trx_commit = 3")
        .await;
    one.new_executor();
    one.plan(&["restore"], 1, &nothing).await;
    assert_eq!(one.value(FLUSH).await, "1");
}
