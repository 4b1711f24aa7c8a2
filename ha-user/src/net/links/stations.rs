//! Which interfaces take frames to other MAC addresses than their own.

use netlink_packet_route::link::InfoKind;

use super::{Link, Table};

/// A VLAN's interface lies on another one, which may be one as well (QinQ).
const MAX_TAGS: usize = 2;

impl Table {
    /// [`Link::why_no_virtual_mac`] of an interface, and of what a VLAN's lies on.
    #[must_use]
    pub fn why_no_virtual_mac(&self, name: &str, native: bool) -> Option<&'static str> {
        let mut link = self.by_name(name)?;
        for _ in 0..=MAX_TAGS {
            if link.kind != Some(InfoKind::Vlan) {
                break;
            }
            link = self.by_index(link.lower?)?;
        }
        link.why_no_virtual_mac(native)
    }
}

impl Link {
    /// Why frames to a virtual MAC address would never reach this host's kernel by this interface, if so;
    /// `native`: XDP runs in its driver.
    #[must_use]
    pub const fn why_no_virtual_mac(&self, native: bool) -> Option<&'static str> {
        match self.kind {
            Some(InfoKind::MacVlan | InfoKind::MacVtap | InfoKind::IpVlan | InfoKind::IpVtap) => {
                Some(
                    "a macvlan or ipvlan gets no frames to other MAC addresses than its own; name the interface below it",
                )
            }
            // veth tells a frame's station before it runs XDP, and does not look again.
            Some(InfoKind::Veth) if native => Some(
                "native XDP comes too late for that on a veth; write `dataplane.mode = \"auto\"`",
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlan_is_as_what_it_lies_on() {
        let link = |name: &str, ifindex, kind, lower| Link {
            name: name.to_owned(),
            ifindex,
            kind,
            lower,
            ..Link::default()
        };
        let table: Table = [
            link("eth0", 1, None, None),
            link("eth0.7", 2, Some(InfoKind::Vlan), Some(1)),
            link("macvlan0", 3, Some(InfoKind::MacVlan), Some(1)),
            link("macvlan0.7", 4, Some(InfoKind::Vlan), Some(3)),
            link("macvlan0.7.8", 5, Some(InfoKind::Vlan), Some(4)),
        ]
        .into_iter()
        .collect();
        assert_eq!(table.why_no_virtual_mac("eth0.7", true), None);
        for name in ["macvlan0", "macvlan0.7", "macvlan0.7.8"] {
            assert!(table.why_no_virtual_mac(name, false).is_some(), "{name}");
        }
    }

    #[test]
    fn a_card_takes_them_and_a_veth_without_native_xdp() {
        let link = |kind| Link {
            kind,
            ..Link::default()
        };
        for native in [false, true] {
            assert_eq!(link(None).why_no_virtual_mac(native), None);
            let macvlan = link(Some(InfoKind::MacVlan)).why_no_virtual_mac(native);
            assert!(macvlan.is_some());
            let veth = link(Some(InfoKind::Veth)).why_no_virtual_mac(native);
            assert_eq!(veth.is_some(), native);
        }
    }
}
