//! `kind = "mysql"` and `kind = "galera"`: a session that is asked, and one that waits for the server's end.

mod galera;
mod server;
pub(crate) mod session;
pub(crate) mod statement;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod trouble;

use ha_core::check::Observation;

pub(super) use self::galera::GaleraProbe;
use self::{server::Server, statement::Query};
use super::probe::{Pending, Probe};
use crate::config::Mysql;

/// See [`Mysql`].
pub(super) struct MysqlProbe {
    server: Server,
    query: Query,
}

impl MysqlProbe {
    pub(super) fn new(config: &Mysql) -> Self {
        Self {
            server: Server::new(&config.server),
            query: Query::new(config),
        }
    }
}

impl Probe for MysqlProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(async {
            let answer = self.server.ask(self.query.statement()).await;
            let found = answer.and_then(|answer| self.query.judge(&answer));
            self.server.conclude(found)
        })
    }

    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(self.server.watch())
    }
}
