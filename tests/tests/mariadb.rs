//! The fixture of database servers: what the tests of roles stand on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    Node, eventually,
    mariadb::{
        Cluster, DATABASE, Durability, Failure, HA, Server, ServerPair, Settings, Storage,
        Topology, WRITER, catch_up,
    },
    processes, scenario,
};

const LIMIT: Duration = Duration::from_secs(30);

/// What a server says to clients while it is read-only.
const READ_ONLY: u16 = 1290;

fn table(server: &Server) -> Result<()> {
    let create = format!("CREATE TABLE {DATABASE}.t (id BIGINT PRIMARY KEY)");
    server.session_of(WRITER)?.ask(&create)?;
    Ok(())
}

fn insert(server: &Server, id: u32) -> Result<(), Failure> {
    let statement = format!("INSERT INTO {DATABASE}.t VALUES ({id})");
    let session = server.session_of(WRITER);
    let mut session = session.map_err(|error| Failure::Unknown(format!("{error:#}")))?;
    session
        .ask_within(Duration::from_secs(3), &statement)
        .map(drop)
}

fn rows(server: &Server) -> Result<String> {
    server.value(&format!(
        "SELECT GROUP_CONCAT(id ORDER BY id) FROM {DATABASE}.t"
    ))
}

fn refused(outcome: &Result<(), Failure>) -> bool {
    matches!(outcome, Err(Failure::Refused { code, .. }) if *code == READ_ONLY)
}

#[test]
fn a_semi_synchronous_pair_acknowledges_what_both_have() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let pair = ServerPair::start(&nodes, Topology::PrimaryReplica, |_| {})?;
        let [first, second] = &pair.servers;
        ensure!(!first.is_writable()? && !second.is_writable()?);
        pair.set_up()?;
        table(first)?;
        insert(first, 1)?;
        ensure!(refused(&insert(second, 2)), "a replica must refuse");
        catch_up(first, second)?;
        ensure!(rows(second)? == "1");

        second.freeze()?;
        let waits = insert(first, 3);
        ensure!(
            matches!(waits, Err(Failure::Unknown(_))),
            "acknowledged without the replica: {waits:?}"
        );
        second.thaw()?;
        eventually(LIMIT, "the replica has it", || Ok(rows(second)? == "1,3"))?;

        // After a crash it is no primary and no replica.
        first.kill()?;
        first.start()?;
        ensure!(!first.is_writable()?);
        ensure!(second.replica_status("Slave_SQL_Running")?.as_deref() == Some("Yes"));
        ensure!(first.replica_status("Slave_SQL_Running")?.is_none());
        Ok(())
    });
}

#[test]
fn an_asynchronous_pair_waits_for_nobody() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let pair = ServerPair::start(&nodes, Topology::PrimaryReplica, |settings| {
            settings.durability = Durability::Async;
            settings.storage = Storage::Memory;
        })?;
        pair.set_up()?;
        table(&pair.servers[0])?;
        pair.servers[1].kill()?;
        insert(&pair.servers[0], 1)?;
        pair.servers[1].start()?;
        ensure!(
            pair.servers[1]
                .replica_status("Slave_IO_Running")?
                .as_deref()
                == Some("No")
        );
        pair.servers[1].sql(&["START SLAVE"])?;
        pair.wait_in_sync(0)?;
        ensure!(rows(&pair.servers[1])? == "1");
        Ok(())
    });
}

#[test]
fn masters_replicate_each_other_and_one_is_written_to() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let pair = ServerPair::start(&nodes, Topology::MasterMaster, |_| {})?;
        pair.set_up()?;
        let [first, second] = &pair.servers;
        table(first)?;
        insert(first, 1)?;
        catch_up(first, second)?;
        ensure!(refused(&insert(second, 2)));
        // The other one's turn.
        first.sql(&["SET GLOBAL read_only = 1"])?;
        second.sql(&["SET GLOBAL read_only = 0"])?;
        insert(second, 2)?;
        catch_up(second, first)?;
        ensure!(rows(first)? == "1,2");
        Ok(())
    });
}

#[test]
fn a_cluster_of_three_replicates_and_survives_one() {
    scenario(|lab| {
        let nodes: Vec<Node> = ["n1", "n2", "n3"]
            .into_iter()
            .map(|name| lab.node(name))
            .collect::<Result<_>>()?;
        let cluster = Cluster::start(&nodes, "", Storage::Memory)?;
        let [first, second, third] = cluster.servers.as_slice() else {
            panic!("three nodes");
        };
        ensure!(!first.is_writable()?);
        first.sql(&["SET GLOBAL read_only = 0"])?;
        table(first)?;
        insert(first, 1)?;
        eventually(LIMIT, "all have it", || {
            Ok(rows(second)? == "1" && rows(third)? == "1")
        })?;
        third.kill()?;
        cluster.wait_for_members(0, 2)?;
        insert(first, 2)?;
        Ok(())
    });
}

#[test]
fn the_daemons_account_can_do_what_roles_need() {
    scenario(|lab| {
        let node = lab.node("n1")?;
        let server = Server::install(&node, &Settings::new(1))?;
        server.start()?;
        let mut session = server.session_of(HA)?;
        for statement in [
            "SET GLOBAL read_only = 0",
            "SET GLOBAL rpl_semi_sync_slave_enabled = 0",
            "SET GLOBAL rpl_semi_sync_master_wait_no_slave = 0",
            "SET GLOBAL rpl_semi_sync_master_enabled = 1",
            "CREATE DATABASE had",
            "STOP SLAVE",
            "RESET SLAVE ALL",
            "FLUSH BINARY LOGS",
            "SHOW ALL SLAVES STATUS",
            "SHOW BINARY LOGS",
            "SELECT ID FROM information_schema.PROCESSLIST",
            "SELECT @@GLOBAL.gtid_binlog_state",
            "SET GLOBAL read_only = 1",
        ] {
            session
                .ask(statement)
                .with_context(|| statement.to_owned())?;
        }
        Ok(())
    });
}

#[test]
fn nothing_of_a_server_is_left_behind() {
    scenario(|lab| {
        let node = lab.node("n1")?;
        let dir = node.dir().to_owned();
        let mut settings = Settings::new(1);
        settings.storage = Storage::Memory;
        let server = Server::install(&node, &settings)?;
        server.start()?;
        ensure!(!processes::naming(&dir)?.is_empty());
        // A node's end is its server's, too.
        drop(node);
        ensure!(processes::naming(&dir)?.is_empty());
        drop(server);
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        ensure!(!mounts.contains(&dir.display().to_string()));
        Ok(())
    });
}
