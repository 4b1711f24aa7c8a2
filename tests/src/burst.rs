//! Heartbeats that the switch loses, a known number of them in a row.

use anyhow::{Context as _, Result};
use ha_common::{
    lease,
    wire::{bfd, echo::Kind},
};
use serde_json::Value;

use crate::Node;

/// Heartbeats of a kind, over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeats {
    /// VRRP adverts.
    Adverts,
    /// BFD's packets.
    Bfd,
    /// Echoes, which ask for leases.
    Echoes,
    /// What the kernel answers to them.
    Answers,
}

impl Heartbeats {
    /// As nft(8) writes it.
    fn expression(self) -> String {
        // Behind the UDP header and the first three bytes of the payload.
        let kind = |kind: Kind| format!("udp dport {} @th,88,8 {}", lease::PORT, kind as u8);
        match self {
            Self::Adverts => "ip protocol 112".to_owned(),
            Self::Bfd => format!("udp dport {}", bfd::PORT),
            Self::Echoes => kind(Kind::Echo),
            Self::Answers => kind(Kind::Answer),
        }
    }
}

/// A loss of heartbeats that one node sends by one interface; dropped, all of them pass again.
pub struct Bursts<'n> {
    node: &'n Node,
    handle: u64,
}

impl<'n> Bursts<'n> {
    /// From now on, of each `of` heartbeats the first `lost` do not pass.
    pub fn new(
        node: &'n Node,
        interface: &str,
        heartbeats: Heartbeats,
        (lost, of): (u32, u32),
    ) -> Result<Self> {
        let rule = format!(
            "add rule bridge lab wire iifname \"{}\" {} numgen inc mod {of} < {lost} counter drop",
            node.port(interface),
            heartbeats.expression()
        );
        let added = node.switch_ns().run("nft", &["-j", "-e", "-a", &rule])?;
        let added: Value = serde_json::from_str(&added)?;
        let mut answers = added["nftables"].as_array().into_iter().flatten();
        let handle = answers.find_map(|one| one["add"]["rule"]["handle"].as_u64());
        let handle = handle.with_context(|| format!("nft names no handle: {added}"))?;
        Ok(Self { node, handle })
    }

    /// How many have been lost until now.
    pub fn lost(&self) -> Result<u64> {
        let list = ["-j", "-a", "list", "chain", "bridge", "lab", "wire"];
        let chain = self.node.switch_ns().run("nft", &list)?;
        let chain: Value = serde_json::from_str(&chain)?;
        let mut rules = chain["nftables"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| &one["rule"]);
        let rule = rules.find(|rule| rule["handle"] == self.handle);
        let mut parts = rule
            .and_then(|rule| rule["expr"].as_array())
            .into_iter()
            .flatten();
        let count = parts.find_map(|part| part["counter"]["packets"].as_u64());
        count.with_context(|| format!("no rule {}: {chain}", self.handle))
    }
}

impl Drop for Bursts<'_> {
    fn drop(&mut self) {
        let delete = format!("delete rule bridge lab wire handle {}", self.handle);
        // It may have gone with all others; else it goes with the lab.
        let _ = self.node.switch_ns().run("nft", &[&delete]);
    }
}
