//! Which interfaces there are, their state and addresses: a table that netlink notifications keep.
//!
//! The notification socket is one of the engine thread's descriptors, and not a task of tokio with the
//! rtnetlink crate: a lost carrier is acted on at once, in the thread that acts, whatever else tokio
//! does; and the table can be read in the middle of a decision. Notifications are few (links and
//! addresses only), and cost a parse of some hundred bytes.
//!
//! What happened is told from the table after *all* waiting notifications are in, never from a single
//! one: the removal and the return of a VIP by this very daemon lie in the queue one after the other,
//! and only their sum is true.
//!
//! When the socket overflows (`ENOBUFS`), the table is read anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use ha_core::InterfaceCondition;
use ipnet::IpNet;
use netlink_packet_core::NlasIterator;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressHeader, AddressHeaderFlags},
    link::{LinkFlags, LinkHeader},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::{io::Errno, net::RecvFlags};

use super::netlink::{self, Message};

/// Message types (rtnetlink(7)).
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
/// Multicast groups, as a bit mask (rtnetlink(7)).
const RTMGRP_LINK: u32 = 1;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;
/// Attributes of links and addresses.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Bytes of `ifinfomsg` and `ifaddrmsg`.
const LINK_HEADER_LEN: usize = 16;
const ADDRESS_HEADER_LEN: usize = 8;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index, which a later interface of the same name does not get.
    pub ifindex: u32,
    /// Its Ethernet address; zeros where it has none.
    pub mac: [u8; 6],
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it has carrier.
    pub carrier: bool,
    /// Whether another interface has it as its port: a bridge, a bond, a VRF.
    pub enslaved: bool,
    /// Its addresses, in the kernel's order: the first of a family is its primary one.
    pub addresses: Vec<IpNet>,
}

impl Link {
    /// Whether it has an address.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == address)
    }

    /// Whether it has all of these addresses, whatever their networks.
    #[must_use]
    pub fn has_all(&self, vips: &[IpNet]) -> bool {
        let there = self.set();
        vips.iter().all(|vip| there.contains(&vip.addr()))
    }

    /// The addresses that it has, in whatever network.
    #[must_use]
    pub fn set(&self) -> BTreeSet<IpAddr> {
        self.addresses.iter().map(IpNet::addr).collect()
    }

    /// Whether an instance can use it. Without a configured source, its first address that suits is the
    /// source.
    #[must_use]
    pub fn condition(
        &self,
        source: Option<IpAddr>,
        suits: impl Fn(IpAddr) -> bool,
    ) -> InterfaceCondition {
        if !self.up {
            return InterfaceCondition::Down;
        }
        if !self.carrier {
            return InterfaceCondition::NoCarrier;
        }
        let found = match source {
            Some(source) => self.has(source).then_some(source),
            None => self
                .addresses
                .iter()
                .map(IpNet::addr)
                .find(|address| suits(*address)),
        };
        found.map_or(InterfaceCondition::NoAddress, |source| {
            InterfaceCondition::Ready { source }
        })
    }
}

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

    fn apply(&mut self, message: &Message<'_>) {
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
        let link = self.links.entry(header.index).or_default();
        link.ifindex = header.index;
        link.up = header.flags.contains(LinkFlags::Up);
        link.carrier = header.flags.contains(LinkFlags::LowerUp);
        link.enslaved = false;
        let attributes = message.payload.get(LINK_HEADER_LEN..).unwrap_or_default();
        for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
            match attribute.kind() {
                IFLA_ADDRESS => link.mac = attribute.value().try_into().unwrap_or_default(),
                IFLA_IFNAME => {
                    let name = attribute.value();
                    let name = name.strip_suffix(&[0]).unwrap_or(name);
                    link.name = String::from_utf8_lossy(name).into_owned();
                }
                IFLA_MASTER => link.enslaved = true,
                _ => {}
            }
        }
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

/// The table, kept up to date.
pub struct Links {
    socket: Socket,
    table: Table,
    buffer: Vec<u8>,
}

