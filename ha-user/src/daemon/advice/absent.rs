//! Interfaces that are tracked, or described, and not there.

use std::collections::BTreeSet;

use ha_core::tracking::{Effect, Source, Track};

use crate::{config::Config, net::links::Table};

/// Those of `track`, then those of `[[interface]]` that nothing else of the file names.
pub(super) fn tracked(config: &Config, table: &Table) -> Vec<String> {
    let is_absent = |name: &str| table.by_name(name).is_none();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    named.extend(config.instances.iter().map(|one| one.interface.as_str()));
    named.extend(config.channels.iter().map(|one| one.interface.as_str()));
    let leases = config.lease_channels.iter();
    named.extend(leases.map(|one| one.interface.as_str()));
    let instances = config.instances.iter().map(|one| {
        let own = Some(one.interface.as_str());
        ("instance", &one.name, &one.track, own, "the instance")
    });
    let groups = config.groups.iter();
    let groups = groups.map(|one| ("group", &one.name, &one.track, None, "its instances"));
    let mut advice = Vec::new();
    for (section, owner, track, own, whom) in instances.chain(groups) {
        for Track { source, effect } in track {
            let Source::Interface(name) = source else {
                continue;
            };
            named.insert(name);
            // An instance's own interface is told of elsewhere.
            if is_absent(name) && own != Some(name.as_str()) {
                advice.push(format!(
                    "[[{section}]] \"{owner}\", track: there is no interface {name} at present, so it counts as down{}",
                    match effect {
                        Effect::Weight(_) | Effect::WeightPerUnit(_) => String::new(),
                        Effect::Veto | Effect::Arbitrate => format!(", which keeps {whom} in Fault"),
                    }
                ));
            }
        }
    }
    let described = config.interfaces.iter().map(|one| one.name.as_str());
    let described = described.filter(|name| is_absent(name) && !named.contains(name));
    advice.extend(
        described.map(|name| {
            format!("[[interface]] \"{name}\": there is no interface {name} at present")
        }),
    );
    advice
}

#[cfg(test)]
mod tests {
    use crate::{
        config::for_tests,
        net::links::{Link, Table},
    };

    const TEXT: &str = r#"
[[instance]]
name = "web"
interface = "eth0"
vrid = 51
vips = ["192.168.33.100/32"]
group = "all"
track = [{ interface = "eth7" }, { interface = "eth1" }, { interface = "eth0", weight = 5 }]
[[group]]
name = "all"
track = [{ interface = "eth8", weight = -20 }]
[[interface]]
name = "eth7"
[[interface]]
name = "eth0"
[[interface]]
name = "eth9"
"#;

    #[test]
    fn a_tracked_interface_that_is_not_there_is_told_once() {
        let said = |names: &[&str]| {
            let table: Table = names
                .iter()
                .zip(1..)
                .map(|(name, ifindex)| Link {
                    name: (*name).to_owned(),
                    ifindex,
                    ..Link::default()
                })
                .collect();
            crate::daemon::advice::of_links(&for_tests(TEXT), &table).join("\n")
        };
        insta::assert_snapshot!(said(&["eth1"]));
        assert_eq!(said(&["eth0", "eth1", "eth7", "eth8", "eth9"]), "");
    }
}
