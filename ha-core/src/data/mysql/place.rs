//! How far a server's data is and where it came from, in either family's words.

use alloc::{
    format,
    string::{String, ToString as _},
};
use core::fmt;

use super::{Dialect, ServerState};
use crate::data::gtid::{
    GtidError,
    mariadb::{self, BinlogState, Position},
    mysql::{self, GtidSet},
};

/// How far data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The last transaction of each domain.
    MariaDb(Position),
    /// All transactions.
    MySql(GtidSet),
}

impl Place {
    /// Reads what a server of this family shows.
    ///
    /// # Errors
    ///
    /// Where it is no such thing.
    pub fn parse(dialect: Dialect, text: &str) -> Result<Self, GtidError> {
        match dialect {
            Dialect::MariaDb => Position::parse(text).map(Self::MariaDb),
            Dialect::MySql => GtidSet::parse(text).map(Self::MySql),
        }
    }

    /// Nothing.
    #[must_use]
    pub fn nothing(dialect: Dialect) -> Self {
        match dialect {
            Dialect::MariaDb => Self::MariaDb(Position::default()),
            Dialect::MySql => Self::MySql(GtidSet::default()),
        }
    }

    /// For people: where nothing was written yet, its text is empty.
    #[must_use]
    pub fn in_words(&self) -> String {
        if self.is_empty() {
            "its beginning".into()
        } else {
            self.to_string()
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::MariaDb(position) => position.is_empty(),
            Self::MySql(set) => set.is_empty(),
        }
    }

    /// What of `wanted` is not here, in words; `None`: nothing.
    #[must_use]
    pub fn lacks(&self, wanted: &Self) -> Option<String> {
        match (self, wanted) {
            (Self::MariaDb(here), Self::MariaDb(wanted)) => {
                let lacking = here.lacks(wanted);
                (!lacking.is_empty()).then(|| lacking.to_string())
            }
            (Self::MySql(here), Self::MySql(wanted)) => {
                let lacking = wanted.subtract(here);
                (!lacking.is_empty()).then(|| mysql::shown(&lacking))
            }
            _ => Some("all of it: it is another kind of server's".to_string()),
        }
    }

    /// Whether everything of `wanted` is here.
    #[must_use]
    pub fn covers(&self, wanted: &Self) -> bool {
        self.lacks(wanted).is_none()
    }

    /// What is in one of them.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::MariaDb(one), Self::MariaDb(other)) => Self::MariaDb(one.or_later(other)),
            (Self::MySql(one), Self::MySql(other)) => Self::MySql(one.union(other)),
            _ => self.clone(),
        }
    }

    /// The same without what `server`, whose history is `history`, would have written itself and has not.
    #[must_use]
    pub fn without_own(&self, server: u32, history: &History) -> Self {
        match (self, history) {
            (Self::MariaDb(here), History::MariaDb(log)) => {
                Self::MariaDb(here.without_own(server, log))
            }
            _ => self.clone(),
        }
    }

    /// How many transactions it is, so that more is better.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        match self {
            Self::MariaDb(position) => position.transactions(),
            Self::MySql(set) => set.count(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MariaDb(position) => write!(f, "{position}"),
            Self::MySql(set) => write!(f, "{set}"),
        }
    }
}

/// What a server's data came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum History {
    /// `gtid_binlog_state`.
    MariaDb(BinlogState),
    /// `gtid_executed`.
    MySql(GtidSet),
}

impl History {
    /// Reads what a server of this family shows.
    ///
    /// # Errors
    ///
    /// Where it is no such thing.
    pub fn parse(dialect: Dialect, text: &str) -> Result<Self, GtidError> {
        match dialect {
            Dialect::MariaDb => BinlogState::parse(text).map(Self::MariaDb),
            Dialect::MySql => GtidSet::parse(text).map(Self::MySql),
        }
    }

    /// Whether nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::MariaDb(state) => state.is_empty(),
            Self::MySql(set) => set.is_empty(),
        }
    }

    /// As the server writes it, all of it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::MariaDb(state) => state.to_string(),
            Self::MySql(set) => set.to_string(),
        }
    }

    /// What `server` itself wrote once, has no longer (its state is `state`), and this has: transactions that it took
    /// back after a crash, though another node had received them. A replica takes no notice of what it wrote itself.
    #[must_use]
    pub fn taken_back(&self, state: &ServerState) -> Option<Place> {
        let (Self::MariaDb(all), Place::MariaDb(here)) = (self, &state.here) else {
            return None;
        };
        let lacking = here.lacks(&all.of_server(state.server));
        (!lacking.is_empty()).then_some(Place::MariaDb(lacking))
    }

    /// What `server` itself wrote once, took back after a crash and did not take again, though it took what was written
    /// later (its state is `state`), and this has: that is missing there for ever.
    #[must_use]
    pub fn skipped(&self, state: &ServerState) -> Option<Place> {
        let (Self::MariaDb(all), Self::MariaDb(log)) = (self, &state.history) else {
            return None;
        };
        let skipped = log.skipped_of(state.server, all);
        (!skipped.is_empty()).then_some(Place::MariaDb(skipped))
    }

    /// Whether all that `server` wrote up to `wanted` is in it.
    #[must_use]
    pub fn has_of(&self, server: u32, wanted: &Place) -> bool {
        match (self, wanted) {
            (Self::MariaDb(state), Place::MariaDb(wanted)) => {
                state.of_server(server).covers(wanted)
            }
            (Self::MySql(set), Place::MySql(wanted)) => set.contains(wanted),
            _ => false,
        }
    }

    /// Where it ends.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::MariaDb(state) => Place::MariaDb(state.position()),
            Self::MySql(set) => Place::MySql(set.clone()),
        }
    }

    /// Whether everything in it is in the primary's as well. That of the primary has to be read later than this one.
    ///
    /// # Errors
    ///
    /// What is here alone, for people.
    pub fn within(&self, primary: &Self) -> Result<(), String> {
        let extra = match (self, primary) {
            (Self::MariaDb(here), Self::MariaDb(primary)) => mariadb::shown(&here.beyond(primary)),
            (Self::MySql(here), Self::MySql(primary)) => mysql::shown(&here.subtract(primary)),
            _ => return Err("the primary is another kind of server".to_string()),
        };
        if extra.is_empty() {
            return Ok(());
        }
        Err(format!(
            "diverged: the primary never had {extra}, which was written here (here {self}, there {primary})"
        ))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MariaDb(state) => write!(f, "{state}"),
            Self::MySql(set) => f.write_str(&mysql::shown(set)),
        }
    }
}
