//! What is to be done about an interface.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::IpNet;

use super::Plan;
use crate::net::links::{InfoKind, Link, Table};

/// Interfaces that are guarded, at most: each takes the kernel some ten milliseconds.
const MAX_GUARDED: usize = 256;

/// What is to be done about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) name: String,
    pub(super) ifindex: u32,
    /// It is to be guarded.
    pub(super) guard: bool,
    /// The kernel's ARP requests by it are not to name a VIP, or another interface's address, as sender
    /// (`arp_announce`).
    pub(super) announce: bool,
    /// The kernel is to answer by it for its own addresses alone (`arp_ignore`): nothing else keeps it from
    /// answering for a VIP, or for an address to which peers send.
    pub(super) ignore: bool,
}

/// What is to be done about each interface with which anything is; and those that would be guarded but are too
/// many.
pub(super) fn choose(table: &Table, plan: &Plan, has_gate: bool) -> (Vec<Choice>, usize) {
    let mut guarded = 0;
    let mut choices = Vec::new();
    if !plan.is_wanted {
        return (choices, 0);
    }
    let locals = locals(table, plan);
    for link in table.links().filter(|link| link.ethernet) {
        let is_named = plan.named.contains(&link.name);
        // Also by an interface without an address Linux answers for those of others.
        let takes_packets = link.up && !link.gives_frames_away();
        let is_below = takes_packets && is_below_named(table, plan, link);
        let mut guard = has_gate && !is_named && takes_packets && !is_below;
        guarded += usize::from(guard);
        guard &= guarded <= MAX_GUARDED;
        let has_gate = has_gate && (is_named || guard);
        let in_network = || plan.vips.iter().any(|vip| is_in_network_of(link, *vip));
        let in_peers_network = || {
            let mut locals = locals.iter().filter(|(on, _)| *on != link.ifindex);
            locals.any(|(_, local)| is_in_network_of(link, *local))
        };
        let announce = plan.with_vips.contains(&link.name)
            || (takes_packets
                && (in_network() || in_peers_network() || (is_below && !plan.vips.is_empty())));
        let choice = Choice {
            name: link.name.clone(),
            ifindex: link.ifindex,
            guard,
            announce,
            ignore: announce && !has_gate,
        };
        if choice.guard || choice.announce {
            choices.push(choice);
        }
    }
    (choices, guarded.saturating_sub(MAX_GUARDED))
}

/// The addresses to which peers send, with their interfaces.
fn locals(table: &Table, plan: &Plan) -> BTreeSet<(u32, Ipv4Addr)> {
    let links = table
        .links()
        .filter(|link| plan.with_peers.contains(&link.name));
    let addresses = links.flat_map(|link| link.addresses.iter().map(|net| (link.ifindex, net)));
    addresses
        .filter_map(|(ifindex, net)| match net {
            IpNet::V4(net) if !plan.vips.contains(&net.addr()) => Some((ifindex, net.addr())),
            _ => None,
        })
        .collect()
}

fn is_in_network_of(link: &Link, vip: Ipv4Addr) -> bool {
    link.addresses
        .iter()
        .any(|net| matches!(net, IpNet::V4(net) if net.addr() != vip && net.contains(&vip)))
}

