//! rtnetlink(7), synchronously: adding and removing addresses, and reading the whole table.
//!
//! The kernel handles an address request within `sendto`, so that the answer waits in the socket when
//! the call returns: a VIP is in place some microseconds after the decision, without another thread.
//!
//! **Routes.** A VIP is added as it is configured, so that `ip address` shows what the file says. Where
//! another address of the interface already lies in the VIP's network, it is added with
//! `IFA_F_NOPREFIXROUTE`: the network's route belongs to that other address, and neither adding nor
//! removing the VIP touches it. Where the VIP brings its network along (no other address in it), the
//! kernel makes the network's route with the VIP and removes it with the VIP.
//!
//! **IPv6.** A VIP is added without Duplicate Address Detection (`IFA_F_NODAD`), which would keep it from being
//! used for a second or more. It is no check that is lost: the VIP may well be on another node still, whose
//! gate is closed by now, and by the time the gate opens here the election has decided whose it is. And it is
//! added as deprecated (`preferred_lft 0`): connections to it are served, but the node's own connections do
//! not take it as their source, as they would take the latest address otherwise, and break when it moves.
//!
//! The kernel acknowledges an IPv6 address before packets to it are the host's: the local route, which makes
//! them so, follows from a work queue at ordinary priority under the RTNL lock (`addrconf_dad_work`, with
//! `IFA_F_NODAD` as well), at once on an idle machine and after more than 100 ms on a busy one. Therefore a
//! local route of our own goes before the address, and goes again before the address is taken off. Its
//! metric keeps it beside the kernel's (metric 0, preferred as soon as it is there), and by its metric and
//! protocol number it alone is deleted.
//!
//! **Secondary addresses.** Of IPv4, the kernel removes the later addresses of a network together with the first
//! one (unless `promote_secondaries` is set). Several VIPs of a network that they bring along stand in
//! that relation: whoever removes one puts the others back ([`crate::engine`] does on reload).

use std::{io, os::fd::AsFd as _, time::Duration};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo},
    link::LinkMessage,
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::{
    io::Errno,
    net::{
        RecvFlags,
        sockopt::{Timeout, set_socket_timeout},
    },
};

/// `nlmsg_type` of an answer: error or acknowledgement.
const NLMSG_ERROR: u16 = 2;
/// `nlmsg_type` of the end of a dump.
const NLMSG_DONE: u16 = 3;
/// A lifetime without end (`INFINITY_LIFE_TIME`).
const FOREVER: u32 = u32::MAX;
/// `rtm_table` of the host's own addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u8 = 255;
/// The metric of our local routes: that of a route without one of its own (`IP6_RT_PRIO_USER`).
const LOCAL_METRIC: u32 = 1024;
/// `rtm_protocol` of our local routes: VRRP's IP protocol number, which rtnetlink.h gives to nobody.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(112);
/// Bytes of a netlink message header.
const HEADER_LEN: usize = 16;
/// Bytes of that and `ifinfomsg`: who a notification of a link is about.
pub(super) const HEAD_LEN: usize = HEADER_LEN + 16;
/// Requests in one system call: their answers must fit into the socket's receive buffer.
const BATCH: usize = 64;
/// A dump that takes longer has failed.
const DUMP_LIMIT: Duration = Duration::from_secs(2);

/// One netlink message: type and payload.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    sequence: u32,
    pub(super) payload: &'a [u8],
}

/// The type of a message that begins so, and where its payload begins.
pub(super) fn head(head: &[u8; HEAD_LEN]) -> (u16, &[u8]) {
    (u16::from_ne_bytes([head[4], head[5]]), &head[HEADER_LEN..])
}

/// The messages of one datagram. A malformed length ends it.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; HEADER_LEN] = datagram.first_chunk()?;
        let (words, _) = header.as_chunks::<4>();
        let length = usize::try_from(u32::from_ne_bytes(words[0])).ok()?;
        let payload = datagram.get(HEADER_LEN..length)?;
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            sequence: u32::from_ne_bytes(words[2]),
            payload,
        };
        let next = length.next_multiple_of(4).min(datagram.len());
        datagram = &datagram[next..];
        Some(message)
    })
}

/// Adds and removes addresses.
pub struct AddressLane {
    socket: Socket,
    sequence: u32,
    requests: Vec<u8>,
    answers: Vec<u8>,
}

