//! `kind = "tcp"`: a port that accepts connections.

use std::net::SocketAddr;

use super::{CheckKind, Form};
use crate::config::reader::Section;

/// Keys of `kind = "tcp"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Where to connect to.
    pub address: SocketAddr,
    /// Whether one connection stays open between the probes, so that its end is noticed at once.
    pub keep_open: bool,
}

pub(super) const FORM: Form = Form {
    name: "tcp",
    keys: &["address", "keep_open"],
    parse,
};

fn parse(section: &Section<'_>) -> Option<CheckKind> {
    let address = socket_address(section, "address");
    let keep_open = section.boolean("keep_open");
    Some(CheckKind::Tcp(Tcp {
        address: section.require("address", address, "\"127.0.0.1:3306\"")?,
        keep_open: keep_open.is_none_or(|keep_open| keep_open.value),
    }))
}

/// An address with its port. No host name: a check that waits for a name server says nothing of the service.
pub(in crate::config) fn socket_address(section: &Section<'_>, key: &str) -> Option<SocketAddr> {
    let text = section.string(key)?;
    let address = text.value.parse().ok();
    if address.is_none() {
        section.fail(
            text.offset,
            key,
            format!("\"{}\" is no IP address with a port", text.value),
            "write it as \"127.0.0.1:3306\" or \"[::1]:3306\"",
        );
    }
    address
}
