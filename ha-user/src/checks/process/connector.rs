//! The kernel's news of new processes (the proc connector): to know, when one ends, whether another one has taken
//! its place, and to notice at once when one that was missing begins.
//!
//! It exists in the first network and PID namespaces only, and for those who have CAP_NET_ADMIN.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
        netlink::{self, SocketAddrNetlink},
        recv, send, socket_with,
        sockopt::set_socket_recv_buffer_size_force,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::sys::readiness;

/// `CN_IDX_PROC` and `CN_VAL_PROC`: the connector's index and value of processes, and its multicast group.
const PROCESSES: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// `PROC_CN_MCAST_IGNORE`.
const IGNORE: u32 = 2;

/// `PROC_EVENT_NONE`: an acknowledgement.
const ACKNOWLEDGED: u32 = 0;
/// `PROC_EVENT_FORK`.
const FORK: u32 = 1;
/// `PROC_EVENT_EXEC`.
const EXEC: u32 = 2;
/// `PROC_EVENT_COMM`: a name changed.
const COMM: u32 = 0x200;

/// `struct nlmsghdr`.
const NETLINK_HEADER: usize = 16;
/// `struct cn_msg` without its data.
const CONNECTOR_HEADER: usize = 20;
/// Where `event_data` of `struct proc_event` begins.
const EVENT_DATA: usize = NETLINK_HEADER + CONNECTOR_HEADER + 16;

/// The buffer of events that nobody has read yet; each takes about 800 bytes.
const BUFFER: usize = 1 << 20;
/// Events that are read at one go, of a buffer that holds fewer.
const MOST_EVENTS: usize = 4_096;
/// Bytes of a message that are read; an event has about 80.
const LONGEST: usize = 1_024;

/// The open connector.
pub(super) struct Connector {
    socket: AsyncFd<OwnedFd>,
}

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Processes that began, became another program or took another name.
    pub(super) pids: Vec<i32>,
    /// Whether events were lost: there may be others.
    pub(super) lost: bool,
}

impl Connector {
    /// Begins to listen. Must be called within tokio's runtime.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::CONNECTOR),
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, PROCESSES))?;
        // A small buffer is a buffer, too: what does not fit in is looked for.
        let _ = set_socket_recv_buffer_size_force(&socket, BUFFER);
        // Linux 6.6 takes a choice of events; before, such a request is not answered.
        subscribe(&socket, &[LISTEN, FORK | EXEC | COMM])
            .or_else(|_| subscribe(&socket, &[LISTEN]))?;
        Ok(Self {
            socket: readiness::of(socket, Interest::READABLE)?,
        })
    }

    /// What has come since the last time.
    pub(super) fn drain(&self) -> News {
        let mut news = News::default();
        let mut message = [0; LONGEST];
        for _ in 0..MOST_EVENTS {
            match recv(self.socket.get_ref(), &mut message, RecvFlags::empty()) {
                Ok((length, _)) => news.pids.extend(pid_of(&message[..length])),
                Err(Errno::AGAIN) => return news,
                // ENOBUFS says that some did not fit.
                Err(_) => news.lost = true,
            }
        }
        news.lost = true;
        news
    }

    /// Waits for news. Without them it waits for ever.
    pub(super) async fn news(&self) -> News {
        loop {
            let Ok(mut ready) = self.socket.readable().await else {
                return std::future::pending().await;
            };
            let news = self.drain();
            ready.clear_ready();
            if news.lost || !news.pids.is_empty() {
                return news;
            }
        }
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        // Before Linux 6.6 the kernel does not notice that a listener is gone.
        let _ = send(
            self.socket.get_ref(),
            &request(&[IGNORE]),
            SendFlags::empty(),
        );
    }
}

/// Sends a request, which the kernel answers before the call returns, if at all.
fn subscribe(socket: &OwnedFd, words: &[u32]) -> io::Result<()> {
    send(socket, &request(words), SendFlags::empty())?;
    let mut message = [0; LONGEST];
    for _ in 0..MOST_EVENTS {
        let (length, _) = recv(socket, &mut message, RecvFlags::empty())?;
        let message = &message[..length];
        if word(message, NETLINK_HEADER + CONNECTOR_HEADER) == Some(ACKNOWLEDGED) {
            return match word(message, EVENT_DATA).and_then(|error| i32::try_from(error).ok()) {
                Some(0) => Ok(()),
                Some(error) => Err(io::Error::from_raw_os_error(error)),
                None => Err(io::ErrorKind::InvalidData.into()),
            };
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// A message to the connector: `struct nlmsghdr`, `struct cn_msg` and its data.
fn request(words: &[u32]) -> Vec<u8> {
    let data: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let data_length = u16::try_from(data.len()).unwrap_or_default();
    let length = u32::from(data_length)
        + u32::try_from(NETLINK_HEADER + CONNECTOR_HEADER).unwrap_or_default();
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    // NLMSG_DONE, no flags.
    message.extend(3_u16.to_ne_bytes());
    message.extend(0_u16.to_ne_bytes());
    // Sequence and sender: none.
    message.extend([0; 8]);
    message.extend(PROCESSES.to_ne_bytes());
    message.extend(PROCESSES.to_ne_bytes());
    // Sequence and acknowledgement: none.
    message.extend([0; 8]);
    message.extend(data_length.to_ne_bytes());
    message.extend(0_u16.to_ne_bytes());
    message.extend(data);
    message
}

fn word(message: &[u8], offset: usize) -> Option<u32> {
    let bytes = message.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The process that an event is about, if it is one of those that matter; not a thread.
fn pid_of(message: &[u8]) -> Option<i32> {
    let pid = |field: usize| {
        let pid = word(message, EVENT_DATA + 4 * field)?;
        i32::try_from(pid).ok()
    };
    match word(message, NETLINK_HEADER + CONNECTOR_HEADER)? {
        // Parent's thread and process, then the child's.
        FORK => (pid(2)? == pid(3)?).then_some(pid(3)?),
        // Thread and process.
        EXEC | COMM => (pid(0)? == pid(1)?).then_some(pid(1)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: u32, data: &[u32]) -> Vec<u8> {
        let mut message = vec![0; NETLINK_HEADER + CONNECTOR_HEADER];
        message.extend(what.to_ne_bytes());
        message.extend([0; 12]);
        message.extend(data.iter().flat_map(|word| word.to_ne_bytes()));
        message
    }

    #[test]
    fn events_name_processes_and_not_threads() {
        assert_eq!(pid_of(&event(FORK, &[1, 1, 42, 42])), Some(42));
        assert_eq!(pid_of(&event(FORK, &[1, 1, 43, 42])), None);
        assert_eq!(pid_of(&event(EXEC, &[42, 42])), Some(42));
        assert_eq!(pid_of(&event(COMM, &[42, 42, 0, 0])), Some(42));
        assert_eq!(pid_of(&event(COMM, &[43, 42, 0, 0])), None);
        assert_eq!(pid_of(&event(0x8000_0000, &[42, 42, 0, 0])), None);
        let whole = event(EXEC, &[42, 42]);
        for length in 0..whole.len() {
            assert_eq!(pid_of(&whole[..length]), None);
        }
    }
}