/// Whether an interface that is named gets its frames by this one (macvlan, ipvlan): the guard would take them
/// from it. Those of VLANs have tags here.
fn is_below_named(table: &Table, plan: &Plan, link: &Link) -> bool {
    let named = table.links().filter(|one| plan.named.contains(&one.name));
    named.into_iter().any(|one| {
        let mut upper = Some(one);
        while let Some(one) = upper.filter(|one| one.lies_on_lower()) {
            if one.lower == Some(link.ifindex) {
                return one.kind != Some(InfoKind::Vlan);
            }
            upper = one.lower.and_then(|lower| table.by_index(lower));
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::links::InfoPortKind;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

    fn plan(named: &[&str]) -> Plan {
        Plan {
            is_wanted: true,
            named: named.iter().map(|name| (*name).to_owned()).collect(),
            with_vips: named.iter().map(|name| (*name).to_owned()).collect(),
            vips: [VIP].into(),
            with_peers: BTreeSet::new(),
        }
    }

    fn link(name: &str, addresses: &[&str]) -> Link {
        Link {
            name: name.to_owned(),
            ethernet: true,
            up: true,
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
            ..Link::default()
        }
    }

    /// What is to be done: guard, `arp_announce`, `arp_ignore`.
    fn chosen(links: Vec<Link>, named: &[&str], has_gate: bool) -> Vec<(String, [bool; 3])> {
        // Their indices are 1, 2, 3, as the table numbers them.
        let links = (1..)
            .zip(links)
            .map(|(ifindex, link)| Link { ifindex, ..link });
        let (choices, _) = choose(&links.collect(), &plan(named), has_gate);
        choices
            .into_iter()
            .map(|one| (one.name, [one.guard, one.announce, one.ignore]))
            .collect()
    }

    fn is(name: &str, what: [bool; 3]) -> (String, [bool; 3]) {
        (name.to_owned(), what)
    }

    #[test]
    fn others_are_guarded_and_in_the_same_network_do_not_name_vips() {
        let links = || {
            vec![
                link("eth0", &["10.0.0.1/24", "10.0.0.100/24"]),
                link("eth1", &["10.0.0.2/24"]),
                link("eth2", &["10.1.0.2/24"]),
                link("eth3", &[]),
                Link {
                    up: false,
                    ..link("eth4", &["10.0.0.4/24"])
                },
                Link {
                    ethernet: false,
                    ..link("tun0", &["10.0.0.3/24"])
                },
            ]
        };
        assert_eq!(
            chosen(links(), &["eth0"], true),
            [
                is("eth0", [false, true, false]),
                is("eth1", [true, true, false]),
                is("eth2", [true, false, false]),
                is("eth3", [true, false, false]),
            ]
        );
        assert_eq!(
            chosen(links(), &["eth0"], false),
            [
                is("eth0", [false, true, true]),
                is("eth1", [false, true, true]),
            ]
        );
    }

    /// A channel's network, in which there is no VIP.
    #[test]
    fn others_in_a_network_of_peers_do_not_name_or_answer_for_the_address_there() {
        let table = || -> Table {
            let links = [
                link("eth0", &["10.0.0.1/24"]),
                link("eth1", &["10.3.0.1/24"]),
                link("eth2", &["10.3.0.2/24"]),
                link("eth3", &["10.4.0.2/24"]),
            ];
            let numbered = (1..).zip(links);
            numbered
                .map(|(ifindex, link)| Link { ifindex, ..link })
                .collect()
        };
        let plan = Plan {
            with_vips: ["eth0".to_owned()].into(),
            with_peers: ["eth1".to_owned()].into(),
            ..plan(&["eth0", "eth1"])
        };
        for has_gate in [true, false] {
            let (choices, _) = choose(&table(), &plan, has_gate);
            let announce = choices.iter().filter(|one| one.announce);
            let announce: Vec<(&str, bool)> = announce
                .map(|one| (one.name.as_str(), one.ignore))
                .collect();
            assert_eq!(announce, [("eth0", !has_gate), ("eth2", !has_gate)]);
        }
    }

    #[test]
    fn a_vip_that_is_on_another_interface_makes_no_network_there() {
        let links = vec![
            link("eth0", &["10.0.0.1/24"]),
            link("eth1", &["10.0.0.100/32"]),
        ];
        assert_eq!(
            chosen(links, &["eth0"], true)[1],
            is("eth1", [true, false, false])
        );
    }

    #[test]
    fn nothing_is_done_where_nobody_wants_it() {
        let table = [link("eth0", &["10.0.0.1/24"])].into_iter().collect();
        let unwanted = Plan {
            is_wanted: false,
            ..plan(&["eth0"])
        };
        assert_eq!(choose(&table, &unwanted, true), (Vec::new(), 0));
    }

    #[test]
    fn ports_are_left_alone() {
        let port = |port_of| Link {
            master: Some(1),
            port_of,
            ..link("eth1", &["10.0.0.2/24"])
        };
        let bond = link("bond0", &["10.0.0.1/24"]);
        let bridged = Some(InfoPortKind::Bridge);
        let choices = chosen(vec![bond.clone(), port(bridged)], &["bond0"], true);
        assert_eq!(choices, [is("bond0", [false, true, false])]);
        let in_vrf = chosen(vec![bond, port(Some(InfoPortKind::Vrf))], &["bond0"], true);
        assert_eq!(in_vrf[1], is("eth1", [true, true, false]));
    }

    #[test]
    fn what_a_macvlan_lies_on_is_not_guarded_and_a_vlans_parent_is() {
        let upper = |kind| Link {
            kind: Some(kind),
            lower: Some(2),
            ..link("upper", &["10.0.0.1/24"])
        };
        let lower = || link("eth1", &["10.0.0.2/24"]);
        let named = chosen(vec![upper(InfoKind::MacVlan), lower()], &["upper"], true);
        assert_eq!(named[1], is("eth1", [false, true, true]));
        let named = chosen(vec![upper(InfoKind::Vlan), lower()], &["upper"], true);
        assert_eq!(named[1], is("eth1", [true, true, false]));
        let bare = chosen(
            vec![upper(InfoKind::MacVlan), link("eth1", &[])],
            &["upper"],
            true,
        );
        assert_eq!(bare[1], is("eth1", [false, true, true]));
        let other = chosen(vec![upper(InfoKind::MacVlan), lower()], &["eth1"], true);
        assert_eq!(other[0], is("upper", [true, true, false]));
    }

    #[test]
    fn there_is_a_limit() {
        let many = |count: usize| {
            let links = (1..).zip(0..count).map(|(ifindex, number)| Link {
                ifindex,
                ..link(&format!("eth{number}"), &["10.1.0.2/24"])
            });
            let (choices, more) = choose(&links.collect(), &plan(&[]), true);
            (choices.len(), more)
        };
        assert_eq!(many(MAX_GUARDED), (MAX_GUARDED, 0));
        assert_eq!(many(MAX_GUARDED + 3), (MAX_GUARDED, 3));
    }
}
