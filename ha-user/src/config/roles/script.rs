//! `kind = "script"`: programs that are told each change of the group, and acknowledge it by their exit code.

use ha_common::Nanos;

use super::{Form, RoleKind, limit};
use crate::config::{
    checks::{Script, surroundings, words},
    reader::Section,
};

/// Keys of `kind = "script"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptRole {
    /// Run at each change, with keepalived's arguments of `notify` behind its own.
    pub notify: Option<RoleCommand>,
    /// Run when the group becomes Active here.
    pub promote: Option<RoleCommand>,
    /// Run when it ceases to be.
    pub demote: Option<RoleCommand>,
    /// Run instead of `demote` where the group is in Fault.
    pub fault: Option<RoleCommand>,
    /// Says by its exit code whether it is promoted: 0 = yes, anything else = no.
    pub status: Option<RoleCommand>,
    /// Who runs them, and in what surroundings; its command is empty.
    pub surroundings: Script,
    /// How long promotion may take.
    pub promote_limit: Nanos,
    /// How long demotion may take.
    pub demote_limit: Nanos,
}

/// A program's path and its arguments.
pub type RoleCommand = Vec<String>;

pub(super) const FORM: Form = Form {
    name: "script",
    keys: &[
        "command",
        "promote",
        "demote",
        "fault",
        "status",
        "user",
        "env",
        "directory",
        "promote_limit",
        "demote_limit",
    ],
    data: false,
    parse,
};

const DEFAULT_LIMIT: Nanos = Nanos::from_secs(10);

fn parse(section: &Section<'_>) -> Option<RoleKind> {
    let command = |key: &str| match section.offset_of(key) {
        None => Some(None),
        Some(_) => words(section, key, section.strings(key)?.value).map(Some),
    };
    let notify = command("command");
    let (promote, demote) = (command("promote"), command("demote"));
    let (fault, status) = (command("fault"), command("status"));
    let surroundings = surroundings(section);
    let limit = |key| limit(section, key, DEFAULT_LIMIT);
    let (promote_limit, demote_limit) = (limit("promote_limit"), limit("demote_limit"));
    let script = ScriptRole {
        notify: notify?,
        promote: promote?,
        demote: demote?,
        fault: fault?,
        status: status?,
        surroundings: surroundings?,
        promote_limit: promote_limit?,
        demote_limit: demote_limit?,
    };
    if script.notify.is_none() && (script.promote.is_none() || script.demote.is_none()) {
        section.fail(
            section.offset,
            "command",
            "is missing, and not both `promote` and `demote` are there",
            "add `command = [\"/usr/local/lib/had/notify-web\"]`, which is told each change, or `promote` and `demote`",
        );
        return None;
    }
    Some(RoleKind::Script(Box::new(script)))
}
