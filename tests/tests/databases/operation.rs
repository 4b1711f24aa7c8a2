//! What happens around a pair that serves: a configuration that is read again, a hand that meddles, a gateway that is
//! gone, a replica that is too far behind.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Kind, eventually,
    lab::VIP,
    mariadb::{Durability, Lag, Topology, role},
    now, scenario,
    scene::WEB,
    wait::throughout,
};

use super::{
    outages::arbitrated,
    pair::{HEARTBEAT, LIMIT, Pair, other},
};

/// Long enough for what would go wrong at once.
const WATCHED: Duration = Duration::from_secs(3);

fn semi_sync_pair(lab: &ha_tests::Lab) -> Result<Pair> {
    Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)
}

#[test]
fn a_higher_priority_that_is_read_from_the_file_moves_nothing() {
    scenario(|lab| {
        let mut pair = semi_sync_pair(lab)?;
        let primary = pair.settle()?;
        let epoch = pair.roles(primary)?["epoch"].clone();
        // Of the standby a higher one.
        for (index, priority) in [(primary, 120), (other(primary), 150)] {
            let node = &mut pair.nodes[index];
            let path = node.config_path(Kind::Had);
            let before = fs::read_to_string(&path)?;
            let after = before.replace("priority = 100", &format!("priority = {priority}"));
            ensure!(before != after, "{before}");
            fs::write(&path, after)?;
            node.daemon()?.hang_up()?;
            eventually(LIMIT, "the new priority is in use", || {
                Ok(node.instance(WEB)?["priority"] == priority)
            })?;
        }
        let at = now();
        throughout(WATCHED, "nothing moves", || {
            Ok(pair.nodes[primary].has(VIP)? && pair.roles(primary)?["epoch"] == epoch)
        })?;
        pair.served(at, Some(primary))?;
        pair.verify(primary).map(drop)
    });
}

#[test]
fn a_standby_that_somebody_makes_writable_is_put_right() {
    scenario(|lab| {
        let pair = semi_sync_pair(lab)?;
        let primary = pair.settle()?;
        let standby = pair.server(other(primary));
        // What the sampler gets in until then is a write that the primary never had.
        pair.samplers[other(primary)].pause();
        standby.sql(&["SET GLOBAL read_only = 0"])?;
        eventually(LIMIT, "it takes no writes", || Ok(!standby.is_writable()?))?;
        pair.served(now(), Some(primary))?;
        pair.verify(primary).map(drop)
    });
}

#[test]
fn a_gateway_that_neither_node_reaches_moves_nothing() {
    scenario(|lab| {
        let (pair, gateway) = arbitrated(lab)?;
        let primary = pair.settle()?;
        drop(gateway);
        for node in &pair.nodes {
            eventually(LIMIT, "it is missed", || {
                let said = node.events("check")?.join("; ");
                Ok(said.contains("check gateway is down"))
            })?;
        }
        let at = now();
        throughout(WATCHED, "nothing moves", || {
            Ok(pair.nodes[primary].has(VIP)? && pair.roles(primary)?["stance"] == "primary")
        })?;
        pair.served(at, Some(primary))?;
        pair.verify(primary).map(drop)
    });
}

#[test]
fn a_replica_that_cannot_apply_in_time_is_not_promoted_and_loses_nothing() {
    scenario(|lab| {
        const DRAIN_LIMIT: Nanos = Nanos::from_secs(2);
        const BACKLOG: usize = 300;
        let kind = (Topology::PrimaryReplica, Durability::SemiSync);
        let pair = Pair::with(lab, kind.0, kind.1, |_, _| {
            let mut setup = role::Setup::new(HEARTBEAT);
            setup.role_keys = format!("drain_limit = \"{}s\"\n", DRAIN_LIMIT.0 / 1_000_000_000);
            Ok(setup)
        })?;
        let old = pair.settle()?;
        let lag = Lag::begin(pair.server(other(old)))?;
        pair.acknowledged(now(), Some(old), BACKLOG)?;
        let at = now();
        pair.server(old).strike()?;
        let mut last = None;
        eventually(LIMIT, "its promotion is given up", || {
            let said = pair.nodes[other(old)].events("roles")?.join("; ");
            let failed = said.contains("drain: GIVEN UP");
            last = Some(said);
            Ok(failed)
        })
        .with_context(|| format!("{last:?}"))?;
        ensure!(!pair.nodes[other(old)].has(VIP)?);
        drop(lag);
        let primary = pair.served(at, None)?;
        pair.verify(primary).map(drop)
    });
}
