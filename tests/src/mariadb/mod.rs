//! Real MariaDB servers on the lab's nodes: set up as a pair or as a Galera cluster, killed, frozen and started again,
//! and watched from outside.
//!
//! A server is a process that nobody supervises: whoever has its `start_command` and its `pid_file` may start
//! and kill it, the fixture and the daemon under test alike. What still runs of it ends with its [`Server`], and at
//! the latest with its node.

mod accounts;
mod bank;
mod checker;
pub mod galera;
mod lag;
mod ledger;
mod pair;
pub mod role;
mod sampler;
mod server;
mod session;
mod settings;
mod template;
mod writers;

pub(crate) use self::server::{end_all, servers};
pub use self::{
    accounts::{Account, DATABASE, HA, REPLICATION, WRITER},
    bank::is_balanced,
    checker::{Contents, Findings, check},
    galera::Cluster,
    lag::Lag,
    ledger::{Ledger, Outcome, Write},
    pair::{ServerPair, Topology, catch_up, make_primary, replicate},
    sampler::{Sample, Sampler, Samples, overlap},
    server::Server,
    session::{Failure, Rows, Session},
    settings::{Durability, GALERA_PORTS, Galera, PORT, Settings, Storage},
    writers::{Load, SCOUT, Writers, prepare},
};
