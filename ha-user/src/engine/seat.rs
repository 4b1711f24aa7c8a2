//! One instance as the engine thread carries it: what the engine decided, and what was done about it.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ha_common::{
    Address, MonoNs, Priority, abi, abi::Said, gate::Lease, lease::Standing, wire::virtual_mac,
};
use ha_core::{InstanceId, InterfaceCondition, State, Version};
use ipnet::IpNet;

use super::{advert::Prepared, plan::SeatPlan};
use crate::config::Instance;

/// One instance.
pub(super) struct Seat {
    pub(super) id: InstanceId,
    pub(super) name: Arc<str>,
    pub(super) config: Instance,
    /// The priority with which the dataplane compares.
    pub(super) rank: Priority,
    /// How far its data is, beside other candidates for leases.
    pub(super) position: u32,
    pub(super) state: State,
    /// What the engine was told of its interface last.
    pub(super) condition: Option<InterfaceCondition>,
    pub(super) source: Option<IpAddr>,
    /// The dataplane did not take its configuration.
    pub(super) refused: bool,
    /// Whether the VIPs are to be on the interface.
    pub(super) holds_vips: bool,
    /// VIPs of IPv6 that were put on the interface, and of which the kernel has not told yet: nobody else has
    /// taken them off.
    pub(super) unseen: BTreeSet<IpAddr>,
    /// The interface that the VIPs were put on last.
    pub(super) vips_on: Option<u32>,
    /// VIPs that are the node's own addresses (priority 255): never removed.
    pub(super) own: Vec<IpNet>,
    /// The lease that opened the gate.
    pub(super) gate: Option<Lease>,
    /// What this node is for it, where it relies on leases.
    pub(super) standing: Standing,
    /// Whether this take-over was announced already.
    pub(super) announced: bool,
    /// The latest stamp that the engine knows.
    pub(super) heard: MonoNs,
    /// What the last advert said that the engine was told of.
    pub(super) said: Said,
    /// Its adverts, ready to be sent.
    pub(super) prepared: Prepared,
    pub(super) adverts_sent: u64,
    /// Valid adverts received (mode `off`).
    pub(super) adverts_received: u64,
    pub(super) active_since: Option<MonoNs>,
}

impl Seat {
    pub(super) fn new(plan: &SeatPlan) -> Self {
        Self {
            id: plan.id,
            name: plan.instance.name.as_str().into(),
            config: plan.instance.clone(),
            rank: plan.instance.priority,
            position: 0,
            state: State::Initialize,
            condition: None,
            source: None,
            refused: false,
            holds_vips: false,
            unseen: BTreeSet::new(),
            vips_on: None,
            own: Vec::new(),
            gate: None,
            standing: Standing::Bystander,
            announced: false,
            heard: MonoNs::ZERO,
            said: Said::default(),
            prepared: Prepared::default(),
            adverts_sent: 0,
            adverts_received: 0,
            active_since: None,
        }
    }

    pub(super) fn is_owner(&self) -> bool {
        self.config.priority == Priority::OWNER
    }

    /// The VIPs that this daemon may take off the interface.
    pub(super) fn removable(&self) -> Vec<IpNet> {
        let mut vips = self.config.vips.clone();
        vips.retain(|vip| !self.own.contains(vip));
        vips
    }

    /// The MAC address of its VIPs, if that is not the interface's.
    pub(super) fn virtual_mac(&self) -> Option<[u8; 6]> {
        let config = &self.config;
        config
            .virtual_mac
            .then(|| virtual_mac::of(config.vrid.get(), config.family().number()))
    }

    /// For the dataplane.
    pub(super) fn map_config(
        &self,
        ifindex: u32,
        mac: [u8; 6],
        router: bool,
    ) -> abi::InstanceConfig {
        abi::InstanceConfig {
            ifindex,
            leases: match self.config.heartbeat {
                Some(_) => u32::try_from(self.config.peers.len()).unwrap_or(u32::MAX),
                None => 1,
            },
            vrid: self.config.vrid.get(),
            version: match self.config.version {
                Version::V2 => 2,
                Version::V3 => 3,
            },
            priority: self.rank.0,
            unicast: u8::from(!self.config.peers.is_empty()),
            mac,
            family: self.config.family().number(),
            router: u8::from(router),
            virtual_mac: u8::from(self.config.virtual_mac),
            source: self.source.map_or(Address::UNSPECIFIED, Address::from),
            interval_centis: centis(self.config.advert_interval.0),
            ..abi::InstanceConfig::default()
        }
    }

    /// What it is about, as a sentence.
    pub(super) fn in_words(&self) -> String {
        let source = match (self.source, self.config.source) {
            (Some(source), _) | (None, Some(source)) => format!("address {source}"),
            (None, None) => "its first address".to_owned(),
        };
        format!(
            "It is about {} on interface {} with {source}, VRID {}.",
            self.vips_in_words(),
            self.config.interface,
            self.config.vrid
        )
    }

    /// How its VIPs are announced.
    pub(super) fn announcement_in_words(&self) -> &'static str {
        let is_v4 = |vip: &IpNet| vip.addr().is_ipv4();
        match (
            self.config.vips.iter().any(is_v4),
            self.config.vips.iter().all(is_v4),
        ) {
            (true, true) => "gratuitous ARP",
            (true, false) => "gratuitous ARP and neighbour advertisement",
            (false, _) => "neighbour advertisement",
        }
    }

    /// The VIPs in words.
    pub(super) fn vips_in_words(&self) -> String {
        in_words(&self.config.vips)
    }
}

/// How many addresses a sentence names.
const NAMED: usize = 8;

/// Addresses in words: the first ones, and how many more there are.
pub(super) fn in_words(vips: &[IpNet]) -> String {
    let (named, others) = vips.split_at(vips.len().min(NAMED));
    let named: Vec<String> = named.iter().map(ToString::to_string).collect();
    match others.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Nanoseconds as centiseconds; the configuration holds only what fits.
pub(super) fn centis(nanos: u64) -> u16 {
    u16::try_from(nanos / 10_000_000).unwrap_or(u16::MAX)
}
