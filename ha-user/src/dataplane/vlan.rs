//! VLANs: how a tag leads from an interface to that of the VLAN, and whether XDP sees the tags at all.

use std::collections::{BTreeMap, BTreeSet};

use ha_common::abi::VlanKey;

use super::{
    DataplaneError,
    interface::{self, Kind},
    offload,
};

/// Tags that the programs follow.
const MAX_TAGS: usize = 2;

/// A VLAN's interface, and the tags that lead there from the interface below all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// The interface with the tagged frames.
    pub(super) root: u32,
    /// Each tag with the interface to which it leads.
    pub(super) tags: Vec<(VlanKey, u32)>,
}

impl Chain {
    /// `None` for what is no VLAN's interface, or has its parent in another network namespace, or too many
    /// tags.
    pub(super) fn of(ifindex: u32) -> Result<Option<Self>, DataplaneError> {
        let mut chain = Self {
            root: ifindex,
            tags: Vec::new(),
        };
        while let Kind::Vlan(vlan) = interface::query(chain.root)?.kind {
            let Some(parent) = vlan.parent.filter(|_| chain.tags.len() < MAX_TAGS) else {
                return Ok(None);
            };
            let key = VlanKey {
                ifindex: parent,
                protocol: vlan.protocol,
                vid: vlan.vid,
            };
            chain.tags.push((key, chain.root));
            chain.root = parent;
        }
        Ok(Some(chain).filter(|chain| !chain.tags.is_empty()))
    }
}

/// Which interfaces instances name, and which get their frames by native XDP on the interface below.
#[derive(Default)]
pub(super) struct Vlans {
    named: BTreeSet<u32>,
    carried: BTreeMap<u32, Chain>,
}

impl Vlans {
    /// An instance names the interface.
    pub(super) fn name(&mut self, ifindex: u32) {
        self.named.insert(ifindex);
    }

    pub(super) fn carry(&mut self, ifindex: u32, chain: Chain) {
        self.carried.insert(ifindex, chain);
    }

    /// No instance names it any more. The interfaces whose programs nobody needs now.
    pub(super) fn forget(&mut self, ifindex: u32) -> Vec<u32> {
        self.named.remove(&ifindex);
        let root = self.carried.remove(&ifindex).map(|chain| chain.root);
        [
            Some(ifindex),
            root.filter(|root| !self.named.contains(root)),
        ]
        .into_iter()
        .flatten()
        .filter(|one| self.carried.values().all(|chain| chain.root != *one))
        .collect()
    }

    /// The tags that lead somewhere.
    pub(super) fn tags(&self) -> impl Iterator<Item = (VlanKey, u32)> {
        self.carried
            .values()
            .flat_map(|chain| chain.tags.iter().copied())
    }
}

/// Why XDP on an interface would take frames of VLANs on it for the interface's own, if it would. Lets the
/// driver leave the tags in the frames, if it does.
pub(super) fn why_hidden(ifindex: u32, kind: Kind) -> Result<Option<String>, DataplaneError> {
    // The tags of VLANs on a VLAN's interface lie behind the one that is stripped.
    if matches!(kind, Kind::Vlan(_)) || interface::vlans_on(ifindex)?.is_empty() {
        return Ok(None);
    }
    Ok(why_stripped(ifindex, kind))
}

/// Why tags are not in the frames; `None`: they are.
pub(super) fn why_stripped(ifindex: u32, kind: Kind) -> Option<String> {
    match kind {
        Kind::Veth => Some("a veth hands tags over beside the frame".into()),
        Kind::Bond => Some("the ports of a bond may strip the tags".into()),
        Kind::Vlan(_) | Kind::Other => match offload::keep_tags(ifindex) {
            Ok(true) => None,
            Ok(false) => {
                Some("its driver strips the tags, and does not let that be changed".into())
            }
            Err(error) => Some(format!(
                "whether its driver strips the tags is unknown: {error}"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(root: u32, interfaces: &[u32]) -> Chain {
        let tags = interfaces.iter().map(|ifindex| {
            let key = VlanKey {
                ifindex: root,
                protocol: 0x8100,
                vid: 7,
            };
            (key, *ifindex)
        });
        Chain {
            root,
            tags: tags.collect(),
        }
    }

    #[test]
    fn the_interface_below_is_kept_as_long_as_anybody_needs_it() {
        let mut vlans = Vlans::default();
        for (ifindex, chain) in [(7, chain(2, &[7])), (9, chain(2, &[8, 9]))] {
            vlans.name(ifindex);
            vlans.carry(ifindex, chain);
        }
        assert_eq!(vlans.tags().count(), 3);
        assert_eq!(vlans.forget(7), [7]);
        assert_eq!(vlans.tags().count(), 2);
        assert_eq!(vlans.forget(9), [9, 2]);
        assert_eq!(vlans.tags().count(), 0);
    }

    #[test]
    fn the_interface_below_may_have_instances_of_its_own() {
        let mut vlans = Vlans::default();
        vlans.name(2);
        vlans.name(7);
        vlans.carry(7, chain(2, &[7]));
        assert!(vlans.forget(2).is_empty(), "the VLAN needs it");
        vlans.name(2);
        assert_eq!(vlans.forget(7), [7]);
        assert_eq!(vlans.forget(2), [2]);
    }

    #[test]
    fn the_loopback_interface_is_no_vlan() {
        assert_eq!(Chain::of(1).unwrap(), None);
    }
}
