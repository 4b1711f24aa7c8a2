//! A validated configuration, with every instance's slot in the dataplane's maps.

use ha_common::{Nanos, gate::Epoch};
use ha_core::{ChannelConfig, EngineConfig, GroupConfig, InstanceConfig, InstanceId};

use super::paths::Paths;
use crate::config::{Channel, Instance, LeaseChannel};

/// What the engine thread is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// This node's name.
    pub node: String,
    /// How long to listen after the start.
    pub start_delay: Nanos,
    /// The names of the groups.
    pub groups: Vec<String>,
    /// The channels with BFD sessions.
    pub channels: Vec<Channel>,
    /// The channels for leases.
    pub lease_channels: Vec<LeaseChannel>,
    /// The instances.
    pub seats: Vec<SeatPlan>,
}

/// An instance and its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatPlan {
    /// The slot; an instance keeps it as long as it is the same virtual router.
    pub id: InstanceId,
    /// The instance.
    pub instance: Instance,
}

impl Plan {
    /// For the engine. `adopted` gives the epoch that the maps hold for a slot.
    pub(super) fn engine_config(
        &self,
        kernel_watch: bool,
        paths: &Paths,
        adopted: impl Fn(InstanceId) -> Epoch,
    ) -> EngineConfig {
        EngineConfig {
            start_delay: self.start_delay,
            instances: self
                .seats
                .iter()
                .map(|seat| InstanceConfig {
                    id: seat.id,
                    name: seat.instance.name.clone(),
                    group: seat.instance.group,
                    version: seat.instance.version,
                    vrid: seat.instance.vrid,
                    priority: seat.instance.priority,
                    preempt: seat.instance.preempt,
                    preempt_delay: seat.instance.preempt_delay,
                    advert_interval: seat.instance.advert_interval,
                    sole_peer: seat.instance.peers.len() == 1,
                    vips: u32::try_from(seat.instance.vips.len()).unwrap_or(u32::MAX),
                    announce: seat.instance.announce,
                    channels: self.channels_of(&seat.instance),
                    lease: paths.lease_config(&seat.instance, &self.lease_channels),
                    adopted_epoch: adopted(seat.id),
                })
                .collect(),
            groups: self
                .groups
                .iter()
                .map(|name| GroupConfig { name: name.clone() })
                .collect(),
            kernel_watch,
        }
    }

    /// The BFD channels of an instance.
    fn channels_of(&self, instance: &Instance) -> Vec<ChannelConfig> {
        self.channels
            .iter()
            .filter(|channel| instance.channels.contains(&channel.name))
            .map(|channel| ChannelConfig {
                name: channel.name.clone(),
                lan_peer: (channel.interface == instance.interface).then_some(channel.peer),
            })
            .collect()
    }
}
