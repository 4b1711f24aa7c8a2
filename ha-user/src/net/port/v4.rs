//! Adverts over IPv4.
//!
//! A receiving socket for protocol 112 is open in every mode. Where XDP takes the adverts, it rejects
//! everything: its only work is that the kernel does not answer unicast VRRP, of a VRID that is not
//! ours, with an ICMP error, and that the multicast group is joined (switches that snoop IGMP). In mode
//! `off` it is read.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZeroU32,
    os::fd::AsFd as _,
};

use ha_common::{MonoNs, wire::vrrp};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};

use super::{RECEIVE_BUFFER, batch, room};
use crate::{
    net::options::{PRIORITY_CONTROL, REJECT_ALL},
    sys,
};

/// The sockets.
pub(super) struct V4 {
    adverts_out: Socket,
    /// Those for whose packets there is room while they wait.
    neighbours: usize,
    adverts_in: Socket,
}

impl V4 {
    pub(super) fn open(ifindex: u32, reading: bool) -> io::Result<Self> {
        let index = NonZeroU32::new(ifindex);
        // IPPROTO_RAW: the header is ours (IP_HDRINCL), nothing is received.
        let adverts_out = raw(libc::IPPROTO_RAW, index)?;
        adverts_out.set_header_included_v4(true)?;
        adverts_out.set_multicast_loop_v4(false)?;
        adverts_out.set_priority(PRIORITY_CONTROL)?;

        let adverts_in = raw(i32::from(vrrp::PROTOCOL), index)?;
        adverts_in.set_multicast_all_v4(false)?;
        if reading {
            adverts_in.set_recv_buffer_size(RECEIVE_BUFFER)?;
            sys::stamp::enable(adverts_in.as_fd())?;
        } else {
            adverts_in.attach_filter(&[REJECT_ALL])?;
        }
        adverts_in.join_multicast_v4_n(
            &Ipv4Addr::from(vrrp::GROUP),
            &InterfaceIndexOrAddress::Index(ifindex),
        )?;
        Ok(Self {
            adverts_out,
            neighbours: 0,
            adverts_in,
        })
    }

    /// See [`super::Port::make_room`].
    pub(super) fn make_room(&mut self, interface: &str, neighbours: usize) -> io::Result<()> {
        if std::mem::replace(&mut self.neighbours, neighbours) == neighbours {
            return Ok(());
        }
        room::make(&self.adverts_out, "ipv4", interface, neighbours)
    }

    /// Sends a whole packet; how many bytes were sent.
    pub(super) fn send(&self, packet: &[u8], destination: Ipv4Addr) -> io::Result<usize> {
        let address = SockAddr::from(SocketAddrV4::new(destination, 0));
        self.adverts_out.send_to(packet, &address)
    }

    /// Sends whole packets; see [`super::Port::send_adverts`].
    pub(super) fn send_all(
        &self,
        packets: &[(&[u8], IpAddr)],
        failed: impl FnMut(usize, io::Error),
    ) {
        let address = |destination| SocketAddr::new(destination, 0);
        batch::send(&self.adverts_out, packets, address, failed);
    }

    /// Takes the next received packet.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, MonoNs)> {
        sys::stamp::receive(self.adverts_in.as_fd(), buffer)
    }

    /// The socket that is read.
    pub(super) fn receiver(&self) -> &Socket {
        &self.adverts_in
    }
}

fn raw(protocol: i32, index: Option<NonZeroU32>) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV4,
        Type::RAW.nonblocking().cloexec(),
        Some(Protocol::from(protocol)),
    )?;
    socket.bind_device_by_index_v4(index)?;
    Ok(socket)
}
