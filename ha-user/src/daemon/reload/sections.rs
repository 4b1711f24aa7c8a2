//! What a reload changed of the sections that the engine thread says nothing of: the link, checks, interfaces, and what
//! groups track. Of a check no more than that it is another one: among its keys are secrets.

use crate::config::{Check, Config, Group, Interface, Link};

/// A line for each that came, went or changed.
pub(super) fn changed(old: &Config, new: &Config) -> Vec<String> {
    let checks = of_kind(
        "check",
        (&old.checks, &new.checks),
        |check| &check.name,
        of_check,
    );
    let interfaces = of_kind(
        "interface",
        (&old.interfaces, &new.interfaces),
        |interface| &interface.name,
        of_interface,
    );
    let groups = of_kind(
        "group",
        (&old.groups, &new.groups),
        |group| &group.name,
        of_group,
    );
    let link = of_link(old.link.as_ref(), new.link.as_ref());
    [link, checks, interfaces, groups].concat()
}

/// Of the key no more than that it is another one.
fn of_link(old: Option<&Link>, new: Option<&Link>) -> Vec<String> {
    let what = match (old, new) {
        (Some(old), Some(new)) if old != new => {
            let keys = [("key", old.key != new.key), ("port", old.port != new.port)];
            let differing = keys.iter().filter(|(_, differs)| *differs);
            let differing: Vec<&str> = differing.map(|(key, _)| *key).collect();
            format!("another {}, it begins anew", differing.join(" and "))
        }
        (Some(_), None) => "removed".to_owned(),
        (None, Some(_)) => "added".to_owned(),
        (Some(_), Some(_)) | (None, None) => return Vec::new(),
    };
    vec![format!("link: {what}")]
}

/// In the order of the file, behind those that it no longer has.
fn of_kind<T: PartialEq>(
    kind: &str,
    (old, new): (&[T], &[T]),
    name: fn(&T) -> &str,
    difference: fn(&T, &T) -> String,
) -> Vec<String> {
    let among = |all: &[T], one: &T| all.iter().position(|other| name(other) == name(one));
    let removed = old
        .iter()
        .filter(|one| among(new, one).is_none())
        .map(|one| format!("{kind} {}: removed", name(one)));
    let others = new.iter().filter_map(|one| {
        let before = among(old, one).and_then(|index| old.get(index));
        let what = match before {
            None => "added".to_owned(),
            Some(before) if before != one => difference(before, one),
            Some(_) => return None,
        };
        Some(format!("{kind} {}: {what}", name(one)))
    });
    removed.chain(others).collect()
}

fn of_check(_: &Check, _: &Check) -> String {
    "changed, it begins anew".to_owned()
}

fn of_interface(old: &Interface, new: &Interface) -> String {
    let keys = [
        ("up_delay", old.delays.up != new.delays.up),
        ("down_delay", old.delays.down != new.delays.down),
        ("min_up_slaves", old.min_up_slaves != new.min_up_slaves),
        ("damping", old.damping != new.damping),
    ];
    let differing = keys.iter().filter(|(_, differs)| *differs);
    let differing: Vec<&str> = differing.map(|(key, _)| *key).collect();
    format!("{} changed", differing.join(", "))
}

fn of_group(_: &Group, _: &Group) -> String {
    "track changed".to_owned()
}

#[cfg(test)]
mod tests {
    use super::{changed, of_link};
    use crate::config::{Link, LinkKey, for_tests};

    const INSTANCE: &str = "[[instance]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\nvips = [\"192.168.33.100/24\"]\ngroup = \"all\"\n";

    fn said(old: &str, new: &str) -> Vec<String> {
        let config = |text: &str| for_tests(&format!("{INSTANCE}{text}"));
        changed(&config(old), &config(new))
    }

    fn check(name: &str, rest: &str) -> String {
        format!(
            "[[check]]\nname = \"{name}\"\nkind = \"http\"\nurl = \"http://127.0.0.1/\"\n{rest}"
        )
    }

    fn group(track: &str) -> String {
        format!("[[group]]\nname = \"all\"\n{track}")
    }

    #[test]
    fn checks_come_go_and_change() {
        let old = [group(""), check("a", ""), check("b", ""), check("c", "")].concat();
        let secret = "headers = { Authorization = \"secret\" }\n";
        let new = [
            group(""),
            check("d", ""),
            check("c", secret),
            check("a", "interval = \"2s\"\n"),
        ]
        .concat();
        assert_eq!(
            said(&old, &new),
            [
                "check b: removed",
                "check d: added",
                "check c: changed, it begins anew",
                "check a: changed, it begins anew",
            ]
        );
        let moved = [group(""), check("c", ""), check("a", ""), check("b", "")].concat();
        assert!(said(&old, &moved).is_empty());
    }

    #[test]
    fn a_link_comes_goes_and_changes_without_showing_its_key() {
        let link = |byte: u8, port: u16| Link {
            key: LinkKey::new([byte; 32]),
            port,
        };
        let said = |old: Option<Link>, new: Option<Link>| of_link(old.as_ref(), new.as_ref());
        assert_eq!(said(None, Some(link(1, 1))), ["link: added"]);
        assert_eq!(said(Some(link(1, 1)), None), ["link: removed"]);
        assert!(said(Some(link(1, 1)), Some(link(1, 1))).is_empty());
        assert_eq!(
            said(Some(link(1, 1)), Some(link(2, 2))),
            ["link: another key and port, it begins anew"]
        );
    }

    #[test]
    fn interfaces_and_what_a_group_tracks_change() {
        let interfaces = |delay: &str, last: &str| {
            format!(
                "{}[[interface]]\nname = \"eth0\"\nup_delay = \"{delay}\"\n[[interface]]\nname = \"{last}\"\n",
                group("track = [{ interface = \"eth1\" }]\n")
            )
        };
        let old = interfaces("1s", "eth1");
        assert_eq!(
            said(&old, &interfaces("2s", "eth2")),
            [
                "interface eth1: removed",
                "interface eth0: up_delay changed",
                "interface eth2: added",
            ]
        );
        let other = old.replace("\"eth1\" }]", "\"eth1\", weight = -20 }]");
        assert_eq!(said(&old, &other), ["group all: track changed"]);
        let damped = format!("{old}damping = \"0s\"\nmin_up_slaves = 2\n");
        assert_eq!(
            said(&old, &damped),
            ["interface eth1: min_up_slaves, damping changed"]
        );
    }
}
