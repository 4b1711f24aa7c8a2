//! The sessions of others.

use std::collections::BTreeSet;

use ha_common::MonoNs;

use super::{Failure, Server, pause, value};

/// Sessions that are ended in one go.
const AT_ONCE: usize = 64;

/// Ends all but the server's own, those with the commands in `spared`, and this role's; not those that came since,
/// which are let in again and again where somebody comes back at once, and which find a server that takes no writes.
/// How many.
pub(in crate::roles) async fn end_sessions(
    server: &mut Server,
    spared: &str,
    deadline: MonoNs,
) -> Result<usize, Failure> {
    const NO_SUCH_SESSION: u16 = 1094;
    let newest = server
        .ask("SELECT MAX(ID) FROM information_schema.PROCESSLIST")
        .await?;
    let newest = value(&newest, 0);
    let mut ended = BTreeSet::new();
    loop {
        let own: Vec<String> = server.own().iter().map(u32::to_string).collect();
        let own = if own.is_empty() {
            "0".to_owned()
        } else {
            own.join(", ")
        };
        let list = format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <= {newest} AND ID NOT IN (CONNECTION_ID(), {own}) \
             AND USER NOT IN ('system user', 'event_scheduler', 'unauthenticated user') \
             AND COMMAND NOT IN ({spared}) LIMIT {AT_ONCE}"
        );
        let sessions = server.ask(&list).await?;
        if sessions.rows.is_empty() {
            return Ok(ended.len());
        }
        for id in sessions.rows.iter().flatten().flatten() {
            match server.try_ask(&format!("KILL CONNECTION {id}")).await? {
                Ok(_) | Err(NO_SUCH_SESSION) => ended.insert(id.clone()),
                Err(code) => {
                    return Err(format!(
                        "sessions of others cannot be ended (error {code}): grant CONNECTION ADMIN"
                    )
                    .into());
                }
            };
        }
        if !pause(deadline).await {
            return Err(format!("{} sessions do not end", sessions.rows.len()).into());
        }
    }
}
