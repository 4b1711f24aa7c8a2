//! The binary logs, as the server tells of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use ha_core::data::mysql::{Dialect, History, Place};
use tokio::time::timeout;

use crate::{
    config::MysqlServer,
    roles::database::{Asked, Failure, Server, quoted},
};

/// How long the server may take for one answer: a purge deletes files.
const PATIENCE: Duration = Duration::from_secs(60);
const IDENTITY: &str =
    "SELECT @@global.server_id, @@global.log_bin_basename, @@global.binlog_expire_logs_seconds";
/// Events at a log's beginning of which one says what had been written before.
const EVENTS: u32 = 4;

/// See the module.
pub(super) struct Logs {
    server: Server,
    /// What had been written before each. A log that is closed says the same for ever.
    begins: BTreeMap<Listed, Option<Place>>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// What does not change while the server runs.
pub(super) struct Identity {
    pub(super) dialect: Dialect,
    pub(super) server_id: u32,
    /// Where its logs are.
    pub(super) directory: PathBuf,
    /// Whether it purges logs by itself when they are old.
    pub(super) expires: bool,
}

impl Logs {
    pub(super) fn new(server: &MysqlServer) -> Self {
        Self {
            server: Server::new(server),
            begins: BTreeMap::new(),
        }
    }

    async fn ask(&mut self, statement: &str) -> Asked<Vec<Vec<Option<String>>>> {
        let answer = timeout(PATIENCE, self.server.ask(statement)).await;
        answer.map_or_else(|_| Err(late()), |answer| Ok(answer?.rows))
    }

    pub(super) async fn identity(&mut self) -> Asked<Identity> {
        self.server.sweep().await;
        let dialect = timeout(PATIENCE, self.server.dialect()).await;
        let dialect = dialect.map_err(|_| late())??;
        let rows = self.ask(IDENTITY).await?;
        let column = |index: usize| rows.first()?.get(index)?.clone();
        let base = column(1).filter(|base| !base.is_empty());
        let base = base.ok_or("the server writes no binary log: set log_bin")?;
        let server_id = column(0).and_then(|id| id.parse().ok());
        let directory = Path::new(&base).parent().unwrap_or(Path::new("/"));
        Ok(Identity {
            dialect,
            server_id: server_id.ok_or("the server does not say its server_id")?,
            directory: directory.to_owned(),
            expires: column(2).is_some_and(|seconds| seconds != "0"),
        })
    }

    /// From the oldest to the newest, which is written to.
    pub(super) async fn list(&mut self) -> Asked<Vec<Listed>> {
        let rows = self.ask("SHOW BINARY LOGS").await?;
        let listed = rows.into_iter().map(|row| {
            let mut columns = row.into_iter();
            let name = columns.next().flatten().unwrap_or_default();
            let bytes = columns.next().flatten().and_then(|text| text.parse().ok());
            match bytes {
                Some(bytes) if is_file_name(&name) => Ok(Listed { name, bytes }),
                _ => Err(format!("the server lists a binary log \"{name}\"").into()),
            }
        });
        listed.collect()
    }

    /// What has been written in all.
    pub(super) async fn history(&mut self, dialect: Dialect) -> Asked<History> {
        let rows = self.ask(match dialect {
            Dialect::MariaDb => "SELECT @@global.gtid_binlog_state",
            Dialect::MySql => "SELECT @@global.gtid_executed",
        });
        let rows = rows.await?;
        let text = rows.first().and_then(|row| row.first()).cloned().flatten();
        History::parse(dialect, &text.unwrap_or_default())
            .map_err(|error| format!("what the server has cannot be read: {error}").into())
    }

    /// A new log is begun.
    pub(super) async fn rotate(&mut self) -> Asked<()> {
        self.ask("FLUSH LOCAL BINARY LOGS").await.map(drop)
    }

    /// What had been written before a log; `None`: it does not say.
    pub(super) async fn begins(&mut self, dialect: Dialect, log: &Listed) -> Asked<Option<Place>> {
        if let Some(known) = self.begins.get(log) {
            return Ok(known.clone());
        }
        let statement = format!("SHOW BINLOG EVENTS IN {} LIMIT {EVENTS}", quoted(&log.name));
        let events = timeout(PATIENCE, self.server.table(&statement)).await;
        let events = events.map_err(|_| late())??;
        let of = |event: &BTreeMap<String, Option<String>>, column: &str| {
            event.get(column).cloned().flatten()
        };
        let wanted = match dialect {
            Dialect::MariaDb => "Gtid_list",
            Dialect::MySql => "Previous_gtids",
        };
        let mut events = events.iter();
        let event = events.find(|event| of(event, "Event_type").as_deref() == Some(wanted));
        let begins = event.and_then(|event| {
            let text = of(event, "Info").unwrap_or_default();
            let text = text.trim_matches(['[', ']']);
            Some(History::parse(dialect, text).ok()?.place())
        });
        self.begins.insert(log.clone(), begins.clone());
        Ok(begins)
    }

    /// What is known of logs that are not there any more is forgotten.
    pub(super) fn forget_others(&mut self, list: &[Listed]) {
        self.begins.retain(|log, _| list.contains(log));
    }

    /// Those before `first` go, as far as the server lets them: its list tells.
    pub(super) async fn purge(&mut self, first: &str) -> Asked<()> {
        let statement = format!("PURGE BINARY LOGS TO {}", quoted(first));
        self.ask(&statement).await.map(drop)
    }
}

/// A log is called by a plain name: it is made a path.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && !name.starts_with('.')
}

fn late() -> Failure {
    "the server does not answer".to_owned().into()
}
