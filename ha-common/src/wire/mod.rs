//! Wire formats: one parser for XDP and for user space.
//!
//! Nothing here allocates or panics. What XDP calls takes fixed-size headers and folded sums, so that
//! the verifier can follow it; the functions that take slices are fronts of the same checks.

pub mod arp;
pub mod bfd;
pub mod checksum;
pub mod echo;
pub mod ethernet;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod udp;
pub mod virtual_mac;
pub mod vrrp;
