//! A cluster that serves, and those who watch it.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_core::data::galera::RECOMMENDED;
use ha_tests::{
    Client, Kind, Lab, Node, eventually,
    lab::VIP,
    mariadb::{
        Cluster, Contents, Ledger, Load, PORT, Sample, Sampler, Server, Storage, Writers, check,
        galera::GaleraRole, overlap, prepare,
    },
    now,
};
use serde_json::Value;

/// How long before the end of a cluster its last writes are acknowledged.
const LAST: Nanos = Nanos::from_millis(100);

pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// Generous for a busy machine.
const HEARTBEAT: Nanos = Nanos::from_millis(50);

const LOAD: Load = Load {
    clients: 4,
    rate: 300,
    tellers: 2,
};

/// A server that is away for longer does not come back by itself.
const AWAY: Nanos = Nanos::from_secs(10);

/// Acknowledged writes that are enough to say that there is service.
const SOME: usize = 50;

/// Nodes with `had`, the cluster, clients that write through the virtual address, and a gateway.
pub(crate) struct Stage {
    pub(crate) writers: Writers,
    samplers: Vec<Sampler>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) cluster: Cluster,
    _clients: [Client; 2],
}

impl Stage {
    /// A cluster of so many nodes that serves.
    pub(crate) fn start(lab: &Lab, names: &[&str], bootstrap: &'static str) -> Result<Self> {
        let mut nodes: Vec<Node> = names
            .iter()
            .map(|name| lab.node(name))
            .collect::<Result<_>>()?;
        let clients = [lab.client("c1")?, lab.client("gw")?];
        let cluster = Cluster::start(&nodes, RECOMMENDED, Storage::Memory)?;
        let first = cluster.servers.first().context("a node")?;
        first.sql(&["SET GLOBAL read_only = 0"])?;
        prepare(first)?;
        Sampler::prepare(first)?;
        first.sql(&["SET GLOBAL read_only = 1"])?;
        let role = GaleraRole {
            gateway: clients[1].address(),
            bootstrap,
            heartbeat: HEARTBEAT,
        };
        let addresses: Vec<Ipv4Addr> = nodes.iter().map(Node::address).collect();
        for (node, server) in nodes.iter_mut().zip(&cluster.servers) {
            let mut peers = addresses.clone();
            peers.retain(|peer| *peer != node.address());
            let router = role.router(node, &peers, server)?;
            node.start(Kind::Had, &[router])?;
        }
        let writers = Writers::start(clients[0].ns(), (VIP, PORT).into(), first, LOAD)?;
        let samplers = cluster.servers.iter().map(Sampler::start);
        Ok(Self {
            samplers: samplers.collect::<Result<_>>()?,
            writers,
            nodes,
            cluster,
            _clients: clients,
        })
    }

    pub(crate) fn server(&self, index: usize) -> &Server {
        &self.cluster.servers[index]
    }

