//! `hactl db init-replication`: the account for replicas, and whether an empty standby may follow.

use std::time::Duration;

use ha_core::data::mysql::{Dialect, Link};
use tokio::time::timeout;

use super::{Failure, Server, look, statements::quoted};
use crate::config::MysqlRole;

/// How long the server may take: where writes wait for a replica, for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Characters of a password with which MySQL lets a replica log in (`CHANGE REPLICATION SOURCE`); an account may have more.
const MOST_CHARACTERS: usize = 32;

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
    if let Some(password) = &role.replication_password
        && state.dialect == Dialect::MySql
        && password.reveal().chars().count() > MOST_CHARACTERS
    {
        return Err(format!(
            "`replication_password_file` has a password of more than {MOST_CHARACTERS} characters, with which no replica of MySQL can log in: write a shorter one into it on all nodes (if the account exists: ALTER USER)"
        )
        .into());
    }
    if state.read_only {
        return match &state.link {
            Some(link) => Ok(vec![replicates(link)]),
            None => standby(&mut server, state.here.is_empty()).await,
        };
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
    let mut said = vec![if exists.rows.is_empty() {
        format!("the account {user} is made, as whom replicas come")
    } else {
        format!("the account {user} was there, and may replicate; its password was left as it is")
    }];
    let settings = server.ask(&look::settings()).await?;
    let address = role.replication_address;
    said.push(match look::unreachable(&settings, address) {
        Some(finding) => finding.to_string(),
        None => format!("the other nodes' replicas come to {address} (`replication_address`): they have to reach this node there"),
    });
    Ok(said)
}

/// Whether it reaches the server that it replicates from.
fn replicates(link: &Link) -> String {
    let source = &link.source;
    let Some(error) = &link.receive_error else {
        return format!("this node's server replicates already, from {source}");
    };
    format!(
        "this node's server replicates from {source}, and receives nothing: {error}. On that node, `replication_address` has to be an address where this one reaches it, its server has to listen there (bind_address, port, skip_networking), and the account has to be there (`hactl db init-replication`); `had --check` on it tells which of them is wrong"
    )
}

async fn standby(server: &mut Server, is_empty: bool) -> Result<Vec<String>, Failure> {
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
