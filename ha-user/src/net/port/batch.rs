//! Many packets with one system call.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
};

use rustix::net::{
    MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, addr::SocketAddrArg as _, sendmmsg,
};

/// Sends packets by a socket, in order, and tells of each that did not leave whole. One that the kernel
/// refuses does not keep back the others.
pub(super) fn send(
    socket: impl AsFd,
    packets: &[(&[u8], IpAddr)],
    address: impl Fn(IpAddr) -> SocketAddr,
    mut failed: impl FnMut(usize, io::Error),
) {
    let addresses: Vec<SocketAddrAny> = packets
        .iter()
        .map(|(_, destination)| address(*destination).as_any())
        .collect();
    let contents: Vec<[IoSlice<'_>; 1]> = packets
        .iter()
        .map(|(packet, _)| [IoSlice::new(packet)])
        .collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = packets
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut messages: Vec<MMsgHdr<'_>> = addresses
        .iter()
        .zip(&contents)
        .zip(&mut controls)
        .map(|((address, content), control)| MMsgHdr::new_with_addr(address, content, control))
        .collect();
    let mut next = 0;
    while let Some(rest @ [_, ..]) = messages.get_mut(next..) {
        match sendmmsg(&socket, rest, SendFlags::empty()) {
            Ok(count) => {
                for (at, message) in (next..).zip(&rest[..count]) {
                    let wanted = packets[at].0.len();
                    if let Err(error) = super::whole(message.bytes_sent(), wanted) {
                        failed(at, error);
                    }
                }
                next += count;
            }
            // The first of the rest; an error of a later one ends the call before it.
            Err(errno) => {
                failed(next, errno.into());
                next += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, time::Duration};

    use super::*;

    #[test]
    fn what_the_kernel_refuses_keeps_back_no_other() -> io::Result<()> {
        let receiver = UdpSocket::bind("127.0.0.1:0")?;
        receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
        let port = receiver.local_addr()?.port();
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        let here = IpAddr::from([127, 0, 0, 1]);
        // More than a UDP datagram holds.
        let long = vec![0; 70_000];
        let packets: [(&[u8], IpAddr); 4] = [
            (b"one", here),
            (&long, here),
            (&long, here),
            (b"four", here),
        ];
        let mut errors = Vec::new();
        send(
            &sender,
            &packets,
            |destination| SocketAddr::new(destination, port),
            |at, error| errors.push((at, error.raw_os_error())),
        );
        let too_long = Some(libc::EMSGSIZE);
        assert_eq!(errors, [(1, too_long), (2, too_long)]);
        let mut buffer = [0; 16];
        for wanted in [&b"one"[..], b"four"] {
            let count = receiver.recv(&mut buffer)?;
            assert_eq!(&buffer[..count], wanted);
        }
        Ok(())
    }
}
