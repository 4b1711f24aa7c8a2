//! `kind = "sync"`: directories that are copied from the Active node to the others.

use std::path::{Component, Path, PathBuf};

use ha_common::Nanos;

use super::{DraftRole, Form, RoleKind};
use crate::config::{
    parse::{Draft, span},
    reader::{At, Reader, Section},
};

/// Keys of `kind = "sync"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRole {
    /// Directories, by the same paths on all nodes.
    pub paths: Vec<PathBuf>,
    /// What is not copied, nor touched where it is: patterns of rsync(1).
    pub exclude: Vec<String>,
    /// From one full comparison to the next, whether anything was seen to change or not.
    pub every: Nanos,
}

pub(super) const FORM: Form = Form {
    name: "sync",
    keys: &["paths", "exclude", "every"],
    data: true,
    parse,
};

const SHORTEST: Nanos = Nanos::from_secs(1);
const LONGEST: Nanos = Nanos::from_secs(86_400);
const DEFAULT_EVERY: Nanos = Nanos::from_secs(600);

/// Of the system, or of this node alone: not as a whole.
const OF_THE_NODE: [&str; 17] = [
    "/",
    "/bin",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/opt",
    "/root",
    "/sbin",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/var",
    "/var/lib",
];
/// Nor in part.
const OF_IT_ALONE: [&str; 10] = [
    "/boot",
    "/dev",
    "/etc/had",
    "/etc/netplan",
    "/etc/network",
    "/etc/ssh",
    "/etc/systemd",
    "/proc",
    "/run",
    "/sys",
];

fn belongs_to_the_node(path: &Path) -> bool {
    let alone = OF_IT_ALONE.iter().any(|own| path.starts_with(own));
    alone || OF_THE_NODE.iter().any(|own| Path::new(own) == path)
}

fn parse(section: &Section<'_>) -> Option<RoleKind> {
    let paths = section.require("paths", section.strings("paths"), "[\"/etc/web/rules\"]");
    let paths = paths.and_then(|paths| directories(section, &paths));
    let exclude = match section.offset_of("exclude") {
        None => Some(Vec::new()),
        Some(_) => section
            .strings("exclude")
            .and_then(|all| patterns(section, all)),
    };
    let every = match section.offset_of("every") {
        None => Some(DEFAULT_EVERY),
        Some(_) => span(section, "every", SHORTEST, LONGEST),
    };
    Some(RoleKind::Sync(SyncRole {
        paths: paths?,
        exclude: exclude?,
        every: every?,
    }))
}

fn directories(section: &Section<'_>, wanted: &At<Vec<At<String>>>) -> Option<Vec<PathBuf>> {
    if wanted.value.is_empty() {
        section.fail(
            wanted.offset,
            "paths",
            "no directory is named",
            "name at least one, as paths = [\"/etc/web/rules\"]",
        );
    }
    let mut paths: Vec<PathBuf> = Vec::new();
    for one in &wanted.value {
        let path = clean(&one.value);
        let wrong = match &path {
            None => Some((
                "is no absolute path, or has `.`, `..`, `%`, a control character or a space at its end",
                "write the whole path of a directory, begin it with /",
            )),
            Some(path) if belongs_to_the_node(path) => Some((
                "belongs to the node itself",
                "name a directory below it that holds nothing else than what all nodes are to have",
            )),
            Some(path) if paths.iter().any(|other| nested(path, other)) => Some((
                "lies in another one that is named here, or the other way round",
                "name each directory once: what is below it is copied with it",
            )),
            Some(_) => None,
        };
        if let Some((what, fix)) = wrong {
            section.fail(
                one.offset,
                "paths",
                format!("\"{}\" {what}", one.value),
                fix,
            );
        } else if let Some(path) = path {
            paths.push(path);
        }
    }
    (!paths.is_empty() && paths.len() == wanted.value.len()).then_some(paths)
}

/// A path that rsync's configuration can hold as it is; `None`: it is none.
fn clean(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let odd = |c: char| c.is_control() || c == '%';
    let whole = plain && path.is_absolute() && !text.split('/').any(|part| part == ".");
    let fits = !text.contains(odd) && text.trim() == text && !text.ends_with('\\');
    (whole && fits).then(|| path.components().collect())
}

fn nested(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn patterns(section: &Section<'_>, wanted: At<Vec<At<String>>>) -> Option<Vec<String>> {
    let count = wanted.value.len();
    let mut patterns = Vec::new();
    for one in wanted.value {
        // Which mean something else to rsync.
        let rules = ["!", "+ ", "- "];
        let is_rule = rules.iter().any(|rule| one.value.starts_with(rule));
        if one.value.is_empty() || one.value.contains(char::is_control) || is_rule {
            section.fail(
                one.offset,
                "exclude",
                "a pattern is empty, begins with `!`, `+ ` or `- `, or has a control character",
                "write it as rsync takes it, as \"*.tmp\" or \"/cache/\"",
            );
        } else {
            patterns.push(one.value);
        }
    }
    (patterns.len() == count).then_some(patterns)
}

/// What is copied belongs to one role, and neither to the daemon nor to a file system that one node alone has.
pub(super) fn check(reader: &Reader<'_>, draft: &Draft) {
    let mut earlier: Vec<(&Path, &str)> = Vec::new();
    for role in &draft.roles {
        let Some(RoleKind::Sync(sync)) = &role.kind else {
            continue;
        };
        let fail = |what: String, fix: &str| {
            let offset = role.name.as_ref().map_or(0, |name| name.offset);
            reader.fail(offset, format!("{}, paths", role.place), what, fix);
        };
        for path in &sync.paths {
            let shown = path.display();
            let own = [&draft.node.state_dir, &draft.node.runtime_dir];
            if let Some(own) = own.iter().find(|own| nested(path, own)) {
                fail(
                    format!(
                        "{shown} and {}, which is this daemon's own, overlap",
                        own.display()
                    ),
                    "name another directory",
                );
            }
            if let Some((_, other)) = earlier.iter().find(|(other, _)| nested(path, other)) {
                fail(
                    format!("{shown} overlaps what {other} copies"),
                    "let one role copy it",
                );
            }
            if let Some(place) = mounted(&draft.roles).find(|place| nested(path, place)) {
                fail(
                    format!(
                        "{shown} and {}, which is mounted on the Active node alone, overlap",
                        place.display()
                    ),
                    "leave it out: who becomes Active has it by then",
                );
            }
        }
        let paths = sync.paths.iter();
        earlier.extend(paths.map(|path| (path.as_path(), role.place.as_str())));
    }
}

fn mounted(roles: &[DraftRole]) -> impl Iterator<Item = &Path> {
    roles.iter().filter_map(|role| match &role.kind {
        Some(RoleKind::Mount(mount)) => Some(mount.place.as_path()),
        _ => None,
    })
}
