//! The MAC addresses of virtual routers (RFC 9568 section 7.3).

use super::{ipv4, ipv6};

/// The first four bytes of each, as they lie in memory. What IANA has behind 00-00-5E-00 is for protocols, and
/// no card's own.
pub const PREFIX: u32 = u32::from_ne_bytes([0x00, 0x00, 0x5e, 0x00]);

/// The fifth byte: IPv4.
const V4: u8 = 1;

/// The same: IPv6.
const V6: u8 = 2;

/// The address of the virtual router `vrid` over IP of version `family`.
#[must_use]
pub const fn of(vrid: u8, family: u8) -> [u8; 6] {
    let kind = if family == ipv6::VERSION { V6 } else { V4 };
    [0x00, 0x00, 0x5e, 0x00, kind, vrid]
}

/// Whose address it is: VRID and family, if a virtual router's.
#[must_use]
pub const fn parse(mac: [u8; 6]) -> Option<(u8, u8)> {
    match mac {
        [0x00, 0x00, 0x5e, 0x00, V4, vrid] => Some((vrid, ipv4::VERSION)),
        [0x00, 0x00, 0x5e, 0x00, V6, vrid] => Some((vrid, ipv6::VERSION)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_rfc_has_them() {
        assert_eq!(of(51, 4), [0x00, 0x00, 0x5e, 0x00, 0x01, 51]);
        assert_eq!(of(255, 6), [0x00, 0x00, 0x5e, 0x00, 0x02, 255]);
        for family in [4, 6] {
            let mac = of(7, family);
            assert_eq!(parse(mac), Some((7, family)));
            assert_eq!(mac[..4], PREFIX.to_ne_bytes());
        }
    }

    #[test]
    fn others_are_none() {
        for mac in [
            [0x00, 0x00, 0x5e, 0x00, 0x00, 51],
            [0x00, 0x00, 0x5e, 0x00, 0x03, 51],
            [0x01, 0x00, 0x5e, 0x00, 0x01, 51],
            [0x02, 0, 0, 0, 0, 1],
        ] {
            assert_eq!(parse(mac), None);
        }
    }
}
