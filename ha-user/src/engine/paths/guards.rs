//! Sockets that keep the kernel from answering echoes of unknown paths.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ha_common::lease::PORT;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    engine::outbox::{Level, Outbox},
    net::options::REJECT_ALL,
};

/// Sockets for the port, from which nothing is read.
pub(super) fn guards(out: &mut Outbox) -> Vec<Socket> {
    let open = |address: IpAddr| -> io::Result<Socket> {
        let address = SocketAddr::new(address, PORT);
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        socket.attach_filter(&[REJECT_ALL])?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    all.into_iter()
        .filter_map(|address| match open(address) {
            Ok(socket) => Some(socket),
            Err(error) => {
                // A system without IPv6 gets no echoes over it either.
                if address.is_ipv4() {
                    let text = format!(
                        "UDP port {PORT} is somebody else's ({error}): who sends echoes of unknown paths \
                         may get answers"
                    );
                    out.log(Level::Warn, text);
                }
                None
            }
        })
        .collect()
}
