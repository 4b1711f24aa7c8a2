//! `kind = "mount"`: a file system that is mounted on the Active node.

use std::path::PathBuf;

use ha_common::Nanos;
use rustix::mount::MountFlags;

use super::{Form, RoleKind, limit};
use crate::config::{parse::path, reader::Section};

/// Keys of `kind = "mount"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRole {
    /// The block device.
    pub device: PathBuf,
    /// Where it is mounted.
    pub place: PathBuf,
    /// As mount(8) calls it.
    pub kind: String,
    /// As mount(8) takes them.
    pub options: Vec<String>,
    /// Whether it is checked before, and mended where that loses nothing.
    pub fsck: bool,
    /// How long a check may take.
    pub fsck_limit: Nanos,
    /// How long mounting may take, with what a journal brings back.
    pub promote_limit: Nanos,
    /// How long unmounting may take. For half of it who uses the file system is asked to end, then killed.
    pub demote_limit: Nanos,
}

pub(super) const FORM: Form = Form {
    name: "mount",
    keys: &[
        "device",
        "where",
        "type",
        "options",
        "fsck",
        "fsck_limit",
        "promote_limit",
        "demote_limit",
    ],
    data: false,
    parse,
};

const DEFAULT_FSCK: Nanos = Nanos::from_secs(300);
const DEFAULT_PROMOTION: Nanos = Nanos::from_secs(20);
const DEFAULT_DEMOTION: Nanos = Nanos::from_secs(10);

/// File systems that come back by themselves from a node that lost its power.
const JOURNALLED: [&str; 7] = ["bcachefs", "btrfs", "ext3", "ext4", "f2fs", "jfs", "xfs"];

/// Options that the kernel takes as flags.
const FLAGS: [(&str, MountFlags); 11] = [
    ("ro", MountFlags::RDONLY),
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
    ("strictatime", MountFlags::STRICTATIME),
    ("lazytime", MountFlags::LAZYTIME),
    ("sync", MountFlags::SYNCHRONOUS),
    ("dirsync", MountFlags::DIRSYNC),
];

/// Options that say what is so anyway.
const DEFAULTS: [&str; 8] = [
    "defaults", "rw", "suid", "dev", "exec", "async", "atime", "diratime",
];

/// Options that are no file system's: of /etc/fstab, or of another kind of mounting.
const FOREIGN: [&str; 21] = [
    "_netdev",
    "auto",
    "bind",
    "comment",
    "group",
    "loop",
    "make-private",
    "make-shared",
    "make-slave",
    "move",
    "noauto",
    "nofail",
    "nouser",
    "owner",
    "private",
    "rbind",
    "remount",
    "shared",
    "slave",
    "user",
    "users",
];

/// What the kernel is given for options: flags, and the rest in one text.
#[must_use]
pub fn mount_flags(options: &[String]) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut rest = Vec::new();
    for option in options {
        match FLAGS.iter().find(|(name, _)| name == option) {
            Some((_, flag)) => flags |= *flag,
            None if DEFAULTS.contains(&option.as_str()) => {}
            None => rest.push(option.as_str()),
        }
    }
    (flags, rest.join(","))
}

fn parse(section: &Section<'_>) -> Option<RoleKind> {
    let device = section.require("device", path(section, "device"), "\"/dev/drbd0\"");
    let place = section.require("where", path(section, "where"), "\"/srv/data\"");
    let kind = section.require("type", kind(section), "\"ext4\"");
    let options = options(section);
    let choices = [("none", false), ("preen", true)];
    let fsck = match section.offset_of("fsck") {
        None => None,
        Some(_) => Some(section.choice("fsck", &choices)?.value),
    };
    let fsck_limit = limit(section, "fsck_limit", DEFAULT_FSCK);
    let promote_limit = limit(section, "promote_limit", DEFAULT_PROMOTION);
    let demote_limit = limit(section, "demote_limit", DEFAULT_DEMOTION);
    let kind = kind?;
    Some(RoleKind::Mount(MountRole {
        device: device?,
        place: place?,
        fsck: fsck.unwrap_or(!JOURNALLED.contains(&kind.as_str())),
        kind,
        options: options?,
        fsck_limit: fsck_limit?,
        promote_limit: promote_limit?,
        demote_limit: demote_limit?,
    }))
}

fn kind(section: &Section<'_>) -> Option<String> {
    let kind = section.string("type")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if kind.value.is_empty()
        || !kind.value.starts_with(legal)
        || !kind.value.chars().all(legal)
        || kind.value == "auto"
    {
        section.fail(
            kind.offset,
            "type",
            format!("\"{}\" is no type of a file system", kind.value),
            "write it as `blkid` shows it, as \"ext4\" or \"xfs\"",
        );
        return None;
    }
    Some(kind.value)
}

/// `"noatime,nodev"`, as in /etc/fstab.
fn options(section: &Section<'_>) -> Option<Vec<String>> {
    let Some(text) = section.string("options") else {
        return section.offset_of("options").is_none().then(Vec::new);
    };
    let options: Vec<&str> = text.value.split(',').collect();
    for option in &options {
        if let Err((message, fix)) = valid(option) {
            section.fail(text.offset, "options", message, fix);
            return None;
        }
    }
    Some(options.into_iter().map(str::to_owned).collect())
}

fn valid(option: &str) -> Result<(), (String, String)> {
    let name = option.split('=').next().unwrap_or_default();
    if name.is_empty() || option.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err((
            format!("\"{option}\" cannot be an option"),
            "write options with commas between them, as \"noatime,nodev\"".to_owned(),
        ));
    }
    if FOREIGN.contains(&name) || name.starts_with("x-") || name.starts_with("X-") {
        return Err((
            format!("\"{option}\" is no option of a file system"),
            "remove it: had alone mounts and unmounts it".to_owned(),
        ));
    }
    Ok(())
}