    /// Waits for writes that were sent at `from` or later, by one server if it is named; returns who acknowledged the
    /// last one.
    pub(crate) fn served(&self, from: MonoNs, by: Option<usize>) -> Result<usize> {
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
        })
        .with_context(|| self.said())?;
        let mut servers = self.cluster.servers.iter();
        let index = servers.position(|server| Some(server.settings().server_id) == last);
        index.context("a server of the cluster")
    }

    /// What the daemons and their servers say, for a failure.
    pub(crate) fn said(&self) -> String {
        let of = |(node, server): (&Node, &Server)| {
            let roles = node.hactl(&["roles"]).map(|value| value.to_string());
            let roles = roles.unwrap_or_else(|error| format!("{error:#}"));
            format!("{}: {roles}\n{}\n", node.name(), server.log_tail())
        };
        let both = self.nodes.iter().zip(&self.cluster.servers);
        both.map(of).collect()
    }

    /// What the daemon of a node says of the group.
    pub(crate) fn roles(&self, index: usize) -> Result<Value> {
        let mut report = self.nodes[index].hactl(&["roles"])?;
        Ok(report["groups"][0].take())
    }

    /// Waits until all nodes are in the cluster. One that loses it while it is given what it lacks has left it for good:
    /// its server is started again then, as the documentation says.
    fn become_whole(&self, primary: usize) -> Result<()> {
        let mut left_at = vec![None; self.nodes.len()];
        eventually(2 * LIMIT, "all nodes are in the cluster", || {
            for (server, left_at) in self.cluster.servers.iter().zip(&mut left_at) {
                if server.status("wsrep_cluster_status").ok().as_deref() != Some("Disconnected") {
                    *left_at = None;
                } else if now().since(*left_at.get_or_insert_with(now)) > AWAY {
                    println!("{} has left its cluster for good", server.name());
                    server.kill()?;
                    server.launch(&[])?;
                    *left_at = None;
                }
            }
            Ok(self.size(primary)? == u32::try_from(self.nodes.len()).ok())
        })
        .with_context(|| self.said())
    }

    /// The primary, once the whole cluster is there and every other node may take over.
    pub(crate) fn settle(&self) -> Result<usize> {
        let primary = self.served(now(), None)?;
        self.become_whole(primary)?;
        let others = (0..self.nodes.len()).filter(|index| *index != primary);
        eventually(LIMIT, "every other node may be promoted", || {
            for index in others.clone() {
                let roles = self.roles(index)?;
                if roles["stance"] != "standby" || !roles["not_eligible"].is_null() {
                    return Ok(false);
                }
            }
            Ok(self.roles(primary)?["stance"] == "primary")
        })
        .with_context(|| self.said())?;
        Ok(primary)
    }

    /// Starts a server as systemd does that has ended, and waits until the cluster is whole again.
    pub(crate) fn revive(&mut self, index: usize) -> Result<()> {
        if self.server(index).pid()?.is_none() {
            self.server(index).launch(&[])?;
        }
        self.cluster.wait_for_members(index, self.nodes.len())
    }

    /// In how many clusters a node counts itself, if it is in one that commits.
    pub(crate) fn size(&self, index: usize) -> Result<Option<u32>> {
        let server = self.server(index);
        // One that is killed answers only when it has found the others, and may be killed between two questions.
        let asked = ["wsrep_cluster_status", "wsrep_cluster_size"].map(|name| server.status(name));
        let [Ok(status), Ok(size)] = asked else {
            return Ok(None);
        };
        Ok((status == "Primary").then_some(size.parse()?))
    }

    /// What must hold in the end: the cluster is whole, nothing acknowledged is lost or there twice, and never were two
    /// servers written to at once.
    pub(crate) fn verify(self) -> Result<Ledger> {
        self.verify_but_for(&[])
    }

    /// The same, but for these times, in order, in which two servers may have been written to directly: by who goes past
    /// the gate, until the one of a daemon that was killed is fenced. The cluster itself keeps what both acknowledge.
    pub(crate) fn verify_but_for(self, unfenced: &[(MonoNs, MonoNs)]) -> Result<Ledger> {
        self.verify_with(unfenced, None)
    }

    /// The same, where the last server died between these times and its cluster with it: its very last writes may be lost,
    /// as the documentation says.
    pub(crate) fn verify_where_all_died(self, died: (MonoNs, MonoNs)) -> Result<Ledger> {
        self.verify_with(&[], Some(died))
    }

    fn verify_with(
        self,
        unfenced: &[(MonoNs, MonoNs)],
        all_died: Option<(MonoNs, MonoNs)>,
    ) -> Result<Ledger> {
        let primary = self.settle()?;
        let ledger = self.writers.stop()?;
        self.samplers.iter().for_each(Sampler::pause);
        let mut last = None;
        eventually(LIMIT, "all have the same", || {
            let contents: Vec<Contents> = self
                .cluster
                .servers
                .iter()
                .map(Contents::of)
                .collect::<Result<_>>()?;
            let mut all = contents.iter();
            let same = all.all(|one| one.has_same_rows(&contents[primary]));
            last = Some(contents);
            Ok(same)
        })
        .with_context(|| format!("{last:?}"))?;
        for server in &self.cluster.servers {
            let mut found = check(server, &ledger, 0)?;
            if let Some((from, to)) = all_died {
                let last = |id: &u64| {
                    let mut writes = ledger.acknowledged();
                    writes
                        .any(|one| one.id == *id && one.sent <= to && one.done.after(LAST) >= from)
                };
                found.lost.retain(|id| !last(id));
            }
            // A write whose commit came to an error while the cluster formed anew may be there.
            let clean = found.lost.is_empty() && found.twice.is_empty() && found.nobodys.is_empty();
            ensure!(clean, "{}: {found:?}", server.name());
        }
        let seen: Vec<_> = self.samplers.iter().map(Sampler::take).collect();
        for (index, one) in seen.iter().enumerate() {
            for other in &seen[..index] {
                for (from, to) in between(unfenced) {
                    let [one, other] = [one, other].map(|seen| within(&seen.attempts, from, to));
                    let both = overlap(&one, &other);
                    ensure!(
                        both == Nanos::ZERO,
                        "two servers acknowledged writes for {both} between {from:?} and {to:?}, but for {unfenced:?}"
                    );
                }
            }
        }
        Ok(ledger)
    }
}

/// The times before, between and after these.
fn between(times: &[(MonoNs, MonoNs)]) -> impl Iterator<Item = (MonoNs, MonoNs)> {
    let begins = [MonoNs::ZERO].into_iter();
    let begins = begins.chain(times.iter().map(|(_, end)| *end));
    let ends = times.iter().map(|(begin, _)| *begin);
    begins.zip(ends.chain([MonoNs(u64::MAX)]))
}

fn within(samples: &[Sample], from: MonoNs, to: MonoNs) -> Vec<Sample> {
    let inside = |sample: &&Sample| from <= sample.sent && sample.done <= to;
    samples.iter().filter(inside).copied().collect()
}
