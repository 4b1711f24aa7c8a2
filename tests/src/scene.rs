//! Two `had` nodes, a client that probes, and an observer on each node's cable: where most scenarios start.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};

use crate::{
    Client, Kind, Lab, Node, Prober, Probes, Sniffer, VirtualRouter, eventually, lab::VIP,
    node::PATIENCE, now, wait::throughout,
};

/// Name of the instance of [`VirtualRouter::new`].
pub const WEB: &str = "web";

/// Its VRID.
pub const VRID: u8 = 51;

/// Between two adverts in functional tests, in milliseconds: comfortable on a busy machine.
pub const INTERVAL_MS: u32 = 50;

/// The same.
pub const INTERVAL: Nanos = Nanos::from_millis(INTERVAL_MS as u64);

/// How recent an answer must be to count as "is served".
const RECENTLY: Nanos = Nanos::from_millis(50);

/// The first node is Active, the second is Backup.
pub struct Scene {
    /// The nodes.
    pub nodes: [Node; 2],
    /// What leaves them.
    pub sniffers: [Sniffer; 2],
    /// Who asks for the VIP.
    pub client: Client,
    /// How it asks.
    pub prober: Prober,
}

impl Scene {
    /// Starts both nodes with unicast peers, each router changed by `shape`.
    pub fn new(lab: &Lab, shape: impl Fn(VirtualRouter) -> VirtualRouter) -> Result<Self> {
        Self::of(lab, [lab.node("n1")?, lab.node("n2")?], shape)
    }

    /// The same, with nodes that were prepared for it.
    pub fn of(
        lab: &Lab,
        nodes: [Node; 2],
        shape: impl Fn(VirtualRouter) -> VirtualRouter,
    ) -> Result<Self> {
        Self::with(nodes, lab.client("c1")?, shape)
    }

    /// The same, with a client that was prepared for it as well.
    pub fn with(
        mut nodes: [Node; 2],
        client: Client,
        shape: impl Fn(VirtualRouter) -> VirtualRouter,
    ) -> Result<Self> {
        let sniffers = [nodes[0].sniff(VIP)?, nodes[1].sniff(VIP)?];
        let prober = Prober::start(&client, VIP, Probes::EchoAndArp)?;
        let addresses = [nodes[0].address(), nodes[1].address()];
        for (index, state) in ["active", "backup"].into_iter().enumerate() {
            let node = &mut nodes[index];
            let router = node.router().interval_ms(INTERVAL_MS);
            let router = shape(router.peers(&[addresses[1 - index]]));
            node.start(Kind::Had, &[router])?;
            node.wait_for(WEB, state)?;
        }
        // A Backup that has heard nobody yet has nobody to take over from.
        nodes[1].wait_for_active_peer(WEB, addresses[0])?;
        let scene = Self {
            nodes,
            sniffers,
            client,
            prober,
        };
        scene.wait_served_by(0)?;
        Ok(scene)
    }

    /// Waits until the client gets its answers from a node.
    pub fn wait_served_by(&self, index: usize) -> Result<()> {
        let node = &self.nodes[index];
        let what = format!("the client is served by {}", node.name());
        eventually(PATIENCE, &what, || {
            Ok(self.prober.answered_within(RECENTLY) == Some(node.mac()))
        })
    }

    /// Waits until the client gets no answer.
    pub fn wait_unserved(&self) -> Result<()> {
        eventually(PATIENCE, "nobody serves the client", || {
            Ok(self.prober.answered_within(RECENTLY).is_none())
        })
    }

    /// Checks that for `span` a node is Active, the other one Backup, and the client served.
    pub fn stays(&self, active: usize, span: Duration) -> Result<()> {
        self.wait_served_by(active)?;
        self.nodes[1 - active].wait_for(WEB, "backup")?;
        let from = now();
        let what = format!("{} stays Active", self.nodes[active].name());
        throughout(span, &what, || {
            Ok(self.nodes[active].state(WEB)? == "active"
                && self.nodes[1 - active].state(WEB)? == "backup")
        })?;
        ensure!(!self.nodes[1 - active].has(VIP)?, "the Backup has the VIP");
        let gap = self.prober.longest_gap(from, now())?;
        ensure!(
            gap.length() < Nanos::from_millis(500),
            "the client waited {}",
            gap.length()
        );
        let stranger = self.sniffers[1 - active].spoken(from, now());
        ensure!(
            stranger.is_empty(),
            "the Backup spoke for the VIP: {:?}",
            stranger.first()
        );
        Ok(())
    }

    /// When the gate of a node closes that sent its last advert before `end`.
    pub fn gate_deadline(&self, index: usize, end: MonoNs) -> Result<MonoNs> {
        let (last, _) = self.sniffers[index]
            .last_advert_before(VRID, end)
            .context("the node sent no advert")?;
        Ok(last.after(INTERVAL.times(3)))
    }

    /// Checks that the first node fell silent before the second one spoke, since `from`.
    pub fn one_after_the_other(&self, from: MonoNs) -> Result<()> {
        let last = self.sniffers[0]
            .spoken(from, now())
            .last()
            .map(|(at, _)| *at);
        let first = self.sniffers[1]
            .spoken(from, now())
            .first()
            .map(|(at, _)| *at);
        let first = first.context("the second node does not speak")?;
        if let Some(last) = last {
            ensure!(last < first, "both spoke, for {}", last.since(first));
        }
        Ok(())
    }
}
