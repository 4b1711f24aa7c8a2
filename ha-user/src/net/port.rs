//! The sockets of one interface: adverts out, adverts in, gratuitous ARP out.
//!
//! A receiving socket for protocol 112 is open in every mode. Where XDP takes the adverts, it rejects
//! everything: its only work is that the kernel does not answer unicast VRRP, of a VRID that is not
//! ours, with an ICMP error, and that the multicast group is joined (switches that snoop IGMP). In mode
//! `off` it is read.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    num::NonZeroU32,
    os::fd::{AsFd, BorrowedFd},
};

use ha_common::{MonoNs, wire::vrrp};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockFilter, Socket, Type};

use crate::sys;

/// `TC_PRIO_CONTROL`: adverts go before bulk traffic in the interface's queue (pfifo_fast, mqprio).
const PRIORITY_CONTROL: u32 = 7;
/// A filter of one instruction that accepts zero bytes of each packet (`BPF_RET | BPF_K`).
const REJECT_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);
/// Room for adverts that arrive while the engine is held up (mode `off`).
const RECEIVE_BUFFER: usize = 256 * 1024;

/// The sockets of one interface.
pub struct Port {
    adverts_out: Socket,
    adverts_in: Socket,
    arp: Socket,
    arp_address: SockAddr,
}

impl Port {
    /// Opens the sockets. `reading`: adverts are received here (mode `off`), else by XDP.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW; ENODEV when the interface is gone.
    pub fn open(ifindex: u32, reading: bool) -> io::Result<Self> {
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

        // Protocol 0 receives nothing. Without PACKET_QDISC_BYPASS: the egress guard must see the frames.
        let arp = Socket::new(
            Domain::PACKET,
            Type::RAW.nonblocking().cloexec(),
            Some(Protocol::from(0)),
        )?;
        arp.set_priority(PRIORITY_CONTROL)?;
        Ok(Self {
            adverts_out,
            adverts_in,
            arp,
            arp_address: sys::packet::arp_address(ifindex)?,
        })
    }

    /// Sends a whole IPv4 packet.
    ///
    /// # Errors
    /// As sendto(2); never waits.
    pub fn send_advert(&self, packet: &[u8], destination: Ipv4Addr) -> io::Result<()> {
        let address = SockAddr::from(SocketAddrV4::new(destination, 0));
        whole(self.adverts_out.send_to(packet, &address)?, packet.len())
    }

    /// Sends an Ethernet frame with ARP.
    ///
    /// # Errors
    /// As sendto(2); never waits.
    pub fn send_arp(&self, frame: &[u8]) -> io::Result<()> {
        whole(self.arp.send_to(frame, &self.arp_address)?, frame.len())
    }

    /// Takes the next received IPv4 packet of protocol 112: its whole length and when it arrived.
    ///
    /// # Errors
    /// As recvmsg(2); `WouldBlock` when there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, MonoNs)> {
        sys::stamp::receive(self.adverts_in.as_fd(), buffer)
    }
}

impl AsFd for Port {
    /// The receiving socket.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.adverts_in.as_fd()
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

fn whole(sent: usize, wanted: usize) -> io::Result<()> {
    if sent == wanted {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::WriteZero,
            format!("only {sent} of {wanted} bytes were sent"),
        ))
    }
}
