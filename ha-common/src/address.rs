//! IP addresses of both families in one form, as the maps hold them.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An IPv6 address, or an IPv4 address as the IPv4-mapped one (RFC 4291 section 2.5.5.2), in network order.
///
/// No IPv6 packet carries an IPv4-mapped address (the kernel refuses them, and so does [`crate::wire::ipv6`]),
/// so that the two families never meet. Aligned, so that BPF compares it in two loads.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, align(8))]
pub struct Address([u8; 16]);

impl Address {
    /// `::`, which no host has.
    pub const UNSPECIFIED: Self = Self([0; 16]);

    /// An IPv4 address.
    #[must_use]
    pub const fn v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// An IPv6 address.
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// All 16 bytes.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        self.0
    }

    /// Whether it is an IPv4 address.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        let [high, low] = self.words();
        high == 0 && u64::from_be(low) >> 32 == 0xffff
    }

    /// Its bytes as two words, as they lie in memory.
    #[must_use]
    pub const fn words(self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        [
            u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        ]
    }

    /// The opposite of [`Self::words`].
    #[must_use]
    pub const fn from_words(words: [u64; 2]) -> Self {
        let [a, b, c, d, e, f, g, h] = words[0].to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = words[1].to_ne_bytes();
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// Whether they are the same (`==` is no `const fn`).
    #[must_use]
    pub const fn is(self, other: Self) -> bool {
        let ([a, b], [c, d]) = (self.words(), other.words());
        a == c && b == d
    }

    /// Whether it is the greater of two addresses of one family, as numbers in network order.
    #[must_use]
    pub const fn exceeds(self, other: Self) -> bool {
        let ([a, b], [c, d]) = (self.words(), other.words());
        let ((a, b), (c, d)) = (
            (u64::from_be(a), u64::from_be(b)),
            (u64::from_be(c), u64::from_be(d)),
        );
        a > c || a == c && b > d
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.octets())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self(address.octets())
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
        Ipv6Addr::from(address.0).to_canonical()
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
