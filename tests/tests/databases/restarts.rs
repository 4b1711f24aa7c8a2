//! Servers that come back by their own recovery, which takes back what they had not yet on disk.

use anyhow::{Result, ensure};
use ha_tests::{
    Kind, eventually,
    mariadb::{Durability, Lag, Topology},
    now, scenario,
};

use super::pair::{LIMIT, Pair, other};

/// Acknowledged, and not applied by the replica.
const BACKLOG: usize = 300;

fn strike_both(pair: &Pair) -> Result<()> {
    for index in [0, 1] {
        pair.server(index).strike()?;
    }
    Ok(())
}

#[test]
fn both_servers_are_killed_at_once() {
    scenario(|lab| {
        let pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        pair.settle()?;
        let at = now();
        strike_both(&pair)?;
        let primary = pair.served(at, None)?;
        pair.verify(primary).map(drop)
    });
}

/// What the replica has received lies in its files alone: the primary takes back what it had not yet on disk.
#[test]
fn both_servers_are_killed_while_the_replica_lags() {
    scenario(|lab| {
        let pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let lag = Lag::begin(pair.server(other(old)))?;
        pair.acknowledged(now(), Some(old), BACKLOG)?;
        let at = now();
        strike_both(&pair)?;
        drop(lag);
        let primary = pair.served(at, None)?;
        pair.verify(primary).map(drop)
    });
}

/// Nobody else has what it acknowledged alone.
#[test]
fn a_primary_that_was_alone_comes_back_with_all_that_it_acknowledged() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        pair.nodes[other(old)].kill()?;
        pair.server(other(old)).kill()?;
        eventually(LIMIT, "the primary goes on alone", || {
            Ok(pair.roles(old)?["in_sync"] == false)
        })?;
        for _ in 0..3 {
            pair.acknowledged(now(), Some(old), BACKLOG)?;
            let at = now();
            pair.server(old).strike()?;
            pair.served(at, Some(old))?;
        }
        pair.server(other(old)).start()?;
        pair.nodes[other(old)].restart(Kind::Had)?;
        ensure!(pair.settle()? == old);
        pair.verify(old).map(drop)
    });
}
