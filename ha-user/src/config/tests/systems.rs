//! `[[check]]` of kinds `unit`, `drbd` and `gluster`.

use ha_common::Nanos;

use super::{GOOD, errors, parse};
use crate::config::{CheckKind, Drbd, Gluster, Unit};

fn check(rest: &str) -> String {
    format!("{GOOD}[[check]]\nname = \"it\"\n{rest}")
}

fn kind(rest: &str) -> CheckKind {
    parse(&check(rest)).checks.remove(0).kind
}

#[test]
fn a_name_is_enough() {
    assert_eq!(
        kind("kind = \"unit\"\nunit = \"postgresql@15-main.service\"\n"),
        CheckKind::Unit(Unit {
            unit: "postgresql@15-main.service".to_owned()
        })
    );
    assert_eq!(
        kind("kind = \"drbd\"\nresource = \"r0\"\n"),
        CheckKind::Drbd(Drbd {
            resource: "r0".to_owned(),
            promote_within: Nanos::from_secs(30),
        })
    );
    assert_eq!(
        kind("kind = \"gluster\"\nvolume = \"gv0\"\n"),
        CheckKind::Gluster(Gluster {
            volume: "gv0".to_owned()
        })
    );
}

#[test]
fn names_that_cannot_be() {
    let wrong = [
        "kind = \"unit\"\n",
        "kind = \"unit\"\nunit = \"mariadb\"\n",
        "kind = \"unit\"\nunit = \"getty@.service\"\n",
        "kind = \"unit\"\nunit = \"a/b.service\"\n",
        "kind = \"drbd\"\nresource = \"all\"\npromote_within = \"2h\"\n",
        "kind = \"drbd\"\nresource = \"--help\"\n",
        "kind = \"gluster\"\nvolume = \"all\"\n",
        "kind = \"gluster\"\nvolume = \"-x\"\n",
        "kind = \"gluster\"\nresource = \"r0\"\n",
    ];
    let said = wrong.map(|rest| errors(&check(rest)));
    insta::assert_snapshot!(said.join("\n"));
}
