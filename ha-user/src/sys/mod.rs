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
