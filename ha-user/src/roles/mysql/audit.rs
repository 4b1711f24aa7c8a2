//! What `had --check` asks the server: whether it is set up so that nothing is lost.

use std::time::Duration;

use ha_core::data::mysql::Dialect;
use tokio::time::timeout;

use super::{Failure, look, server::Server};
use crate::{checks::words::clean, config::MysqlRole};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Accounts that write although the server is read-only. MySQL has none, once `super_read_only` is set.
const ACCOUNTS: &str = "SELECT DISTINCT GRANTEE FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'READ_ONLY ADMIN' \
                        AND GRANTEE <> CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''') \
                        AND GRANTEE NOT LIKE '''mariadb.sys''@%'";

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
        let accounts = server.ask(ACCOUNTS).await?;
        for account in accounts.rows.iter().flatten().flatten() {
            findings.push(format!(
                "{} may write while the server is read-only: only the gate keeps it from that, and not on this host; REVOKE READ ONLY ADMIN ON *.* FROM {0}, unless people need it",
                clean(account)
            ));
        }
    }
    Ok(findings)
}
