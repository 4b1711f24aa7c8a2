//! `kind = "cron"`: jobs that cron runs on the Active node alone.

use std::path::PathBuf;

use super::{Form, RoleKind};
use crate::config::{parse::path, reader::Section};

/// Keys of `kind = "cron"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronRole {
    /// The jobs, as they would stand in `/etc/cron.d`.
    pub file: PathBuf,
    /// Where they are put while the group is Active here.
    pub entry: PathBuf,
}

pub(super) const FORM: Form = Form {
    name: "cron",
    keys: &["file", "directory"],
    data: false,
    parse,
};

/// Which cron reads beside users' tables.
const DIRECTORY: &str = "/etc/cron.d";

fn parse(section: &Section<'_>) -> Option<RoleKind> {
    let file = section.require("file", path(section, "file"), "\"/etc/had/cron/backup\"");
    let directory = match section.offset_of("directory") {
        Some(_) => path(section, "directory"),
        None => Some(PathBuf::from(DIRECTORY)),
    };
    let name = section.string("name")?;
    if name.value.contains('.') {
        section.fail(
            name.offset,
            "name",
            "cron reads no file with a dot in its name, and that of this role's jobs is the role's",
            "write '-' instead",
        );
        return None;
    }
    let (file, directory) = (file?, directory?);
    if file.parent() == Some(&*directory) {
        section.fail(
            section.offset_of("file").unwrap_or(section.offset),
            "file",
            format!(
                "cron reads what is in {}, on a Backup as well",
                directory.display()
            ),
            "keep it in a directory that cron does not read",
        );
        return None;
    }
    Some(RoleKind::Cron(CronRole {
        file,
        entry: directory.join(name.value),
    }))
}
