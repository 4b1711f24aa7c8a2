//! MariaDB and MySQL servers: what one says of itself, and what follows from that.

mod able;
mod audit;
mod dialect;
mod place;

use alloc::string::String;

pub use self::{
    audit::{Demands, SETTINGS, audit, unreachable},
    dialect::{Dialect, Version},
    place::{History, Place},
};
pub use super::{Finding, Severity};

/// Whether a thread of replication runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receiving {
    /// The thread is stopped.
    #[default]
    Stopped,
    /// It tries to connect, or waits to try again.
    Connecting,
    /// It is connected.
    Connected,
}

/// Replication from another server, as it is set up here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `host:port` of the source.
    pub source: String,
    /// The receiving (IO) thread.
    pub receiving: Receiving,
    /// Whether the applying (SQL) thread runs.
    pub applying: bool,
    /// Why the receiving thread stopped or does not connect.
    pub receive_error: Option<String>,
    /// Why the applying thread stopped.
    pub apply_error: Option<String>,
    /// Whether it goes by GTIDs and not by files.
    pub by_gtid: bool,
    /// What has been received; empty is unknown as well.
    pub received: Place,
    /// How far applying is behind, in seconds.
    pub lag_seconds: Option<u64>,
}

/// Semi-synchronous replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SemiSync {
    /// As a source it waits for acknowledgements.
    pub source: bool,
    /// It goes on waiting where no replica is connected.
    pub waits_alone: bool,
    /// As a replica it will acknowledge when it next connects.
    pub replica: bool,
    /// As a replica it does acknowledge.
    pub acknowledges: bool,
    /// Replicas that are connected and acknowledge, as the server counts them: one that died may be among them.
    pub replicas: u32,
    /// Sessions that wait for an acknowledgement.
    pub waiting: u32,
}

/// The last take-over that the data knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its epoch.
    pub epoch: u64,
    /// `server_id` of the server that became primary.
    pub server: u32,
}

/// A server, as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// Its family.
    pub dialect: Dialect,
    /// Its own `server_id`.
    pub server: u32,
    /// Whether it refuses writes: `super_read_only` where there is such a thing.
    pub read_only: bool,
    /// Replication from another server.
    pub link: Option<Link>,
    /// What is here: written or applied.
    pub here: Place,
    /// What is in its binary logs, or was.
    pub history: History,
    /// Semi-synchronous replication.
    pub semi_sync: SemiSync,
    /// The last take-over that the data knows of.
    pub mark: Option<Mark>,
}
