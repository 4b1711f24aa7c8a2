//! `kind = "script"`: a program whose exit code says whether the service works.

use std::{fmt, path::PathBuf};

use super::{CheckKind, Form};
use crate::config::{
    parse::path,
    reader::{At, Section},
};

/// Keys of `kind = "script"`.
#[derive(Clone, PartialEq, Eq)]
pub struct Script {
    /// The check's name, which the script finds in its environment; `None`: no check runs it.
    pub check: Option<String>,
    /// The program's path and its arguments.
    pub command: Vec<String>,
    /// Who runs it; `None`: a user without privileges.
    pub user: Option<String>,
    /// More of its environment. A value may be a secret.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub directory: PathBuf,
}

impl fmt::Debug for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        formatter
            .debug_struct("Script")
            .field("check", &self.check)
            .field("command", &self.command)
            .field("user", &self.user)
            .field("env", &names)
            .field("directory", &self.directory)
            .finish()
    }
}

pub(super) const FORM: Form = Form {
    name: "script",
    keys: &["command", "user", "env", "directory"],
    parse,
};

/// What the kernel cannot pass on.
const NUL: char = '\0';

fn parse(section: &Section<'_>) -> Option<CheckKind> {
    let command = section.require(
        "command",
        section.strings("command"),
        "[\"/usr/local/lib/had/check-web\"]",
    );
    let surroundings = surroundings(section);
    let check = section.string("name")?.value;
    Some(CheckKind::Script(Script {
        check: Some(check),
        command: words(section, "command", command?.value)?,
        ..surroundings?
    }))
}

/// Everything but the command: who runs it, and in what surroundings.
pub(in crate::config) fn surroundings(section: &Section<'_>) -> Option<Script> {
    let user = section.string("user");
    let env = env(section);
    let directory = match section.offset_of("directory") {
        Some(_) => path(section, "directory"),
        None => Some(PathBuf::from("/")),
    };
    Some(Script {
        check: None,
        command: Vec::new(),
        user: user.map(|user| user.value),
        env: env?,
        directory: directory?,
    })
}

/// A program's path and its arguments, as `key` has them.
pub(in crate::config) fn words(
    section: &Section<'_>,
    key: &str,
    command: Vec<At<String>>,
) -> Option<Vec<String>> {
    let fail = |offset: usize, message: String, fix: &str| {
        section.fail(offset, key, message, fix);
        None
    };
    let example =
        "begin with the program's path, as [\"/usr/local/lib/had/check-web\", \"argument\"]";
    match command.first() {
        None => {
            let offset = section.offset_of(key).unwrap_or(section.offset);
            return fail(offset, "is empty".to_owned(), example);
        }
        Some(program) if !program.value.starts_with('/') => {
            let message = format!("\"{}\" is no absolute path", program.value);
            return fail(program.offset, message, example);
        }
        Some(_) => {}
    }
    if let Some(word) = command.iter().find(|word| word.value.contains(NUL)) {
        return fail(word.offset, "has a NUL in it".to_owned(), "remove it");
    }
    Some(command.into_iter().map(|word| word.value).collect())
}

fn env(section: &Section<'_>) -> Option<Vec<(String, String)>> {
    let pairs = section.pairs("env")?;
    let checked: Vec<Option<(String, String)>> = pairs
        .into_iter()
        .map(|(name, value)| {
            let legal = |(index, c): (usize, char)| {
                c.is_ascii_alphabetic() || c == '_' || index > 0 && c.is_ascii_digit()
            };
            if !name.value.chars().enumerate().all(legal)
                || name.value.is_empty()
                || value.contains(NUL)
            {
                section.fail_unshown(
                    name.offset,
                    "env",
                    format!("\"{}\" cannot be in an environment", name.value),
                    "write letters, digits and '_', as { DATABASE = \"web\" }",
                );
                return None;
            }
            Some((name.value, value))
        })
        .collect();
    checked.into_iter().collect()
}
