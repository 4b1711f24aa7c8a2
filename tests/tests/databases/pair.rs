//! A pair of servers with `had` on both nodes, clients that write through the address, and samplers that try to write at
//! each server.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Client, Kind, Lab, Node, eventually,
    lab::VIP,
    mariadb::{
        Contents, Durability, Ledger, Load, PORT, Sampler, Server, ServerPair, Topology, Writers,
        catch_up, check, overlap, prepare, role,
    },
    now, processes,
};
use serde_json::Value;

/// For a thing to happen.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Generous for a busy machine; `bench writes` has the times that count.
pub(super) const HEARTBEAT: Nanos = Nanos::from_millis(30);

const LOAD: Load = Load {
    clients: 4,
    rate: 300,
    tellers: 2,
};

/// Acknowledged writes that are enough to say that there is service.
const SOME: usize = 100;

/// The one that was not.
pub(super) fn other(index: usize) -> usize {
    1 - index
}

/// See the module.
pub(super) struct Pair {
    pub(super) writers: Writers,
    pub(super) samplers: [Sampler; 2],
    pub(super) nodes: [Node; 2],
    pub(super) servers: ServerPair,
    _client: Client,
}

impl Pair {
    /// A pair that serves.
    pub(super) fn start(lab: &Lab, topology: Topology, durability: Durability) -> Result<Self> {
        Self::with(lab, topology, durability, |_, _| {
            Ok(role::Setup::new(HEARTBEAT))
        })
    }

    /// The same, with daemons that are set up otherwise.
    pub(super) fn with(
        lab: &Lab,
        topology: Topology,
        durability: Durability,
        mut setup: impl FnMut(&Node, &Client) -> Result<role::Setup>,
    ) -> Result<Self> {
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
            role::router(first, second, &servers.servers[0], &setup(first, &client)?)?,
            role::router(second, first, &servers.servers[1], &setup(second, &client)?)?,
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

    pub(super) fn server(&self, index: usize) -> &Server {
        &self.servers.servers[index]
    }

    /// Waits until writes that were sent at `from` or later are served, by one server if it is named; returns who
    /// acknowledged the last one.
    pub(super) fn served(&self, from: MonoNs, by: Option<usize>) -> Result<usize> {
        self.acknowledged(from, by, SOME)
    }

    /// The same for so many writes.
    pub(super) fn acknowledged(
        &self,
        from: MonoNs,
        by: Option<usize>,
        count: usize,
    ) -> Result<usize> {
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
            Ok(served.len() >= count)
        })?;
        let last = last.context("the condition above")?;
        let index = (0..2).find(|index| self.server(*index).settings().server_id == last);
        index.context("a server of the pair")
    }

    /// The primary, once the other one may take over: both daemons have to say so, not only the servers.
    pub(super) fn settle(&self) -> Result<usize> {
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

    /// Waits until nobody can write to the server of a node any more, whatever its daemon does.
    pub(super) fn fenced(&self, index: usize) -> Result<()> {
        eventually(LIMIT, "its server takes no writes", || {
            let server = self.server(index);
            // It may be killed between the two questions.
            Ok(server.pid()?.is_none() || server.is_writable().is_ok_and(|writable| !writable))
        })
    }

    /// Waits until no process that fences is left of a node's daemon.
    pub(super) fn nobody_fences(&self, index: usize) -> Result<()> {
        let dir = self.nodes[index].dir();
        eventually(LIMIT, "the process that fences has ended", || {
            let found = processes::naming(dir)?;
            Ok(!found.iter().any(|one| one.command.contains("--fence")))
        })
    }

    /// What the daemon of a node says of the group.
    pub(super) fn roles(&self, index: usize) -> Result<Value> {
        let mut report = self.nodes[index].hactl(&["roles"])?;
        Ok(report["groups"][0].take())
    }

    /// What must hold in the end, with `primary` written to and the other one its replica again.
    pub(super) fn verify(self, primary: usize) -> Result<Ledger> {
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
