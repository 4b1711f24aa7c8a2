//! The process of a database server: how it is told from others, ended and started.

use std::path::PathBuf;

use crate::config::{
    checks::{unit::valid, words},
    parse::path,
    reader::Section,
};

/// Keys of roles whose system is a database server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerProcess {
    /// Where its data is.
    pub data_dir: Option<PathBuf>,
    /// Its unit of systemd.
    pub unit: Option<String>,
    /// Where it writes its process number.
    pub pid_file: Option<PathBuf>,
    /// How it is started without systemd.
    pub start_command: Vec<String>,
}

/// The keys of a database server: how it is spoken to, its process, and how long steps may take.
pub(super) const KEYS: [&str; 13] = [
    "socket",
    "address",
    "user",
    "password_file",
    "ca_file",
    "server_name",
    "data_dir",
    "unit",
    "pid_file",
    "start_command",
    "promote_limit",
    "drain_limit",
    "demote_limit",
];

/// These, and a kind's own.
pub(super) const fn with_own<const ALL: usize>(own: &[&'static str]) -> [&'static str; ALL] {
    assert!(ALL == KEYS.len() + own.len(), "as many as there are");
    let mut all = [""; ALL];
    let (common, rest) = all.split_at_mut(KEYS.len());
    common.copy_from_slice(&KEYS);
    rest.copy_from_slice(own);
    all
}

impl ServerProcess {
    /// `None`: something is wrong, and has been reported.
    pub(super) fn parse(section: &Section<'_>) -> Option<Self> {
        let place = |key: &str| match section.offset_of(key) {
            None => Some(None),
            Some(_) => path(section, key).map(Some),
        };
        let (unit, start_command) = (unit(section), start_command(section));
        let (data_dir, pid_file) = (place("data_dir"), place("pid_file"));
        let process = Self {
            data_dir: data_dir?,
            unit: unit?,
            pid_file: pid_file?,
            start_command: start_command?,
        };
        can_be_ended(section, &process).then_some(process)
    }
}

/// A primary that hangs while another node is to take over has to be killed, and started again.
fn can_be_ended(section: &Section<'_>, process: &ServerProcess) -> bool {
    if process.unit.is_none() && process.pid_file.is_none() {
        section.fail(
            section.offset,
            "unit",
            "is missing, and so is `pid_file`: a server that hangs could not be ended",
            "add `unit = \"mariadb.service\"`; or, where no systemd runs, `pid_file` and `start_command`",
        );
        return false;
    }
    if let (Some(_), Some(offset)) = (&process.unit, section.offset_of("start_command")) {
        section.fail(
            offset,
            "start_command",
            "there is a `unit` already, which starts it",
            "remove one of the two",
        );
        return false;
    }
    true
}

/// `None`: it is wrong, and has been reported.
fn unit(section: &Section<'_>) -> Option<Option<String>> {
    let Some(unit) = section.string("unit") else {
        return section.offset_of("unit").is_none().then_some(None);
    };
    match valid(&unit.value) {
        Ok(()) => Some(Some(unit.value)),
        Err((message, fix)) => {
            section.fail(unit.offset, "unit", message, fix);
            None
        }
    }
}

fn start_command(section: &Section<'_>) -> Option<Vec<String>> {
    match section.offset_of("start_command") {
        None => Some(Vec::new()),
        Some(_) => words(
            section,
            "start_command",
            section.strings("start_command")?.value,
        ),
    }
}
