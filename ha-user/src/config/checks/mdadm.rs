//! `kind = "mdadm"`: software RAID arrays that must be whole.

use super::{CheckKind, Form};
use crate::config::reader::Section;

/// Keys of `kind = "mdadm"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mdadm {
    /// The array; `None`: all of them.
    pub array: Option<String>,
    /// Whether an array passes while it is rebuilt or synchronised.
    pub allow_recovery: bool,
}

pub(super) const FORM: Form = Form {
    name: "mdadm",
    keys: &["array", "allow_recovery"],
    parse,
};

fn parse(section: &Section<'_>) -> Option<CheckKind> {
    let array = section.string("array");
    if let Some(array) = &array {
        let name = array.value.strip_prefix("/dev/").unwrap_or(&array.value);
        let legal = |c: char| !c.is_whitespace() && c != '/';
        if name.is_empty() || !name.chars().all(legal) {
            section.fail(
                array.offset,
                "array",
                format!("\"{}\" is not the name of an array", array.value),
                "write it as the first column of /proc/mdstat has it, as \"md0\"",
            );
            return None;
        }
    }
    let allow_recovery = section.boolean("allow_recovery");
    let name = |array: String| match array.strip_prefix("/dev/") {
        Some(name) => name.to_owned(),
        None => array,
    };
    Some(CheckKind::Mdadm(Mdadm {
        array: array.map(|array| name(array.value)),
        allow_recovery: allow_recovery.is_none_or(|allow| allow.value),
    }))
}
