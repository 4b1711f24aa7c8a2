//! Adverts over IPv6, and the multicast groups.
//!
//! The raw socket for protocol 112 rejects everything, as that of IPv4 does beside XDP: a raw socket of IPv6
//! gets no IP header. In mode `off` a packet socket is read, which gets whole packets.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    num::NonZeroU32,
    os::fd::AsFd as _,
};

use ha_common::{
    MonoNs,
    wire::{ethernet, ipv6, vrrp},
};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

use super::{RECEIVE_BUFFER, batch, room};
use crate::{
    net::options::{PRIORITY_CONTROL, REJECT_ALL},
    sys,
};

/// Where a header's Next Header stands.
const NEXT_HEADER: u32 = 6;

/// Accepts the packets whose header is followed by VRRP, whole (classic BPF: load the byte, compare, return).
const VRRP_ONLY: [SockFilter; 4] = [
    SockFilter::new(0x30, 0, 0, NEXT_HEADER),
    SockFilter::new(0x15, 0, 1, vrrp::PROTOCOL as u32),
    SockFilter::new(0x06, 0, 0, u32::MAX),
    REJECT_ALL,
];

/// The sockets.
pub(super) struct V6 {
    ifindex: u32,
    adverts_out: Socket,
    /// Those for whose packets there is room while they wait.
    neighbours: usize,
    members: Socket,
    /// Mode `off`.
    adverts_in: Option<Socket>,
    /// The solicited-node groups that `members` has joined.
    groups: BTreeSet<Ipv6Addr>,
}

impl V6 {
    pub(super) fn open(ifindex: u32, reading: bool) -> io::Result<Self> {
        let index = NonZeroU32::new(ifindex);
        // IPPROTO_RAW: the header is ours (IPV6_HDRINCL), nothing is received.
        let adverts_out = raw(libc::IPPROTO_RAW, index)?;
        adverts_out.set_header_included_v6(true)?;
        adverts_out.set_multicast_loop_v6(false)?;
        adverts_out.set_priority(PRIORITY_CONTROL)?;

        let members = raw(i32::from(vrrp::PROTOCOL), index)?;
        members.attach_filter(&[REJECT_ALL])?;
        members.join_multicast_v6(&Ipv6Addr::from(vrrp::GROUP_V6), ifindex)?;
        Ok(Self {
            ifindex,
            adverts_out,
            neighbours: 0,
            members,
            adverts_in: reading.then(|| packets(ifindex)).transpose()?,
            groups: BTreeSet::new(),
        })
    }

    /// See [`super::Port::hear_solicitations`].
    pub(super) fn hear_solicitations(
        &mut self,
        vips: impl Iterator<Item = Ipv6Addr>,
    ) -> io::Result<()> {
        let wanted: BTreeSet<Ipv6Addr> = vips
            .map(|vip| ipv6::solicited_node(vip.into()).octets().into())
            .collect();
        let Self {
            ifindex,
            members,
            groups,
            ..
        } = self;
        // A group that cannot be left has left with the interface's addresses.
        for group in groups.extract_if(.., |group| !wanted.contains(group)) {
            let _ = members.leave_multicast_v6(&group, *ifindex);
        }
        let mut result = Ok(());
        for group in wanted {
            if groups.contains(&group) {
                continue;
            }
            match members.join_multicast_v6(&group, *ifindex) {
                Ok(()) => {
                    groups.insert(group);
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// See [`super::Port::make_room`].
    pub(super) fn make_room(&mut self, interface: &str, neighbours: usize) -> io::Result<()> {
        if std::mem::replace(&mut self.neighbours, neighbours) == neighbours {
            return Ok(());
        }
        room::make(&self.adverts_out, "ipv6", interface, neighbours)
    }

    /// Sends a whole packet; how many bytes were sent.
    pub(super) fn send(&self, packet: &[u8], destination: Ipv6Addr) -> io::Result<usize> {
        let address = SockAddr::from(SocketAddrV6::new(destination, 0, 0, self.ifindex));
        self.adverts_out.send_to(packet, &address)
    }

    /// Sends whole packets; see [`super::Port::send_adverts`].
    pub(super) fn send_all(
        &self,
        packets: &[(&[u8], IpAddr)],
        failed: impl FnMut(usize, io::Error),
    ) {
        let address = |destination| match destination {
            IpAddr::V6(destination) => SocketAddrV6::new(destination, 0, 0, self.ifindex).into(),
            IpAddr::V4(_) => SocketAddr::new(destination, 0),
        };
        batch::send(&self.adverts_out, packets, address, failed);
    }

    /// Takes the next received packet.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, MonoNs)> {
        match &self.adverts_in {
            Some(socket) => sys::stamp::receive(socket.as_fd(), buffer),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// The socket that is read.
    pub(super) fn receiver(&self) -> &Socket {
        self.adverts_in.as_ref().unwrap_or(&self.members)
    }
}

/// A socket that gets the VRRP packets of an interface from the IPv6 header on.
fn packets(ifindex: u32) -> io::Result<Socket> {
    // Protocol 0 receives nothing until the filter is there.
    let socket = Socket::new(
        Domain::PACKET,
        Type::DGRAM.nonblocking().cloexec(),
        Some(Protocol::from(0)),
    )?;
    socket.attach_filter(&VRRP_ONLY)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    sys::stamp::enable(socket.as_fd())?;
    socket.bind(&sys::packet::address(ifindex, ethernet::IPV6)?)?;
    Ok(socket)
}

fn raw(protocol: i32, index: Option<NonZeroU32>) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV6,
        Type::RAW.nonblocking().cloexec(),
        Some(Protocol::from(protocol)),
    )?;
    socket.bind_device_by_index_v6(index)?;
    Ok(socket)
}
