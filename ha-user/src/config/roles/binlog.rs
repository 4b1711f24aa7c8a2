//! `kind = "binlog"`: backup and purge of the binary logs of a group's database, on the Active node.

use std::path::PathBuf;

use ha_common::Nanos;

use super::{DraftRole, Form, RoleKind};
use crate::config::{
    parse::{Draft, path, span},
    reader::{At, Reader, Section},
};

/// Keys of `kind = "binlog"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinlogRole {
    /// Where backups are kept, in a directory for each node.
    pub directory: PathBuf,
    /// From one run to the next.
    pub every: Nanos,
    /// How old the server's own logs are when they are purged.
    pub keep: Nanos,
    /// How old backups are when they are removed. `None`: they never are.
    pub keep_backups: Option<Nanos>,
    /// When a replica of which nothing is heard keeps no log from being purged any more. `None`: it always does.
    pub give_up_replica_after: Option<Nanos>,
}

pub(super) const FORM: Form = Form {
    name: "binlog",
    keys: &[
        "directory",
        "every",
        "keep",
        "keep_backups",
        "give_up_replica_after",
    ],
    data: false,
    parse,
};

const SECOND: Nanos = Nanos::from_secs(1);
const HOUR: Nanos = Nanos::from_secs(3_600);
const DAY: Nanos = Nanos::from_secs(86_400);
const DECADE: Nanos = DAY.times(3_653);

const DEFAULT_EVERY: Nanos = Nanos::from_secs(900);
const DEFAULT_KEEP: Nanos = DAY.times(3);

fn parse(section: &Section<'_>) -> Option<RoleKind> {
    let directory = path(section, "directory");
    let directory = section.require("directory", directory, "\"/srv/backup/binlog\"");
    let time = |key: &str, low, high, default| match section.offset_of(key) {
        None => Some(default),
        Some(_) => span(section, key, low, high).map(Some),
    };
    let every = time("every", SECOND, DAY, Some(DEFAULT_EVERY));
    let keep = time("keep", Nanos::ZERO, DECADE, Some(DEFAULT_KEEP));
    let keep_backups = time("keep_backups", SECOND, DECADE, None);
    // Nothing that a pause of the link, or a reboot, could bring about.
    let give_up = time("give_up_replica_after", HOUR, DECADE, None);
    Some(RoleKind::Binlog(BinlogRole {
        directory: directory?,
        every: every??,
        keep: keep??,
        keep_backups: keep_backups?,
        give_up_replica_after: give_up?,
    }))
}

/// It is of the server of a role of the same group, which is promoted before.
pub(super) fn check(reader: &Reader<'_>, draft: &Draft) {
    for group in &draft.groups {
        let named = |wanted: &At<String>| {
            let called = |role: &&DraftRole| role.called.as_deref() == Some(&*wanted.value);
            draft.roles.iter().find(called)
        };
        let mut there = false;
        for wanted in &group.roles {
            match named(wanted).map(|role| &role.kind) {
                // What is wrong with it has been reported, and it may have been meant to be the database.
                None | Some(None | Some(RoleKind::Mysql(_))) => there = true,
                Some(Some(RoleKind::Binlog(_))) if !there => reader.fail(
                    wanted.offset,
                    format!("{}, roles", group.place),
                    format!(
                        "\"{}\" backs up binary logs, and no role of kind \"mysql\" stands before it whose they could be",
                        wanted.value
                    ),
                    "name the database's role before it, as roles = [\"mariadb\", \"binlogs\"]",
                ),
                Some(Some(_)) => {}
            }
        }
    }
}
