//! Checks and weights that do not do what they seem to.

use std::net::IpAddr;

use ha_core::tracking::{Effect, Source, Track};

use crate::config::{Check, CheckKind, Config, Instance};

/// Everything.
pub(super) fn of(config: &Config) -> Vec<String> {
    let checks = config.checks.iter();
    let unused = checks.clone().filter_map(|check| unused(config, check));
    let unproven = checks.clone().filter_map(unproven);
    let by_vip = checks.filter_map(|check| by_vip(config, check));
    let instances = config.instances.iter();
    let weights = instances
        .clone()
        .filter_map(|one| idle_weights(config, one));
    let deaf = instances.filter_map(|one| deaf_arbitrator(config, one));
    let unread = unread_numbers(config);
    unused
        .chain(unproven)
        .chain(by_vip)
        .chain(weights)
        .chain(deaf)
        .chain(unread)
        .collect()
}

/// What an instance tracks, and what its group does: the members of a group share it.
fn tracks<'a>(config: &'a Config, instance: &'a Instance) -> impl Iterator<Item = &'a Track> {
    let in_group = move |other: &&Instance| {
        other.name == instance.name || instance.group.is_some() && other.group == instance.group
    };
    let members = config.instances.iter().filter(in_group);
    let group = instance.group.and_then(|group| config.groups.get(group));
    let common = group.map_or(&[][..], |group| &group.track);
    members.flat_map(|member| &member.track).chain(common)
}

fn unused(config: &Config, check: &Check) -> Option<String> {
    let named = |track: &Track| matches!(&track.source, Source::Check(name) if *name == check.name);
    let mut instances = config.instances.iter();
    let used = instances.any(|instance| tracks(config, instance).any(named));
    (!used).then(|| {
        format!(
            "[[check]] \"{}\" moves nothing: no instance has it in `track`",
            check.name
        )
    })
}

/// A check that takes any certificate.
fn unproven(check: &Check) -> Option<String> {
    let CheckKind::Http(http) = &check.kind else {
        return None;
    };
    let insecure = http.tls.as_ref().is_some_and(|tls| tls.insecure);
    insecure.then(|| {
        format!(
            "[[check]] \"{}\": with `insecure` any server's answer is taken for this one's: name the certificate's issuer in `ca_file`",
            check.name
        )
    })
}

/// A check of a VIP fails on every Backup, whose gate is closed.
fn by_vip(config: &Config, check: &Check) -> Option<String> {
    let looked_at = check.kind.addresses();
    let is_vip = |address: &IpAddr| {
        let mut vips = config.instances.iter().flat_map(|instance| &instance.vips);
        vips.any(|vip| vip.addr() == *address)
    };
    let vip = looked_at.into_iter().find(is_vip)?;
    Some(format!(
        "[[check]] \"{}\" looks at {vip}, a VIP: on a Backup that fails, or is answered by the other node. Name the service's own address, as 127.0.0.1",
        check.name
    ))
}

/// Without pre-emption a weight moves nothing away from a node that lives.
fn idle_weights(config: &Config, instance: &Instance) -> Option<String> {
    let weighs =
        |track: &Track| matches!(track.effect, Effect::Weight(_) | Effect::WeightPerUnit(_));
    let track = tracks(config, instance).find(|track| weighs(track))?;
    // Roles refuse `preempt`.
    let group = instance.group.and_then(|group| config.groups.get(group));
    let or_else = match group.is_some_and(|group| !group.roles.is_empty()) {
        true => "",
        false => ", or set `preempt = true` on all nodes",
    };
    (!instance.preempt).then(|| {
        format!(
            "[[instance]] \"{}\": the weight of {} never takes the service away from a node that lives: where the other nodes have preempt = false as this one has, priorities count in the next election only. Leave the weight out for a veto{or_else}",
            instance.name, track.source
        )
    })
}

/// An Active node does not know by adverts that it is cut off.
fn deaf_arbitrator(config: &Config, instance: &Instance) -> Option<String> {
    let arbitrates = |track: &&Track| track.effect == Effect::Arbitrate;
    let track = tracks(config, instance).find(arbitrates)?;
    let hears = instance.heartbeat.is_some() || !instance.channels.is_empty();
    (!hears).then(|| {
        format!(
            "[[instance]] \"{}\": {} keeps a Backup that is cut off from taking over, but an Active node cannot know by adverts that it is: add `heartbeat`, or a [[channel]] to each other node",
            instance.name, track.source
        )
    })
}

