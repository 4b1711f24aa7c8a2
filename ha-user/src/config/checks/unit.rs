//! `kind = "unit"`: a unit of systemd.

use super::{CheckKind, Form};
use crate::config::reader::Section;

/// Keys of `kind = "unit"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name, with its type.
    pub unit: String,
}

pub(super) const FORM: Form = Form {
    name: "unit",
    keys: &["unit"],
    parse,
};

/// What systemd has units of.
const TYPES: [&str; 11] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

/// Bytes of the longest name (`UNIT_NAME_MAX`).
const LONGEST: usize = 255;

fn parse(section: &Section<'_>) -> Option<CheckKind> {
    let unit = unit_name(section)?;
    Some(CheckKind::Unit(Unit { unit }))
}

/// The key `unit`.
pub(in crate::config) fn unit_name(section: &Section<'_>) -> Option<String> {
    let unit = section.string("unit");
    if let Some(unit) = &unit
        && let Err((message, fix)) = valid(&unit.value)
    {
        section.fail(unit.offset, "unit", message, fix);
        return None;
    }
    Some(section.require("unit", unit, "\"mariadb.service\"")?.value)
}

/// `Err`: what is wrong, and the fix.
pub(in crate::config) fn valid(name: &str) -> Result<(), (String, String)> {
    let legal = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let stem = match name.rsplit_once('.') {
        Some((stem, kind)) if TYPES.contains(&kind) => stem,
        _ => {
            return Err((
                format!("\"{name}\" lacks its type"),
                format!("write \"{name}.service\", as `systemctl list-units` shows it"),
            ));
        }
    };
    if stem.is_empty() || name.len() > LONGEST || !name.chars().all(legal) {
        return Err((
            format!("\"{name}\" cannot be the name of a unit"),
            "write it as `systemctl list-units` shows it".to_owned(),
        ));
    }
    if stem.ends_with('@') {
        return Err((
            format!("\"{name}\" is a template"),
            "name one of its instances, as \"name@instance.service\"".to_owned(),
        ));
    }
    Ok(())
}
