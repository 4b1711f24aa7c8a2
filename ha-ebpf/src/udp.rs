//! UDP: which protocol of ours a datagram is.

use ha_common::{
    Address,
    abi::Reason,
    lease,
    wire::{bfd, udp},
};

use crate::{echo, frame::Frame};

/// What the IP header of a whole UDP datagram says.
pub(crate) struct Datagram {
    /// The interface that gets it.
    pub(crate) ifindex: u32,
    pub(crate) source: Address,
    pub(crate) destination: Address,
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// Where the UDP header begins in the packet.
    pub(crate) start: usize,
    /// Bytes of the UDP header and what follows it.
    pub(crate) len: u16,
}

/// Judges a datagram. `Err`: it is none of ours; the reason holds unless it is for a VIP.
#[inline(always)]
pub(crate) fn judge(frame: &Frame, datagram: &Datagram) -> Result<Reason, Reason> {
    let Some(header) = frame
        .bytes::<{ udp::HEADER_LEN }>(datagram.start)
        .and_then(udp::Header::parse)
    else {
        return Err(Reason::PassOther);
    };
    match header.destination {
        lease::PORT => echo::judge(frame, datagram),
        bfd::PORT | bfd::MULTIHOP_PORT => crate::bfd::judge(frame, datagram, &header),
        _ => Err(Reason::PassOther),
    }
}
