//! A session with a server, for tests without a runtime of their own.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use mysql_async::{Conn, Error, Opts, OptsBuilder, Row, Value, prelude::Queryable as _};
use tokio::runtime::{Builder, Runtime};

/// How long one statement may take, unless somebody wants it otherwise.
const LIMIT: Duration = Duration::from_secs(30);

/// Rows of text; NULL is `None`.
pub type Rows = Vec<Vec<Option<String>>>;

/// Why a statement was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server refused it: nothing has changed.
    Refused {
        /// The server's number of the error, such as 1290 for a server that is read-only.
        code: u16,
        /// What it says.
        message: String,
    },
    /// The connection ended, or no answer came in time: what became of it is not known.
    Unknown(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, message } => write!(formatter, "{message} ({code})"),
            Self::Unknown(why) => formatter.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            // The server ends, or ends session or statement, or a commit fails: that may be in the middle of a commit.
            Error::Server(error) if !matches!(error.code, 1053 | 1180 | 1317 | 1927) => {
                Self::Refused {
                    code: error.code,
                    message: error.message,
                }
            }
            other => Self::Unknown(other.to_string()),
        }
    }
}

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Socket(PathBuf),
    Address(SocketAddr),
}

/// How to open sessions: one connection and nothing else, without a question at its beginning.
pub(super) fn opts(place: &Place, user: &str, password: Option<&str>) -> Opts {
    let builder = OptsBuilder::default()
        .user(Some(user))
        .pass(password)
        .prefer_socket(false)
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(0))
        .stmt_cache_size(0);
    match place {
        Place::Socket(path) => builder.socket(path.to_str()),
        Place::Address(address) => builder
            .ip_or_hostname(address.ip().to_string())
            .resolved_ips(Some(vec![address.ip()]))
            .tcp_port(address.port()),
    }
    .into()
}

/// An open session. Each call waits for its end, or its time limit.
pub struct Session {
    // Before the runtime, which ends what the connection still does.
    conn: Option<Conn>,
    runtime: Runtime,
}

impl Session {
    /// As root, by the server's own socket.
    pub fn open(socket: &Path) -> Result<Self, Failure> {
        Self::connect(
            &opts(&Place::Socket(socket.to_owned()), "root", None),
            LIMIT,
        )
    }

    /// As a user, at an address that the calling thread's namespace reaches.
    pub fn open_at(
        address: SocketAddr,
        user: &str,
        password: &str,
        limit: Duration,
    ) -> Result<Self, Failure> {
        Self::connect(&opts(&Place::Address(address), user, Some(password)), limit)
    }

    pub(super) fn connect(opts: &Opts, limit: Duration) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Unknown(error.to_string()))?;
        let conn = runtime.block_on(within(limit, Conn::new(opts.clone())))?;
        Ok(Self {
            conn: Some(conn),
            runtime,
        })
    }

    /// Carries a statement out.
    pub fn ask(&mut self, statement: &str) -> Result<Rows, Failure> {
        self.ask_within(LIMIT, statement)
    }

    /// The same; without an answer by then the session is of no use any more.
    pub fn ask_within(&mut self, limit: Duration, statement: &str) -> Result<Rows, Failure> {
        let rows = self.rows(limit, statement)?;
        Ok(rows
            .into_iter()
            .map(|row| row.unwrap().into_iter().map(text).collect())
            .collect())
    }

    /// The first row by its columns' names, of a statement such as `SHOW ALL SLAVES STATUS`; nothing without a row.
    pub fn named(&mut self, statement: &str) -> Result<Vec<(String, Option<String>)>, Failure> {
        let rows = self.rows(LIMIT, statement)?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(Vec::new());
        };
        let names: Vec<String> = row
            .columns_ref()
            .iter()
            .map(|column| column.name_str().into_owned())
            .collect();
        Ok(names
            .into_iter()
            .zip(row.unwrap().into_iter().map(text))
            .collect())
    }

    /// The first column of the first row.
    pub fn value(&mut self, statement: &str) -> Result<String> {
        let rows = self.ask(statement)?;
        let first = rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next());
        first
            .flatten()
            .with_context(|| anyhow!("{statement}: no value"))
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.conn.is_some()
    }

    fn rows(&mut self, limit: Duration, statement: &str) -> Result<Vec<Row>, Failure> {
        let Some(mut conn) = self.conn.take() else {
            return Err(Failure::Unknown("the session has ended".to_owned()));
        };
        let work = async move {
            let rows = conn.query::<Row, _>(statement).await;
            Ok((conn, rows))
        };
        let (conn, rows) = self.runtime.block_on(within(limit, work))?;
        let rows = rows.map_err(Failure::from);
        if !matches!(rows, Err(Failure::Unknown(_))) {
            self.conn = Some(conn);
        }
        rows
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            // Within the runtime, which a connection needs to end; whatever comes of it.
            let _ = self
                .runtime
                .block_on(within(Duration::from_millis(100), conn.disconnect()));
        }
    }
}

/// What `work` comes to by then.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome.map_err(Failure::from),
        Err(_) => Err(Failure::Unknown(format!("no answer within {limit:?}"))),
    }
}

/// In the text protocol each value is text.
fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}
