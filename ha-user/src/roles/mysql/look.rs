//! Reading a server's state.

use std::net::SocketAddr;

use ha_core::data::{
    gtid::GtidError,
    mysql::{
        Demands, Dialect, Finding, History, Link, Mark, Place, Receiving, SETTINGS, SemiSync,
        ServerState,
    },
};
use mysql_async::Error;

use super::statements::{Columns, SemiSyncNames, Statements};
pub(super) use crate::roles::database::value;
use crate::{
    checks::{
        mysql::{
            session::{Named, Session},
            statement::Answer,
        },
        words::clean,
    },
    config::MysqlRole,
    roles::database::{Asked, Failure, Server, pairs},
};

/// The last take-over.
const MARK: &str = "SELECT epoch, server_id FROM had.epoch ORDER BY epoch DESC LIMIT 1";
const SEMI_SYNC_VARIABLES: &str = "SHOW GLOBAL VARIABLES LIKE 'rpl\\_semi\\_sync%'";
const SEMI_SYNC_STATUS: &str = "SHOW GLOBAL STATUS LIKE 'Rpl\\_semi\\_sync%'";

/// Everything that decisions need. The outer error is of the session, the inner one of what it said.
pub(super) async fn look(
    session: &mut Session,
    dialect: Dialect,
) -> Result<Result<ServerState, Failure>, Error> {
    let statements = Statements::of(dialect);
    let globals = session.ask(statements.globals).await?;
    let links = session.table(statements.link).await?;
    let mut semi_sync = session.ask(SEMI_SYNC_VARIABLES).await?;
    semi_sync
        .rows
        .extend(session.ask(SEMI_SYNC_STATUS).await?.rows);
    let mark = match session.ask(MARK).await {
        Ok(mark) => mark,
        // Nobody was promoted yet, or the table may not be read, which the next promotion tells.
        Err(Error::Server(_)) => Answer::default(),
        Err(error) => return Err(error),
    };
    let read = Reading {
        dialect,
        globals: &globals,
        links: &links,
        semi_sync: &semi_sync,
        mark: &mark,
    };
    Ok(read.state())
}

impl Server {
    /// What the server says of itself.
    pub(super) async fn look(&mut self) -> Asked<ServerState> {
        let dialect = self.dialect().await?;
        self.inquire(&move |session: &mut Session| Box::pin(look(session, dialect)))
            .await?
    }
}

/// The findings of the audit.
pub(super) async fn audit(
    session: &mut Session,
    dialect: Dialect,
    demands: &Demands,
) -> Result<Vec<Finding>, Error> {
    let settings = session.ask(&settings()).await?;
    Ok(judge(dialect, &settings, demands))
}

/// Asks for what [`judge`] needs.
pub(super) fn settings() -> String {
    let names = SETTINGS.join("', '");
    format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ('{names}')")
}

/// What should be set otherwise.
pub(super) fn judge(dialect: Dialect, settings: &Answer, demands: &Demands) -> Vec<Finding> {
    let settings = pairs(settings).collect();
    ha_core::data::mysql::audit(dialect, &settings, demands)
}

/// Whether the others' replicas cannot reach it at this address, as far as its settings tell.
pub(super) fn unreachable(settings: &Answer, address: SocketAddr) -> Option<Finding> {
    ha_core::data::mysql::unreachable(&pairs(settings).collect(), address)
}

/// What a role asks of its server.
pub(super) fn demands(role: &MysqlRole) -> Demands {
    Demands {
        semi_sync: role.semi_sync,
        replication_address: Some(role.replication_address),
        backs_up: false,
    }
}

/// What the server answered.
struct Reading<'a> {
    dialect: Dialect,
    globals: &'a Answer,
    links: &'a [Named],
    semi_sync: &'a Answer,
    mark: &'a Answer,
}

impl Reading<'_> {
    fn state(&self) -> Result<ServerState, Failure> {
        let text = |column| value(self.globals, column);
        let unreadable = |what: &str, error: GtidError| -> Failure {
            format!("{what} of the server cannot be read: {error}").into()
        };
        let place = |column| {
            Place::parse(self.dialect, &text(column))
                .map_err(|error| unreadable("the GTIDs", error))
        };
        if self.links.len() > 1 {
            return Err(
                "the server replicates from several sources, which this role cannot manage".into(),
            );
        }
        let server = text(1).parse().unwrap_or(0);
        let history = History::parse(self.dialect, &text(5))
            .map_err(|error| unreadable("the history", error))?;
        let link = self.links.first().map(|row| self.link(row)).transpose();
        let mut link = link.map_err(|error| unreadable("what was received", error))?;
        if let Some(link) = &mut link {
            link.received = link.received.without_own(server, &history);
        }
        let statements = Statements::of(self.dialect);
        Ok(ServerState {
            dialect: self.dialect,
            server,
            read_only: is_on(&text(2)),
            link,
            here: place(3)?.without_own(server, &history).with(&place(4)?),
            history,
            semi_sync: self.semi_sync(statements.semi_sync),
            mark: self.mark(),
        })
    }

    fn link(&self, row: &Named) -> Result<Link, GtidError> {
        let columns: &Columns = Statements::of(self.dialect).columns;
        let text = |name: &str| row.get(name).cloned().flatten().unwrap_or_default();
        let error = |number: &str, words: &str| {
            let number = text(number);
            let said = clean(&text(words));
            (!number.is_empty() && number != "0").then(|| format!("{number}: {said}"))
        };
        Ok(Link {
            source: source(&text(columns.host), &text(columns.port)),
            receiving: match text(columns.receiving).as_str() {
                "Yes" => Receiving::Connected,
                "No" | "" => Receiving::Stopped,
                _ => Receiving::Connecting,
            },
            applying: text(columns.applying) == "Yes",
            receive_error: error("Last_IO_Errno", "Last_IO_Error"),
            apply_error: error("Last_SQL_Errno", "Last_SQL_Error"),
            by_gtid: !matches!(text(columns.by_gtid).as_str(), "No" | "0" | ""),
            received: Place::parse(self.dialect, &text(columns.received))?,
            lag_seconds: text(columns.lag).parse().ok(),
        })
    }

    fn semi_sync(&self, names: &SemiSyncNames) -> SemiSync {
        let value = |name: &str| {
            let named = |row: &&Vec<Option<String>>| matches!(row.first(), Some(Some(known)) if known.eq_ignore_ascii_case(name));
            let row = self.semi_sync.rows.iter().find(named);
            row.and_then(|row| row.get(1))
                .cloned()
                .flatten()
                .unwrap_or_default()
        };
        let on = |name: &str| is_on(&value(name));
        let count = |name: &str| value(name).parse().unwrap_or(0);
        SemiSync {
            source: on(names.source),
            waits_alone: on(names.waits_alone),
            replica: on(names.replica),
            acknowledges: on(names.acknowledges),
            replicas: count(names.replicas),
            waiting: count(names.waiting),
        }
    }

    fn mark(&self) -> Option<Mark> {
        Some(Mark {
            epoch: value(self.mark, 0).parse().ok()?,
            server: value(self.mark, 1).parse().ok()?,
        })
    }
}

fn is_on(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("ON")
}

/// As the configuration writes it: an IPv6 address in brackets.
fn source(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
