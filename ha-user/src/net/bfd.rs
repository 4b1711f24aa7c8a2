//! The sockets of BFD sessions.
//!
//! Each session sends from a source port of its own (RFC 5881 section 4). Receiving sockets are only open
//! where XDP does not take the packets: without XDP, and for authenticated sessions, which it passes on.

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    num::NonZeroU32,
    os::fd::{AsFd, BorrowedFd},
};

use ha_common::{MonoNs, wire::bfd};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

use super::options::{PRIORITY_CONTROL, REJECT_ALL};
use crate::sys;

/// Internetwork Control (DSCP CS6) as Type of Service or Traffic Class.
const INTERNETWORK_CONTROL: u32 = 0xc0;
/// Source ports tried until one is free.
const ATTEMPTS: u32 = 16;
/// Room for packets that arrive while the engine is held up.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Where a session's packets go.
#[derive(Debug)]
pub struct Outlet {
    socket: Socket,
    peer: SockAddr,
}

impl Outlet {
    /// Opens the socket. `random` chooses the source port.
    ///
    /// # Errors
    /// EADDRNOTAVAIL when the interface does not have the local address; ENODEV when it is gone.
    pub fn open(
        ifindex: u32,
        local: IpAddr,
        peer: SocketAddr,
        mut random: impl FnMut() -> u16,
    ) -> io::Result<Self> {
        let socket = socket(ifindex, local)?;
        // Nothing is sent to this port, and nothing is read from it.
        socket.attach_filter(&[REJECT_ALL])?;
        let (low, high) = (*bfd::SOURCE_PORTS.start(), *bfd::SOURCE_PORTS.end());
        let mut left = ATTEMPTS;
        loop {
            let port = low + random() % (high - low + 1);
            match socket.bind(&address(ifindex, local, port)) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && left > 0 => left -= 1,
                result => break result?,
            }
        }
        Ok(Self {
            socket,
            peer: address(ifindex, peer.ip(), peer.port()),
        })
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// As sendto(2); never waits.
    pub fn send(&self, payload: &bfd::Payload) -> io::Result<()> {
        self.socket
            .send_to(payload.as_slice(), &self.peer)
            .map(drop)
    }
}

/// Where packets to one of this node's addresses arrive.
#[derive(Debug)]
pub struct Inlet {
    socket: Socket,
}

impl Inlet {
    /// Opens the socket. The kernel drops what has a lower TTL or hop limit.
    ///
    /// # Errors
    /// EADDRINUSE when another BFD daemon has this very address; as [`Outlet::open`].
    pub fn open(ifindex: u32, local: SocketAddr, min_ttl: u8) -> io::Result<Self> {
        let socket = socket(ifindex, local.ip())?;
        socket.attach_filter(&at_least(local.ip(), min_ttl))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        sys::stamp::enable(socket.as_fd())?;
        socket.bind(&address(ifindex, local.ip(), local.port()))?;
        Ok(Self { socket })
    }

    /// Takes the next packet: its whole length, when it arrived, and from whom.
    ///
    /// # Errors
    /// As recvmsg(2); `WouldBlock` when there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, MonoNs, Option<IpAddr>)> {
        let (length, stamp, from) = sys::stamp::receive_from(self.socket.as_fd(), buffer)?;
        let source = from.as_socket().map(|address| address.ip());
        Ok((length, stamp, source))
    }
}

impl AsFd for Inlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn socket(ifindex: u32, local: IpAddr) -> io::Result<Socket> {
    let index = NonZeroU32::new(ifindex);
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(
        Domain::for_address(SocketAddr::new(local, 0)),
        kind,
        Some(Protocol::UDP),
    )?;
    match local {
        IpAddr::V4(_) => {
            socket.bind_device_by_index_v4(index)?;
            socket.set_ttl_v4(bfd::TTL.into())?;
            socket.set_tos_v4(INTERNETWORK_CONTROL)?;
        }
        IpAddr::V6(_) => {
            socket.bind_device_by_index_v6(index)?;
            socket.set_only_v6(true)?;
            socket.set_unicast_hops_v6(bfd::TTL.into())?;
            socket.set_tclass_v6(INTERNETWORK_CONTROL)?;
        }
    }
    socket.set_priority(PRIORITY_CONTROL)?;
    Ok(socket)
}