impl AddressLane {
    /// Opens the socket.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok(Self {
            socket,
            sequence: 0,
            requests: Vec::with_capacity(BATCH * 64),
            answers: vec![0; 8192],
        })
    }

    /// Makes packets to IPv6 addresses the host's that come next; those of IPv4 need nothing. An interface
    /// that is not up gets no route, and the next address on it the kernel's alone.
    ///
    /// # Errors
    /// The first address's that the kernel refused; the others have been tried.
    pub fn add_routes(&mut self, ifindex: u32, vips: &[IpNet]) -> io::Result<()> {
        self.each(&only_v6(vips), &[Errno::EXIST, Errno::NETDOWN], |vip| {
            // Without NLM_F_EXCL, since the address's route on another interface may not be gone yet.
            (
                NLM_F_CREATE,
                RouteNetlinkMessage::NewRoute(local_route(ifindex, vip)),
            )
        })
        .map(|_| ())
    }

    /// Takes back what [`Self::add_routes`] made; what is not there is a success.
    ///
    /// # Errors
    /// The first address's that the kernel refused; the others have been tried.
    pub fn remove_routes(&mut self, ifindex: u32, vips: &[IpNet]) -> io::Result<()> {
        self.each(&only_v6(vips), &[Errno::SRCH, Errno::NODEV], |vip| {
            (0, RouteNetlinkMessage::DelRoute(local_route(ifindex, vip)))
        })
        .map(|_| ())
    }

    /// Puts addresses on an interface; one that is there already is a success. `others` are the
    /// interface's addresses that are no VIPs. Returns those that were not there.
    ///
    /// # Errors
    /// The first address's that the kernel refused; the others have been tried.
    pub fn add(
        &mut self,
        ifindex: u32,
        vips: &[IpNet],
        others: &[IpNet],
    ) -> io::Result<Vec<IpNet>> {
        self.each(vips, &[Errno::EXIST], |vip| {
            let mut message = address(ifindex, vip);
            let mut flags = AddressFlags::empty();
            flags.set(
                AddressFlags::Noprefixroute,
                others.iter().any(|other| vip.contains(&other.addr())),
            );
            if vip.addr().is_ipv6() {
                flags |= AddressFlags::Nodad;
                let mut lifetimes = CacheInfo::default();
                lifetimes.ifa_preferred = 0;
                lifetimes.ifa_valid = FOREVER;
                message
                    .attributes
                    .push(AddressAttribute::CacheInfo(lifetimes));
            }
            message.attributes.push(AddressAttribute::Flags(flags));
            (
                NLM_F_CREATE | NLM_F_EXCL,
                RouteNetlinkMessage::NewAddress(message),
            )
        })
    }

    /// Takes addresses off an interface, with the routes of [`Self::add_routes`]; one that is not there is a
    /// success, and so is an interface that is not there.
    ///
    /// # Errors
    /// The first address's that the kernel refused; the others have been tried.
    pub fn remove(&mut self, ifindex: u32, vips: &[IpNet]) -> io::Result<()> {
        let routes = self.remove_routes(ifindex, vips);
        let harmless = [Errno::ADDRNOTAVAIL, Errno::NODEV];
        let addresses = self.each(vips, &harmless, |vip| {
            (0, RouteNetlinkMessage::DelAddress(address(ifindex, vip)))
        });
        routes.and(addresses.map(|_| ()))
    }

    /// Has the kernel do something about each address; returns those about which there was something to do.
    fn each(
        &mut self,
        vips: &[IpNet],
        harmless: &[Errno],
        request: impl Fn(IpNet) -> (u16, RouteNetlinkMessage),
    ) -> io::Result<Vec<IpNet>> {
        let mut done = Vec::new();
        let mut result = Ok(());
        for batch in vips.chunks(BATCH) {
            self.requests.clear();
            for vip in batch {
                let (flags, payload) = request(*vip);
                self.sequence = self.sequence.wrapping_add(1);
                push(
                    &mut self.requests,
                    flags | NLM_F_REQUEST | NLM_F_ACK,
                    self.sequence,
                    payload,
                );
            }
            self.socket
                .send_to(&self.requests, &SocketAddr::new(0, 0), 0)?;
            let first = self
                .sequence
                .wrapping_sub(u32::try_from(batch.len()).unwrap_or(0));
            if let Err(error) = self.acknowledged(first, batch, harmless, &mut done) {
                result = result.and(Err(error));
            }
        }
        result.map(|()| done)
    }

    /// Reads the answers to the requests that follow `first`; `harmless` are errors that say that what
    /// was asked for holds anyway. Without an error it is `done`.
    fn acknowledged(
        &mut self,
        first: u32,
        batch: &[IpNet],
        harmless: &[Errno],
        done: &mut Vec<IpNet>,
    ) -> io::Result<()> {
        let mut left = batch.len();
        let mut result = Ok(());
        while left > 0 {
            let (length, _) = rustix::net::recv(
                self.socket.as_fd(),
                self.answers.as_mut_slice(),
                RecvFlags::DONTWAIT,
            )
            .map_err(|errno| match errno {
                Errno::AGAIN => io::Error::other("the kernel did not acknowledge the request"),
                errno => errno.into(),
            })?;
            for message in messages(self.answers.get(..length).unwrap_or_default()) {
                let index = message.sequence.wrapping_sub(first).wrapping_sub(1);
                let Some(vip) = usize::try_from(index)
                    .ok()
                    .and_then(|index| batch.get(index))
                else {
                    // An answer to a request that was given up earlier.
                    continue;
                };
                if message.kind != NLMSG_ERROR {
                    continue;
                }
                left -= 1;
                match refusal(message.payload) {
                    None => done.push(*vip),
                    Some(errno) if harmless.contains(&errno) => {}
                    Some(errno) => {
                        let error = io::Error::from(errno);
                        let error = io::Error::new(error.kind(), format!("{vip}: {error}"));
                        result = result.and(Err(error));
                    }
                }
            }
        }
        result
    }
}

