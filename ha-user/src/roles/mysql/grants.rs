//! What the accounts of a role may do, in MariaDB.

use super::{Failure, Server};
use crate::{
    checks::words::clean,
    roles::database::{quoted, value},
};

/// What the account needs on every database, as MariaDB names it.
pub(super) const NEEDED: [&str; 12] = [
    "READ_ONLY ADMIN",
    "REPLICATION SLAVE ADMIN",
    "REPLICATION MASTER ADMIN",
    "SLAVE MONITOR",
    "BINLOG ADMIN",
    "BINLOG MONITOR",
    "BINLOG REPLAY",
    "CONNECTION ADMIN",
    "PROCESS",
    "RELOAD",
    "EVENT",
    "SUPER",
];

const WHO: &str =
    "SELECT CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), ''''), CURRENT_ROLE()";

/// A sentence for what the account of the role lacks, with the statement that gives it.
pub(super) async fn missing(server: &mut Server) -> Result<Vec<String>, Failure> {
    let who = server.ask(WHO).await?;
    // What a role of the server's adds is not looked for.
    if !value(&who, 1).is_empty() {
        return Ok(Vec::new());
    }
    let account = value(&who, 0);
    let has = granted(server, "USER_PRIVILEGES", &account, "").await?;
    let lacks = |name: &&str| !has.iter().any(|known| known == name);
    let lacking: Vec<&str> = NEEDED.into_iter().filter(|name| lacks(name)).collect();
    let mut told = Vec::new();
    let mut tell = |lacking: &str, on: &str| {
        told.push(format!(
            "{} lacks {lacking} on {on}, without which steps fail: GRANT {lacking} ON {on} TO {0}",
            clean(&account)
        ));
    };
    if !lacking.is_empty() {
        tell(&lacking.join(", "), "*.*");
    }
    if lacks(&"INSERT") || lacks(&"CREATE") {
        let own = " AND 'had' LIKE TABLE_SCHEMA";
        let own = granted(server, "SCHEMA_PRIVILEGES", &account, own).await?;
        if !["INSERT", "CREATE"]
            .iter()
            .all(|name| own.iter().any(|known| known == name))
        {
            tell("ALL PRIVILEGES", "had.*");
        }
    }
    Ok(told)
}

async fn granted(
    server: &mut Server,
    table: &str,
    account: &str,
    more: &str,
) -> Result<Vec<String>, Failure> {
    let answer = server
        .ask(&format!(
            "SELECT PRIVILEGE_TYPE FROM information_schema.{table} WHERE GRANTEE = {}{more}",
            quoted(account)
        ))
        .await?;
    Ok(answer.rows.into_iter().flatten().flatten().collect())
}

/// Whether replicas may come as `user`. Nothing is told where the account may not read the others' privileges.
pub(super) async fn replication(
    server: &mut Server,
    user: &str,
) -> Result<Option<String>, Failure> {
    let asked = format!(
        "SELECT Repl_slave_priv FROM mysql.user WHERE User = {} ORDER BY Repl_slave_priv DESC",
        quoted(user)
    );
    let Ok(answer) = server.try_ask(&asked).await? else {
        return Ok(None);
    };
    let user = clean(&quoted(user));
    Ok(match value(&answer, 0).as_str() {
        "Y" => None,
        "" => Some(format!(
            "there is no account {user}, as whom replicas come: run `hactl db init-replication` on the Active node, from where it is replicated"
        )),
        _ => Some(format!(
            "the account {user} may not replicate: on the Active node, GRANT REPLICATION SLAVE ON *.* TO {user}@'%'"
        )),
    })
}
