//! How a server is configured: as the documentation tells users to.

use std::{fmt::Write as _, net::Ipv4Addr, path::Path};

/// Where the servers listen, each in its node's namespace.
pub const PORT: u16 = 3306;

/// A way in when all connections are used up.
const EXTRA_PORT: u16 = 3307;

/// Where Galera's nodes reach each other: group communication, incremental and full state transfer.
pub const GALERA_PORTS: [u16; 3] = [4567, 4568, 4444];

/// Who runs the servers: Galera's state transfer does not work as root.
pub(super) const USER: &str = "mysql";

/// Of InnoDB.
pub(super) const REDO_LOG: &str = "16M";

/// The domain of all servers of a group.
const DOMAIN: u32 = 0;

/// What an acknowledged write has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The primary's disk.
    Async,
    /// The primary's disk and the replica's relay log, however long that takes.
    SemiSync,
}

/// Where a server's files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// On the disk of `/tmp`.
    Disk,
    /// In memory: as fast as a good disk with a cache of its own, whatever else this machine's disk does.
    Memory,
}

/// A node of a Galera cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Galera {
    /// All nodes' addresses.
    pub members: Vec<Ipv4Addr>,
    /// Further options of the provider, such as `evs.suspect_timeout=PT1S`.
    pub provider_options: String,
}

/// A server's configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Not another server's.
    pub server_id: u32,
    /// What an acknowledged write has behind it.
    pub durability: Durability,
    /// Where its files are.
    pub storage: Storage,
    /// Of a Galera cluster.
    pub galera: Option<Galera>,
    /// Further lines of its configuration, which may repeat a key.
    pub lines: String,
}

impl Settings {
    /// A server with replication by GTID, semi-synchronous.
    #[must_use]
    pub fn new(server_id: u32) -> Self {
        Self {
            server_id,
            durability: Durability::SemiSync,
            storage: Storage::Disk,
            galera: None,
            lines: String::new(),
        }
    }

    /// The file, for a server with its files below `dir` at `address`.
    pub(super) fn text(&self, dir: &Path, address: Ipv4Addr) -> String {
        let at = dir.display();
        let id = self.server_id;
        let mut text = format!(
            "[mariadbd]
user = {USER}
datadir = {at}/data
tmpdir = {at}/tmp
socket = {at}/socket
pid_file = {at}/pid
log_error = {at}/error.log
bind_address = 0.0.0.0
port = {PORT}
extra_port = {EXTRA_PORT}
extra_max_connections = 3
max_connections = 400
skip_name_resolve
performance_schema = OFF
innodb_buffer_pool_size = 64M
innodb_log_file_size = {REDO_LOG}
innodb_flush_log_at_trx_commit = 1
server_id = {id}
gtid_domain_id = {DOMAIN}
gtid_strict_mode = ON
log_bin = binlog
relay_log = relay
log_slave_updates = ON
binlog_format = ROW
sync_binlog = 1
read_only = ON
skip_slave_start
init_rpl_role = SLAVE
slave_net_timeout = 4
report_host = {address}
"
        );
        if self.durability == Durability::SemiSync && self.galera.is_none() {
            text.push_str(
                "rpl_semi_sync_slave_enabled = ON
rpl_semi_sync_master_wait_point = AFTER_SYNC
rpl_semi_sync_master_timeout = 4294967295
",
            );
        }
        if let Some(galera) = &self.galera {
            let members: Vec<String> = galera.members.iter().map(Ipv4Addr::to_string).collect();
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "wsrep_on = ON
wsrep_provider = /usr/lib/galera/libgalera_smm.so
wsrep_cluster_name = lab
wsrep_cluster_address = gcomm://{}
wsrep_node_address = {address}
wsrep_node_name = node{id}
wsrep_sst_method = rsync
wsrep_slave_threads = 2
wsrep_provider_options = \"gcache.size=32M;{}\"
innodb_autoinc_lock_mode = 2
",
                members.join(","),
                galera.provider_options
            );
        }
        text.push_str(&self.lines);
        text.push('\n');
        text
    }
}
