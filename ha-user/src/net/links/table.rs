//! The table of the interfaces, as netlink messages make it.

use std::{collections::BTreeMap, io, net::IpAddr};

use ipnet::IpNet;
use netlink_packet_core::{NlaBuffer, NlasIterator, Parseable as _};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressHeader, AddressHeaderFlags},
    link::{InfoKind, InfoPortKind, LinkFlags, LinkHeader, LinkLayerType},
};

use super::{Bond, Link, Port, Slave};
use crate::net::netlink::{self, Message};

/// Message types (rtnetlink(7)).
pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
/// Attributes of links (linux/if_link.h) and addresses.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Bytes of `ifinfomsg` and `ifaddrmsg`.
const LINK_HEADER_LEN: usize = 16;
const ADDRESS_HEADER_LEN: usize = 8;
/// Interfaces that may lie on one another.
const MAX_DEPTH: usize = 8;

/// All interfaces, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    links: BTreeMap<u32, Link>,
}

/// Numbered in their order.
#[cfg(test)]
impl FromIterator<Link> for Table {
    fn from_iter<T: IntoIterator<Item = Link>>(links: T) -> Self {
        Self {
            links: (1..).zip(links).collect(),
        }
    }
}

impl Table {
    /// The table as it is at present.
    ///
    /// # Errors
    /// As socket(2), sendto(2) and recv(2) on netlink.
    pub fn read() -> io::Result<Self> {
        let mut table = Self::default();
        netlink::dump(|message| table.apply(message))?;
        table.relate();
        Ok(table)
    }

    /// The interface of a name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Every interface.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Tells bonds of their slaves, bridges of their ports, and what lies on them. To be called when messages were
    /// taken in.
    pub(super) fn relate(&mut self) {
        let bonds: BTreeMap<u32, Bond> = self
            .links
            .values()
            .filter(|link| link.kind == Some(InfoKind::Bond))
            .filter_map(|link| Some((link.ifindex, self.with_slaves(link)?)))
            .collect();
        let below: Vec<(u32, Option<Bond>)> = self
            .links
            .values()
            .map(|link| (link.ifindex, bonds.get(&self.lowest(link).ifindex).cloned()))
            .collect();
        for (ifindex, bond) in below {
            if let Some(link) = self.links.get_mut(&ifindex) {
                link.bond = bond;
            }
        }
        let unplugged: Vec<(u32, bool)> = self
            .links
            .values()
            .map(|link| (link.ifindex, self.is_unplugged(self.lowest(link))))
            .collect();
        for (ifindex, unplugged) in unplugged {
            if let Some(link) = self.links.get_mut(&ifindex) {
                link.unplugged = unplugged;
            }
        }
    }

    fn is_unplugged(&self, link: &Link) -> bool {
        let mut ports = self
            .links
            .values()
            .filter(|port| port.master == Some(link.ifindex));
        link.kind == Some(InfoKind::Bridge) && !ports.any(|port| port.up && port.carrier)
    }

    fn with_slaves(&self, bond: &Link) -> Option<Bond> {
        let slaves = self
            .links
            .values()
            .filter(|link| link.master == Some(bond.ifindex))
            .map(|link| Slave {
                ifindex: link.ifindex,
                name: link.name.clone(),
                carries: link.up && link.carrier,
                port: link.port,
            });
        Some(Bond {
            slaves: slaves.collect(),
            ..bond.bond.clone()?
        })
    }

    /// The interface on which another one lies at the bottom: itself, for most.
    #[must_use]
    pub fn lowest<'a>(&'a self, link: &'a Link) -> &'a Link {
        let mut lowest = link;
        for _ in 0..MAX_DEPTH {
            match lowest.lower.and_then(|lower| self.links.get(&lower)) {
                Some(lower) if lowest.lies_on_lower() => lowest = lower,
                _ => break,
            }
        }
        lowest
    }

    /// Whether a notification that begins so is of a slave that its bond watches.
    pub(super) fn is_of_slave(&self, head: &[u8; netlink::HEAD_LEN]) -> bool {
        let (kind, payload) = netlink::head(head);
        let of = LinkHeader::parse(payload).ok().map(|header| header.index);
        let Some(link) = of.and_then(|index| self.links.get(&index)) else {
            return false;
        };
        let bond = link.master.and_then(|master| self.links.get(&master));
        kind == RTM_NEWLINK
            && bond
                .and_then(|bond| bond.bond.as_ref())
                .is_some_and(|bond| bond.watches)
    }

    /// The interface of an index.
    #[must_use]
    pub fn by_index(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(&ifindex)
    }

