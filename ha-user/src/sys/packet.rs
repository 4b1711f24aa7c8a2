//! The address of an interface for AF_PACKET sockets (packet(7)).

use std::io;

use socket2::SockAddr;

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
