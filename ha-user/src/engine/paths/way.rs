//! Which paths an instance and a channel make.

use std::net::IpAddr;

use crate::config::{Heartbeat, Instance, LeaseChannel};

/// What makes two paths the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) interface: String,
    /// This node's address, where it is configured.
    pub(super) local: Option<IpAddr>,
    pub(super) peer: IpAddr,
    pub(super) times: Heartbeat,
    pub(super) key: Option<[u64; 2]>,
}

/// The ways on an instance's own LAN, one to each peer.
pub(super) fn lan_ways(instance: &Instance) -> impl Iterator<Item = Way> {
    instance.heartbeat.into_iter().flat_map(move |times| {
        instance.peers.iter().map(move |peer| Way {
            interface: instance.interface.clone(),
            local: instance.source,
            peer: *peer,
            times,
            key: None,
        })
    })
}

/// The way of a channel.
pub(super) fn channel_way(channel: &LeaseChannel) -> Way {
    Way {
        interface: channel.interface.clone(),
        local: Some(channel.local),
        peer: channel.peer,
        times: channel.times,
        key: channel.key,
    }
}
