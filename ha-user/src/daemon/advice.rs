//! What of a valid configuration deserves a look.

mod absent;
mod arbitration;
mod databases;
mod disks;
mod scripts;
mod tracking;

use std::{collections::BTreeSet, net::IpAddr};

use super::machine;
use crate::{
    config::{Channel, ChannelKind, Config, LeaseChannel, Mode},
    net::links::Table,
};

/// Everything, for `--check`.
#[must_use]
pub fn of(config: &Config) -> Vec<String> {
    let table = Table::read().unwrap_or_default();
    let mut advice = of_links(config, &table);
    advice.extend(config.single_paths().map(|instance| {
        format!(
            "[[instance]] \"{}\": {} is the only way to the other nodes, a single point of failure; add a [[channel]] on another interface, and name it in `channels`",
            instance.name, instance.interface
        )
    }));
    advice.extend(of_tracking(config, &table));
    advice.extend(scripts::of(config));
    advice.extend(disks::of(config));
    advice.extend(databases::of(config, &table));
    advice.extend(
        [
            machine::offline(config),
            machine::throttled(config),
            machine::slewed(config),
        ]
        .into_iter()
        .flatten(),
    );
    advice
}

/// Of what is tracked. The interfaces' addresses at present tell which hosts are this node itself.
pub(crate) fn of_tracking(config: &Config, table: &Table) -> Vec<String> {
    let mut advice = tracking::of(config);
    advice.extend(arbitration::of(config, table));
    advice
}

/// Of the interfaces and their addresses as they are at present; nothing where they are not known.
pub(super) fn of_links(config: &Config, table: &Table) -> Vec<String> {
    if table.links().next().is_none() {
        return Vec::new();
    }
    let instances = config
        .instances
        .iter()
        .filter(|instance| table.by_name(&instance.interface).is_none())
        .map(|instance| absent("instance", &instance.name, &instance.interface));
    let native = config.dataplane.mode == Mode::Native;
    let stations = config.instances.iter().filter_map(|instance| {
        let why = table.why_no_virtual_mac(&instance.interface, native);
        let why = why.filter(|_| instance.virtual_mac)?;
        Some(format!(
            "[[instance]] \"{}\": `virtual_mac` does not work on {}: {why}",
            instance.name, instance.interface
        ))
    });
    let bfd = config.channels.iter().map(End::from);
    let leases = config.lease_channels.iter().map(End::from);
    let channels = bfd.chain(leases).filter_map(|end| end.advice(table));
    let named = config.instances.iter().map(|one| one.interface.as_str());
    let named = named.chain(config.channels.iter().map(|one| one.interface.as_str()));
    let leases = config.lease_channels.iter();
    let named: BTreeSet<&str> = named
        .chain(leases.map(|one| one.interface.as_str()))
        .collect();
    let kinds = named
        .into_iter()
        .filter_map(|name| table.by_name(name))
        .flat_map(|link| link.advice(table));
    instances
        .chain(stations)
        .chain(channels)
        .chain(absent::tracked(config, table))
        .chain(kinds)
        .collect()
}

fn absent(section: &str, name: &str, interface: &str) -> String {
    format!(
        "[[{section}]] \"{name}\": there is no interface {interface} at present; had waits for it"
    )
}

/// This node's end of a channel.
struct End<'a> {
    name: &'a str,
    interface: &'a str,
    local: IpAddr,
    peer: IpAddr,
    /// Whether routers lie between the two.
    multihop: bool,
}

impl<'a> From<&'a Channel> for End<'a> {
    fn from(channel: &'a Channel) -> Self {
        let ChannelKind::Bfd(bfd) = &channel.kind;
        Self {
            name: &channel.name,
            interface: &channel.interface,
            local: channel.local,
            peer: channel.peer,
            multihop: bfd.min_ttl.is_some(),
        }
    }
}

impl<'a> From<&'a LeaseChannel> for End<'a> {
    fn from(channel: &'a LeaseChannel) -> Self {
        Self {
            name: &channel.name,
            interface: &channel.interface,
            local: channel.local,
            peer: channel.peer,
            multihop: false,
        }
    }
}

