//! TCP between a node's own address, on its interface, and a peer's.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, SockFilter, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::spawn_blocking,
};

use crate::{
    config::{Family, LinkPath, is_link_local},
    net::links::Table,
};

/// `TC_PRIO_BULK`: behind everything else in the interface's queue.
const PRIORITY_BULK: u32 = 2;
/// Connections that the kernel keeps for who has not accepted them yet.
const BACKLOG: i32 = 16;
/// Bytes that the kernel keeps for a connection, either way.
const BUFFER: usize = 128 * 1_024;
/// Until a peer that acknowledges nothing counts as dead, and between two questions whether one that says nothing is there.
const DEAD_AFTER: Duration = Duration::from_secs(1);

/// This node's end of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) interface: String,
    pub(super) ifindex: u32,
    pub(super) local: IpAddr,
}

impl Place {
    /// Where a path begins at present; `Err`: why nowhere.
    pub(super) async fn find(path: &LinkPath, vips: &BTreeSet<IpAddr>) -> Result<Self, String> {
        let table = spawn_blocking(Table::read).await;
        let table = table.map_err(|error| error.to_string())?;
        Self::among(&table.map_err(|error| error.to_string())?, path, vips)
    }

    fn among(table: &Table, path: &LinkPath, vips: &BTreeSet<IpAddr>) -> Result<Self, String> {
        let LinkPath {
            interface, peer, ..
        } = path;
        let link = table.by_name(interface);
        let link = link.ok_or_else(|| format!("there is no interface {interface} at present"))?;
        // An instance without `source` advertises from the same one. Whether an address that is configured is there, bind(2)
        // tells.
        let suits = |address: &IpAddr| {
            Family::of(*address) == Family::of(*peer)
                && is_link_local(*address) == is_link_local(*peer)
                && !vips.contains(address)
        };
        let mut addresses = link.addresses.iter().map(ipnet::IpNet::addr);
        let local = path.local.or_else(|| addresses.find(suits));
        let local = local
            .ok_or_else(|| format!("{interface} has no address at present that suits {peer}"))?;
        Ok(Self {
            interface: interface.clone(),
            ifindex: link.ifindex,
            local,
        })
    }

    /// An address on its interface: only so is a link-local one complete.
    fn on_link(&self, address: IpAddr, port: u16) -> SocketAddr {
        match address {
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                SocketAddrV6::new(address, port, 0, self.ifindex).into()
            }
            address => (address, port).into(),
        }
    }

    fn socket(&self) -> io::Result<Socket> {
        let domain = match self.local {
            IpAddr::V4(_) => Domain::IPV4,
            IpAddr::V6(_) => Domain::IPV6,
        };
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
        socket.bind_device(Some(self.interface.as_bytes()))?;
        socket.set_priority(PRIORITY_BULK)?;
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_send_buffer_size(BUFFER)?;
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(DEAD_AFTER)
            .with_interval(DEAD_AFTER)
            .with_retries(1);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(DEAD_AFTER))?;
        Ok(socket)
    }

    /// Connects to a peer.
    pub(super) async fn connect(&self, peer: IpAddr, port: u16) -> io::Result<TcpStream> {
        let socket = self.socket()?;
        socket.bind(&self.on_link(self.local, 0).into())?;
        let socket = TcpSocket::from_std_stream(socket.into());
        socket.connect(self.on_link(peer, port)).await
    }

    /// Listens to these peers. Nobody else gets so much as a connection: the kernel drops what others send to it.
    pub(super) fn listen(&self, port: u16, peers: &[IpAddr]) -> io::Result<TcpListener> {
        let socket = self.socket()?;
        socket.set_reuse_address(true)?;
        socket.attach_filter(&only_from(peers))?;
        socket.bind(&self.on_link(self.local, port).into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }
}

/// Whether an interface is still the one that a socket was bound to.
pub(super) fn is_still_there(listener: &TcpListener, place: &Place) -> bool {
    name_to_index(listener, &place.interface).is_ok_and(|ifindex| ifindex == place.ifindex)
}

