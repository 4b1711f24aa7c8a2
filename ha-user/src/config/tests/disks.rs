//! `[[role]]` of kinds `drbd`, `mount` and `unit`.

use std::path::Path;

use ha_common::Nanos;

use super::{GOOD, errors, parse};
use crate::config::{RoleKind, mount_flags};

fn role(keys: &str) -> String {
    format!(
        "{GOOD}group = \"db\"\n[[group]]\nname = \"db\"\nroles = [\"it\"]\n[[role]]\nname = \"it\"\n{keys}"
    )
}

fn kind(keys: &str) -> RoleKind {
    parse(&role(keys)).roles.remove(0).kind
}

#[test]
fn a_mount_and_a_unit_have_defaults() {
    let keys =
        "kind = \"mount\"\ndevice = \"/dev/drbd0\"\nwhere = \"/srv/data\"\ntype = \"ext4\"\n";
    let RoleKind::Mount(mount) = kind(keys) else {
        panic!("a mount");
    };
    assert_eq!(mount.device, Path::new("/dev/drbd0"));
    assert_eq!(mount.place, Path::new("/srv/data"));
    assert!(mount.options.is_empty() && !mount.fsck);
    assert_eq!(mount.demote_limit, Nanos::from_secs(10));
    // What has no journal is checked, unless that is not wanted; what has one, if it is.
    for (was, is, fsck) in [
        ("\"ext4\"", "\"ext2\"", true),
        ("\"ext4\"", "\"ext2\"\nfsck = \"none\"", false),
        ("\"ext4\"", "\"ext4\"\nfsck = \"preen\"", true),
    ] {
        let RoleKind::Mount(mount) = kind(&keys.replace(was, is)) else {
            panic!("a mount");
        };
        assert_eq!(mount.fsck, fsck, "{is}");
    }
    let RoleKind::Unit(unit) =
        kind("kind = \"unit\"\nunit = \"web.service\"\nstop_limit = \"3s\"\n")
    else {
        panic!("a unit");
    };
    assert_eq!(unit.unit, "web.service");
    assert_eq!(unit.start_limit, Nanos::from_secs(30));
    assert_eq!(unit.stop_limit, Nanos::from_secs(3));
}

#[test]
fn options_are_flags_or_the_file_system_s() {
    let options = |text: &str| {
        let options: Vec<String> = text.split(',').map(str::to_owned).collect();
        let (flags, rest) = mount_flags(&options);
        (flags.bits(), rest)
    };
    let none = options("defaults,rw");
    assert_eq!(none, (0, String::new()));
    let (flags, rest) = options("noatime,nodev,data=journal,ro,discard");
    assert_eq!(flags, 0x400 | 4 | 1);
    assert_eq!(rest, "data=journal,discard");
}

#[test]
fn roles_of_disks_and_units_that_cannot_be() {
    let mount =
        "kind = \"mount\"\ndevice = \"/dev/drbd0\"\nwhere = \"/srv/data\"\ntype = \"ext4\"\n";
    let wrong = [
        "kind = \"drbd\"\nresource = \"all\"\ndemote_limit = \"1ms\"\n".to_owned(),
        "kind = \"drbd\"\n".to_owned(),
        "kind = \"mount\"\nwhere = \"srv\"\n".to_owned(),
        format!("{mount}options = \"noatime,bind\"\n"),
        format!("{mount}options = \"noatime, nodev\"\n"),
        format!("{mount}options = \"x-systemd.automount\"\n"),
        format!("{mount}fsck = \"always\"\n"),
        mount.replace("ext4", "auto"),
        "kind = \"unit\"\nunit = \"web\"\n".to_owned(),
        "kind = \"unit\"\nunit = \"web.service\"\nstart_limit = \"2h\"\n".to_owned(),
    ];
    let said = wrong.map(|keys| errors(&role(&keys)));
    insta::assert_snapshot!(said.join("\n"));
}
