//! `kind = "galera"`: a node of a Galera cluster, of which the Active one is written to.

use ha_common::Nanos;

use super::{
    Form, LONGEST, RoleKind, ServerProcess, limit,
    server::{KEYS, with_own},
};
use crate::config::{
    checks::{MysqlServer, mysql::server},
    parse::span,
    reader::Section,
};

/// What becomes of a node whose cluster has lost its quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bootstrap {
    /// It waits for the others, or for a person.
    #[default]
    Never,
    /// Of two: it goes on alone where the other one is proven to be gone.
    Alone,
}

/// Keys of `kind = "galera"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GaleraRole {
    /// This node's server, and as whom it is managed.
    pub server: MysqlServer,
    /// Its process.
    pub process: ServerProcess,
    /// What becomes of it without a quorum.
    pub bootstrap: Bootstrap,
    /// Whether a node may serve while it is another one's donor.
    pub donor: bool,
    /// How long a step of a promotion may take, but for waiting for data and for the cluster.
    pub promote_limit: Nanos,
    /// How long the cluster may take to notice that a node is gone, and what was received to be applied.
    pub drain_limit: Nanos,
    /// How long a step of a demotion may take before the hard way is taken.
    pub demote_limit: Nanos,
}

const OWN: [&str; 2] = ["bootstrap", "donor"];

pub(super) const FORM: Form = Form {
    name: "galera",
    keys: &with_own::<{ KEYS.len() + OWN.len() }>(&OWN),
    data: true,
    parse,
};

/// A cluster whose timing is the default takes 6.5 s to notice that a node is gone.
const SHORTEST_DRAIN: Nanos = Nanos::from_secs(3);

fn parse(section: &Section<'_>) -> Option<RoleKind> {
    let server = server(section);
    let process = ServerProcess::parse(section);
    let bootstrap = section.choice(
        "bootstrap",
        &[("never", Bootstrap::Never), ("alone", Bootstrap::Alone)],
    );
    let bootstrap = match (section.offset_of("bootstrap"), bootstrap) {
        (Some(_), None) => None,
        (_, chosen) => Some(chosen.map_or(Bootstrap::Never, |chosen| chosen.value)),
    };
    let donor = section.boolean("donor");
    let promote_limit = limit(section, "promote_limit", Nanos::from_secs(10));
    let drain_limit = match section.offset_of("drain_limit") {
        None => Some(Nanos::from_secs(30)),
        Some(_) => span(section, "drain_limit", SHORTEST_DRAIN, LONGEST),
    };
    let demote_limit = limit(section, "demote_limit", Nanos::from_secs(5));
    Some(RoleKind::Galera(Box::new(GaleraRole {
        server: server?,
        process: process?,
        bootstrap: bootstrap?,
        donor: donor.is_some_and(|donor| donor.value),
        promote_limit: promote_limit?,
        drain_limit: drain_limit?,
        demote_limit: demote_limit?,
    })))
}
