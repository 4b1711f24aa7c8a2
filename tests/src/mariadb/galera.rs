//! A Galera cluster.

use std::{fs, net::Ipv4Addr, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context as _, Result};
use ha_common::Nanos;

use super::{
    server::Server,
    settings::{Galera, Settings, Storage},
};
use crate::{Node, VirtualRouter, eventually};

/// How long a node may take to get the others' state.
const JOIN_LIMIT: Duration = Duration::from_secs(90);

/// Two or more nodes of one cluster.
pub struct Cluster {
    /// Its nodes' servers.
    pub servers: Vec<Server>,
}

impl Cluster {
    /// Starts a new cluster on its first node, and lets the others join, one after the other. None is writable yet.
    pub fn start(nodes: &[Node], provider_options: &str, storage: Storage) -> Result<Self> {
        let members: Vec<_> = nodes.iter().map(Node::address).collect();
        let mut servers = Vec::new();
        for (node, server_id) in nodes.iter().zip(1..) {
            let mut settings = Settings::new(server_id);
            settings.storage = storage;
            settings.galera = Some(Galera {
                members: members.clone(),
                provider_options: provider_options.to_owned(),
            });
            servers.push(Server::install(node, &settings)?);
        }
        let this = Self { servers };
        for (index, server) in this.servers.iter().enumerate() {
            if index == 0 {
                server.launch(&["--wsrep-new-cluster"])?;
            } else {
                server.launch(&[])?;
            }
            this.wait_for_members(index, index + 1)?;
        }
        Ok(this)
    }

    /// Waits until a node is in sync in the primary component of a cluster with so many members.
    pub fn wait_for_members(&self, index: usize, members: usize) -> Result<()> {
        let server = self.servers.get(index).context("there is no such node")?;
        let what = format!("{} is in sync in a cluster of {members}", server.name());
        let mut last = Vec::new();
        eventually(JOIN_LIMIT, &what, || {
            // A server that is just starting, or being killed, may close the session.
            last = [
                "wsrep_cluster_status",
                "wsrep_cluster_size",
                "wsrep_local_state",
            ]
            .into_iter()
            .map(|name| {
                server
                    .status(name)
                    .unwrap_or_else(|error| format!("{error:#}"))
            })
            .collect();
            Ok(last == ["Primary".to_owned(), members.to_string(), "4".to_owned()])
        })
        .with_context(|| {
            let logs: Vec<String> = self.servers.iter().map(Server::log_tail).collect();
            format!(
                "last seen: {last:?}\n{}",
                logs.join("\n--- the next node's:\n")
            )
        })
    }
}

/// Name of the group with the role, and of the role.
pub const GROUP: &str = "db";

/// What decides on a node's role of kind `galera`.
#[derive(Clone, Copy, Debug)]
pub struct GaleraRole {
    /// Beyond all nodes: who does not reach it is cut off.
    pub gateway: Ipv4Addr,
    /// `bootstrap`.
    pub bootstrap: &'static str,
    /// Between two heartbeats.
    pub heartbeat: Nanos,
}

impl GaleraRole {
    /// The virtual router of one node with that role, its check and its arbitrator, as the documentation says.
    pub fn router(
        &self,
        node: &Node,
        peers: &[Ipv4Addr],
        server: &Server,
    ) -> Result<VirtualRouter> {
        let key = node.dir().join("link.key");
        fs::write(&key, "a5".repeat(32)).context("writing the link's key")?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        // As root, which may tell the provider something.
        let login = format!("socket = {:?}\n", server.socket());
        let command = server.start_command();
        let command: Vec<String> = command.iter().map(|word| format!("{word:?}")).collect();
        let lines = format!(
            "heartbeat = {{ interval = \"{micros}us\", multiplier = 3 }}\ngroup = \"{GROUP}\"\n\n\
             [[group]]\nname = \"{GROUP}\"\nroles = [\"{GROUP}\"]\n\
             track = [{{ check = \"mariadb\" }}, {{ check = \"gateway\", when = \"isolated\" }}]\n\n\
             [[check]]\nname = \"mariadb\"\nkind = \"mysql\"\nquery = \"SELECT 1\"\ninterval = \"100ms\"\ntimeout = \"1s\"\n{login}\n\
             [[check]]\nname = \"gateway\"\nkind = \"ping\"\ntargets = [\"{gateway}\"]\ninterval = \"1s\"\ntimeout = \"300ms\"\n\n\
             [link]\nkey_file = {key:?}\n\n\
             [[role]]\nname = \"{GROUP}\"\nkind = \"galera\"\nbootstrap = {bootstrap:?}\n{login}\
             data_dir = {data:?}\npid_file = {pid:?}\nstart_command = [{command}]\n",
            micros = self.heartbeat.0 / 1_000,
            gateway = self.gateway,
            bootstrap = self.bootstrap,
            data = server.data_dir(),
            pid = server.pid_file(),
            command = command.join(", "),
        );
        Ok(node.router().interval_ms(10).peers(peers).had_lines(&lines))
    }
}
