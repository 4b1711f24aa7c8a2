//! `kind = "drbd"`: a resource of DRBD that this node could use.

use ha_common::Nanos;

use super::{CheckKind, Form};
use crate::config::{parse::span, reader::Section};

/// Keys of `kind = "drbd"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drbd {
    /// The resource's name.
    pub resource: String,
    /// How long an Active node may take to become the resource's Primary; zero: it need not be.
    pub promote_within: Nanos,
}

pub(super) const FORM: Form = Form {
    name: "drbd",
    keys: &["resource", "promote_within"],
    parse,
};

const DEFAULT_PROMOTION: Nanos = Nanos::from_secs(30);
const LONGEST_PROMOTION: Nanos = Nanos::from_secs(3_600);

fn parse(section: &Section<'_>) -> Option<CheckKind> {
    let promote_within = span(section, "promote_within", Nanos::ZERO, LONGEST_PROMOTION);
    Some(CheckKind::Drbd(Drbd {
        resource: resource(section)?,
        promote_within: promote_within.unwrap_or(DEFAULT_PROMOTION),
    }))
}

/// The key `resource`.
pub(in crate::config) fn resource(section: &Section<'_>) -> Option<String> {
    let resource = section.string("resource");
    if let Some(resource) = &resource {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        let first = |c: char| c.is_ascii_alphanumeric();
        // drbdsetup takes "all" for every resource there is.
        let name = resource.value.as_str();
        if !name.starts_with(first) || !name.chars().all(legal) || name == "all" {
            section.fail(
                resource.offset,
                "resource",
                format!("\"{name}\" cannot be the name of a resource"),
                "write it as `drbdadm status` shows it",
            );
            return None;
        }
    }
    Some(section.require("resource", resource, "\"r0\"")?.value)
}
