//! What the dataplane and the engine are told of an instance: its configuration, and the condition of its
//! interface.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ha_common::lease::Rank;
use ha_core::{Input, InstanceId, InterfaceCondition};
use ipnet::IpNet;

use super::Shell;
use crate::{
    engine::outbox::Level,
    events::Kind,
    net::links::Link,
    sys::{self, clock},
};

/// The addresses on the interfaces, looked up once for all instances.
pub(super) struct Found {
    /// Addresses that are no host's first one: VIPs of ours, and another owner's; not our own as an owner.
    vips: BTreeSet<IpAddr>,
    /// What is on each interface that is there.
    there: BTreeMap<String, BTreeSet<IpAddr>>,
}

impl Shell {
    /// Tells the dataplane what an instance is, once its interface is there.
    pub(in crate::engine) fn configure(&mut self, id: InstanceId) {
        let Some(index) = self.index(id) else {
            return;
        };
        let seat = &self.seats[index];
        let Some(interface) = self.interfaces.get_mut(&seat.config.interface) else {
            return;
        };
        if interface.ifindex == 0 {
            return;
        }
        interface.router = sys::forwards_v6(&seat.config.interface);
        let Some(dataplane) = &mut self.dataplane else {
            return;
        };
        let vips: Vec<IpAddr> = seat.config.vips.iter().map(IpNet::addr).collect();
        let config = seat.map_config(interface.ifindex, interface.mac, interface.router);
        let grantors = self
            .paths
            .grantors(&seat.config, seat.source, &self.lease_channels);
        let result = dataplane
            .set_instance(id, &config, &vips, &seat.config.peers)
            .and_then(|()| dataplane.set_grantors(id, grantors.as_ref(), clock::now()));
        let rank = Rank {
            position: seat.position,
            priority: seat.rank.0,
        };
        dataplane.set_lease_rank(id, rank);
        self.seats[index].refused = result.is_err();
        if let Err(error) = result {
            let text = format!(
                "{}: the dataplane refused its configuration: {error}",
                self.seats[index].name
            );
            self.out.log(Level::Error, text);
            self.retry_soon();
        }
    }

    pub(super) fn configure_all(&mut self, interface: &str) {
        let ids: Vec<InstanceId> = self
            .seats
            .iter()
            .filter(|seat| seat.config.interface == interface)
            .map(|seat| seat.id)
            .collect();
        for id in ids {
            self.configure(id);
        }
    }

    pub(super) fn found(&self) -> Found {
        let vips = self
            .seats
            .iter()
            .filter(|seat| !seat.is_owner())
            .flat_map(|seat| seat.config.vips.iter().map(IpNet::addr))
            .chain(self.debts.iter().map(|debt| debt.vip.addr()))
            .collect();
        let table = self.links.table();
        let there = self
            .interfaces
            .keys()
            .filter_map(|name| Some((name.clone(), table.by_name(name)?.set())))
            .collect();
        Found { vips, there }
    }

    /// Whether a bond can use fewer slaves than are wanted.
    fn lacks_slaves(&self, link: &Link) -> bool {
        let wanted = self.min_up_slaves.get(&link.name);
        let usable = link.usable_slaves();
        wanted.is_some_and(|wanted| usable.is_some_and(|usable| usable < *wanted))
    }

    pub(super) fn follow_seat(&mut self, index: usize, found: &Found, inputs: &mut Vec<Input>) {
        let seat = &self.seats[index];
        let id = seat.id;
        let name = &seat.config.interface;
        let needs_dataplane = seat.config.heartbeat.is_some() || seat.config.virtual_mac;
        let port = self.interfaces.get(name).and_then(|one| one.port.as_ref());
        let failed = seat.refused
            || (needs_dataplane && self.dataplane.is_none())
            || port.is_none_or(|port| seat.virtual_mac().is_some_and(|mac| !port.hears(&mac)));
        let link = self.links.table().by_name(name);
        let condition = match link {
            None => InterfaceCondition::Absent,
            Some(link) => match link.condition(seat.config.source, |address| {
                seat.config.suits_as_source(address) && !found.vips.contains(&address)
            }) {
                InterfaceCondition::Ready { .. } if failed => InterfaceCondition::NoDataplane,
                InterfaceCondition::Ready { .. } if self.lacks_slaves(link) => {
                    InterfaceCondition::FewSlaves
                }
                condition => condition,
            },
        };
        let mut missing: BTreeSet<IpAddr> = BTreeSet::new();
        if let Some(there) = found.there.get(name).filter(|_| seat.holds_vips) {
            let vips = seat.config.vips.iter().map(IpNet::addr);
            missing.extend(vips.filter(|vip| !there.contains(vip)));
        }
        let lost = seat.holds_vips
            && self.chores.addition(id).is_none()
            && missing.iter().any(|vip| !seat.unseen.contains(vip));
        let own: Vec<IpNet> = match link {
            Some(link) if seat.is_owner() && !seat.holds_vips => seat
                .config
                .vips
                .iter()
                .filter(|vip| link.addresses.contains(vip))
                .copied()
                .collect(),
            _ => seat.own.clone(),
        };
        let seat = &mut self.seats[index];
        seat.own = own;
        seat.unseen.retain(|vip| missing.contains(vip));
        if seat.condition.as_ref() != Some(&condition) {
            seat.condition = Some(condition);
            if let InterfaceCondition::Ready { source } = condition
                && seat.source.replace(source) != Some(source)
            {
                self.configure(id);
            }
            let seat = &self.seats[index];
            if matches!(condition, InterfaceCondition::Ready { .. }) {
                if !seat.config.peers.is_empty() {
                    self.solicitations.begin(id);
                }
            } else {
                self.solicitations.end(id);
                let sentence = format!("waits for {}: {condition}", seat.config.interface);
                self.out
                    .event(clock::now(), &seat.name, Kind::Note, sentence);
            }
            inputs.push(Input::Interface {
                instance: id,
                condition,
            });
        }
        if lost {
            let seat = &self.seats[index];
            let sentence = format!(
                "somebody else took {} off {}",
                seat.vips_in_words(),
                seat.config.interface
            );
            self.out
                .log(Level::Warn, format!("{}: {sentence}", seat.name));
            inputs.push(Input::VipLost { instance: id });
        }
    }
}
