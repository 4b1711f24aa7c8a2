//! `kind = "mysql"`: a MariaDB or MySQL server with replication, of which the Active node's is the primary.

use std::net::SocketAddr;

use ha_common::Nanos;

use super::{
    Form, LONGEST, RoleKind, ServerProcess,
    server::{KEYS, with_own},
};
use crate::config::{
    checks::{
        MysqlServer, Secret,
        mysql::{password, server},
        tcp::socket_address,
    },
    parse::span,
    reader::Section,
};

/// Keys of `kind = "mysql"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlRole {
    /// This node's server, and as whom it is managed.
    pub server: MysqlServer,
    /// Its process.
    pub process: ServerProcess,
    /// Where the other nodes' replicas reach it.
    pub replication_address: SocketAddr,
    /// As whom replicas come, here and at the other nodes.
    pub replication_user: String,
    /// Their password.
    pub replication_password: Option<Secret>,
    /// Whether a write is acknowledged only when a replica has it.
    pub semi_sync: bool,
    /// Whether the primary keeps its own replication from the other node.
    pub master_master: bool,
    /// How long a step of a promotion may take, but for waiting for data.
    pub promote_limit: Nanos,
    /// How long what was received may take to be applied.
    pub drain_limit: Nanos,
    /// How long a step of a demotion may take before the hard way is taken.
    pub demote_limit: Nanos,
    /// How far an asynchronous replica may be behind to be promoted.
    pub max_lag: Nanos,
    /// How long a standby counts as in sync after the primary has confirmed it.
    pub sync_lease: Nanos,
}

const OWN: [&str; 7] = [
    "replication_address",
    "replication_user",
    "replication_password_file",
    "durability",
    "master_master",
    "max_lag",
    "sync_lease",
];

pub(super) const FORM: Form = Form {
    name: "mysql",
    keys: &with_own::<{ KEYS.len() + OWN.len() }>(&OWN),
    data: true,
    parse,
};

const SHORTEST: Nanos = Nanos::from_millis(100);

fn parse(section: &Section<'_>) -> Option<RoleKind> {
    let server = server(section);
    let address = section.require(
        "replication_address",
        socket_address(section, "replication_address"),
        "\"10.0.0.1:3306\"",
    );
    let user = section.string("replication_user").map(|user| user.value);
    let user = section.require("replication_user", user, "\"repl\"");
    let replication_password = password(section, "replication_password_file");
    let durability = section.choice("durability", &[("semi-sync", true), ("async", false)]);
    let time = |key: &str, default| match section.offset_of(key) {
        None => Some(default),
        Some(_) => span(section, key, SHORTEST, LONGEST),
    };
    let promote_limit = time("promote_limit", Nanos::from_secs(10));
    let drain_limit = time("drain_limit", Nanos::from_secs(60));
    let demote_limit = time("demote_limit", Nanos::from_secs(2));
    let max_lag = time("max_lag", Nanos::from_secs(30));
    let sync_lease = time("sync_lease", Nanos::from_secs(3));
    let process = ServerProcess::parse(section);
    let role = MysqlRole {
        server: server?,
        process: process?,
        replication_address: address?,
        replication_user: user?,
        replication_password: replication_password?,
        semi_sync: durability.is_none_or(|durability| durability.value),
        master_master: section
            .boolean("master_master")
            .is_some_and(|both| both.value),
        promote_limit: promote_limit?,
        drain_limit: drain_limit?,
        demote_limit: demote_limit?,
        max_lag: max_lag?,
        sync_lease: sync_lease?,
    };
    Some(RoleKind::Mysql(Box::new(role)))
}
