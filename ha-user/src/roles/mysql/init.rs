//! `hactl db init-replication`: the account for replicas, and whether an empty standby may follow.

use std::time::Duration;

use tokio::time::timeout;

use super::{Failure, Server, statements::quoted};
use crate::config::MysqlRole;

/// How long the server may take: where writes wait for a replica, for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Databases that somebody made.
pub(super) const DATABASES: &str = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN \
                                    ('mysql', 'information_schema', 'performance_schema', 'sys', 'had')";

/// Prepares this node's server: on the primary the account is made, as whom replicas come; on a standby it is looked
/// whether following the primary would lose anything. Returns what was done, in sentences.
///
/// # Errors
///
/// What stands against it.
pub async fn init_replication(role: &MysqlRole) -> Result<Vec<String>, String> {
    match timeout(PATIENCE, init(role)).await {
        Ok(outcome) => outcome.map_err(|failure| failure.why),
        Err(_) => Err("the server did not carry it out in time: if it waits for its replica, that has to be there".to_owned()),
    }
}

async fn init(role: &MysqlRole) -> Result<Vec<String>, Failure> {
    let mut server = Server::new(&role.server);
    let state = server.look().await?;
    if state.read_only {
        return standby(&mut server, state.here.is_empty(), state.link.is_some()).await;
    }
    let Some(password) = &role.replication_password else {
        return Err("there is no `replication_password_file`: an account without a password lets anybody copy all data".into());
    };
    let user = format!("{}@'%'", quoted(&role.replication_user));
    let password = quoted(password.reveal());
    let exists = server
        .ask(&format!(
            "SELECT 1 FROM mysql.user WHERE User = {} AND Host = '%'",
            quoted(&role.replication_user)
        ))
        .await?;
    if exists.rows.is_empty() {
        let create = format!("CREATE USER {user} IDENTIFIED BY {password}");
        server.ask(&create).await?;
    }
    server
        .ask(&format!("GRANT REPLICATION SLAVE ON *.* TO {user}"))
        .await?;
    Ok(vec![if exists.rows.is_empty() {
        format!("the account {user} is made, as whom replicas come")
    } else {
        format!("the account {user} was there, and may replicate; its password was left as it is")
    }])
}

async fn standby(
    server: &mut Server,
    is_empty: bool,
    follows: bool,
) -> Result<Vec<String>, Failure> {
    if follows {
        return Ok(vec!["this node's server replicates already".to_owned()]);
    }
    foreign(server, is_empty).await?;
    Ok(vec![if is_empty {
        "this node's server is empty: it follows the primary as soon as there is one, from its first binary log on. Where that is no longer there, copy the data first, as with mariadb-backup".to_owned()
    } else {
        "this node's server has a history: it follows if that is a part of the primary's".to_owned()
    }])
}

/// Data without a history may be anybody's: with the primary's it would be mixed up.
pub(super) async fn foreign(server: &mut Server, is_empty: bool) -> Result<(), Failure> {
    if !is_empty {
        return Ok(());
    }
    let databases = server.ask(DATABASES).await?;
    let names: Vec<&str> = databases
        .rows
        .iter()
        .filter_map(|row| row.first()?.as_deref())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this node's server has databases ({}) and no GTIDs: whether they are a part of the primary's data cannot be told. If they are a copy of it, set gtid_slave_pos (MySQL: gtid_purged) to the position of that copy; if nobody needs them, drop them",
        crate::checks::words::clean(&names.join(", "))
    )
    .into())
}
