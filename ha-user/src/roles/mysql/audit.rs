//! What `had --check` asks the server: whether it is set up so that nothing is lost.

use std::time::Duration;

use ha_core::data::mysql::{Demands, Dialect};
use tokio::time::timeout;

use super::{AS_REPLICA, Failure, Process, Server, grants, look};
use crate::{config::MysqlRole, roles::database::who_may_write};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A sentence for each thing that should be otherwise; or why the server could not be asked. `backs_up`: a role of kind
/// `binlog` is in the same group.
pub(crate) async fn findings(role: &MysqlRole, backs_up: bool) -> Result<Vec<String>, String> {
    match timeout(PATIENCE, ask(role, backs_up)).await {
        Ok(found) => found.map_err(|failure| failure.why),
        Err(_) => Err("the server does not answer".to_owned()),
    }
}

async fn ask(role: &MysqlRole, backs_up: bool) -> Result<Vec<String>, Failure> {
    let mut server = Server::new(&role.server);
    let dialect = server.dialect().await?;
    let settings = server.ask(&look::settings()).await?;
    let demands = Demands {
        backs_up,
        ..look::demands(role)
    };
    let found = look::judge(dialect, &settings, &demands);
    let mut findings: Vec<String> = found.iter().map(ToString::to_string).collect();
    if dialect == Dialect::MariaDb {
        findings.extend(grants::missing(&mut server).await?);
        findings.extend(grants::replication(&mut server, &role.replication_user).await?);
        findings.extend(who_may_write(&mut server).await?);
    }
    let mut process = Process::new(&role.process, &AS_REPLICA);
    findings.extend(process.unfound().await);
    Ok(findings)
}
