//! `kind = "drbd"`: a resource of DRBD that is Primary on the Active node.

use ha_common::Nanos;

use super::{Form, RoleKind, limit};
use crate::config::{checks::resource, reader::Section};

/// Keys of `kind = "drbd"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrbdRole {
    /// The resource's name.
    pub resource: String,
    /// How long it may take to become Primary: DRBD finds out first whether its peer is gone.
    pub promote_limit: Nanos,
    /// How long it may take to become Secondary; then it is forced to, if it can be.
    pub demote_limit: Nanos,
}

pub(super) const FORM: Form = Form {
    name: "drbd",
    keys: &["resource", "promote_limit", "demote_limit"],
    data: true,
    parse,
};

/// DRBD's own default is to ask an idle peer each 10 s whether it is there.
const DEFAULT_PROMOTION: Nanos = Nanos::from_secs(20);
const DEFAULT_DEMOTION: Nanos = Nanos::from_secs(10);

fn parse(section: &Section<'_>) -> Option<RoleKind> {
    let resource = resource(section);
    let promote_limit = limit(section, "promote_limit", DEFAULT_PROMOTION);
    let demote_limit = limit(section, "demote_limit", DEFAULT_DEMOTION);
    Some(RoleKind::Drbd(DrbdRole {
        resource: resource?,
        promote_limit: promote_limit?,
        demote_limit: demote_limit?,
    }))
}
