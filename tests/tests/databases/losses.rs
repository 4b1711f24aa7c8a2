//! What can be lost, and only so: an asynchronous pair, a primary that was alone and is gone, and an operator who says
//! that its data may be lost.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::MonoNs;
use ha_tests::{
    Kind, eventually,
    lab::VIP,
    mariadb::{DATABASE, Durability, Ledger, Topology, check, role},
    now, scenario,
    wait::throughout,
};

use super::pair::{LIMIT, Pair, other};

/// Writes that one server alone has.
const SOME: usize = 200;

/// Takes a node off the network and kills its daemon; its server goes on.
fn unplug(pair: &mut Pair, index: usize) -> Result<()> {
    pair.nodes[index].set_port(role::DIRECT, false)?;
    pair.nodes[index].power_off()?;
    pair.nodes[index].kill()
}

fn plug_in(pair: &mut Pair, index: usize) -> Result<()> {
    pair.nodes[index].power_on()?;
    pair.nodes[index].set_port(role::DIRECT, true)?;
    pair.nodes[index].restart(Kind::Had)
}

/// Waits until a node says that it has what the primary has not, and has kept it.
fn refused(pair: &Pair, index: usize) -> Result<String> {
    let mut last = String::new();
    eventually(LIMIT, "the divergence is told", || {
        last = pair.roles(index)?.to_string();
        Ok(last.contains("diverged: the primary never had"))
    })
    .with_context(|| last)?;
    let kept = pair.nodes[index].dir().join("state").join("diverged");
    let mut files = fs::read_dir(&kept).with_context(|| format!("{}", kept.display()))?;
    let file = files.next().context("what it has is kept")??;
    // As a mysqldump, it is text, with rows as comments.
    Ok(String::from_utf8_lossy(&fs::read(file.path())?).into_owned())
}

/// What is not on the primary in the end, of what was acknowledged: those of `old` alone, sent at `from` or later.
fn lost(pair: Pair, primary: usize, from: MonoNs) -> Result<(BTreeSet<u64>, Ledger)> {
    let old = pair.server(other(primary)).settings().server_id;
    let ledger = pair.writers.stop()?;
    let findings = check(&pair.servers.servers[primary], &ledger, 0)?;
    ensure!(
        findings.twice.is_empty()
            && findings.refused_and_there.is_empty()
            && findings.nobodys.is_empty(),
        "{findings:?}"
    );
    let lost: BTreeSet<u64> = findings.lost.into_iter().collect();
    for write in ledger
        .acknowledged()
        .filter(|write| lost.contains(&write.id))
    {
        ensure!(
            write.server == Some(old) && write.sent >= from,
            "lost without need: {write:?}"
        );
    }
    Ok((lost, ledger))
}

#[test]
fn an_asynchronous_pair_hands_over_without_loss() {
    scenario(|lab| {
        let pair = Pair::start(lab, Topology::PrimaryReplica, Durability::Async)?;
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
fn what_an_asynchronous_primary_alone_has_keeps_it_out() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::Async)?;
        let old = pair.settle()?;
        let at = now();
        unplug(&mut pair, old)?;
        pair.served(at, Some(other(old)))?;
        // Its daemon was killed before it could forbid that.
        let aside = format!("CREATE TABLE {DATABASE}.written_aside (id INT)");
        pair.server(old).sql(&[&aside])?;
        plug_in(&mut pair, old)?;
        let kept = refused(&pair, old)?;
        ensure!(kept.contains("written_aside"), "{kept}");
        eventually(LIMIT, "it takes no writes", || {
            Ok(!pair.server(old).is_writable()?)
        })?;
        let handed_over = pair.nodes[other(old)].hactl(&["switchover", role::GROUP]);
        ensure!(handed_over.is_err(), "handed over to a node that diverged");
        pair.served(now(), Some(other(old)))?;
        // Those that were on their way when the cable was cut.
        let (lost, ledger) = lost(pair, other(old), MonoNs(0))?;
        println!("{} of {} lost", lost.len(), ledger.acknowledged().count());
        Ok(())
    });
}

#[test]
fn what_a_primary_wrote_alone_is_given_up_by_an_operator_only() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let standby = other(old);
        let from = now();
        pair.nodes[standby].kill()?;
        pair.server(standby).kill()?;
        eventually(LIMIT, "the primary goes on alone", || {
            Ok(pair.roles(old)?["in_sync"] == false)
        })?;
        let alone = now();
        pair.acknowledged(alone, Some(old), SOME)?;
        unplug(&mut pair, old)?;
        pair.server(old).kill()?;

        pair.server(standby).start()?;
        pair.nodes[standby].restart(Kind::Had)?;
        let mut last = None;
        eventually(
            LIMIT,
            "it says that the other one may have newer data",
            || {
                let said = pair.roles(standby)?;
                let why = said["not_eligible"].as_str().unwrap_or_default().to_owned();
                last = Some(said);
                Ok(!why.is_empty())
            },
        )
        .with_context(|| format!("{last:?}"))?;
        throughout(Duration::from_secs(5), "nobody serves", || {
            Ok(!pair.nodes[standby].has(VIP)? && pair.roles(standby)?["stance"] == "standby")
        })?;

        let at = now();
        pair.nodes[standby].hactl(&["switchover", role::GROUP, "--accept-loss"])?;
        pair.served(at, Some(standby))?;

        pair.server(old).start()?;
        plug_in(&mut pair, old)?;
        refused(&pair, old)?;
        pair.served(now(), Some(standby))?;
        let id = pair.server(old).settings().server_id;
        let (lost, ledger) = lost(pair, standby, from)?;
        let of_it_alone = ledger.acknowledged();
        let mut of_it_alone = of_it_alone
            .filter(|write| write.server == Some(id) && write.sent >= alone)
            .map(|write| write.id);
        ensure!(of_it_alone.all(|write| lost.contains(&write)), "{lost:?}");
        Ok(())
    });
}
