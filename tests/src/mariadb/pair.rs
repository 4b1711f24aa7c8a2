//! Two servers, one of which replicates the other, or each the other.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    accounts::REPLICATION,
    server::Server,
    settings::{Durability, Settings},
};
use crate::{Node, eventually};

/// How long replication may take to get going, and to catch up.
const LIMIT: Duration = Duration::from_secs(60);

/// Who replicates whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// The second one replicates the first.
    PrimaryReplica,
    /// Each replicates the other; only one of them is written to.
    MasterMaster,
}

/// Two servers.
pub struct ServerPair {
    /// The first one is the primary at first.
    pub servers: [Server; 2],
    /// Who replicates whom.
    pub topology: Topology,
}

impl ServerPair {
    /// Makes and starts both; nobody replicates anybody yet, and neither is writable.
    pub fn start(
        nodes: &[Node; 2],
        topology: Topology,
        change: impl Fn(&mut Settings),
    ) -> Result<Self> {
        let install = |index: usize, server_id: u32| {
            let mut settings = Settings::new(server_id);
            if topology == Topology::MasterMaster {
                settings.lines =
                    format!("auto_increment_increment = 2\nauto_increment_offset = {server_id}\n");
            }
            change(&mut settings);
            let node = nodes.get(index).context("a pair has two nodes")?;
            Server::install(node, &settings)
        };
        let servers = [install(0, 1)?, install(1, 2)?];
        thread::scope(|scope| {
            let starts = servers
                .each_ref()
                .map(|server| scope.spawn(|| server.start()));
            starts.into_iter().try_for_each(|start| match start.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        Ok(Self { servers, topology })
    }

    /// Makes the first one the primary and the second one its replica, as their topology says.
    pub fn set_up(&self) -> Result<()> {
        let [first, second] = &self.servers;
        replicate(first, second)?;
        if self.topology == Topology::MasterMaster {
            replicate(second, first)?;
        }
        make_primary(first)?;
        self.wait_in_sync(0)
    }

    /// Waits until the other one than `primary` replicates it, has all of it, and acknowledges what it gets.
    pub fn wait_in_sync(&self, primary: usize) -> Result<()> {
        let (primary, replica) = (
            self.servers.get(primary).context("a pair has two")?,
            self.servers.get(1 - primary).context("a pair has two")?,
        );
        wait_replicating(replica)?;
        if primary.settings().durability == Durability::SemiSync {
            eventually(LIMIT, "the replica acknowledges", || {
                Ok(primary.status("Rpl_semi_sync_master_clients")? == "1"
                    && replica.status("Rpl_semi_sync_slave_status")? == "ON")
            })?;
        }
        catch_up(primary, replica)
    }
}

/// Lets `replica` replicate `primary` from where its own binary log ends, and waits until it does.
pub fn replicate(primary: &Server, replica: &Server) -> Result<()> {
    let password = primary.password(REPLICATION)?;
    let address = primary.address();
    let change = format!(
        "CHANGE MASTER TO MASTER_HOST='{}', MASTER_PORT={}, MASTER_USER='{}', MASTER_PASSWORD='{password}', \
         MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=0.5, MASTER_USE_GTID=slave_pos",
        address.ip(),
        address.port(),
        REPLICATION.user,
    );
    // Not by `sql`, whose errors show the statement.
    let mut session = replica.session()?;
    session.ask(&change).context("CHANGE MASTER")?;
    session.ask("START SLAVE").context("START SLAVE")?;
    wait_replicating(replica)
}

fn wait_replicating(replica: &Server) -> Result<()> {
    let what = format!("{} replicates", replica.name());
    eventually(LIMIT, &what, || {
        let yes = Some("Yes".to_owned());
        let io = replica.replica_status("Slave_IO_Running")?;
        let sql = replica.replica_status("Slave_SQL_Running")?;
        ensure!(
            io == yes && sql == yes,
            "threads: {io:?} {sql:?}; errors: {:?} {:?}",
            replica.replica_status("Last_IO_Error")?,
            replica.replica_status("Last_SQL_Error")?
        );
        Ok(true)
    })
    .with_context(|| replica.log_tail())
}

/// Lets clients write to a server, which replicas must acknowledge if it is semi-synchronous.
pub fn make_primary(server: &Server) -> Result<()> {
    if server.settings().durability == Durability::SemiSync {
        server.sql(&[
            "SET GLOBAL rpl_semi_sync_slave_enabled = 0",
            "SET GLOBAL rpl_semi_sync_master_enabled = 1",
        ])?;
    }
    server.sql(&["SET GLOBAL read_only = 0"]).map(drop)
}

/// Waits until `replica` has all that `primary` has now.
pub fn catch_up(primary: &Server, replica: &Server) -> Result<()> {
    let position = primary.value("SELECT @@GLOBAL.gtid_binlog_pos")?;
    let wait = format!("SELECT MASTER_GTID_WAIT('{position}', {})", LIMIT.as_secs());
    let mut session = replica.session()?;
    let rows = session.ask_within(LIMIT.saturating_mul(2), &wait)?;
    let outcome = rows.into_iter().flatten().next().flatten();
    if outcome.as_deref() == Some("0") {
        return Ok(());
    }
    let threads = session.ask_within(
        LIMIT,
        "SELECT USER, COMMAND, TIME, STATE FROM information_schema.PROCESSLIST",
    )?;
    let received = replica.replica_status("Gtid_IO_Pos")?;
    bail!(
        "{} did not reach {position} of {}: {outcome:?}; it received up to {received:?}; its threads: {threads:?}",
        replica.name(),
        primary.name()
    );
}
