//! Ethernet II framing.

/// Bytes of destination, source and EtherType.
pub const HEADER_LEN: usize = 14;

/// The broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;

/// EtherType of ARP.
pub const ARP: u16 = 0x0806;

/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// EtherType of an IEEE 802.1Q tag.
pub const VLAN: u16 = 0x8100;

/// EtherType of an IEEE 802.1ad service tag.
pub const SERVICE_VLAN: u16 = 0x88a8;

/// What a frame carries.
#[must_use]
pub const fn ether_type(header: &[u8; HEADER_LEN]) -> u16 {
    u16::from_be_bytes([header[12], header[13]])
}

/// The VLAN identifier within a tag's control information.
pub const VID_MASK: u16 = 0x0fff;

/// Bytes of a tag: its control information, and the EtherType of what follows. It lies between the
/// source and the EtherType of a frame, whose own EtherType is then the tag's.
pub const TAG_LEN: usize = 4;

/// Whether an EtherType is that of a tag.
#[must_use]
pub const fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, VLAN | SERVICE_VLAN)
}

/// The VLAN identifier of a tag; 0: it says only a priority.
#[must_use]
pub const fn vid(tag: &[u8; TAG_LEN]) -> u16 {
    u16::from_be_bytes([tag[0], tag[1]]) & VID_MASK
}

/// Whether an address is a group's, broadcast included.
#[must_use]
pub const fn is_group(address: [u8; 6]) -> bool {
    address[0] & 1 != 0
}

/// What follows a tag.
#[must_use]
pub const fn tagged_type(tag: &[u8; TAG_LEN]) -> u16 {
    u16::from_be_bytes([tag[2], tag[3]])
}

/// The station that a frame is for.
#[must_use]
pub const fn destination(header: &[u8; HEADER_LEN]) -> [u8; 6] {
    [
        header[0], header[1], header[2], header[3], header[4], header[5],
    ]
}

/// The head of a frame up to its tags.
#[must_use]
pub const fn stations(destination: [u8; 6], source: [u8; 6]) -> [u8; 12] {
    let [d0, d1, d2, d3, d4, d5] = destination;
    let [s0, s1, s2, s3, s4, s5] = source;
    [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]
}

/// A header.
#[must_use]
pub const fn build(destination: [u8; 6], source: [u8; 6], ether_type: u16) -> [u8; HEADER_LEN] {
    let [d0, d1, d2, d3, d4, d5] = destination;
    let [s0, s1, s2, s3, s4, s5] = source;
    let [t0, t1] = ether_type.to_be_bytes();
    [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; HEADER_LEN] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0x01, 0x08, 0x06,
    ];

    #[test]
    fn deconstruct() {
        assert_eq!(ether_type(&HEADER), ARP);
        assert_eq!(destination(&HEADER), BROADCAST);
    }

    #[test]
    fn construct() {
        assert_eq!(build(BROADCAST, [2, 0, 0, 0, 0, 1], ARP), HEADER);
        assert_eq!(stations(BROADCAST, [2, 0, 0, 0, 0, 1]), HEADER[..12]);
    }

    #[test]
    fn tags() {
        let tag = [0xef, 0xa7, 0x08, 0x06];
        assert_eq!(vid(&tag), 0xfa7);
        assert_eq!(tagged_type(&tag), ARP);
        assert_eq!(vid(&[0xe0, 0, 0x08, 0]), 0);
        assert!(is_tag(VLAN) && is_tag(SERVICE_VLAN));
        assert!(!is_tag(IPV4));
    }
}
