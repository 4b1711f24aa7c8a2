//! A validated configuration, with every instance's slot in the dataplane's maps.

use std::collections::{BTreeMap, BTreeSet};

use ha_common::{Nanos, gate::Epoch};
use ha_core::{
    ChannelConfig, EngineConfig, GroupConfig, InstanceConfig, InstanceId, Mode, RolesConfig,
    tracking::{Source, TrackedConfig},
};

use super::paths::Paths;
use crate::config::{Channel, Check, Group, Instance, Interface, LeaseChannel};

/// What the engine thread is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// This node's name.
    pub node: String,
    /// How long to listen after the start.
    pub start_delay: Nanos,
    /// The groups.
    pub groups: Vec<Group>,
    /// By the group's name: how long its roles may take. Groups without roles are not in it.
    pub roles: BTreeMap<String, RolesConfig>,
    /// In which mode the node starts; a reload does not change it.
    pub mode: Mode,
    /// The checks.
    pub checks: Vec<Check>,
    /// The interfaces about which there is something to know.
    pub interfaces: Vec<Interface>,
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
                    track: seat.instance.track.clone(),
                    link_delays: self.interface(&seat.instance.interface).delays,
                    adopted_epoch: adopted(seat.id),
                })
                .collect(),
            groups: self
                .groups
                .iter()
                .map(|group| GroupConfig {
                    name: group.name.clone(),
                    track: group.track.clone(),
                    roles: self.roles.get(&group.name).copied(),
                })
                .collect(),
            tracked: self.tracked(),
            mode: self.mode,
            kernel_watch,
        }
    }

    pub(super) fn group_names(&self) -> Vec<String> {
        self.groups.iter().map(|group| group.name.clone()).collect()
    }

    /// What the file says of an interface.
    pub(super) fn interface(&self, name: &str) -> Interface {
        let named = |interface: &&Interface| interface.name == name;
        let found = self.interfaces.iter().find(named).cloned();
        found.unwrap_or_else(|| Interface::unnamed(name))
    }

    /// How many slaves the bonds must be able to use, where that is configured.
    pub(super) fn min_up_slaves(&self) -> BTreeMap<String, u32> {
        let interfaces = self.interfaces.iter();
        interfaces
            .map(|interface| (interface.name.clone(), interface.min_up_slaves))
            .collect()
    }

    /// The interfaces that are tracked.
    pub(super) fn tracked_interfaces(&self) -> BTreeSet<&str> {
        let instances = self.seats.iter().flat_map(|seat| &seat.instance.track);
        let groups = self.groups.iter().flat_map(|group| &group.track);
        let interfaces = instances
            .chain(groups)
            .filter_map(|track| match &track.source {
                Source::Interface(name) => Some(name.as_str()),
                Source::Check(_) => None,
            });
        interfaces.collect()
    }

    fn tracked(&self) -> Vec<TrackedConfig> {
        let checks = self.checks.iter().map(|check| TrackedConfig {
            source: Source::Check(check.name.clone()),
            up_delay: Nanos::ZERO,
            down_delay: Nanos::ZERO,
            damping: check.damping,
            interval: check.times.interval,
            timeout: check.times.timeout,
        });
        let interfaces = self.tracked_interfaces().into_iter().map(|name| {
            let interface = self.interface(name);
            TrackedConfig {
                source: Source::Interface(interface.name),
                up_delay: interface.delays.up,
                down_delay: interface.delays.down,
                damping: interface.damping,
                interval: Nanos::ZERO,
                timeout: Nanos::ZERO,
            }
        });
        checks.chain(interfaces).collect()
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
