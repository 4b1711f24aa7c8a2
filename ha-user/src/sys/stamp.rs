//! Receiving with the kernel's time stamp.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr,
};

use ha_common::MonoNs;
use rustix::time::Timespec;
use socket2::SockAddr;

use super::clock;

/// Room for one `SCM_TIMESTAMPNS` control message, aligned as `cmsghdr` must be.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Lets the kernel stamp what a socket receives.
///
/// # Errors
/// As setsockopt(2).
pub fn enable(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the option takes an `int`, which lives until the call returns and whose size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            ptr::from_ref(&on).cast(),
            size,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes one packet without waiting: its whole length (which may exceed the buffer) and when it
/// arrived; without a kernel stamp, the present time.
///
/// # Errors
/// As recvmsg(2); `WouldBlock` when there is none.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, MonoNs)> {
    receive_from(socket, buffer).map(|(length, stamp, _)| (length, stamp))
}

/// The same, and who sent it.
///
/// # Errors
/// As [`receive`].
pub fn receive_from(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, MonoNs, SockAddr)> {
    let mut control = Control([0; 64]);
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: `msghdr` is plain integers and pointers, for all of which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    // SAFETY: `header` points to one vector over `buffer`, to `control` and to the storage of an address,
    // whose length is given; all outlive the call and are borrowed by nobody else.
    let (length, from) = unsafe {
        SockAddr::try_init(|storage, capacity| {
            header.msg_name = storage.cast();
            header.msg_namelen = *capacity;
            let length = libc::recvmsg(
                socket.as_raw_fd(),
                &raw mut header,
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
            );
            *capacity = header.msg_namelen;
            usize::try_from(length).map_err(|_| io::Error::last_os_error())
        })?
    };
    let stamp = stamp(&header).map_or_else(clock::now, clock::from_realtime);
    Ok((length, stamp, from))
}

fn stamp(header: &libc::msghdr) -> Option<Timespec> {
    // SAFETY: `header` was filled by a successful recvmsg and its control buffer is still alive, so the
    // macros walk initialised control messages within it; the time is read unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET
                && (*message).cmsg_type == libc::SCM_TIMESTAMPNS
            {
                let time: libc::timespec = ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                return Some(Timespec {
                    tv_sec: time.tv_sec,
                    tv_nsec: time.tv_nsec,
                });
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd as _, time::Duration};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    /// Sends a packet, waits until it is there, lets it lie for `rest`, and reads it: how long after its
    /// stamp.
    fn age_when_read(receiver: &UdpSocket, rest: Duration) -> u64 {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender
            .send_to(b"hello!", receiver.local_addr().unwrap())
            .unwrap();
        let mut fds = [PollFd::new(receiver, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1);
        std::thread::sleep(rest);
        let mut buffer = [0_u8; 4];
        let (length, stamp) = receive(receiver.as_fd(), &mut buffer).unwrap();
        assert_eq!(length, 6, "the whole length, though the buffer is shorter");
        assert_eq!(&buffer, b"hell");
        clock::now().since(stamp).0
    }

    /// The kernel begins to stamp some time after it was asked to (a deferred static key); until then it
    /// gives the time of reading.
    #[test]
    fn a_packet_carries_the_time_of_its_arrival() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        enable(receiver.as_fd()).unwrap();
        assert_eq!(
            receive(receiver.as_fd(), &mut [0; 4]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let rest = Duration::from_millis(20);
        // The two clocks are read one after the other: one millisecond for that.
        let arrived = |age: u64| age >= 19_000_000;
        assert!((0..100).any(|_| arrived(age_when_read(&receiver, rest))));
    }
}
