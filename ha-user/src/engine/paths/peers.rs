//! By which paths an instance's peers are reached, as the engine, the dataplane and the warnings need it.

use std::net::IpAddr;

use ha_common::{Address, MonoNs, Nanos, gate::MAX_LEASES};
use ha_core::{Alone, LeaseConfig, LeasePeer, PathConfig};

use super::{
    Paths,
    line::Line,
    way::{Way, channel_way, lan_ways},
};
use crate::{
    config::{Instance, LeaseChannel},
    dataplane::{Dataplane, Grantor, Grantors},
};

/// When a peer of an instance was heard last.
pub(crate) struct Contact {
    pub(crate) peer: IpAddr,
    /// By way: its name, and when anything came on it.
    pub(crate) ways: Vec<(String, MonoNs)>,
    /// On the instance's own LAN.
    pub(crate) lan: Option<MonoNs>,
    /// The longest lease on any way.
    pub(crate) lease: Nanos,
}

impl Paths {
    /// The paths to an instance's peers, in the order of its lease slots.
    fn to_peers<'a>(
        &'a self,
        instance: &'a Instance,
        plan_channels: &'a [LeaseChannel],
    ) -> impl Iterator<Item = (IpAddr, Vec<&'a Line>)> {
        let lan: Vec<Way> = lan_ways(instance).collect();
        instance
            .peers
            .iter()
            .take(MAX_LEASES)
            .zip(lan)
            .map(move |(peer, way)| {
                let own = self.line(&way);
                let channels = plan_channels.iter().filter(|channel| {
                    instance.channels.contains(&channel.name)
                        && channel.leads_to(instance) == Some(*peer)
                });
                let further = channels.filter_map(|channel| self.line(&channel_way(channel)));
                // A channel over the LAN is no further path.
                let further = further.filter(|line| own.is_none_or(|own| own.id != line.id));
                (*peer, own.into_iter().chain(further).collect())
            })
    }

    /// When an instance's peers were heard last, in the order of its lease slots.
    pub(crate) fn contacts<'a>(
        &'a self,
        instance: &'a Instance,
        channels: &'a [LeaseChannel],
        dataplane: &'a Dataplane,
    ) -> impl Iterator<Item = Contact> {
        let heard_at = |line: &Line| dataplane.path_heard(line.id.0).0;
        self.to_peers(instance, channels)
            .map(move |(peer, lines)| Contact {
                peer,
                ways: lines
                    .iter()
                    .map(|line| (line.name.clone(), heard_at(line)))
                    .collect(),
                lan: lines
                    .iter()
                    .find(|line| line.way.interface == instance.interface)
                    .map(|line| heard_at(line)),
                lease: lines
                    .iter()
                    .map(|line| line.way.times.lease())
                    .max()
                    .unwrap_or_default(),
            })
    }

    /// For the engine; `None`: the instance relies on adverts alone.
    pub(crate) fn lease_config(
        &self,
        instance: &Instance,
        channels: &[LeaseChannel],
    ) -> Option<LeaseConfig> {
        instance.heartbeat?;
        let peers = self
            .to_peers(instance, channels)
            .map(|(address, lines)| LeasePeer {
                address,
                paths: lines
                    .iter()
                    .map(|line| PathConfig {
                        id: line.id,
                        interval: line.way.times.interval,
                        multiplier: line.way.times.multiplier,
                    })
                    .collect(),
            });
        let stops = channels
            .iter()
            .any(|one| one.alone == Alone::Stop && instance.channels.contains(&one.name));
        Some(LeaseConfig {
            peers: peers.collect(),
            alone: if stops { Alone::Stop } else { Alone::Serve },
        })
    }

    /// For the dataplane.
    pub(crate) fn grantors(
        &self,
        instance: &Instance,
        source: Option<IpAddr>,
        channels: &[LeaseChannel],
    ) -> Option<Grantors> {
        instance.heartbeat?;
        let mut lease = Nanos::ZERO;
        let mut peers = Vec::new();
        for (address, lines) in self.to_peers(instance, channels) {
            for line in &lines {
                lease = lease.max(line.way.times.lease());
            }
            let ours = source.map_or(Address::UNSPECIFIED, Address::from);
            peers.push(Grantor {
                address,
                is_greater: Address::from(address).exceeds(ours),
                paths: lines.iter().map(|line| line.id.0).collect(),
            });
        }
        Some(Grantors { peers, lease })
    }
}
