//! A Galera cluster.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{
    server::Server,
    settings::{Galera, Settings, Storage},
};
use crate::{Node, eventually};

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
            last = [
                "wsrep_cluster_status",
                "wsrep_cluster_size",
                "wsrep_local_state",
            ]
            .into_iter()
            .map(|name| server.status(name))
            .collect::<Result<_>>()?;
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
