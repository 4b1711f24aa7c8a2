//! Accounts that write although the server is read-only.

use super::{Failure, Server};
use crate::checks::words::clean;

/// MySQL has none, once `super_read_only` is set.
const ACCOUNTS: &str = "SELECT DISTINCT GRANTEE FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'READ_ONLY ADMIN' \
                        AND GRANTEE <> CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''') \
                        AND GRANTEE NOT LIKE '''mariadb.sys''@%'";

/// A sentence for each of them but this role's own.
pub(in crate::roles) async fn who_may_write(server: &mut Server) -> Result<Vec<String>, Failure> {
    let accounts = server.ask(ACCOUNTS).await?;
    let accounts = accounts.rows.iter().flatten().flatten();
    let told = accounts.map(|account| {
        format!(
            "{} may write while the server is read-only: only the gate keeps it from that, and not on this host; REVOKE READ ONLY ADMIN ON *.* FROM {0}, unless people need it",
            clean(account)
        )
    });
    Ok(told.collect())
}
