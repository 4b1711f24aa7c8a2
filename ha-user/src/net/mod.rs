//! The network as the engine thread uses it: netlink, raw sockets, gratuitous ARP.

pub mod bfd;
pub mod links;
pub mod netlink;
pub mod options;
pub mod port;
