//! Which interface answers for an address, where a node has two in one network.

use std::net::Ipv4Addr;

use anyhow::Result;
use ha_common::MonoNs;

use crate::{
    Client, Frame, Lab, Mac, Node, Payload, capture::Capture, lab::VIP, now, prober::DirectProber,
};

/// A node with a second interface in the network.
pub fn node_with_two(lab: &Lab, name: &str) -> Result<Node> {
    let node = lab.node(name)?;
    node.plug("eth1")?;
    let [.., number] = node.address().octets();
    let address = format!("10.77.0.{}/24", 50 + number);
    node.ns().ip(&["addr", "add", &address, "dev", "eth1"])?;
    for interface in ["all", "eth0", "eth1"] {
        node.ns()
            .sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0")?;
    }
    Ok(node)
}

/// A client that sends echo requests for an address to one station, and asks everybody for the address.
pub struct Asker {
    capture: Capture,
    _prober: DirectProber,
}

impl Asker {
    /// Sends those for the VIP to one of a node's interfaces.
    pub fn new(client: &Client, node: &Node, interface: &str) -> Result<Self> {
        Self::of(VIP, client, node, interface)
    }

    /// The same of another address.
    pub fn of(address: Ipv4Addr, client: &Client, node: &Node, interface: &str) -> Result<Self> {
        let keep = move |frame: &Frame| frame.speaks_for(address);
        Ok(Self {
            capture: Capture::start(client.ns(), "eth0", keep)?,
            _prober: DirectProber::start(client, address, node.mac_of(interface)?)?,
        })
    }

    /// Who said since that it has the address.
    #[must_use]
    pub fn stations(&self, from: MonoNs) -> Vec<Mac> {
        let mut stations: Vec<Mac> = self
            .capture
            .between(from, now())
            .into_iter()
            .filter(|(_, frame)| matches!(frame.payload, Payload::ArpReply { .. }))
            .map(|(_, frame)| frame.source)
            .collect();
        stations.sort_unstable_by_key(|mac| mac.0);
        stations.dedup();
        stations
    }

    /// Whether the address answered since.
    #[must_use]
    pub fn is_served(&self, from: MonoNs) -> bool {
        let is_reply = |frame: &Frame| matches!(frame.payload, Payload::EchoReply { .. });
        let frames = self.capture.between(from, now());
        frames.iter().any(|(_, frame)| is_reply(frame))
    }
}
