//! What of roles of kinds `drbd`, `mount` and `unit` is not safe: what can be lost, and when.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::config::{Config, DrbdRole, MountRole, RoleKind};

/// Seconds that DRBD's tools may take to print their configuration.
const LIMIT_SECS: &str = "5";
/// What systemd starts at boot, by links in directories named `*.wants` and `*.requires`.
const UNITS: [&str; 3] = [
    "/etc/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const FSTAB: &str = "/etc/fstab";

/// Of each role, in the order of the groups.
pub(super) fn of(config: &Config) -> Vec<String> {
    let mut advice = Vec::new();
    let table = fs::read_to_string(FSTAB).unwrap_or_default();
    for group in &config.groups {
        let mut resources: Vec<(&DrbdRole, Option<String>)> = Vec::new();
        for role in group
            .roles
            .iter()
            .filter_map(|role| config.roles.get(*role))
        {
            let said = match &role.kind {
                RoleKind::Drbd(drbd) => {
                    let dump = dump(&drbd.resource);
                    let said = match &dump {
                        Some(dump) => of_resource(&drbd.resource, dump),
                        None => vec![format!(
                            "what `drbdadm dump {}` prints cannot be had here: whether its quorum or fencing keeps data from being lost is not known",
                            drbd.resource
                        )],
                    };
                    resources.push((drbd, dump));
                    said
                }
                RoleKind::Mount(mount) => {
                    let mut said: Vec<String> = of_device(mount, &resources).into_iter().collect();
                    said.extend(of_table(mount, &table));
                    said
                }
                RoleKind::Unit(unit) => {
                    let links = UNITS
                        .iter()
                        .find_map(|dir| started_by(Path::new(dir), &unit.unit));
                    let said = links.map(|link| {
                        format!(
                            "systemd starts {0} at boot, before anybody knows whether this node may run it ({1}): run: systemctl disable {0}",
                            unit.unit,
                            link.display()
                        )
                    });
                    said.into_iter().collect()
                }
                _ => Vec::new(),
            };
            advice.extend(
                said.into_iter()
                    .map(|said| format!("[[role]] \"{}\": {said}", role.name)),
            );
        }
    }
    advice
}

/// The resource's configuration, with what is common to all.
fn dump(resource: &str) -> Option<String> {
    let output = Command::new("timeout")
        .args([LIMIT_SECS, "drbdadm", "dump", resource])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success() && !printed.is_empty()).then_some(printed)
}

/// What an option of a resource is set to.
fn option<'d>(dump: &'d str, name: &str) -> Option<&'d str> {
    dump.lines().find_map(|line| {
        let mut words = line.trim().trim_end_matches(';').split_whitespace();
        (words.next() == Some(name)).then(|| words.next().unwrap_or("yes"))
    })
}

fn of_resource(resource: &str, dump: &str) -> Vec<String> {
    let mut said = Vec::new();
    let quorum = option(dump, "quorum").is_some_and(|value| value != "off");
    let fencing = option(dump, "fencing").is_some_and(|value| value != "dont-care");
    if !quorum && !fencing {
        said.push(format!(
            "{resource} has neither quorum nor fencing: where its nodes lose sight of each other, and one is promoted after the other, \
             each of them has writes that the other one lacks (split brain), and a person has to throw those of one away. With three nodes: \
             options {{ quorum majority; on-no-quorum io-error; }}; with two: net (DRBD 8.4: disk) {{ fencing resource-and-stonith; }} and a handler `fence-peer`"
        ));
    } else if fencing && option(dump, "fence-peer").is_none() {
        said.push(format!(
            "{resource} has fencing and no handler `fence-peer`: without its peer it is not promoted, or hangs"
        ));
    }
    if let Some(protocol @ ("A" | "B")) = option(dump, "protocol") {
        said.push(format!(
            "{resource} has protocol {protocol}: writes are acknowledged before they are on the peer's disk, and a take-over loses the last of them: \
             net {{ protocol C; }}"
        ));
    }
    if option(dump, "allow-two-primaries").is_some_and(|value| value != "no") {
        said.push(format!(
            "{resource} allows two primaries, so DRBD does not keep a second node from being promoted: remove allow-two-primaries"
        ));
    }
    if option(dump, "ping-int").is_none() {
        said.push(format!(
            "{resource} asks an idle peer each 10 s whether it is there, and DRBD 8.4 refuses a promotion for as long after that has lost its power: \
             net {{ ping-int 1; connect-int 1; timeout 9; }}"
        ));
    }
    said
}