/// The error of an answer; `None` for an acknowledgement.
fn refusal(payload: &[u8]) -> Option<Errno> {
    let code = i32::from_ne_bytes(*payload.first_chunk()?);
    (code != 0).then(|| Errno::from_raw_os_error(code.saturating_neg()))
}

fn only_v6(vips: &[IpNet]) -> Vec<IpNet> {
    let mut vips = vips.to_vec();
    vips.retain(|vip| vip.addr().is_ipv6());
    vips
}

/// Our local route of an IPv6 address.
fn local_route(ifindex: u32, vip: IpNet) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet6,
        destination_prefix_length: vip.max_prefix_len(),
        table: LOCAL_TABLE,
        protocol: PROTOCOL,
        scope: RouteScope::Universe,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(vip.addr().into()),
        RouteAttribute::Oif(ifindex),
        RouteAttribute::Priority(LOCAL_METRIC),
    ];
    message
}

fn address(ifindex: u32, vip: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match vip {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = vip.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = ifindex;
    message.attributes = vec![
        AddressAttribute::Local(vip.addr()),
        AddressAttribute::Address(vip.addr()),
    ];
    message
}

fn push(buffer: &mut Vec<u8>, flags: u16, sequence: u32, payload: RouteNetlinkMessage) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(payload));
    message.finalize();
    let start = buffer.len();
    buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut buffer[start..]);
}

/// Reads all links and addresses; `each` gets every message.
pub(super) fn dump(mut each: impl FnMut(&Message<'_>)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    set_socket_timeout(&socket, Timeout::Recv, Some(DUMP_LIMIT))?;
    let addresses = |family| {
        let mut message = AddressMessage::default();
        message.header.family = family;
        RouteNetlinkMessage::GetAddress(message)
    };
    let mut buffer = vec![0; 64 * 1024];
    for request in [
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        addresses(AddressFamily::Inet),
        addresses(AddressFamily::Inet6),
    ] {
        let mut bytes = Vec::new();
        push(&mut bytes, NLM_F_REQUEST | NLM_F_DUMP, 1, request);
        socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        'dump: loop {
            let (length, _) =
                rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                match message.kind {
                    NLMSG_DONE => break 'dump,
                    NLMSG_ERROR => {
                        let errno = refusal(message.payload).unwrap_or(Errno::IO);
                        return Err(errno.into());
                    }
                    _ => each(&message),
                }
            }
        }
    }
    Ok(())
}
