//! VRRPv2 (RFC 3768) and VRRPv3 (RFC 9568) advertisements.

/// The IPv4 Identification with which `had` marks its adverts, together with the DF bit ("hA").
///
/// RFC 6864 leaves the field free in packets that are never fragmented, and VRRP receivers ignore it.
/// A peer that carries the mark answers a higher priority with priority 0 as it closes its gate.
pub const HAD_MARK: u16 = 0x6841;
