//! A pair with its servers, the clients that write, and the samplers that ask both servers directly.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Client, Kind, Lab, Node, eventually,
    lab::VIP,
    mariadb::{PORT, Sampler, ServerPair, Topology, Writers, prepare, role},
    now,
};

use super::{Options, Promoter, baseline};
use crate::pair::INSTANCE;

/// How long the pair may take until it is in sync again.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// How long a server may take that somebody else starts.
const START_LIMIT: Duration = Duration::from_secs(5);

/// Acknowledged writes that follow each other no further apart than that, for [`STEADY`], are a service.
const FLOW: Nanos = Nanos::from_millis(100);
const STEADY: Nanos = Nanos::from_millis(500);

/// See the module.
pub(crate) struct Stage {
    pub(crate) promoter: Promoter,
    pub(crate) writers: Writers,
    pub(crate) samplers: [Sampler; 2],
    pub(crate) nodes: [Node; 2],
    pub(crate) servers: ServerPair,
    _client: Client,
    // Last: it goes when the nodes are gone.
    lab: Lab,
}

impl Stage {
    /// Builds everything; the clients pause.
    pub(crate) fn start(promoter: Promoter, options: &Options) -> Result<Self> {
        eprintln!(
            "starting two nodes with {} and MariaDB ...",
            promoter.name()
        );
        let lab = Lab::new()?;
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        let client = lab.client("c1")?;
        let servers = ServerPair::start(&nodes, Topology::PrimaryReplica, |settings| {
            settings.durability = options.durability;
            settings.storage = options.storage;
            // A replica with one thread does not keep up with many clients on a disk.
            settings
                .lines
                .push_str("slave_parallel_threads = 8\nslave_parallel_mode = optimistic\n");
        })?;
        servers.set_up()?;
        prepare(&servers.servers[0])?;
        Sampler::prepare(&servers.servers[0])?;
        servers.wait_in_sync(0)?;
        let [first, second] = &nodes;
        let (kind, routers) = match promoter {
            Promoter::Keepalived => (
                Kind::Keepalived,
                [
                    baseline::router(first, second, &servers.servers[0])?,
                    baseline::router(second, first, &servers.servers[1])?,
                ],
            ),
            Promoter::Had => {
                role::plug(&nodes)?;
                let setup = role::Setup::new(options.heartbeat);
                (
                    Kind::Had,
                    [
                        role::router(first, second, &servers.servers[0], &setup)?,
                        role::router(second, first, &servers.servers[1], &setup)?,
                    ],
                )
            }
        };
        for (index, (node, router)) in nodes.iter_mut().zip(routers).enumerate() {
            node.start(kind, &[router])?;
            if index == 0 && promoter == Promoter::Keepalived {
                eventually(SETTLE_LIMIT, "the first node has the VIP", || node.has(VIP))
                    .with_context(|| lab.log_tails())?;
            }
        }
        eventually(SETTLE_LIMIT, "a node has the VIP", || {
            Ok(nodes[0].has(VIP)? || nodes[1].has(VIP)?)
        })
        .with_context(|| lab.log_tails())?;
        let address = (VIP, PORT).into();
        let writers = Writers::start(client.ns(), address, &servers.servers[0], options.load)?;
        writers.pause()?;
        let samplers = [
            Sampler::start(&servers.servers[0])?,
            Sampler::start(&servers.servers[1])?,
        ];
        Ok(Self {
            promoter,
            writers,
            samplers,
            nodes,
            servers,
            _client: client,
            lab,
        })
    }

    /// Lets the clients write, and waits until one server acknowledges all the time and the other one has it all;
    /// returns the first one's index. Forgets what was seen before.
    pub(crate) fn settle(&self) -> Result<usize> {
        drop(self.writers.take_ledger());
        self.writers.resume();
        self.wait_for_flow(now(), SETTLE_LIMIT)?;
        let ledger = self.writers.ledger();
        let server = ledger
            .acknowledged()
            .next_back()
            .and_then(|write| write.server);
        let primary = self.index_of(server.context("a write was acknowledged")?)?;
        self.servers.wait_in_sync(primary)?;
        for sampler in &self.samplers {
            sampler.resume();
            drop(sampler.take());
        }
        Ok(primary)
    }

    /// Waits until writes that were sent after `from` have been acknowledged all the time for a while.
    pub(crate) fn wait_for_flow(&self, from: MonoNs, limit: Duration) -> Result<()> {
        let mut since = None;
        eventually(limit, "the clients' writes are acknowledged", || {
            let last = self.writers.last_acknowledged();
            if last < from || now().since(last) > FLOW {
                since = None;
                return Ok(false);
            }
            Ok(now().since(*since.get_or_insert(last)) > STEADY)
        })
    }

    /// The index of the server with this number.
    pub(crate) fn index_of(&self, server_id: u32) -> Result<usize> {
        let index = usize::try_from(server_id)?.checked_sub(1);
        let index = index.filter(|index| *index < 2);
        index.with_context(|| format!("there is no server {server_id}"))
    }

    /// An operator hands over from a node.
    pub(crate) fn hand_over(&mut self, old: usize) -> Result<()> {
        match self.promoter {
            Promoter::Keepalived => self.nodes[old].hand_over(INSTANCE),
            Promoter::Had => self.nodes[old]
                .hactl(&["switchover", role::GROUP])
                .map(drop),
        }
    }

    /// A server runs again: by the daemon, or as systemd would start it.
    pub(crate) fn boot_server(&self, index: usize) -> Result<()> {
        let server = &self.servers.servers[index];
        let started = eventually(START_LIMIT, "somebody starts the server", || {
            ensure!(self.promoter == Promoter::Had, "nobody does");
            Ok(server.pid()?.is_some())
        });
        match (started, self.promoter) {
            (Ok(()), _) => server.wait_until_it_serves(),
            (Err(_), _) => server.start(),
        }
    }

    pub(crate) const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The ends of all logs.
    pub(crate) fn log_tails(&self) -> String {
        let mut text = self.lab.log_tails();
        for server in &self.servers.servers {
            text.push_str(&format!(
                "--- end of the log of {}'s server:\n{}\n",
                server.name(),
                server.log_tail()
            ));
        }
        text
    }
}
