//! `kind = "process"`: processes that must run.

use std::path::PathBuf;

use super::{CheckKind, Form};
use crate::config::{parse::path, reader::Section};

/// Keys of `kind = "process"`. What is given must hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The file with the process's number.
    pub pid_file: Option<PathBuf>,
    /// Its name, as `ps -o comm` shows it.
    pub process: Option<String>,
    /// Its command line.
    pub command: Option<CommandLine>,
    /// Whose it is: a name or a number.
    pub user: Option<String>,
    /// How many must run.
    pub min: u32,
    /// How many may run.
    pub max: Option<u32>,
}

/// What a command line is compared with, in whole words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Its words, with one space between them.
    pub words: String,
    /// Where they must stand.
    pub place: CommandPlace,
}

/// Where words stand in a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandPlace {
    /// At its beginning.
    Start,
    /// Anywhere.
    Anywhere,
    /// They are all of it.
    Whole,
}

pub(super) const FORM: Form = Form {
    name: "process",
    keys: &[
        "pid_file",
        "process",
        "command",
        "command_match",
        "user",
        "min",
        "max",
    ],
    parse,
};

const MOST: u32 = 65_535;

fn parse(section: &Section<'_>) -> Option<CheckKind> {
    let pid_file = match section.offset_of("pid_file") {
        Some(_) => Some(path(section, "pid_file")?),
        None => None,
    };
    let words = |key| {
        let Some(text) = section.string(key) else {
            return section.offset_of(key).is_none().then_some(None);
        };
        let words: Vec<&str> = text.value.split_whitespace().collect();
        if words.is_empty() {
            section.fail(
                text.offset,
                key,
                "is empty",
                "remove it, or write what it is",
            );
            return None;
        }
        Some(Some((words.join(" "), text.offset)))
    };
    let process = words("process")?;
    let command = words("command")?;
    let user = words("user")?;
    let place = section.choice(
        "command_match",
        &[
            ("start", CommandPlace::Start),
            ("contains", CommandPlace::Anywhere),
            ("exact", CommandPlace::Whole),
        ],
    );
    if pid_file.is_none() && process.is_none() && command.is_none() {
        section.fail(
            section.offset,
            "process",
            "nothing says which process",
            "add `process = \"mariadbd\"`, `pid_file` or `command`",
        );
        return None;
    }
    if command.is_none()
        && let Some(place) = place
    {
        section.fail(
            place.offset,
            "command_match",
            "there is no `command` to compare with",
            "add `command`, or remove it",
        );
        return None;
    }
    if let Some((name, offset)) = &process
        && name.contains('/')
    {
        section.fail(
            *offset,
            "process",
            "is a path, but the name of a process has none",
            format!("write it as command = \"{name}\""),
        );
        return None;
    }
    let min = section.integer("min", 1, MOST);
    let max = section.integer("max", 1, MOST);
    let least = min.as_ref().map_or(1, |min| min.value);
    if let Some(max) = &max
        && max.value < least
    {
        section.fail(
            max.offset,
            "max",
            format!("{} is less than `min`, {least}", max.value),
            "write at least as many",
        );
        return None;
    }
    if let (Some(_), Some(min)) = (&pid_file, &min)
        && min.value > 1
    {
        section.fail(
            min.offset,
            "min",
            "a file names one process",
            "remove it, or `pid_file`",
        );
        return None;
    }
    Some(CheckKind::Process(Process {
        pid_file,
        process: process.map(|(name, _)| name),
        command: command.map(|(words, _)| CommandLine {
            words,
            place: place.map_or(CommandPlace::Start, |place| place.value),
        }),
        user: user.map(|(user, _)| user),
        min: least,
        max: max.map(|max| max.value),
    }))
}
