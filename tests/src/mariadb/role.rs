//! `had` before a pair of servers, as the documentation says: a group with a role of kind `mysql`, leases on the LAN and
//! on a cable of the nodes' own, and the link on both.

use std::{fs, net::Ipv4Addr, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result};
use ha_common::Nanos;

use super::server::Server;
use crate::{Node, VirtualRouter};

/// The interface of the cable of the nodes' own.
pub const DIRECT: &str = "eth1";

/// Lost heartbeats that make a node silent.
const MULTIPLIER: u32 = 3;

/// Name of the group with the role.
pub const GROUP: &str = "db";

/// The key of the link, which both nodes have: of a lab that is gone in a minute.
const KEY_BYTES: usize = 32;

/// Plugs in the further cable.
pub fn plug(nodes: &[Node; 2]) -> Result<()> {
    for node in nodes {
        node.plug(DIRECT)?;
        let address = format!("{}/24", direct(node));
        node.ns().ip(&["addr", "add", &address, "dev", DIRECT])?;
    }
    Ok(())
}

/// The virtual router of one node, with what belongs to it.
pub fn router(
    node: &Node,
    peer: &Node,
    server: &Server,
    heartbeat: Nanos,
) -> Result<VirtualRouter> {
    let key = node.dir().join("link.key");
    fs::write(&key, "5a".repeat(KEY_BYTES)).context("writing the link's key")?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let (local, other) = (direct(node), direct(peer));
    let micros = heartbeat.0 / 1_000;
    let lines = format!(
        "heartbeat = {{ interval = \"{micros}us\", multiplier = {MULTIPLIER} }}\nchannels = [\"direct\"]\ngroup = \"{GROUP}\"\n\n\
         [[channel]]\nname = \"direct\"\nkind = \"lease\"\ninterface = \"{DIRECT}\"\nlocal = \"{local}\"\n\
         peer = \"{other}\"\ninterval = \"{micros}us\"\nmultiplier = {MULTIPLIER}\n\n\
         [[group]]\nname = \"{GROUP}\"\nroles = [\"mariadb\"]\ntrack = [{{ check = \"mariadb\" }}]\n\n\
         [[check]]\nname = \"mariadb\"\nkind = \"mysql\"\ninterval = \"100ms\"\ntimeout = \"1s\"\n{}\n\
         [link]\nkey_file = {key:?}\n\n\
         [[role]]\nname = \"mariadb\"\n{}",
        server.login_keys(),
        server.role_keys()
    );
    Ok(node
        .router()
        .interval_ms(10)
        .peers(&[peer.address()])
        .had_lines(&lines))
}

/// A node's address on the further cable.
fn direct(node: &Node) -> Ipv4Addr {
    let [.., number] = node.address().octets();
    Ipv4Addr::new(10, 99, 0, number)
}
