//! The unsafe corner of the lab: packet sockets with kernel time stamps, scheduling.

use std::{io, mem, os::fd::AsRawFd as _};

use socket2::{Domain, SockAddr, Socket, Type};

/// A raw socket on one interface of the calling thread's namespace, for whole Ethernet frames.
///
/// Frames that this machine's end of the interface sends are not delivered to it.
pub fn packet_socket(interface: &str) -> io::Result<Socket> {
    // Protocol 0: nothing is delivered before the socket is bound to its interface.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
    let every_protocol = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?;
    // SAFETY: `storage` is valid for a `sockaddr_ll`, all-zero bytes are a valid one, and `length` is
    // set to its size.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
            (*address).sll_protocol = every_protocol.to_be();
            (*address).sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
            *length = u32::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
            Ok(())
        })?
    };
    set_flag(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    set_flag(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    set_flag(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16 << 20)?;
    socket.bind(&address)?;
    Ok(socket)
}

fn set_flag(socket: &Socket, level: i32, option: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and `value` is an `i32` that outlives the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes an interface of the calling thread's namespace up or down, in microseconds rather than the
/// milliseconds that starting `ip` takes.
pub fn set_link(interface: &str, up: bool) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: plain integers and characters, for which all-zero bytes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the descriptor is open, and `request` is an `ifreq` with a name that ends with a zero.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let flag = i16::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    // SAFETY: SIOCGIFFLAGS has filled in the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = if up { flags | flag } else { flags & !flag };
    // SAFETY: as for SIOCGIFFLAGS.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Frames that did not fit into the socket's buffer since the last call.
pub fn lost_frames(socket: &Socket) -> io::Result<u32> {
    // SAFETY: plain integers, for which all-zero bytes are valid.
    let mut stats: libc::tpacket_stats = unsafe { mem::zeroed() };
    let mut length =
        libc::socklen_t::try_from(size_of::<libc::tpacket_stats>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, `stats` and `length` are valid for writes of the given size.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    };
    if outcome == 0 {
        Ok(stats.tp_drops)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Receives one frame: its length, and the kernel's stamp in nanoseconds of CLOCK_REALTIME.
pub fn receive_stamped(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
    // Room for one timespec with its header, aligned as a header must be.
    let mut control = [0_u64; 8];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: a `msghdr` of zeros is valid: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the descriptor is open; `message` points to a buffer and to control space that outlive
    // the call and have the lengths given.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let Ok(length) = usize::try_from(received) else {
        return Err(io::Error::last_os_error());
    };
    Ok((length, stamp_of(&message)))
}

fn stamp_of(message: &libc::msghdr) -> Option<u64> {
    // SAFETY: `message` was filled by recvmsg, so its control data is a well-formed chain.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, hence a header inside the control data.
        let kind = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        if kind == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
            // SAFETY: a message of this type carries a timespec, perhaps not aligned.
            let stamp = unsafe {
                libc::CMSG_DATA(header)
                    .cast::<libc::timespec>()
                    .read_unaligned()
            };
            let secs = u64::try_from(stamp.tv_sec).ok()?;
            let nanos = u64::try_from(stamp.tv_nsec).ok()?;
            return Some(secs * 1_000_000_000 + nanos);
        }
        // SAFETY: `header` is inside `message`'s control data.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

/// Puts the calling thread into SCHED_FIFO, so that a busy machine does not delay its probes.
pub fn run_in_real_time(priority: i32) -> io::Result<()> {
    let parameter = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: 0 names the calling thread; `parameter` is valid for the call.
    let outcome = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
