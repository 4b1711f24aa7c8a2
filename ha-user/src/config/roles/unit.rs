//! `kind = "unit"`: a unit of systemd that runs on the Active node.

use ha_common::Nanos;

use super::{Form, RoleKind, limit};
use crate::config::{checks::unit_name, reader::Section};

/// Keys of `kind = "unit"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitRole {
    /// Its name, with its type.
    pub unit: String,
    /// How long it may take to start.
    pub start_limit: Nanos,
    /// How long it may take to stop; then it is killed.
    pub stop_limit: Nanos,
}

pub(super) const FORM: Form = Form {
    name: "unit",
    keys: &["unit", "start_limit", "stop_limit"],
    data: false,
    parse,
};

const DEFAULT_START: Nanos = Nanos::from_secs(30);
const DEFAULT_STOP: Nanos = Nanos::from_secs(10);

fn parse(section: &Section<'_>) -> Option<RoleKind> {
    let unit = unit_name(section);
    let start_limit = limit(section, "start_limit", DEFAULT_START);
    let stop_limit = limit(section, "stop_limit", DEFAULT_STOP);
    Some(RoleKind::Unit(UnitRole {
        unit: unit?,
        start_limit: start_limit?,
        stop_limit: stop_limit?,
    }))
}
