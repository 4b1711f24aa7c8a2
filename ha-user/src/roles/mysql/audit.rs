//! What `had --check` asks the server: whether it is set up so that nothing is lost.

use std::time::Duration;

use ha_core::data::mysql::Dialect;
use tokio::time::timeout;

use super::{Failure, Server, look};
use crate::{config::MysqlRole, roles::database::who_may_write};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A sentence for each thing that should be otherwise; or why the server could not be asked.
pub(crate) async fn findings(role: &MysqlRole) -> Result<Vec<String>, String> {
    match timeout(PATIENCE, ask(role)).await {
        Ok(found) => found.map_err(|failure| failure.why),
        Err(_) => Err("the server does not answer".to_owned()),
    }
}

async fn ask(role: &MysqlRole) -> Result<Vec<String>, Failure> {
    let mut server = Server::new(&role.server);
    let dialect = server.dialect().await?;
    let settings = server.ask(&look::settings()).await?;
    let found = look::judge(dialect, &settings, role.semi_sync);
    let mut findings: Vec<String> = found.iter().map(ToString::to_string).collect();
    if dialect == Dialect::MariaDb {
        findings.extend(who_may_write(&mut server).await?);
    }
    Ok(findings)
}
