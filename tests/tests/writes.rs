//! The checker of `bench writes` finds what it is there to find: it is shown promotions and servers that are wrong.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Client, Lab, Node, eventually,
    mariadb::{
        Contents, DATABASE, Durability, Findings, Lag, Ledger, Load, Outcome, Sampler, Server,
        ServerPair, Topology, Writers, catch_up, check, overlap, prepare,
    },
    scenario,
};

const LIMIT: Duration = Duration::from_secs(60);

const LOAD: Load = Load {
    clients: 4,
    rate: 400,
    tellers: 2,
};

/// Acknowledged writes that make a lag.
const BACKLOG: usize = 200;

fn pair(lab: &Lab, durability: Durability) -> Result<([Node; 2], ServerPair, Client)> {
    let nodes = [lab.node("n1")?, lab.node("n2")?];
    let client = lab.client("c1")?;
    let pair = ServerPair::start(&nodes, Topology::PrimaryReplica, |settings| {
        settings.durability = durability;
    })?;
    pair.set_up()?;
    prepare(&pair.servers[0])?;
    pair.wait_in_sync(0)?;
    Ok((nodes, pair, client))
}

fn acknowledged(writers: &Writers) -> usize {
    writers.ledger().acknowledged().count()
}

fn wait_for_writes(writers: &Writers, more: usize) -> Result<()> {
    let before = acknowledged(writers);
    eventually(LIMIT, "writes are acknowledged", || {
        Ok(acknowledged(writers) >= before + more)
    })
}

/// Kills a primary whose replica has received what it has not applied, and promotes that one.
fn lagging_promotion(
    promote: impl FnOnce(&Server, Lag) -> Result<()>,
) -> Result<(Ledger, Findings)> {
    let mut outcome = None;
    scenario(|lab| {
        let (_nodes, pair, client) = pair(lab, Durability::SemiSync)?;
        let [first, second] = &pair.servers;
        let writers = Writers::start(client.ns(), first.address(), first, LOAD)?;
        wait_for_writes(&writers, BACKLOG)?;
        let lag = Lag::begin(second)?;
        wait_for_writes(&writers, BACKLOG)?;
        first.kill()?;
        let ledger = writers.stop()?;
        promote(second, lag)?;
        ensure!(second.is_writable()?);
        let findings = check(second, &ledger, 0)?;
        ensure!(ha_tests::mariadb::is_balanced(second)?);
        outcome = Some((ledger, findings));
        Ok(())
    });
    outcome.context("the scenario came to its end")
}

#[test]
fn a_promotion_after_the_drain_loses_nothing() {
    let drained = lagging_promotion(|server, lag| {
        server.sql(&["STOP SLAVE IO_THREAD"])?;
        let position = server
            .replica_status("Gtid_IO_Pos")?
            .context("a position")?;
        drop(lag);
        let wait = format!("SELECT MASTER_GTID_WAIT('{position}', {})", LIMIT.as_secs());
        let rows = server.sql(&[&wait])?;
        ensure!(rows == [[Some("0".to_owned())]], "no drain: {rows:?}");
        server
            .sql(&["STOP SLAVE", "SET GLOBAL read_only = 0"])
            .map(drop)
    });
    let (ledger, findings) = drained.unwrap();
    assert!(findings.is_clean(), "{findings:?}");
    assert!(ledger.count(|outcome| outcome == Outcome::Acknowledged) >= 2 * BACKLOG);
}

#[test]
fn a_promotion_without_the_drain_is_found_out() {
    let lossy = lagging_promotion(|server, lag| {
        // Told to stop while it waits, the thread that applies is held up no longer than that, and goes on with nothing.
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| server.sql(&["STOP SLAVE"]));
            eventually(LIMIT, "the server stops its replication", || {
                let state = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'STOP SLAVE' AND STATE \
                             = 'Killing slave'";
                Ok(server.value(state)? == "1")
            })?;
            drop(lag);
            match stop.join() {
                Ok(stopped) => stopped.map(drop),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })?;
        server.sql(&["SET GLOBAL read_only = 0"]).map(drop)
    });
    let (_, findings) = lossy.unwrap();
    assert!(!findings.lost.is_empty(), "nothing was lost: {findings:?}");
    assert!(findings.twice.is_empty() && findings.nobodys.is_empty());
}

#[test]
fn rows_that_go_come_twice_or_differ_are_found_out() {
    scenario(|lab| {
        let (_nodes, pair, client) = pair(lab, Durability::SemiSync)?;
        let [first, second] = &pair.servers;
        let writers = Writers::start(client.ns(), first.address(), first, LOAD)?;
        wait_for_writes(&writers, 100)?;
        let ledger = writers.stop()?;
        catch_up(first, second)?;
        ensure!(check(first, &ledger, 0)?.is_clean() && check(second, &ledger, 0)?.is_clean());
        ensure!(Contents::of(first)?.is_same(&Contents::of(second)?));

        let mut ids = ledger.acknowledged().map(|write| write.id);
        let (one, other) = (
            ids.next().context("a write")?,
            ids.next().context("a write")?,
        );
        first.sql(&[
            &format!("DELETE FROM {DATABASE}.writes WHERE id = {one}"),
            &format!(
                "INSERT INTO {DATABASE}.writes (id, client, server, at) VALUES ({other}, 0, 1, NOW(6)), \
                 (999999999, 0, 1, NOW(6))"
            ),
        ])?;
        let found = check(first, &ledger, 0)?;
        ensure!(found.lost == [one] && found.twice == [other] && found.nobodys == [999_999_999]);

        catch_up(first, second)?;
        ensure!(Contents::of(first)?.is_same(&Contents::of(second)?));
        second.sql(&[
            "SET SESSION sql_log_bin = 0",
            &format!("UPDATE {DATABASE}.accounts SET balance = balance + 1 WHERE id = 3"),
        ])?;
        let (one, other) = (Contents::of(first)?, Contents::of(second)?);
        ensure!(!one.is_same(&other) && one.balanced && !other.balanced);
        Ok(())
    });
}

#[test]
fn two_servers_that_are_writable_at_once_are_found_out() {
    scenario(|lab| {
        let (_nodes, pair, _client) = pair(lab, Durability::Async)?;
        let [first, second] = &pair.servers;
        Sampler::prepare(first)?;
        catch_up(first, second)?;
        let samplers = [Sampler::start(first)?, Sampler::start(second)?];
        let written = |sampler: &Sampler| {
            let attempts = sampler.take().attempts;
            attempts.iter().filter(|sample| sample.writable).count()
        };
        let mut count = 0;
        eventually(LIMIT, "the primary is written to", || {
            count += written(&samplers[0]);
            Ok(count > 20)
        })?;
        ensure!(written(&samplers[1]) == 0, "a replica was written to");

        drop(samplers[0].take());
        second.sql(&["SET GLOBAL read_only = 0"])?;
        let mut seen = samplers.each_ref().map(Sampler::take);
        eventually(LIMIT, "both are seen to be writable", || {
            for (seen, sampler) in seen.iter_mut().zip(&samplers) {
                let more = sampler.take();
                seen.flags.extend(more.flags);
                seen.attempts.extend(more.attempts);
            }
            let [one, other] = &seen;
            Ok(overlap(&one.flags, &other.flags) > Nanos::ZERO
                && overlap(&one.attempts, &other.attempts) > Nanos::ZERO)
        })
    });
}
