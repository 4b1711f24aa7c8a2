//! This node's own addresses to which its peers send unicast: the sources of instances, and the addresses of channels.
//!
//! A peer that has the MAC address of another interface of this node (Linux answers ARP by each, for any address)
//! sends past the programs of the right one: adverts are not heard, and both nodes are Active. So the dataplane lets
//! no other interface answer for them; they are announced when their interface becomes usable; and again where a
//! peer's packet came in by another one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ha_common::{Address, wire::arp};
use ipnet::{IpNet, Ipv4Net};

use super::Shell;
use crate::{
    engine::outbox::Level,
    net::links::{InfoKind, Link, Table},
};

/// The addresses, with where they were last.
pub(in crate::engine) type Locals = BTreeMap<Ipv4Addr, Place>;

/// Where an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Place {
    interface: String,
    ifindex: u32,
    mac: [u8; 6],
    net: Ipv4Net,
    /// Packets can go there and come from there.
    usable: bool,
}

impl Shell {
    /// Tells the dataplane where they are, and the network, where that changed.
    pub(super) fn follow_locals(&mut self) {
        let present = self.present_locals();
        if let Some(dataplane) = &mut self.dataplane {
            let wanted = present
                .values()
                .map(|place| (place.net, place.ifindex))
                .collect();
            if let Err(error) = dataplane.set_locals(&wanted) {
                let text =
                    format!("other interfaces may answer for this node's addresses: {error}");
                self.out.log(Level::Error, text);
                self.retry_soon();
            }
        }
        for (address, place) in &present {
            if self.locals.get(address) != Some(place) {
                self.announce_at(*address, place);
            }
        }
        self.locals = present;
    }

    /// Tells the network again where an address is: a peer does not know.
    pub(in crate::engine) fn announce_local(&self, address: Address) {
        let address = address.to_v4().map(Ipv4Addr::from);
        if let Some(address) = address
            && let Some(place) = self.locals.get(&address)
        {
            self.announce_at(address, place);
        }
    }

    fn announce_at(&self, address: Ipv4Addr, place: &Place) {
        let interface = self.interfaces.get(&place.interface);
        if let Some(port) = interface.and_then(|interface| interface.port.as_ref())
            && place.usable
        {
            // One that could not be sent is like one that was lost: the peer's next packet asks for another.
            let _ = port.send_arp(&arp::announcement(address.octets(), place.mac));
        }
    }

    fn present_locals(&self) -> Locals {
        let sources = self
            .seats
            .iter()
            .filter(|seat| !seat.config.peers.is_empty())
            .filter_map(|seat| Some((seat.config.interface.as_str(), seat.source?)));
        let wanted: BTreeSet<(&str, IpAddr)> = sources
            .chain(self.channels.locals())
            .chain(self.paths.locals())
            .collect();
        let is_vip = |address| {
            let mut vips = self.seats.iter().flat_map(|seat| &seat.config.vips);
            vips.any(|vip| vip.addr() == IpAddr::V4(address))
        };
        let table = self.links.table();
        let mut present = Locals::new();
        for (name, address) in wanted {
            let (IpAddr::V4(address), Some(link)) = (address, table.by_name(name)) else {
                continue;
            };
            if let Some(net) = sole_net(table, link, address).filter(|_| !is_vip(address)) {
                let has_port = self
                    .interfaces
                    .get(name)
                    .is_some_and(|one| one.port.is_some());
                let place = Place {
                    interface: name.to_owned(),
                    ifindex: link.ifindex,
                    mac: link.mac,
                    net,
                    usable: has_port && link.usable(),
                };
                present.insert(address, place);
            }
        }
        present
    }
}

/// The network of an address on an interface, if it is there, and nowhere else: two may share one on purpose. What
/// lies on another interface without a tag of its own gets its frames by that, where they would look misdirected.
fn sole_net(table: &Table, link: &Link, address: Ipv4Addr) -> Option<Ipv4Net> {
    let shares_frames = link.lies_on_lower() && link.kind != Some(InfoKind::Vlan);
    let mut others = table.links().filter(|other| other.ifindex != link.ifindex);
    if !link.ethernet || shares_frames || others.any(|other| other.has(IpAddr::V4(address))) {
        return None;
    }
    link.addresses.iter().find_map(|net| match net {
        IpNet::V4(net) if net.addr() == address => Some(*net),
        _ => None,
    })
}
