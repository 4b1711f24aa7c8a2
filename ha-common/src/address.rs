//! IP addresses of both families in one form, as the maps hold them.

use core::{
    cmp::Ordering,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An IPv6 address, or an IPv4 address as the IPv4-mapped one (RFC 4291 section 2.5.5.2): 16 bytes in network
/// order, in two words, which is how BPF loads and compares them.
///
/// No IPv6 packet carries an IPv4-mapped address (the kernel refuses them, and so does [`crate::wire::ipv6`]),
/// so that the two families never meet.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Address([u64; 2]);

impl Address {
    /// `::`, which no host has.
    pub const UNSPECIFIED: Self = Self([0; 2]);

    /// An IPv4 address.
    #[must_use]
    pub const fn v4(octets: [u8; 4]) -> Self {
        // By arithmetic: LLVM would put eight bytes together one by one.
        let octets = u32::from_be_bytes(octets) as u64;
        Self([0, (0xffff_0000_0000 | octets).to_be()])
    }

    /// An IPv6 address.
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([
            u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        ])
    }

    /// All 16 bytes.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.0[0].to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.0[1].to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Its bytes as they lie in memory.
    #[must_use]
    pub const fn words(self) -> [u64; 2] {
        self.0
    }

    /// The opposite of [`Self::words`].
    #[must_use]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self(words)
    }

    /// Whether it is an IPv4 address.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && u64::from_be(self.0[1]) >> 32 == 0xffff
    }

    /// The IPv4 address, if it is one.
    #[must_use]
    pub const fn to_v4(self) -> Option<[u8; 4]> {
        let [.., a, b, c, d] = self.0[1].to_ne_bytes();
        if self.is_v4() {
            Some([a, b, c, d])
        } else {
            None
        }
    }

    /// Whether it is the address of an IPv6 multicast group.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0].to_ne_bytes()[0] == 0xff
    }

    /// Whether they are the same (`==` is no `const fn`).
    #[must_use]
    pub const fn is(self, other: Self) -> bool {
        self.0[0] == other.0[0] && self.0[1] == other.0[1]
    }

    /// Whether it is the greater of two addresses of one family, as numbers in network order.
    #[must_use]
    pub const fn exceeds(self, other: Self) -> bool {
        let ([a, b], [c, d]) = (self.0, other.0);
        let (high, other_high) = (u64::from_be(a), u64::from_be(c));
        high > other_high || a == c && u64::from_be(b) > u64::from_be(d)
    }
}

impl Ord for Address {
    /// As numbers in network order.
    fn cmp(&self, other: &Self) -> Ordering {
        self.octets().cmp(&other.octets())
    }
}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.octets())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address.octets())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        Ipv6Addr::from(address.octets()).to_canonical()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString as _;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn each_family_keeps_its_addresses() {
        for text in ["192.168.33.100", "2001:db8::100", "fe80::1", "::", "::1"] {
            let address = address(text);
            assert_eq!(address.to_string(), text);
            assert_eq!(address.is_v4(), !text.contains(':'));
            assert_eq!(Address::from_words(address.words()), address);
        }
        assert_eq!(Address::v4([10, 0, 0, 1]), address("10.0.0.1"));
    }

    #[test]
    fn order_is_that_of_numbers_in_network_order() {
        let ascending = ["9.255.255.255", "10.0.0.1", "10.0.0.2", "10.200.0.0"];
        let ascending_v6 = ["fe80::1", "fe80::2", "fe80::1:0:0:0", "fe81::"];
        for texts in [&ascending[..], &ascending_v6[..]] {
            for pair in texts.windows(2) {
                let [low, high] = [address(pair[0]), address(pair[1])];
                assert!(high.exceeds(low) && !low.exceeds(high), "{pair:?}");
                assert!(!low.exceeds(low) && low.is(low) && !low.is(high));
                assert!(high > low);
            }
        }
    }
}
