//! A pair of databases behind one address, promoted and demoted by `had`: nothing that a client saw acknowledged is lost,
//! nothing is written at two servers at once, and who comes back joins by itself.

#[path = "databases/binlogs.rs"]
mod binlogs;
#[path = "databases/losses.rs"]
mod losses;
#[path = "databases/operation.rs"]
mod operation;
#[path = "databases/outages.rs"]
mod outages;
#[path = "databases/pair.rs"]
mod pair;
#[path = "databases/restarts.rs"]
mod restarts;
#[path = "databases/secrets.rs"]
mod secrets;

use std::time::Duration;

use anyhow::ensure;
use ha_tests::{
    Kind, eventually,
    lab::VIP,
    mariadb::{Durability, Lag, Topology, role},
    now, scenario,
};

use self::pair::{Pair, other};

#[test]
fn a_killed_server_is_taken_over_from_and_comes_back_as_a_replica() {
    scenario(|lab| {
        let pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let at = now();
        pair.server(old).strike()?;
        pair.served(at, Some(other(old)))?;
        let ledger = pair.verify(other(old))?;
        ensure!(ledger.acknowledged_by_the_former() == 0);
        Ok(())
    });
}

#[test]
fn a_replica_that_lags_applies_everything_before_the_address_is_served() {
    scenario(|lab| {
        const HELD: Duration = Duration::from_secs(5);
        const BACKLOG: usize = 1_000;
        let pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let lag = Lag::begin(pair.server(other(old)))?;
        let from = now();
        pair.acknowledged(from, Some(old), BACKLOG)?;
        let at = now();
        pair.server(old).strike()?;
        // For so long nothing is applied: nobody may serve. The server that is killed may have answered a moment ago.
        let killed = pair.server(old).settings().server_id;
        let early = eventually(HELD, "somebody serves", || {
            let ledger = pair.writers.ledger();
            let mut acknowledged = ledger.acknowledged();
            Ok(acknowledged.any(|write| write.sent > at && write.server != Some(killed)))
        });
        ensure!(early.is_err(), "served before the drain");
        ensure!(!pair.nodes[other(old)].has(VIP)?);
        drop(lag);
        pair.served(at, Some(other(old)))?;
        pair.verify(other(old)).map(drop)
    });
}

#[test]
fn an_operator_hands_over_and_back() {
    scenario(|lab| {
        let pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let first = pair.settle()?;
        for old in [first, other(first)] {
            let at = now();
            pair.nodes[old].hactl(&["switchover", role::GROUP])?;
            pair.served(at, Some(other(old)))?;
            ensure!(pair.settle()? == other(old));
        }
        pair.verify(first).map(drop)
    });
}

#[test]
fn a_node_without_power_is_taken_over_from_and_returns_as_a_replica() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let at = now();
        pair.nodes[old].set_port(role::DIRECT, false)?;
        pair.nodes[old].power_off()?;
        pair.nodes[old].kill()?;
        pair.server(old).kill()?;
        pair.served(at, Some(other(old)))?;
        pair.nodes[old].power_on()?;
        pair.nodes[old].set_port(role::DIRECT, true)?;
        pair.server(old).start()?;
        pair.nodes[old].restart(Kind::Had)?;
        pair.verify(other(old)).map(drop)
    });
}

#[test]
fn a_daemon_that_hangs_is_taken_over_from_and_its_server_is_fenced_meanwhile() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let at = now();
        pair.nodes[old].daemon()?.hang()?;
        pair.served(at, Some(other(old)))?;
        pair.fenced(old)?;
        pair.nodes[old].daemon()?.thaw()?;
        pair.verify(other(old)).map(drop)
    });
}

#[test]
fn of_two_masters_one_is_written_to_and_the_other_takes_over() {
    scenario(|lab| {
        let pair = Pair::start(lab, Topology::MasterMaster, Durability::SemiSync)?;
        let old = pair.settle()?;
        let at = now();
        pair.server(old).strike()?;
        pair.served(at, Some(other(old)))?;
        pair.verify(other(old)).map(drop)
    });
}
