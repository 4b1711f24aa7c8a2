//! Checks that ask the wrong host: this node itself, which always answers, or the other nodes, which say nothing of
//! whether this one is cut off.

use std::{collections::BTreeSet, net::IpAddr};

use ha_core::tracking::{Effect, Source, Track};

use crate::{
    config::{Check, CheckKind, Config},
    net::links::Table,
};

/// Everything.
pub(super) fn of(config: &Config, table: &Table) -> Vec<String> {
    let own = own_addresses(config, table);
    let peers = peers(config);
    let checks = config.checks.iter();
    checks
        .filter_map(|check| of_check(config, check, &own, &peers))
        .collect()
}

fn of_check(
    config: &Config,
    check: &Check,
    own: &BTreeSet<IpAddr>,
    peers: &BTreeSet<IpAddr>,
) -> Option<String> {
    let arbitrates = arbitrates(config, check);
    let need = match &check.kind {
        CheckKind::Ping(ping) => usize::try_from(ping.need).ok()?,
        // That a service is looked at on this node is the rule, unless it is to arbitrate.
        _ if arbitrates => 1,
        _ => return None,
    };
    let targets = check.kind.addresses();
    let among = |set: &BTreeSet<IpAddr>| {
        let found = targets.iter().copied().filter(|one| set.contains(one));
        found.collect::<Vec<IpAddr>>()
    };
    let (own, others) = (among(own), among(peers));
    let shown = |addresses: &[IpAddr]| {
        let words: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        words.join(", ")
    };
    let name = &check.name;
    if own.len() >= need && !own.is_empty() {
        return Some(format!(
            "[[check]] \"{name}\" passes by the answer of this node itself ({}), which comes also when it is cut off: name a host outside, such as the gateway",
            shown(&own)
        ));
    }
    // With all other nodes away, these are who may answer.
    let left = targets.len() - others.len();
    (arbitrates && !others.is_empty() && left < need).then(|| {
        format!(
            "[[check]] \"{name}\" arbitrates, but asks other nodes ({}), which do not answer when they are dead: then this one does not take over. Name a host outside, such as the gateway",
            shown(&others)
        )
    })
}

fn arbitrates(config: &Config, check: &Check) -> bool {
    let by_it = |track: &Track| {
        track.effect == Effect::Arbitrate
            && matches!(&track.source, Source::Check(name) if *name == check.name)
    };
    let instances = config.instances.iter().flat_map(|one| &one.track);
    let groups = config.groups.iter().flat_map(|one| &one.track);
    instances.chain(groups).any(by_it)
}

/// Of the file and of the interfaces. A VIP is not this node's alone: a check of one is told of elsewhere.
fn own_addresses(config: &Config, table: &Table) -> BTreeSet<IpAddr> {
    let instances = config.instances.iter();
    let vips: BTreeSet<IpAddr> = instances
        .clone()
        .flat_map(|one| one.vips.iter().map(|vip| vip.addr()))
        .collect();
    let checks = config.checks.iter();
    let checks = checks.flat_map(|check| check.kind.addresses());
    let channels = config.channels.iter().map(|one| one.local);
    let leases = config.lease_channels.iter().map(|one| one.local);
    instances
        .filter_map(|one| one.source)
        .chain(channels)
        .chain(leases)
        .chain(checks.filter(IpAddr::is_loopback))
        .chain(table.links().flat_map(|link| link.set()))
        .filter(|address| !vips.contains(address))
        .collect()
}

/// The other nodes' addresses. A channel that no instance names may lead to anybody.
fn peers(config: &Config) -> BTreeSet<IpAddr> {
    let named = |name: &String| {
        let mut instances = config.instances.iter();
        instances.any(|one| one.channels.contains(name))
    };
    let channels = config.channels.iter().filter(|one| named(&one.name));
    let leases = config.lease_channels.iter().map(|one| one.peer);
    let instances = config.instances.iter().flat_map(|one| &one.peers);
    instances
        .copied()
        .chain(channels.map(|one| one.peer))
        .chain(leases)
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::{
        config::for_tests,
        net::links::{Link, Table},
    };

    const NODE: &str = "[[instance]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\nvips = [\"192.168.33.100/24\"]\nsource = \"192.168.33.101\"\npeers = [\"192.168.33.102\"]\n";
    const ARBITER: &str = "track = [{ check = \"c\", when = \"isolated\" }]\n";
    const VETO: &str = "track = [{ check = \"c\" }]\n";

    fn said(track: &str, check: &str) -> String {
        let eth0 = Link {
            name: "eth0".to_owned(),
            addresses: ["192.168.33.111/24", "192.168.33.100/24"]
                .map(|address| address.parse().unwrap())
                .to_vec(),
            ..Link::default()
        };
        let table: Table = [eth0].into_iter().collect();
        let config = for_tests(&format!("{NODE}{track}[[check]]\nname = \"c\"\n{check}\n"));
        super::of(&config, &table).join("\n")
    }

    fn ping(track: &str, targets: &str) -> String {
        said(track, &format!("kind = \"ping\"\ntargets = {targets}"))
    }

    const TCP: &str = "kind = \"tcp\"\naddress = \"127.0.0.1:80\"";

    #[test]
    fn who_asks_the_wrong_host_is_told() {
        insta::assert_snapshot!(
            [
                ping(VETO, "[\"192.168.33.101\"]"),
                ping(ARBITER, "[\"192.168.33.111\", \"192.168.33.101\"]"),
                ping(VETO, "[\"192.168.33.1\", \"127.0.0.1\"]"),
                ping(ARBITER, "[\"192.168.33.102\"]"),
                ping(ARBITER, "[\"192.168.33.1\", \"192.168.33.102\"]\nneed = 2"),
                said(ARBITER, TCP),
            ]
            .join("\n")
        );
    }

    #[test]
    fn who_asks_somebody_else_is_not() {
        assert_eq!(ping(ARBITER, "[\"192.168.33.1\"]"), "");
        assert_eq!(ping(ARBITER, "[\"192.168.33.1\", \"192.168.33.102\"]"), "");
        let two = "[\"192.168.33.1\", \"192.168.33.101\"]\nneed = 2";
        assert_eq!(ping(ARBITER, two), "");
        assert_eq!(ping(VETO, "[\"192.168.33.102\"]"), "");
        assert_eq!(ping(VETO, "[\"192.168.33.100\"]"), "", "a VIP");
        assert_eq!(said(VETO, TCP), "");
    }
}