impl Links {
    /// Listens, and reads the table.
    ///
    /// # Errors
    /// As socket(2), bind(2) and [`Table::read`].
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // Listening begins before the table is read, so that nothing falls in between.
        socket.bind(&SocketAddr::new(
            0,
            RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
        ))?;
        Ok(Self {
            socket,
            table: Table::read()?,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// The table as of the last [`Self::update`].
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Takes in all notifications that wait; whether there were any.
    ///
    /// # Errors
    /// As recv(2), and [`Table::read`] after an overflow.
    pub fn update(&mut self) -> io::Result<bool> {
        let mut changed = false;
        loop {
            match rustix::net::recv(
                self.socket.as_fd(),
                self.buffer.as_mut_slice(),
                RecvFlags::DONTWAIT,
            ) {
                Ok((length, _)) => {
                    changed = true;
                    for message in netlink::messages(self.buffer.get(..length).unwrap_or_default())
                    {
                        self.table.apply(&message);
                    }
                }
                Err(Errno::AGAIN) => return Ok(changed),
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => {
                    changed = true;
                    self.table = Table::read()?;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable as _;
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn link() -> Link {
        Link {
            name: "eth0".to_owned(),
            ifindex: 2,
            mac: [2, 0, 0, 0, 0, 1],
            up: true,
            carrier: true,
            enslaved: false,
            addresses: vec![net("192.168.33.100/24"), net("192.168.33.101/24")],
        }
    }

    fn any(_address: IpAddr) -> bool {
        true
    }

    fn ready(source: &str) -> InterfaceCondition {
        InterfaceCondition::Ready {
            source: source.parse().unwrap(),
        }
    }

    #[test]
    fn the_source_is_the_first_address_that_is_no_vip() {
        let no_vip = |address| address != IpAddr::from([192, 168, 33, 100]);
        assert_eq!(link().condition(None, no_vip), ready("192.168.33.101"));
        assert_eq!(link().condition(None, any), ready("192.168.33.100"));
    }

    #[test]
    fn only_what_suits_is_the_source() {
        let both = Link {
            addresses: vec![
                net("192.168.33.101/24"),
                net("2001:db8::1/64"),
                net("fe80::1/64"),
            ],
            ..link()
        };
        let link_local =
            |address: IpAddr| matches!(address, IpAddr::V6(it) if it.is_unicast_link_local());
        assert_eq!(both.condition(None, link_local), ready("fe80::1"));
        let none = |_| false;
        assert_eq!(both.condition(None, none), InterfaceCondition::NoAddress);
    }

    #[test]
    fn a_configured_source_must_be_there() {
        let source = Some(IpAddr::from([192, 168, 33, 101]));
        assert_eq!(link().condition(source, any), ready("192.168.33.101"));
        let other = Some(IpAddr::from([192, 168, 33, 102]));
        assert_eq!(link().condition(other, any), InterfaceCondition::NoAddress);
        let bare = Link {
            addresses: Vec::new(),
            ..link()
        };
        assert_eq!(bare.condition(None, any), InterfaceCondition::NoAddress);
    }

    #[test]
    fn down_and_no_carrier_come_first() {
        let down = Link {
            up: false,
            carrier: false,
            ..link()
        };
        assert_eq!(down.condition(None, any), InterfaceCondition::Down);
        let unplugged = Link {
            carrier: false,
            ..link()
        };
        assert_eq!(
            unplugged.condition(None, any),
            InterfaceCondition::NoCarrier
        );
    }

    #[test]
    fn the_loopback_interface_is_found() {
        let table = Table::read().unwrap();
        let loopback = table.by_name("lo").unwrap();
        assert_eq!(loopback.ifindex, 1);
        assert_eq!(loopback.mac, [0; 6]);
        assert!(table.by_name("no-such-link").is_none());
    }

    #[test]
    fn a_port_of_another_interface_is_known_as_one_until_it_is_released() {
        let mut table = Table::default();
        let mut learn = |attributes: Vec<LinkAttribute>| {
            let mut message = LinkMessage::default();
            message.header.index = 2;
            message.attributes = attributes;
            let mut datagram = vec![0_u8; 16 + message.buffer_len()];
            let length = u32::try_from(datagram.len()).unwrap();
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            datagram[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
            message.emit(&mut datagram[16..]);
            for message in netlink::messages(&datagram) {
                table.apply(&message);
            }
            let link = table.by_name("eth0").unwrap();
            (link.ifindex, link.enslaved)
        };
        let name = || LinkAttribute::IfName("eth0".to_owned());
        assert_eq!(learn(vec![name(), LinkAttribute::Controller(3)]), (2, true));
        assert_eq!(learn(vec![name()]), (2, false));
    }

    #[test]
    fn garbage_from_netlink_changes_nothing() {
        let mut table = Table::read().unwrap();
        let before = table.clone();
        for kind in [RTM_NEWLINK, RTM_NEWADDR, RTM_DELADDR] {
            let mut datagram = vec![0_u8; 24];
            datagram[..4].copy_from_slice(&24_u32.to_ne_bytes());
            datagram[4..6].copy_from_slice(&kind.to_ne_bytes());
            for message in netlink::messages(&datagram) {
                table.apply(&message);
            }
        }
        assert_eq!(netlink::messages(&[255; 32]).count(), 0);
        assert_eq!(netlink::messages(&[0; 3]).count(), 0);
        assert_eq!(table, before);
    }
}
