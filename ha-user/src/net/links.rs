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
    time::Duration,
};

use ha_common::Nanos;
use ha_core::InterfaceCondition;
use ipnet::IpNet;
use netlink_packet_core::NlasIterator;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressHeader, AddressHeaderFlags},
    link::{LinkFlags, LinkHeader},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::RecvFlags,
    time::Timespec,
};

use super::netlink::{self, Message};
use crate::sys::clock;

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
        let attributes = message.payload.get(LINK_HEADER_LEN..).unwrap_or_default();
        for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
            match attribute.kind() {
                IFLA_ADDRESS => link.mac = attribute.value().try_into().unwrap_or_default(),
                IFLA_IFNAME => {
                    let name = attribute.value();
                    let name = name.strip_suffix(&[0]).unwrap_or(name);
                    link.name = String::from_utf8_lossy(name).into_owned();
                }
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
    /// [`Self::await_addresses`] has taken in something.
    news: bool,
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
            news: false,
        })
    }

    /// The table as of the last [`Self::update`].
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Waits until an interface has these addresses, but not for long. The kernel has made an IPv6 address
    /// usable when it tells of it, some time after it acknowledged the request. Whether it has them.
    pub fn await_addresses(&mut self, ifindex: u32, addresses: &[IpNet], limit: Nanos) -> bool {
        let end = clock::now().after(limit);
        loop {
            match self.update() {
                Ok(changed) => self.news |= changed,
                Err(_) => return false,
            }
            let link = self.table.links.get(&ifindex);
            if link.is_some_and(|link| link.has_all(addresses)) {
                return true;
            }
            let left = end.since(clock::now());
            if left == Nanos::ZERO {
                return false;
            }
            let Ok(left) = Timespec::try_from(Duration::from_nanos(left.0)) else {
                return false;
            };
            // An interruption, or an error, is one more look.
            let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left));
        }
    }

    /// Whether there is something that [`Self::update`] will tell of, though no descriptor does.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.news
    }

    /// Takes in all notifications that wait; whether there were any.
    ///
    /// # Errors
    /// As recv(2), and [`Table::read`] after an overflow.
    pub fn update(&mut self) -> io::Result<bool> {
        let mut changed = std::mem::take(&mut self.news);
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
