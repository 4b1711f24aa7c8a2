//! AF_PACKET sockets (packet(7)): the address of an interface, and the stations that it hears.

use std::{io, os::fd::AsRawFd as _};

use socket2::{SockAddr, Socket};

/// The address of frames with an EtherType on an interface.
///
/// # Errors
/// An interface index beyond the kernel's range.
pub fn address(ifindex: u32, ether_type: u16) -> io::Result<SockAddr> {
    let family = libc::sa_family_t::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    let size =
        libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    let ifindex = libc::c_int::try_from(ifindex).map_err(io::Error::other)?;
    // SAFETY: `storage` is zeroed and larger than `sockaddr_ll`, whose every bit pattern is a value; the
    // length given is that structure's.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = family;
            (*address).sll_protocol = ether_type.to_be();
            (*address).sll_ifindex = ifindex;
            *length = size;
            Ok(())
        })?
    };
    Ok(address)
}

/// Lets the interface take frames to a further MAC address, as long as the socket is open.
///
/// # Errors
/// EINVAL where MAC addresses have another length, ENODEV when the interface is gone.
pub fn join(socket: &Socket, ifindex: u32, station: [u8; 6]) -> io::Result<()> {
    membership(socket, libc::PACKET_ADD_MEMBERSHIP, ifindex, station)
}

/// No longer.
///
/// # Errors
/// EADDRNOTAVAIL if it was not joined.
pub fn leave(socket: &Socket, ifindex: u32, station: [u8; 6]) -> io::Result<()> {
    membership(socket, libc::PACKET_DROP_MEMBERSHIP, ifindex, station)
}

fn membership(
    socket: &Socket,
    option: libc::c_int,
    ifindex: u32,
    station: [u8; 6],
) -> io::Result<()> {
    let [a, b, c, d, e, f] = station;
    let request = libc::packet_mreq {
        mr_ifindex: libc::c_int::try_from(ifindex).map_err(io::Error::other)?,
        mr_type: libc::c_ushort::try_from(libc::PACKET_MR_UNICAST).map_err(io::Error::other)?,
        mr_alen: 6,
        mr_address: [a, b, c, d, e, f, 0, 0],
    };
    let size =
        libc::socklen_t::try_from(size_of::<libc::packet_mreq>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the kernel reads `size` bytes of `request`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const request).cast(),
            size,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
