//! `had` before a pair of servers, as the documentation says: a group with a role of kind `mysql`, leases on the LAN and
//! on a cable of the nodes' own, and the link on both.

use std::{fs, net::Ipv4Addr, os::unix::fs::PermissionsExt as _, path::PathBuf};

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

/// Name of the role, and of its server's check.
pub const ROLE: &str = "mariadb";

/// The key of the link, which both nodes have: of a lab that is gone in a minute.
#[must_use]
pub fn link_key() -> String {
    "5a".repeat(32)
}

/// How `had` is configured, beside what the documentation says for a pair.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Between two heartbeats.
    pub heartbeat: Nanos,
    /// What the group tracks beside its server, as in `[{ check = "gateway" }]`.
    pub track: Vec<String>,
    /// The names of roles of the group that come after its server's.
    pub roles: Vec<&'static str>,
    /// Further sections.
    pub sections: String,
    /// Further keys of the role.
    pub role_keys: String,
    /// Where the daemon reaches the server, if not at the server's own socket.
    pub socket: Option<PathBuf>,
}

impl Setup {
    /// With nothing else.
    #[must_use]
    pub const fn new(heartbeat: Nanos) -> Self {
        Self {
            heartbeat,
            track: Vec::new(),
            roles: Vec::new(),
            sections: String::new(),
            role_keys: String::new(),
            socket: None,
        }
    }
}

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
pub fn router(node: &Node, peer: &Node, server: &Server, setup: &Setup) -> Result<VirtualRouter> {
    let socket = setup.socket.clone().unwrap_or_else(|| server.socket());
    let (login, role) = (server.login_keys(&socket), server.role_keys(&socket));
    router_with(node, peer, &login, &role, setup)
}

/// The same for a server of which there are only the keys of its check, and of its role. Its check is not damped: who ends
/// the servers every few seconds would else wait for the one that came back.
pub fn router_with(
    node: &Node,
    peer: &Node,
    login_keys: &str,
    role_keys: &str,
    setup: &Setup,
) -> Result<VirtualRouter> {
    let key = node.dir().join("link.key");
    fs::write(&key, link_key()).context("writing the link's key")?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    let (local, other) = (direct(node), direct(peer));
    let micros = setup.heartbeat.0 / 1_000;
    let own = format!("{{ check = {ROLE:?} }}");
    let tracked: Vec<String> = [own].into_iter().chain(setup.track.clone()).collect();
    let tracked = tracked.join(", ");
    let roles: Vec<&str> = [ROLE].into_iter().chain(setup.roles.clone()).collect();
    let lines = format!(
        "heartbeat = {{ interval = \"{micros}us\", multiplier = {MULTIPLIER} }}\nchannels = [\"direct\"]\ngroup = \"{GROUP}\"\n\n\
         [[channel]]\nname = \"direct\"\nkind = \"lease\"\ninterface = \"{DIRECT}\"\nlocal = \"{local}\"\n\
         peer = \"{other}\"\ninterval = \"{micros}us\"\nmultiplier = {MULTIPLIER}\n\n\
         [[group]]\nname = \"{GROUP}\"\nroles = {roles:?}\ntrack = [{tracked}]\n\n\
         [[check]]\nname = {ROLE:?}\nkind = \"mysql\"\ninterval = \"100ms\"\ntimeout = \"1s\"\ndamping = \"0s\"\n{login_keys}\n\
         [link]\nkey_file = {key:?}\n\n\
         [[role]]\nname = {ROLE:?}\n{role_keys}{}\n{}",
        setup.role_keys, setup.sections
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