/// An address on an interface: a link-local one needs its scope.
fn address(ifindex: u32, ip: IpAddr, port: u16) -> SockAddr {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SockAddr::from(SocketAddrV6::new(ip, port, 0, ifindex))
        }
        ip => SockAddr::from(SocketAddr::new(ip, port)),
    }
}

/// A filter that accepts packets whose TTL or hop limit is at least this.
fn at_least(local: IpAddr, min_ttl: u8) -> [SockFilter; 4] {
    /// `SKF_NET_OFF`: from the network header on.
    const NETWORK_HEADER: u32 = (-0x10_0000_i32).cast_unsigned();
    let place = if local.is_ipv4() { 8 } else { 7 };
    [
        // BPF_LD | BPF_B | BPF_ABS
        SockFilter::new(0x30, 0, 0, NETWORK_HEADER + place),
        // BPF_JMP | BPF_JGE | BPF_K
        SockFilter::new(0x35, 0, 1, min_ttl.into()),
        SockFilter::new(0x06, 0, 0, u32::MAX),
        REJECT_ALL,
    ]
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, net::Ipv6Addr, time::Duration};

    use ha_common::wire::bfd::{Control, Diagnostic, Payload, State};
    use rustix::{
        event::{PollFd, PollFlags, poll},
        time::Timespec,
    };

    use super::*;

    /// The loopback interface.
    const LOOPBACK: u32 = 1;

    fn payload() -> Payload {
        Payload::plain(&Control {
            diagnostic: Diagnostic::NONE,
            state: State::Down,
            poll: false,
            is_final: false,
            independent: false,
            authenticated: false,
            demand: false,
            multiplier: 3,
            my_discriminator: 1,
            your_discriminator: 0,
            desired_min_tx_us: 1_000_000,
            required_min_rx_us: 3_000,
            required_min_echo_rx_us: 0,
        })
    }

    fn arrives(inlet: &Inlet, patience: Duration) -> bool {
        let mut fds = [PollFd::new(inlet, PollFlags::IN)];
        let limit = Timespec::try_from(patience).unwrap();
        poll(&mut fds, Some(&limit)).unwrap() == 1
    }

    #[test]
    fn packets_arrive_with_their_ttl_checked() {
        for local in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            // A port of the system's choice, since 3784 may be in use.
            let port = std::net::UdpSocket::bind((local, 0))
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let inlet = Inlet::open(LOOPBACK, SocketAddr::new(local, port), 255).unwrap();
            let outlet =
                Outlet::open(LOOPBACK, local, SocketAddr::new(local, port), || 4_711).unwrap();
            outlet.send(&payload()).unwrap();
            assert!(arrives(&inlet, Duration::from_secs(5)));
            let mut buffer = [0; 100];
            let (length, _, source) = inlet.receive(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], payload().as_slice());
            assert_eq!(source, Some(local));

            let other = std::net::UdpSocket::bind((local, 0)).unwrap();
            let probe = Socket::from(other.try_clone().unwrap());
            if local.is_ipv4() {
                probe.set_ttl_v4(254).unwrap();
            } else {
                probe.set_unicast_hops_v6(254).unwrap();
            }
            other.send_to(payload().as_slice(), (local, port)).unwrap();
            outlet.send(&payload()).unwrap();
            assert!(arrives(&inlet, Duration::from_secs(5)));
            inlet.receive(&mut buffer).unwrap();
            assert!(!arrives(&inlet, Duration::ZERO), "the one with TTL 254");
        }
    }

    #[test]
    fn sessions_have_ports_of_their_own() {
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let peer = SocketAddr::new(local, bfd::PORT);
        let mut next = 100_u16;
        let mut random = || {
            next += 1;
            next / 2
        };
        let port = |outlet: &Outlet| {
            let address = outlet.socket.local_addr().unwrap();
            address.as_socket().unwrap().port()
        };
        let ports: Vec<u16> = (0..3)
            .map(|_| Outlet::open(LOOPBACK, local, peer, &mut random).unwrap())
            .collect::<Vec<_>>()
            .iter()
            .map(port)
            .collect();
        assert!(ports.is_sorted_by(|a, b| a < b), "{ports:?}");
        assert!(ports.iter().all(|port| bfd::SOURCE_PORTS.contains(port)));
        let last = Outlet::open(LOOPBACK, local, peer, || 0x3fff).unwrap();
        assert_eq!(port(&last), *bfd::SOURCE_PORTS.end());
    }
}
