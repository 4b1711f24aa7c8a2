//! A local process on a node that keeps sending from the VIP, whatever the daemon does.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};
use ha_common::Nanos;

use crate::{Node, clock};

/// Between two packets.
const PERIOD: Nanos = Nanos::from_millis(1);

/// Nobody has this address: to reach it the kernel asks by ARP, with the VIP as the sender.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 250);

const PORT: u16 = 9;

/// Sends from the VIP until it is dropped.
pub struct Stray {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Stray {
    /// Starts to send from `vip`, which must be on the node, to `client` and to an address that
    /// nobody has.
    pub fn start(node: &Node, vip: Ipv4Addr, client: Ipv4Addr) -> Result<Self> {
        let socket = node
            .ns()
            .enter(|| UdpSocket::bind(SocketAddr::from((vip, 0))))?
            .with_context(|| format!("{}: binding to {vip}", node.name()))?;
        socket.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&accepted));
        let thread = std::thread::spawn(move || {
            let mut due = clock::now();
            while !stopped.load(Ordering::Relaxed) {
                due = due.after(PERIOD);
                clock::sleep_until(due);
                for to in [client, NOBODY] {
                    // An error tells of an earlier packet that found nobody, or of the VIP's absence.
                    if socket
                        .send_to(b"stray", SocketAddr::from((to, PORT)))
                        .is_ok()
                    {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Ok(Self {
            stop,
            accepted,
            thread: Some(thread),
        })
    }

    /// Packets that the node's kernel took.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
