//! Room in a sending socket for packets that wait for a neighbour's MAC address.
//!
//! While the kernel asks for it (for three seconds, and then anew), packets to the neighbour wait in a queue, in which
//! the oldest give way to the newest. But they count against their socket's buffer as long as they wait; if that were
//! full before the queues are, one peer that is away would keep every packet from leaving.

use std::{fs, io};

use rustix::net::sockopt::set_socket_send_buffer_size_force;
use socket2::Socket;

/// Room for packets that wait for the interface, in bytes.
const FOR_INTERFACE: usize = 256 * 1024;

/// What a neighbour's queue holds in bytes, unless it is set otherwise (`SK_WMEM_MAX`).
const DEFAULT_QUEUE: usize = 212_992;

/// Makes room for the queues of so many neighbours. `protocol` is "ipv4" or "ipv6".
///
/// Memory is taken by packets that wait, not by room for them.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN.
pub(super) fn make(
    socket: &Socket,
    protocol: &str,
    interface: &str,
    neighbours: usize,
) -> io::Result<()> {
    // Linux 3.3.
    let setting = format!("/proc/sys/net/{protocol}/neigh/{interface}/unres_qlen_bytes");
    let value = fs::read_to_string(setting).ok();
    let queue = value.and_then(|value| value.trim().parse().ok());
    let told = told(neighbours, queue.unwrap_or(DEFAULT_QUEUE));
    Ok(set_socket_send_buffer_size_force(socket, told)?)
}

/// What the kernel is told: it doubles that (socket(7)), and then counts buffers as the queues do.
fn told(neighbours: usize, queue: usize) -> usize {
    let room = FOR_INTERFACE.saturating_add(neighbours.saturating_mul(queue));
    (room / 2).min(i32::MAX as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_fits_and_some_packets_more() {
        for (neighbours, queue) in [(1, 212_992), (8, 212_992), (255, 212_992), (2, 1 << 24)] {
            assert!(2 * told(neighbours, queue) > neighbours * queue + 200_000);
        }
        // An absurd setting gets what the kernel can give.
        assert_eq!(told(8, usize::MAX), i32::MAX as usize);
    }
}