impl End<'_> {
    fn advice(&self, table: &Table) -> Option<String> {
        let Self {
            name,
            interface,
            local,
            peer,
            multihop,
        } = self;
        let Some(link) = table.by_name(interface) else {
            return Some(absent("channel", name, interface));
        };
        if *multihop {
            return None;
        }
        // One that has others is refused.
        if link.addresses.is_empty() {
            return Some(format!(
                "[[channel]] \"{name}\": {interface} has no address at present; had waits for {local}"
            ));
        }
        // An address without a network (/32, /128), as on a point-to-point link, says nothing of the peer's.
        let mut networks = link
            .addresses
            .iter()
            .filter(|net| net.addr() == *local && net.prefix_len() < net.max_prefix_len())
            .peekable();
        let network = *networks.peek()?;
        networks.all(|net| !net.contains(peer)).then(|| {
            format!(
                "[[channel]] \"{name}\": the peer {peer} is outside the network of {local}, {}: correct one of the two, unless a route leads to it on {interface}",
                network.trunc()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;
    use crate::{
        config::for_tests,
        net::links::{InfoKind, Link},
    };

    const CHANNELS: &str = r#"
[[instance]]
name = "web"
interface = "eth0"
vrid = 51
vips = ["192.168.33.100/32"]
peers = ["192.168.33.102"]
heartbeat = {}
channels = ["direct", "bfd"]
[[channel]]
name = "direct"
kind = "lease"
interface = "eth3"
local = "10.0.3.1"
peer = "10.0.4.2"
[[channel]]
name = "bfd"
kind = "bfd"
interface = "eth4"
local = "10.0.5.1"
peer = "10.0.6.2"
"#;

    fn link(name: &str, addresses: &[&str]) -> Link {
        Link {
            name: name.to_owned(),
            addresses: addresses
                .iter()
                .map(|address| address.parse::<IpNet>().expect("a network"))
                .collect(),
            ..Link::default()
        }
    }

    fn said(text: &str, links: &[Link]) -> String {
        let table = links.iter().cloned().collect();
        of_links(&for_tests(text), &table).join("\n")
    }

    #[test]
    fn what_is_not_there_is_waited_for() {
        let eth3 = link("eth3", &[]);
        insta::assert_snapshot!(said(CHANNELS, &[eth3]));
    }

    #[test]
    fn a_peer_in_another_network_is_told_for_both_kinds() {
        let links = |prefix_len: u8| {
            [
                link("eth0", &["192.168.33.101/24"]),
                link("eth3", &["10.0.9.1/24", &format!("10.0.3.1/{prefix_len}")]),
                link("eth4", &[&format!("10.0.5.1/{prefix_len}")]),
            ]
        };
        insta::assert_snapshot!(said(CHANNELS, &links(24)));
        assert_eq!(said(CHANNELS, &links(16)), "");
        assert_eq!(said(CHANNELS, &links(32)), "");
    }

    #[test]
    fn a_virtual_mac_that_gets_no_frames_is_told() {
        const TEXT: &str = "[[instance]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\n\
                            vips = [\"192.168.33.100/32\"]\nvirtual_mac = true\n";
        let of_kind = |kind| Link {
            kind,
            ..link("eth0", &["192.168.33.101/24"])
        };
        let macvlan = [of_kind(Some(InfoKind::MacVlan))];
        insta::assert_snapshot!(said(TEXT, &macvlan));
        let veth = [of_kind(Some(InfoKind::Veth))];
        assert_eq!(said(TEXT, &veth), "", "generic");
        let native = format!("{TEXT}[dataplane]\nmode = \"native\"\n");
        insta::assert_snapshot!(said(&native, &veth));
        assert_eq!(said(&native, &[of_kind(None)]), "");
        let without = TEXT.replace("virtual_mac = true\n", "");
        assert_eq!(said(&without, &macvlan), "");
    }

    #[test]
    fn over_several_hops_every_network_will_do() {
        let text = format!("{CHANNELS}multihop = true\n").replace("10.0.4.2", "10.0.3.2");
        let links = [
            link("eth0", &["192.168.33.101/24"]),
            link("eth3", &["10.0.3.1/24"]),
            link("eth4", &["10.0.5.1/24"]),
        ];
        assert_eq!(said(&text, &links), "");
    }
}
