//! What the file says, against the addresses that this node's interfaces have at present.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ha_common::Priority;
use ipnet::IpNet;

use super::{
    Addresses, Family, Taken,
    channel::DraftChannel,
    is_link_local,
    parse::{Draft, DraftInstance},
    reader::{At, Reader},
};

/// The interfaces' addresses, and what of them is the node's own.
pub(super) struct Live<'a> {
    addresses: Addresses<'a>,
    taken: Taken<'a>,
    runtime_dir: PathBuf,
    /// Every VIP of the file that no node has as its own: whoever put it there, it moves.
    vips: BTreeSet<IpAddr>,
}

impl<'a> Live<'a> {
    pub(super) fn new(draft: &Draft, addresses: Addresses<'a>, taken: Taken<'a>) -> Self {
        Self {
            addresses,
            taken,
            runtime_dir: draft.node.runtime_dir.clone(),
            vips: draft
                .instances
                .iter()
                .filter(|instance| !is_owner(instance))
                .flat_map(DraftInstance::addresses)
                .map(|(_, vip)| vip.value.addr())
                .collect(),
        }
    }

    /// `source`, `peers`, and the VIPs.
    pub(super) fn check_instance(&self, reader: &Reader<'_>, instance: &DraftInstance) {
        let live = self.on(instance.interface.as_ref());
        if let Some(source) = &instance.source {
            self.must_have(reader, &instance.place, "source", source, &live);
        }
        for peer in &instance.peers {
            must_not_have(reader, &instance.place, "peers", peer, &live);
        }
        // The owner of the addresses has them as its own, hence in its own network.
        if !is_owner(instance) {
            self.networks(reader, instance, &live);
            self.ordinary_addresses(reader, instance);
        }
    }

    /// `local` and `peer`. A session over several hops may use another interface's address.
    pub(super) fn check_channels(&self, reader: &Reader<'_>, channels: &[DraftChannel]) {
        for channel in channels {
            let live = self.on(channel.interface.as_ref());
            if let (Some(local), false) = (&channel.local, channel.is_multihop()) {
                self.must_have(reader, &channel.place, "local", local, &live);
            }
            if let Some(peer) = &channel.peer {
                must_not_have(reader, &channel.place, "peer", peer, &live);
            }
        }
    }

    /// The addresses of an interface; none where it is not there, or not known.
    fn on(&self, interface: Option<&At<String>>) -> Vec<IpNet> {
        interface
            .and_then(|interface| (self.addresses)(&interface.value))
            .unwrap_or_default()
    }

    /// Those that are the node's own, each once, in their order: an address may be in two networks.
    fn own(&self, live: &[IpNet]) -> Vec<IpAddr> {
        distinct(
            live.iter()
                .map(IpNet::addr)
                .filter(|address| !self.vips.contains(address)),
        )
    }

    /// An interface without any address may get them all later.
    fn must_have(
        &self,
        reader: &Reader<'_>,
        place: &str,
        key: &str,
        wanted: &At<IpAddr>,
        live: &[IpNet],
    ) {
        if live.is_empty() || live.iter().any(|net| net.addr() == wanted.value) {
            return;
        }
        let family = Family::of(wanted.value);
        let mut own = self.own(live);
        own.retain(|address| Family::of(*address) == family);
        reader.fail(
            wanted.offset,
            format!("{place}, {key}"),
            format!("the interface does not have the address {}", wanted.value),
            if own.is_empty() {
                "give the interface that address, or correct it here".to_owned()
            } else {
                format!("write one that it has: {}", list(&own))
            },
        );
    }

    /// A VIP belongs to the network of one of the node's own addresses: else nobody on the link would look
    /// for it there. `/32` or `/128` says that its route is somebody else's business.
    fn networks(&self, reader: &Reader<'_>, instance: &DraftInstance, live: &[IpNet]) {
        let source = instance.source.iter().map(|source| source.value);
        let own = distinct(source.chain(self.own(live)));
        for (key, vip) in instance.addresses() {
            let own: Vec<IpAddr> = own
                .iter()
                .filter(|address| is_comparable(vip.value.addr(), **address))
                .copied()
                .collect();
            let inside = own.is_empty() || own.iter().any(|address| vip.value.contains(address));
            if vip.value.prefix_len() < vip.value.max_prefix_len() && !inside {
                reader.fail(
                    vip.offset,
                    format!("{}, {key}", instance.place),
                    format!(
                        "{} is outside any network of this node: {} has none of its own addresses ({})",
                        vip.value,
                        vip.value.trunc(),
                        list(&own)
                    ),
                    format!(
                        "correct the address or the prefix length, or write \"{}/{}\" if it is routed here",
                        vip.value.addr(),
                        vip.value.max_prefix_len()
                    ),
                );
            }
        }
    }

    /// A VIP is nobody's ordinary address, unless this node owns it: its gate would cut this node off.
    fn ordinary_addresses(&self, reader: &Reader<'_>, instance: &DraftInstance) {
        let Some(interface) = &instance.interface else {
            return;
        };
        for (key, vip) in instance.addresses() {
            let address = vip.value.addr();
            let is_source = instance
                .source
                .as_ref()
                .is_some_and(|source| source.value == address);
            if is_source {
                reader.fail(
                    vip.offset,
                    format!("{}, {key}", instance.place),
                    format!("{address} is this node's own address (source)"),
                    "choose an address that no node has, or write `priority = 255` if this node alone owns it",
                );
            } else if (self.taken)(&interface.value, address) {
                let (message, fix) = foreign(&interface.value, vip.value, &self.runtime_dir);
                reader.fail(
                    vip.offset,
                    format!("{}, {key}", instance.place),
                    message,
                    fix,
                );
            }
        }
    }
}

/// Why a VIP is refused that is there already, and what to do. What put it there is not known: another `had` may be
/// serving it this moment.
fn foreign(interface: &str, vip: IpNet, runtime_dir: &Path) -> (String, String) {
    (
        format!(
            "{interface} has the address {} already, and not from the had with runtime_dir \"{}\"",
            vip.addr(),
            runtime_dir.display()
        ),
        format!(
            "if it is this node's own, choose another one, or write `priority = 255`; if another program serves it (a had with another runtime_dir, keepalived), end that first, or choose another one; only if it was left behind by one that has ended, run: ip address del {vip} dev {interface}"
        ),
    )
}

fn must_not_have(reader: &Reader<'_>, place: &str, key: &str, peer: &At<IpAddr>, live: &[IpNet]) {
    if live.iter().any(|net| net.addr() == peer.value) {
        reader.fail(
            peer.offset,
            format!("{place}, {key}"),
            format!("{} is this node itself", peer.value),
            match key {
                "peers" => "name only the other nodes",
                _ => "name the other node's address",
            },
        );
    }
}

fn is_owner(instance: &DraftInstance) -> bool {
    instance.priority.value == u32::from(Priority::OWNER.0)
}

/// Whether the one address says something about the other's network. Every interface has a link-local address
/// of IPv6, whatever else is on the link.
fn is_comparable(vip: IpAddr, own: IpAddr) -> bool {
    Family::of(vip) == Family::of(own) && is_link_local(vip) == is_link_local(own)
}

fn distinct(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut seen = Vec::new();
    for address in addresses {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    seen
}

fn list(addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}
