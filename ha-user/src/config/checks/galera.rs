//! `kind = "galera"`: a node of a Galera cluster that may serve.

use super::{
    CheckKind, Form,
    mysql::{self, Mysql},
};
use crate::config::reader::Section;

/// Keys of `kind = "galera"`: those of `mysql`, and its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Galera {
    /// What is asked beside the cluster's state.
    pub mysql: Mysql,
    /// Whether a node may serve while it is another one's donor.
    pub donor: bool,
    /// Nodes that the cluster must have at least.
    pub min_size: u32,
}

pub(super) const FORM: Form = Form {
    name: "galera",
    keys: &[
        "socket",
        "address",
        "user",
        "password_file",
        "database",
        "ca_file",
        "server_name",
        "keep_open",
        "query",
        "expect",
        "donor",
        "min_size",
    ],
    parse,
};

/// As many as a cluster can have.
const LARGEST: u32 = 255;

fn parse(section: &Section<'_>) -> Option<CheckKind> {
    let mysql = mysql::parse(section);
    let donor = section.boolean("donor");
    let min_size = section.integer("min_size", 1, LARGEST);
    Some(CheckKind::Galera(Galera {
        mysql: mysql?,
        donor: donor.is_some_and(|donor| donor.value),
        min_size: min_size.map_or(1, |min_size| min_size.value),
    }))
}