    pub(super) fn apply(&mut self, message: &Message<'_>) {
        match message.kind {
            RTM_NEWLINK | RTM_DELLINK => self.apply_link(message),
            RTM_NEWADDR | RTM_DELADDR => self.apply_address(message),
            _ => {}
        }
    }

    fn apply_link(&mut self, message: &Message<'_>) {
        let Ok(header) = LinkHeader::parse(message.payload) else {
            return;
        };
        // A bridge reports its ports in the same group; a port that leaves it is not deleted.
        if header.interface_family != AddressFamily::Unspec {
            return;
        }
        if message.kind == RTM_DELLINK {
            self.links.remove(&header.index);
            return;
        }
        let attributes = message.payload.get(LINK_HEADER_LEN..).unwrap_or_default();
        let mut link = Link {
            ifindex: header.index,
            ethernet: header.link_layer_type == LinkLayerType::Ether,
            up: header.flags.contains(LinkFlags::Up),
            carrier: header.flags.contains(LinkFlags::LowerUp),
            ..Link::default()
        };
        let mut elsewhere = false;
        for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
            let value = attribute.value();
            match attribute.kind() {
                IFLA_ADDRESS => link.mac = value.try_into().unwrap_or_default(),
                IFLA_IFNAME => {
                    let name = value.strip_suffix(&[0]).unwrap_or(value);
                    link.name = String::from_utf8_lossy(name).into_owned();
                }
                IFLA_MTU => link.mtu = number(value).unwrap_or_default(),
                IFLA_LINK => link.lower = number(value),
                IFLA_LINK_NETNSID => elsewhere = true,
                IFLA_MASTER => link.master = number(value),
                IFLA_LINKINFO => apply_info(&mut link, value),
                _ => {}
            }
        }
        // Wireless events have neither name nor anything else that belongs here.
        if link.name.is_empty() {
            return;
        }
        link.lower = link
            .lower
            .filter(|lower| !elsewhere && *lower != header.index);
        let known = self.links.entry(header.index).or_default();
        link.addresses = std::mem::take(&mut known.addresses);
        *known = link;
    }

    fn apply_address(&mut self, message: &Message<'_>) {
        let Ok(header) = AddressHeader::parse(message.payload) else {
            return;
        };
        let attributes = message
            .payload
            .get(ADDRESS_HEADER_LEN..)
            .unwrap_or_default();
        // Of IPv6, IFA_LOCAL is there on point-to-point links only, and IFA_ADDRESS is the peer's then.
        let attribute = |kind| {
            NlasIterator::new(attributes)
                .map_while(Result::ok)
                .find(|attribute| attribute.kind() == kind)
        };
        let address = match header.family {
            AddressFamily::Inet => attribute(IFA_LOCAL)
                .and_then(|local| <[u8; 4]>::try_from(local.value()).ok())
                .map(IpAddr::from),
            AddressFamily::Inet6 => attribute(IFA_LOCAL)
                .or_else(|| attribute(IFA_ADDRESS))
                .and_then(|local| <[u8; 16]>::try_from(local.value()).ok())
                .map(IpAddr::from),
            _ => None,
        };
        let Some(net) = address.and_then(|address| IpNet::new(address, header.prefix_len).ok())
        else {
            return;
        };
        // An address of IPv6 is the host's once nobody else was found to have it; the kernel tells.
        let usable = !header
            .flags
            .intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed);
        let Some(link) = self.links.get_mut(&header.index) else {
            return;
        };
        let known = link.addresses.iter().position(|known| *known == net);
        match (message.kind == RTM_NEWADDR && usable, known) {
            (true, None) => link.addresses.push(net),
            (false, Some(position)) => {
                link.addresses.remove(position);
            }
            _ => {}
        }
    }
}

/// `IFLA_LINKINFO`: what an interface is, and what it is to its master.
fn apply_info(link: &mut Link, info: &[u8]) {
    for attribute in NlasIterator::new(info).map_while(Result::ok) {
        let attribute: NlaBuffer<&[u8]> = attribute;
        match attribute.kind() {
            IFLA_INFO_KIND => link.kind = InfoKind::parse(&attribute).ok(),
            IFLA_INFO_DATA if link.kind == Some(InfoKind::Bond) => {
                link.bond = Some(Bond::from_attributes(attribute.value()));
            }
            IFLA_INFO_SLAVE_KIND => link.port_of = InfoPortKind::parse(&attribute).ok(),
            IFLA_INFO_SLAVE_DATA if link.port_of == Some(InfoPortKind::Bond) => {
                link.port = Port::from_attributes(attribute.value());
            }
            _ => {}
        }
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_ne_bytes)
}
