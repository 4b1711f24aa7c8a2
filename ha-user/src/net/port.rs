//! The sockets of one interface: adverts out, adverts in, announcements out.
//!
//! Those of IPv6 are opened when an instance on the interface needs them: a system may be without IPv6.

mod batch;
mod room;
mod stations;
mod v4;
mod v6;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd as _, BorrowedFd},
};

use ha_common::{MonoNs, wire::ethernet};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use self::{stations::Stations, v4::V4, v6::V6};
use super::options::PRIORITY_CONTROL;
use crate::sys;

/// Room for adverts that arrive while the engine is held up (mode `off`).
const RECEIVE_BUFFER: usize = 256 * 1024;

/// The sockets of one interface.
pub struct Port {
    ifindex: u32,
    reading: bool,
    v4: V4,
    v6: Option<V6>,
    frames: Socket,
    stations: Stations,
    arp_address: SockAddr,
    ndp_address: SockAddr,
    ipv4_address: SockAddr,
}

impl Port {
    /// Opens the sockets, but for those of IPv6. `reading`: adverts are received here (mode `off`), else by
    /// XDP.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW; ENODEV when the interface is gone.
    pub fn open(ifindex: u32, reading: bool) -> io::Result<Self> {
        // Protocol 0 receives nothing. Without PACKET_QDISC_BYPASS: the egress guard must see the frames.
        let frames = Socket::new(
            Domain::PACKET,
            Type::RAW.nonblocking().cloexec(),
            Some(Protocol::from(0)),
        )?;
        frames.set_priority(PRIORITY_CONTROL)?;
        Ok(Self {
            ifindex,
            reading,
            v4: V4::open(ifindex, reading)?,
            v6: None,
            frames,
            stations: Stations::new(ifindex),
            arp_address: sys::packet::address(ifindex, ethernet::ARP)?,
            ndp_address: sys::packet::address(ifindex, ethernet::IPV6)?,
            ipv4_address: sys::packet::address(ifindex, ethernet::IPV4)?,
        })
    }

    /// Whether the sockets of IPv6 are open.
    #[must_use]
    pub fn has_v6(&self) -> bool {
        self.v6.is_some()
    }

    /// Opens the sockets of IPv6, if they are not open.
    ///
    /// # Errors
    /// EAFNOSUPPORT where the kernel has no IPv6, EADDRNOTAVAIL or ENODEV where the interface has none.
    pub fn open_v6(&mut self) -> io::Result<()> {
        if self.v6.is_none() {
            self.v6 = Some(V6::open(self.ifindex, self.reading)?);
        }
        Ok(())
    }

    /// Makes room for the packets that wait while the kernel asks for the MAC addresses of these peers, so that
    /// those which are away keep none from leaving for the others.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN.
    pub fn make_room(&mut self, interface: &str, peers: &BTreeSet<IpAddr>) -> io::Result<()> {
        let of_v4 = peers.iter().filter(|peer| peer.is_ipv4()).count();
        let result = self.v4.make_room(interface, of_v4);
        match &mut self.v6 {
            Some(v6) => result.and(v6.make_room(interface, peers.len() - of_v4)),
            None => result,
        }
    }

    /// Hears the multicast groups in which these addresses are asked for, and no others, so that switches
    /// which snoop on MLD, and the interface's own filter, let the questions through before an address is
    /// there.
    ///
    /// # Errors
    /// ENOBUFS for more groups than `net.core.optmem_max` holds; what could be heard is heard.
    pub fn hear_solicitations(&mut self, vips: impl Iterator<Item = Ipv6Addr>) -> io::Result<()> {
        match &mut self.v6 {
            Some(v6) => v6.hear_solicitations(vips),
            None => Ok(()),
        }
    }

    /// Lets the interface take frames to these MAC addresses beside its own, and to no others. A card takes them
    /// into its filter, or everything (promiscuous mode) where it has none. That they are this host's is for the
    /// dataplane to say.
    ///
    /// # Errors
    /// As setsockopt(2); what could be had is had.
    pub fn hear_stations(&mut self, wanted: &BTreeSet<[u8; 6]>) -> io::Result<()> {
        self.stations.hear(&self.frames, wanted)
    }

    /// Whether it does so for a MAC address.
    #[must_use]
    pub fn hears(&self, station: &[u8; 6]) -> bool {
        self.stations.contains(station)
    }

    /// Sends a whole IP packet.
    ///
    /// # Errors
    /// As sendto(2); never waits.
    pub fn send_advert(&self, packet: &[u8], destination: IpAddr) -> io::Result<()> {
        let sent = match destination {
            IpAddr::V4(destination) => self.v4.send(packet, destination)?,
            IpAddr::V6(destination) => match &self.v6 {
                Some(v6) => v6.send(packet, destination)?,
                None => return Err(io::ErrorKind::NotConnected.into()),
            },
        };
        whole(sent, packet.len())
    }

    /// Sends whole IP packets, those of one family that follow each other with one call. Tells of each that
    /// did not leave, by its place in the list.
    ///
    /// Errors are as of sendmmsg(2); it never waits.
    pub fn send_adverts(
        &self,
        packets: &[(&[u8], IpAddr)],
        mut failed: impl FnMut(usize, io::Error),
    ) {
        let mut start = 0;
        for run in packets.chunk_by(|(_, one), (_, next)| one.is_ipv4() == next.is_ipv4()) {
            let failed = |at: usize, error| failed(start + at, error);
            match (run.first(), &self.v6) {
                (Some((_, IpAddr::V6(_))), Some(v6)) => v6.send_all(run, failed),
                _ => self.v4.send_all(run, failed),
            }
            start += run.len();
        }
    }

    /// Sends an Ethernet frame with an IP packet; `kind` is its EtherType.
    ///
    /// # Errors
    /// As sendto(2); never waits.
    pub fn send_frame(&self, frame: &[u8], kind: u16) -> io::Result<()> {
        let address = match kind {
            ethernet::IPV6 => &self.ndp_address,
            _ => &self.ipv4_address,
        };
        whole(self.frames.send_to(frame, address)?, frame.len())
    }

    /// Sends an Ethernet frame with ARP.
    ///
    /// # Errors
    /// As sendto(2); never waits.
    pub fn send_arp(&self, frame: &[u8]) -> io::Result<()> {
        whole(self.frames.send_to(frame, &self.arp_address)?, frame.len())
    }

    /// Sends an Ethernet frame with a neighbour advertisement.
    ///
    /// # Errors
    /// As sendto(2); never waits.
    pub fn send_ndp(&self, frame: &[u8]) -> io::Result<()> {
        whole(self.frames.send_to(frame, &self.ndp_address)?, frame.len())
    }

    /// Takes the next received IP packet of protocol 112: its whole length and when it arrived.
    ///
    /// # Errors
    /// As recvmsg(2); `WouldBlock` when there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, MonoNs)> {
        match (self.v4.receive(buffer), &self.v6) {
            (Err(error), Some(v6)) if error.kind() == io::ErrorKind::WouldBlock => {
                v6.receive(buffer)
            }
            (result, _) => result,
        }
    }

    /// The receiving sockets.
    pub fn receivers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let v6 = self.v6.as_ref().map(V6::receiver);
        [self.v4.receiver().as_fd()]
            .into_iter()
            .chain(v6.map(|socket| socket.as_fd()))
    }
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