/// The number of a file bears on nothing but what has a weight per unit.
fn unread_numbers(config: &Config) -> impl Iterator<Item = String> {
    let of = |place: String, track: &Track| {
        let Source::Check(name) = &track.source else {
            return None;
        };
        let mut checks = config.checks.iter();
        let counts = checks.any(|check| check.name == *name && check.kind.counts());
        (counts && !matches!(track.effect, Effect::WeightPerUnit(_))).then(|| {
            format!(
                "{place}: check {name} has a number, which means nothing here: what counts is that there is one. Write `weight_per_unit`, or leave `expect = \"number\"` out"
            )
        })
    };
    let instances = config.instances.iter();
    let instances =
        instances.flat_map(|one| one.track.iter().map(|track| ("instance", &one.name, track)));
    let groups = config.groups.iter();
    let groups = groups.flat_map(|one| one.track.iter().map(|track| ("group", &one.name, track)));
    instances
        .chain(groups)
        .filter_map(move |(section, name, track)| of(format!("[[{section}]] \"{name}\""), track))
}

#[cfg(test)]
mod tests {
    use crate::config::for_tests;

    const GOOD: &str = "[[instance]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\nvips = [\"192.168.33.100/24\"]\npriority = 100\n";

    fn said(instance: &str, check: &str) -> String {
        let text = format!(
            "{GOOD}{instance}\n[[check]]\nname = \"api\"\nkind = \"tcp\"\naddress = \"{check}\"\n"
        );
        super::of(&for_tests(&text)).join("\n")
    }

    #[test]
    fn what_does_not_do_what_it_seems_to_is_told() {
        let local = "127.0.0.1:80";
        insta::assert_snapshot!(
            [
                said("", local),
                said("track = [{ check = \"api\" }]", "192.168.33.100:80"),
                said("track = [{ check = \"api\", weight = -20 }]", local),
                said("track = [{ check = \"api\", when = \"isolated\" }]", local),
            ]
            .join("\n")
        );
    }

    #[test]
    fn where_there_are_roles_nobody_is_told_to_set_what_they_refuse() {
        let said = |roles: &str| {
            let text = format!(
                "{GOOD}group = \"g\"\ntrack = [{{ check = \"api\", weight = -20 }}]\n[[check]]\nname = \"api\"\nkind = \"tcp\"\naddress = \"127.0.0.1:80\"\n[[group]]\nname = \"g\"\n{roles}"
            );
            super::of(&for_tests(&text)).join("\n")
        };
        let roles =
            "roles = [\"s\"]\n[[role]]\nname = \"s\"\nkind = \"unit\"\nunit = \"s.service\"\n";
        assert!(said("").contains("preempt = true"));
        let told = said(roles);
        assert!(
            told.contains("never takes") && !told.contains("preempt = true"),
            "{told}"
        );
    }

    #[test]
    fn a_certificate_that_nobody_looks_at_is_told() {
        let text = format!(
            "{GOOD}track = [{{ check = \"api\" }}]\n[[check]]\nname = \"api\"\nkind = \"http\"\nurl = \"https://127.0.0.1/\"\ninsecure = true\n"
        );
        let said = super::of(&for_tests(&text)).join("\n");
        assert!(said.contains("any server's answer"), "{said}");
    }

    #[test]
    fn a_number_that_nobody_reads_is_told() {
        let said = |instance: &str, group: &str| {
            let text = format!(
                "{GOOD}group = \"g\"\npreempt = true\n{instance}[[group]]\nname = \"g\"\n{group}[[check]]\nname = \"load\"\nkind = \"file\"\npath = \"/run/load\"\nexpect = \"number\"\n"
            );
            super::of(&for_tests(&text)).join("\n")
        };
        insta::assert_snapshot!(
            [
                said("track = [{ check = \"load\" }]\n", ""),
                said("", "track = [{ check = \"load\", weight = -20 }]\n"),
            ]
            .join("\n")
        );
        let counted = "track = [{ check = \"load\", weight_per_unit = -2 }]\n";
        assert_eq!(said(counted, ""), "");
        assert_eq!(said("", counted), "");
    }

    #[test]
    fn nothing_is_said_of_what_does() {
        let local = "127.0.0.1:80";
        assert_eq!(said("track = [{ check = \"api\" }]", local), "");
        assert_eq!(
            said(
                "preempt = true\ntrack = [{ check = \"api\", weight = -20 }]",
                local
            ),
            ""
        );
        assert_eq!(
            said(
                "group = \"db\"\n[[group]]\nname = \"db\"\ntrack = [{ check = \"api\" }]",
                local
            ),
            ""
        );
    }
}