/// `SKF_NET_OFF`: offsets from here on count from the IP header.
const NETWORK_HEADER: u32 = 0xfff0_0000;
/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD_WORD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const IF_EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// A filter that accepts packets of these sources.
fn only_from(peers: &[IpAddr]) -> Vec<SockFilter> {
    let mut filter = Vec::new();
    for peer in peers {
        // Where the source stands: RFC 791 section 3.1, RFC 8200 section 3.
        let (at, bytes) = match peer {
            IpAddr::V4(address) => (12, address.octets().to_vec()),
            IpAddr::V6(address) => (8, address.octets().to_vec()),
        };
        let (words, _) = bytes.as_chunks::<4>();
        let mut left = u8::try_from(words.len()).unwrap_or(0);
        for (offset, word) in (at..).step_by(4).zip(words) {
            left -= 1;
            filter.push(SockFilter::new(LOAD_WORD, 0, 0, NETWORK_HEADER + offset));
            // Another source: behind the other words (two instructions each) and the acceptance.
            let behind = left * 2 + 1;
            let word = u32::from_be_bytes(*word);
            filter.push(SockFilter::new(IF_EQUAL, 0, behind, word));
        }
        filter.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    }
    filter.push(SockFilter::new(RETURN, 0, 0, 0));
    filter
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::net::links::Link;

    fn path(local: Option<&str>, peer: &str) -> LinkPath {
        LinkPath {
            name: "eth0".to_owned(),
            interface: "eth0".to_owned(),
            local: local.map(|local| local.parse().unwrap()),
            peer: peer.parse().unwrap(),
        }
    }

    #[test]
    fn a_path_without_source_begins_where_adverts_do() {
        let addresses = [
            "192.168.33.100/24",
            "192.168.33.101/24",
            "fe80::1/64",
            "2001:db8::1/64",
        ];
        let link = Link {
            name: "eth0".to_owned(),
            ifindex: 7,
            addresses: addresses.map(|net| net.parse().unwrap()).to_vec(),
            ..Link::default()
        };
        let table: Table = [link].into_iter().collect();
        let vips = BTreeSet::from(["192.168.33.100".parse().unwrap()]);
        let found = |local: Option<&str>, peer: &str| {
            let place = Place::among(&table, &path(local, peer), &vips)?;
            assert_eq!((place.interface.as_str(), place.ifindex), ("eth0", 7));
            Ok::<String, String>(place.local.to_string())
        };
        assert_eq!(
            found(None, "192.168.33.102"),
            Ok("192.168.33.101".to_owned())
        );
        assert_eq!(found(None, "fe80::2"), Ok("fe80::1".to_owned()));
        assert_eq!(found(None, "2001:db8::2"), Ok("2001:db8::1".to_owned()));
        assert_eq!(
            found(Some("10.0.0.9"), "10.0.0.2"),
            Ok("10.0.0.9".to_owned())
        );
        let error: Result<String, String> =
            Place::among(&Table::default(), &path(None, "10.0.0.2"), &vips)
                .map(|place| place.interface);
        assert!(error.is_err_and(|why| why.contains("no interface eth0")));
    }

    #[tokio::test]
    async fn the_kernel_lets_in_peers_alone() {
        let [here, peer, other]: [IpAddr; 3] =
            [1, 2, 3].map(|number| [127, 97, 100, number].into());
        let place = |local: IpAddr| Place {
            interface: "lo".to_owned(),
            ifindex: 1,
            local,
        };
        let second = [127, 97, 100, 9].into();
        let listener = place(here).listen(19_748, &[second, peer]).unwrap();
        assert!(is_still_there(&listener, &place(here)));
        let elsewhere = Place {
            ifindex: 2,
            ..place(here)
        };
        assert!(!is_still_there(&listener, &elsewhere));
        let connected = place(peer).connect(here, 19_748).await;
        assert_eq!(connected.unwrap().local_addr().unwrap().ip(), peer);
        let (_, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip(), peer);
        let a_while = Duration::from_millis(300);
        let refused = timeout(a_while, place(other).connect(here, 19_748)).await;
        assert!(refused.is_err(), "{refused:?}");
    }
}
