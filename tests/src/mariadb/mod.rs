//! Real MariaDB servers on the lab's nodes: set up as a pair or as a Galera cluster, killed, frozen and started again,
//! and watched from outside.
//!
//! A server is a process that nobody supervises: whoever has its `start_command` and its `pid_file` may start
//! and kill it, the fixture and the daemon under test alike. What still runs of it ends with its [`Server`], and at
//! the latest with its node.

mod accounts;
mod galera;
mod pair;
mod server;
mod session;
mod settings;
mod template;

pub(crate) use self::server::end_all;
pub use self::{
    accounts::{Account, DATABASE, HA, REPLICATION, WRITER},
    galera::Cluster,
    pair::{ServerPair, Topology, catch_up, make_primary, replicate},
    server::Server,
    session::{Failure, Rows, Session},
    settings::{Durability, GALERA_PORTS, Galera, PORT, Settings, Storage},
};