/// A device that DRBD does not mirror.
fn of_device(mount: &MountRole, resources: &[(&DrbdRole, Option<String>)]) -> Option<String> {
    let device = mount.device.to_string_lossy();
    let is_of = |(drbd, dump): &(&DrbdRole, Option<String>)| {
        let by_name = ["/dev/drbd/by-res/", "/dev/drbd_"];
        let named = by_name.iter().any(|prefix| {
            let rest = device.strip_prefix(&format!("{prefix}{}", drbd.resource));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '_']))
        });
        // `device /dev/drbd0 minor 0;`
        let in_dump = dump.as_ref().is_some_and(|dump| {
            dump.lines().any(|line| {
                let line = line.trim().trim_end_matches(';');
                let mut words = line.split_whitespace();
                words.next() == Some("device") && words.next() == Some(&*device)
            })
        });
        // Without its configuration any of DRBD's may be its.
        named || in_dump || dump.is_none() && device.starts_with("/dev/drbd")
    };
    if resources.iter().any(is_of) {
        return None;
    }
    Some(if device.starts_with("/dev/drbd") {
        format!(
            "{device} is of no DRBD resource that comes before it in its group: it cannot be mounted while that is Secondary: name a role of kind \"drbd\" before it in `roles`"
        )
    } else {
        format!(
            "{device} is no DRBD device of its group: a disk of this node's own has not what was written on the other one; and of a disk that both nodes reach, \
             all is lost as soon as both mount it: it needs fencing by power or by SCSI reservations, which had does not do"
        )
    })
}

/// A file system that is mounted at boot as well.
fn of_table(mount: &MountRole, table: &str) -> Option<String> {
    let place = mount.place.to_string_lossy();
    let entry = table.lines().find(|line| {
        let mut fields = line.split_whitespace();
        !line.trim_start().starts_with('#') && fields.nth(1) == Some(&*place)
    })?;
    let options = entry.split_whitespace().nth(3).unwrap_or_default();
    (!options.split(',').any(|option| option == "noauto")).then(|| {
        format!(
            "{FSTAB} has {place} mounted at boot, before anybody knows whether this node may use it: remove that line"
        )
    })
}

/// The link by which a unit is started at boot.
fn started_by(units: &Path, unit: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(units).ok()?.flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| {
            let kind = path.extension();
            kind.is_some_and(|kind| kind == "wants" || kind == "requires")
        })
        .map(|path| path.join(unit))
        .find(|link| link.symlink_metadata().is_ok())
}

#[cfg(test)]
mod tests {
    use ha_common::Nanos;

    use super::*;

    /// As `drbdadm dump` of drbd-utils 9.22 prints them.
    const BARE: &str = include_str!("recorded/drbdadm-dump-bare.txt");
    const FENCED: &str = include_str!("recorded/drbdadm-dump-fenced.txt");

    fn drbd(resource: &str) -> DrbdRole {
        DrbdRole {
            resource: resource.to_owned(),
            promote_limit: Nanos::from_secs(1),
            demote_limit: Nanos::from_secs(1),
        }
    }

    fn mount(device: &str) -> MountRole {
        MountRole {
            device: PathBuf::from(device),
            place: PathBuf::from("/srv/data"),
            kind: "ext4".to_owned(),
            options: Vec::new(),
            fsck: false,
            fsck_limit: Nanos::from_secs(1),
            promote_limit: Nanos::from_secs(1),
            demote_limit: Nanos::from_secs(1),
        }
    }

    #[test]
    fn what_can_be_lost_with_drbd_is_said() {
        let said = |dump: &str| of_resource("r0", dump).join("\n");
        insta::assert_snapshot!(format!("{}\n--\n{}", said(BARE), said(FENCED)));
        let safe = BARE.replace("ping-int", "quorum majority;\nping-int");
        assert_eq!(said(&safe), "");
        let handler = FENCED.replace("fence-peer", "pri-lost");
        assert!(said(&handler).contains("no handler `fence-peer`"));
    }

    #[test]
    fn a_device_that_nobody_mirrors_is_told() {
        let role = drbd("r0");
        let with_dump = [(&role, Some(BARE.to_owned()))];
        for device in ["/dev/drbd0", "/dev/drbd/by-res/r0/0", "/dev/drbd_r0_0"] {
            assert_eq!(of_device(&mount(device), &with_dump), None, "{device}");
        }
        for device in ["/dev/drbd1", "/dev/drbd/by-res/r01/0"] {
            let said = of_device(&mount(device), &with_dump).unwrap();
            assert!(
                said.contains("name a role of kind \"drbd\" before it"),
                "{said}"
            );
        }
        assert_eq!(of_device(&mount("/dev/drbd1"), &[(&role, None)]), None);
        let said = of_device(&mount("/dev/sdb1"), &with_dump).unwrap();
        assert!(said.contains("is no DRBD device"), "{said}");
    }

    #[test]
    fn what_starts_at_boot_is_told() {
        let table = |line: &str| of_table(&mount("/dev/drbd0"), line).is_some();
        assert!(table("/dev/drbd0 /srv/data ext4 defaults 0 0"));
        assert!(!table("/dev/drbd0 /srv/data ext4 noatime,noauto 0 0"));
        assert!(!table(
            "# /dev/drbd0 /srv/data ext4 defaults 0 0\n/dev/sda1 /srv ext4 defaults 0 0"
        ));
        let dir = tempfile::tempdir().unwrap();
        let wants = dir.path().join("multi-user.target.wants");
        fs::create_dir(&wants).unwrap();
        assert_eq!(started_by(dir.path(), "web.service"), None);
        let link = wants.join("web.service");
        std::os::unix::fs::symlink("/etc/systemd/system/web.service", &link).unwrap();
        assert_eq!(started_by(dir.path(), "web.service"), Some(link));
        assert_eq!(started_by(dir.path(), "other.service"), None);
    }
}
