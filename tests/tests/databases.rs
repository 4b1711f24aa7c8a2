//! A pair of databases behind one address, promoted and demoted by `had`: nothing that a client saw acknowledged is lost,
//! nothing is written at two servers at once, and who comes back joins by itself.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Client, Kind, Lab, Node, eventually,
    lab::VIP,
    mariadb::{
        Contents, Durability, Lag, Ledger, Load, PORT, Sampler, Server, ServerPair, Topology,
        Writers, catch_up, check, overlap, prepare, role,
    },
    now, scenario,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// Generous for a busy machine; `bench writes` has the times that count.
const HEARTBEAT: Nanos = Nanos::from_millis(30);

const LOAD: Load = Load {
    clients: 4,
    rate: 300,
    tellers: 2,
};

/// Acknowledged writes that are enough to say that there is service.
const SOME: usize = 100;

struct Pair {
    writers: Writers,
    samplers: [Sampler; 2],
    nodes: [Node; 2],
    servers: ServerPair,
    _client: Client,
}

impl Pair {
    /// A pair that serves.
    fn start(lab: &Lab, topology: Topology, durability: Durability) -> Result<Self> {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        let client = lab.client("c1")?;
        let servers = ServerPair::start(&nodes, topology, |settings| {
            settings.durability = durability;
        })?;
        servers.set_up()?;
        prepare(&servers.servers[0])?;
        Sampler::prepare(&servers.servers[0])?;
        servers.wait_in_sync(0)?;
        role::plug(&nodes)?;
        let [first, second] = &nodes;
        let routers = [
            role::router(first, second, &servers.servers[0], HEARTBEAT)?,
            role::router(second, first, &servers.servers[1], HEARTBEAT)?,
        ];
        for (node, router) in nodes.iter_mut().zip(routers) {
            node.start(Kind::Had, &[router])?;
        }
        let address = (VIP, PORT).into();
        let writers = Writers::start(client.ns(), address, &servers.servers[0], LOAD)?;
        let samplers = [
            Sampler::start(&servers.servers[0])?,
            Sampler::start(&servers.servers[1])?,
        ];
        Ok(Self {
            writers,
            samplers,
            nodes,
            servers,
            _client: client,
        })
    }

    fn server(&self, index: usize) -> &Server {
        &self.servers.servers[index]
    }

    /// Waits for writes that were sent at `from` or later, by one server if it is named; returns who acknowledged
    /// the last one.
    fn served(&self, from: MonoNs, by: Option<usize>) -> Result<usize> {
        let wanted = by.map(|index| self.server(index).settings().server_id);
        let mut last = None;
        eventually(LIMIT, "writes are acknowledged", || {
            let ledger = self.writers.ledger();
            let served: Vec<u32> = ledger
                .acknowledged()
                .filter(|write| write.sent >= from)
                .filter_map(|write| write.server)
                .filter(|server| wanted.is_none_or(|wanted| *server == wanted))
                .collect();
            last = served.last().copied();
            Ok(served.len() >= SOME)
        })?;
        let last = last.context("the condition above")?;
        let index = (0..2).find(|index| self.server(*index).settings().server_id == last);
        index.context("a server of the pair")
    }

    /// The primary, once the other one may take over: both daemons have to say so, not only the servers.
    fn settle(&self) -> Result<usize> {
        let primary = self.served(now(), None)?;
        self.servers.wait_in_sync(primary)?;
        let mut last = None;
        eventually(LIMIT, "the standby may be promoted", || {
            let [served, standby] = [self.roles(primary)?, self.roles(other(primary))?];
            let ready = served["stance"] == "primary"
                && served["in_sync"] != false
                && standby["stance"] == "standby"
                && standby["not_eligible"].is_null()
                // The primary has heard of that.
                && served["peers"][0]["stance"] == "standby"
                && served["peers"][0]["not_eligible"].is_null();
            last = Some((served, standby));
            Ok(ready)
        })
        .with_context(|| format!("{last:?}"))?;
        Ok(primary)
    }

    /// What the daemon of a node says of the group.
    fn roles(&self, index: usize) -> Result<Value> {
        let mut report = self.nodes[index].hactl(&["roles"])?;
        Ok(report["groups"][0].take())
    }

    /// What must hold in the end, with `primary` written to and the other one its replica again.
    fn verify(self, primary: usize) -> Result<Ledger> {
        self.servers
            .wait_in_sync(primary)
            .context("the old primary has not come back by itself")?;
        let ledger = self.writers.stop()?;
        self.samplers.iter().for_each(Sampler::pause);
        let servers = [
            &self.servers.servers[primary],
            &self.servers.servers[1 - primary],
        ];
        let mut last = None;
        eventually(LIMIT, "both have the same", || {
            catch_up(servers[0], servers[1])?;
            let [one, other] = [Contents::of(servers[0])?, Contents::of(servers[1])?];
            let same = one.is_same(&other);
            last = Some((one, other));
            Ok(same)
        })
        .with_context(|| format!("{last:?}"))?;
        for server in servers {
            let findings = check(server, &ledger, 0)?;
            ensure!(findings.is_clean(), "{}: {findings:?}", server.name());
        }
        let [one, other] = self.samplers.each_ref().map(Sampler::take);
        let both = overlap(&one.attempts, &other.attempts);
        ensure!(
            both == Nanos::ZERO,
            "both servers acknowledged writes for {both}"
        );
        ensure!(servers[0].is_writable()? && !servers[1].is_writable()?);
        Ok(ledger)
    }
}

/// The one that was not.
fn other(index: usize) -> usize {
    1 - index
}

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
        const HELD: Duration = Duration::from_secs(3);
        let pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let lag = Lag::begin(pair.server(other(old)))?;
        pair.served(now(), Some(old))?;
        let at = now();
        pair.server(old).strike()?;
        // For so long nothing is applied: nobody may serve.
        let early = eventually(HELD, "somebody serves", || {
            let ledger = pair.writers.ledger();
            Ok(ledger.acknowledged().any(|write| write.sent > at))
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
fn a_daemon_that_hangs_is_taken_over_from_and_demotes_its_server_afterwards() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let at = now();
        pair.nodes[old].daemon()?.freeze()?;
        pair.served(at, Some(other(old)))?;
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
