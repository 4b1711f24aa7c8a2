//! What only the operating system can do; the daemon's `unsafe` code lives here.

pub mod accounts;
pub mod capabilities;
pub mod clock;
pub mod descriptors;
pub mod packet;
pub mod readiness;
pub mod realtime;
pub mod signals;
pub mod slew;
pub mod stamp;

/// Whether this node forwards IPv6 packets that come in by an interface: a router, to its neighbours.
#[must_use]
pub fn forwards_v6(interface: &str) -> bool {
    let setting = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    // Without the file there is no IPv6.
    std::fs::read_to_string(setting).is_ok_and(|value| value.trim() == "1")
}

/// Whether this process is known to see the same mounts as the first one.
#[must_use]
pub fn in_first_mount_namespace() -> bool {
    let own = std::fs::read_link("/proc/self/ns/mnt");
    let first = std::fs::read_link("/proc/1/ns/mnt");
    matches!((own, first), (Ok(own), Ok(first)) if own == first)
}
