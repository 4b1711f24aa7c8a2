//! One session with a server.

use std::{
    collections::BTreeMap,
    future::Future as _,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use ha_common::MonoNs;
use mysql_async::{Conn, Error, Opts, OptsBuilder, SslOpts, Value, prelude::Queryable as _};

use super::statement::{Answer, ROWS};
use crate::{
    config::{MysqlPlace, MysqlServer},
    sys::clock,
};

/// Bytes of the longest row that is read.
const LONGEST_ROW: usize = 1 << 20;
/// The server's own time limit for idle sessions is left to the server.
const IDLE: usize = 0;
/// After which the peer of a TCP session is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Seconds of one statement of a session that only waits.
const NAP_SECONDS: u32 = 3_600;

/// How to open sessions.
pub(crate) fn opts(server: &MysqlServer) -> Opts {
    let builder = OptsBuilder::default()
        .user(Some(&server.user))
        .pass(server.password.as_ref().map(|password| password.reveal()))
        .db_name(server.database.as_deref())
        .prefer_socket(false)
        .max_allowed_packet(Some(LONGEST_ROW))
        .wait_timeout(Some(IDLE))
        .stmt_cache_size(0)
        .tcp_keepalive(Some(KEEPALIVE))
        .connect_attribute("program_name", "had");
    let builder = match &server.place {
        MysqlPlace::Socket(path) => builder.socket(path.to_str()),
        MysqlPlace::Address(address) => builder
            .ip_or_hostname(address.ip().to_string())
            .resolved_ips(Some(vec![address.ip()]))
            .tcp_port(address.port()),
    };
    let tls = server.tls.as_ref().map(|tls| {
        let ssl = SslOpts::default()
            .with_disable_built_in_roots(true)
            .with_root_certs(vec![tls.authorities.clone().into()]);
        match &tls.server_name {
            Some(name) => ssl.with_danger_tls_hostname_override(Some(name.clone())),
            None => ssl,
        }
    });
    builder.ssl_opts(tls).into()
}

/// A session that is closed as soon as it is dropped: the library would go on reading in a task of its own, from
/// a server that may hang.
pub(crate) struct Session {
    conn: Option<Conn>,
    opened: MonoNs,
    started: Option<u64>,
}

impl Session {
    pub(crate) async fn open(opts: &Opts) -> Result<Self, Error> {
        Ok(Self {
            opened: clock::now(),
            conn: Some(Conn::new(opts.clone()).await?),
            started: None,
        })
    }

    /// As the server numbers it.
    pub(crate) fn id(&self) -> u32 {
        self.conn.as_ref().map_or(0, Conn::id)
    }

    /// When it was begun to be opened.
    pub(crate) const fn opened(&self) -> MonoNs {
        self.opened
    }

    /// When the server was started, in whole seconds of its own clock. Steps of the clock do not change it, since the
    /// server counts from what it read then.
    pub(crate) async fn started(&mut self) -> Result<u64, Error> {
        if let Some(started) = self.started {
            return Ok(started);
        }
        let answer = match self.ask(&started_by("information_schema")).await {
            Err(Error::Server(_)) => self.ask(&started_by("performance_schema")).await?,
            other => other?,
        };
        let text = answer.rows.first().and_then(|row| row.first()).cloned();
        let started = text.flatten().and_then(|text| text.parse().ok());
        let started = started
            .ok_or_else(|| Error::Other("the server does not say when it was started".into()))?;
        self.started = Some(started);
        Ok(started)
    }

    fn conn(&mut self) -> Result<&mut Conn, Error> {
        let closed = || Error::Driver(mysql_async::DriverError::ConnectionClosed);
        self.conn.as_mut().ok_or_else(closed)
    }

    /// Carries a statement out.
    pub(crate) async fn ask(&mut self, statement: &str) -> Result<Answer, Error> {
        let mut result = self.conn()?.query_iter(statement).await?;
        let has_columns = !result.columns_ref().is_empty();
        let mut rows = Vec::new();
        result
            .for_each(|row| {
                if rows.len() < ROWS {
                    rows.push(row.unwrap().into_iter().map(text).collect());
                }
            })
            .await?;
        result.drop_result().await?;
        Ok(Answer { has_columns, rows })
    }

    /// Carries a statement out whose columns have names, and returns its first rows by them.
    pub(crate) async fn table(&mut self, statement: &str) -> Result<Vec<Named>, Error> {
        let mut result = self.conn()?.query_iter(statement).await?;
        let mut rows = Vec::new();
        result
            .for_each(|row| {
                if rows.len() < ROWS {
                    let names = row.columns();
                    let names = names.iter().map(|name| name.name_str().into_owned());
                    rows.push(names.zip(row.unwrap().into_iter().map(text)).collect());
                }
            })
            .await?;
        result.drop_result().await?;
        Ok(rows)
    }

    /// Waits until the session ends, and says why.
    pub(crate) async fn wait(mut self) -> Error {
        // Else the log of slow queries has a line for each nap.
        match self.ask("SET SESSION long_query_time = 31536000").await {
            Ok(_) | Err(Error::Server(_)) => {}
            Err(error) => return error,
        }
        loop {
            if let Err(error) = self.ask(&format!("DO SLEEP({NAP_SECONDS})")).await {
                return error;
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            // The first turn says goodbye, if a whole answer was read, and marks the session as closed.
            let mut context = Context::from_waker(Waker::noop());
            let _ = pin!(conn.disconnect()).poll(&mut context);
        }
    }
}

/// MariaDB has the table in the one schema, MySQL in the other, where its name has small letters only. Both numbers are of the
/// same statement.
fn started_by(schema: &str) -> String {
    format!(
        "SELECT CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS UNSIGNED) FROM {schema}.global_status WHERE VARIABLE_NAME = 'Uptime'"
    )
}

/// A row, by the names of its columns.
pub(crate) type Named = BTreeMap<String, Option<String>>;

/// In the text protocol each value is text.
fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    }
}
