//! The family of an instance's adverts, and what follows from it.

use std::net::IpAddr;

use ha_common::wire::vrrp::MAX_ADDRESSES_V6;
use ha_core::Version;
use ipnet::IpNet;

use super::{
    Family, is_link_local,
    parse::DraftInstance,
    reader::{At, Reader},
};

/// See [`super::Instance::family`].
pub(super) fn of(
    mut chosen: impl Iterator<Item = IpAddr>,
    mut vips: impl Iterator<Item = IpAddr>,
) -> Family {
    match chosen.next() {
        Some(address) => Family::of(address),
        None if vips.any(|vip| vip.is_ipv4()) => Family::V4,
        None => Family::V6,
    }
}

impl DraftInstance {
    /// See [`super::Instance::family`]. Without any address it is IPv4, whose rules are fewer.
    pub(super) fn family(&self) -> Family {
        if self.chosen().next().is_none() && self.vips.is_empty() {
            return Family::V4;
        }
        of(
            self.chosen().map(|(_, address)| address.value),
            self.vips.iter().map(|vip| vip.value.addr()),
        )
    }

    /// The addresses that decide, and their keys.
    fn chosen(&self) -> impl Iterator<Item = (&'static str, &At<IpAddr>)> {
        let source = self.source.iter().map(|source| ("source", source));
        source.chain(self.peers.iter().map(|peer| ("peers", peer)))
    }
}

/// One family in `source` and `peers`, something to name in adverts, and the RFC's rules for IPv6.
pub(super) fn check(reader: &Reader<'_>, instance: &DraftInstance) {
    let family = instance.family();
    let place = |key: &str| format!("{}, {key}", instance.place);
    for (key, address) in instance.chosen() {
        if Family::of(address.value) != family {
            reader.fail(
                address.offset,
                place(key),
                format!(
                    "{} is no {family} address, as the ones before it are",
                    address.value
                ),
                "write `source` and `peers` in one family: adverts go over one, the VIPs may be of both",
            );
        }
    }
    let named: Vec<&At<IpNet>> = instance
        .vips
        .iter()
        .filter(|vip| Family::of(vip.value.addr()) == family)
        .collect();
    let Some(first) = named.first() else {
        if let Some(vip) = instance.vips.first() {
            reader.fail(
                vip.offset,
                place("vips"),
                format!("none is an {family} address, as `source` and `peers` are"),
                format!("add one that adverts over {family} can name, or write `source` and `peers` in the other family"),
            );
        }
        return;
    };
    if family == Family::V6 {
        over_v6(reader, instance, first, named.len());
    }
}

/// Adverts over IPv6 (RFC 9568).
fn over_v6(reader: &Reader<'_>, instance: &DraftInstance, first: &At<IpNet>, count: usize) {
    let place = |key: &str| format!("{}, {key}", instance.place);
    if instance.version.value == Version::V2 {
        reader.fail(
            instance.version.offset,
            place("version"),
            "VRRPv2 knows no IPv6",
            "write `version = 3`, or remove the key",
        );
    }
    // Section 5.2.9.
    if !is_link_local(first.value.addr()) {
        let vrid = instance.vrid.as_ref().map_or(51, |vrid| vrid.value);
        reader.fail(
            first.offset,
            place("vips"),
            format!(
                "{} is no link-local address, and the first one in an advert over IPv6 must be",
                first.value
            ),
            format!("put one before it that no node has, the same on all nodes, as \"fe80::{vrid:x}/64\""),
        );
    }
    if count > MAX_ADDRESSES_V6 {
        reader.fail(
            first.offset,
            place("vips"),
            format!("{count} IPv6 addresses do not fit into one advert"),
            format!(
                "move those beyond {MAX_ADDRESSES_V6} to extra_vips, which adverts do not name"
            ),
        );
    }
    // Section 5.1.2.1.
    if let Some(source) = &instance.source
        && instance.peers.is_empty()
        && !is_link_local(source.value)
    {
        reader.fail(
            source.offset,
            place("source"),
            format!(
                "{} is no link-local address, and the source of multicast adverts over IPv6 must be",
                source.value
            ),
            "remove it, and the interface's link-local address is used; or write `peers` for unicast",
        );
    }
}
