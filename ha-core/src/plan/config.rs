//! What a conductor is told to do.

use alloc::{string::String, vec::Vec};

use ha_common::Nanos;

/// How a database's writes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A write is acknowledged once a replica in the sync set has received it.
    SemiSync,
    /// A write is acknowledged by the primary alone: a take-over can lose the last ones.
    Async,
}

/// The kind of a role, with what decides on its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleKind {
    /// A MariaDB or MySQL server with replication.
    Mysql {
        /// How its writes are kept.
        durability: Durability,
        /// Whether the replication back to the other node stays configured.
        master_master: bool,
    },
    /// A node of a Galera cluster, of which one at a time is written to.
    Galera,
    /// A DRBD resource.
    Drbd,
    /// A file system.
    Mount,
    /// A systemd unit.
    Unit,
    /// Programs of the operator's.
    Script,
    /// A file of cron jobs.
    Cron,
    /// Backups of a database's binary logs.
    Binlog,
    /// Directories that follow the Active node's.
    Sync,
}

impl RoleKind {
    /// As in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mysql { .. } => "mysql",
            Self::Galera => "galera",
            Self::Drbd => "drbd",
            Self::Mount => "mount",
            Self::Unit => "unit",
            Self::Script => "script",
            Self::Cron => "cron",
            Self::Binlog => "binlog",
            Self::Sync => "sync",
        }
    }

    /// Whether a standby's data has to be known before it is promoted, by what the nodes tell each other. DRBD and
    /// Galera know that themselves.
    #[must_use]
    pub const fn needs_knowledge(self) -> bool {
        matches!(self, Self::Mysql { .. })
    }
}

/// How long a role's steps may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A step of a promotion, but for waiting for data.
    pub promote: Nanos,
    /// Waiting for what was received to be applied.
    pub drain: Nanos,
    /// A step of a demotion, before the hard way is taken.
    pub demote: Nanos,
}

/// A role of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleConfig {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: RoleKind,
    /// How long its steps may take.
    pub limits: Limits,
    /// An asynchronous replica: how far it may be behind to be promoted.
    pub max_lag: Nanos,
}

/// What becomes of a node whose group was taken over without its doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterFailover {
    /// It returns as a standby, when it is verified clean.
    #[default]
    Rejoin,
    /// It goes into maintenance, and the survivor stands alone, until a person returns both.
    Maintenance,
}

/// Everything that a conductor needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConductorConfig {
    /// The group.
    pub group: String,
    /// This node.
    pub node: String,
    /// Its roles, in the order in which they are promoted.
    pub roles: Vec<RoleConfig>,
    /// How many other nodes there are.
    pub peers: usize,
    /// How long a standby counts as in sync after the primary has confirmed it.
    pub sync_lease: Nanos,
    /// What becomes of a node whose group was taken over without its doing.
    pub after_failover: AfterFailover,
}
