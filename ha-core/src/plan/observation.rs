//! What a role's executor finds on its own node.

use alloc::string::String;

use ha_common::{MonoNs, Nanos};

/// How far a node's data is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// More is better, among nodes whose data is of one history.
    pub rank: u64,
    /// As the system itself writes it.
    pub text: String,
}

/// Whom a database follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Follows {
    /// Nobody, or it is not known.
    #[default]
    Nobody,
    /// Another server.
    Source {
        /// `address:port`, as it is configured.
        source: String,
        /// Whether it receives: its receiving thread is connected.
        receives: bool,
        /// Whether it acknowledges what it receives (semi-synchronous replication).
        acknowledges: bool,
        /// How far it is behind in applying, if that is known.
        lag: Option<Nanos>,
    },
}

/// How a primary's replicas stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// Replicas that acknowledge, as the server counts them: one that died may be among them.
    pub acknowledging: u32,
    /// Sessions that wait for an acknowledgement.
    pub waiting: u32,
    /// Whether writes are acknowledged although no replica has them.
    pub solo: bool,
}

/// A role, as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// A database: when the look began that found this, by the node's own clock. It may have been answered long after,
    /// by a server or on a machine that stood still. Zero: it cannot be told.
    pub began_at: MonoNs,
    /// Whether it is promoted here: writable, Primary, mounted, running. `None`: that cannot be told.
    pub promoted: Option<bool>,
    /// A database: whether its server runs. `None`: that cannot be told, or there is none.
    pub runs: Option<bool>,
    /// A database: a number that is another one each time that its server was started, as far as this executor saw.
    pub incarnation: Option<u64>,
    /// A replica that was started again: what it had received lies in its files, and is to be read before it is known
    /// how far it is. To follow is to throw that away.
    pub unread: bool,
    /// Whether it could be promoted, as far as this node alone shows; or why not.
    pub able: Result<(), String>,
    /// How far its data is.
    pub position: Option<Position>,
    /// What a primary compares to find out whether this node's data is of the same history.
    pub history: Option<String>,
    /// As a standby: whom it follows.
    pub follows: Follows,
    /// As a primary: its replicas.
    pub replicas: Option<Replicas>,
    /// What it did last, or what else there is to know of it, for people.
    pub note: Option<String>,
    /// What people should see to, though the role does its work.
    pub warning: Option<String>,
}

impl Observation {
    /// Nothing is known yet.
    #[must_use]
    pub fn unknown(why: &str) -> Self {
        Self::of(None, Err(why.into()))
    }

    /// No more than that is to be known of such a role.
    #[must_use]
    pub const fn of(promoted: Option<bool>, able: Result<(), String>) -> Self {
        Self {
            began_at: MonoNs::ZERO,
            promoted,
            runs: None,
            incarnation: None,
            unread: false,
            able,
            position: None,
            history: None,
            follows: Follows::Nobody,
            replicas: None,
            note: None,
            warning: None,
        }
    }
}
