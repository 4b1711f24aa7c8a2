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

mod advice;
mod bond;
mod stations;
mod table;

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use ha_core::InterfaceCondition;
use ipnet::IpNet;
pub use netlink_packet_route::link::{InfoKind, InfoPortKind};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::{io::Errno, net::RecvFlags};

pub use self::{
    bond::{Bond, BondMode, Lacp, LacpState, MiiStatus, Port, Slave},
    table::Table,
};
use super::netlink;

/// Multicast groups, as a bit mask (rtnetlink(7)).
const RTMGRP_LINK: u32 = 1;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index, which a later interface of the same name does not get.
    pub ifindex: u32,
    /// Its Ethernet address; zeros where it has none.
    pub mac: [u8; 6],
    /// Whether its frames are those of Ethernet.
    pub ethernet: bool,
    /// The largest packet that it carries, in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it has carrier.
    pub carrier: bool,
    /// What it is; `None`: a network card, or something else that says nothing of itself.
    pub kind: Option<InfoKind>,
    /// The interface on which it lies (VLAN, macvlan), or a veth's other end, unless that is in another
    /// network namespace.
    pub lower: Option<u32>,
    /// The interface that has it as its port: a bridge, a bond, a VRF.
    pub master: Option<u32>,
    /// What that interface is.
    pub port_of: Option<InfoPortKind>,
    /// What its bond knows of it, if it is a slave.
    pub port: Port,
    /// The bond that it is, or on which it lies (VLAN, macvlan).
    pub bond: Option<Bond>,
    /// Whether it is a bridge none of whose ports has carrier. The kernel says the same by the bridge's own carrier,
    /// but up to a second later (linkwatch).
    pub unplugged: bool,
    /// Its addresses, in the kernel's order: the first of a family is its primary one.
    pub addresses: Vec<IpNet>,
}

impl Link {
    /// Whether packets can go through it: it is up, has carrier, and its bond, if any, enough slaves. A bond
    /// that does not watch its slaves keeps carrier without any.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.up && self.carries()
    }

    fn carries(&self) -> bool {
        self.carrier && !self.unplugged && self.bond.as_ref().is_none_or(Bond::is_usable)
    }

    /// How many slaves of its bond can be used; `None`: it is no bond, and lies on none.
    #[must_use]
    pub fn usable_slaves(&self) -> Option<u32> {
        self.bond.as_ref().map(Bond::usable_slaves)
    }

    /// The slave by which its bond sends and receives, if it has one that does.
    #[must_use]
    pub fn active_slave(&self) -> Option<u32> {
        self.bond.as_ref()?.active
    }

    /// Whether it lies on [`Self::lower`], as an interface of a VLAN does.
    #[must_use]
    pub fn lies_on_lower(&self) -> bool {
        matches!(
            self.kind,
            Some(InfoKind::Vlan | InfoKind::MacVlan | InfoKind::MacVtap | InfoKind::IpVlan)
        )
    }

    /// Whether it gives its frames to another interface, and packets to addresses on it are nobody's: a bond's
    /// slave, a bridge's port. A VRF's port keeps them.
    #[must_use]
    pub fn gives_frames_away(&self) -> bool {
        self.master.is_some() && self.port_of != Some(InfoPortKind::Vrf)
    }

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
        if !self.carries() {
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

    /// Whether the notifications that wait begin with one of a bond's slave, whose fail-over the bond itself will
    /// tell of. Takes in nothing.
    #[must_use]
    pub fn begins_with_slave(&self) -> bool {
        let mut head = [0; netlink::HEAD_LEN];
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let Ok((length, _)) = rustix::net::recv(self.socket.as_fd(), head.as_mut_slice(), flags)
        else {
            return false;
        };
        length == head.len() && self.table.is_of_slave(&head)
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
                Err(Errno::AGAIN) => {
                    if changed {
                        self.table.relate();
                    }
                    return Ok(changed);
                }
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
mod tests;
