//! Reading a node's state.

use ha_core::data::Finding;
use ha_core::data::galera::{Demands, NodeState, SETTINGS, STATUS, audit};
use mysql_async::Error;

use crate::{
    checks::mysql::session::Session,
    roles::{
        Pending,
        database::{pairs, value},
    },
};

/// A node, as it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) node: NodeState,
    pub(super) read_only: bool,
}

/// Everything that decisions need. Nothing of it waits for the cluster.
pub(super) fn look(session: &mut Session) -> Pending<'_, Result<Seen, Error>> {
    Box::pin(async {
        session.ask("SET SESSION wsrep_sync_wait = 0").await?;
        let names = STATUS.join("', '");
        let status = format!("SHOW GLOBAL STATUS WHERE Variable_name IN ('{names}')");
        let status = session.ask(&status).await?;
        let read_only = session.ask("SELECT @@global.read_only").await?;
        let mut node = NodeState::default();
        for (name, text) in pairs(&status) {
            node.set(&name, &text);
        }
        Ok(Seen {
            node,
            read_only: value(&read_only, 0) != "0",
        })
    })
}

/// The findings of the audit.
pub(super) fn judged(
    session: &mut Session,
    demands: Demands,
) -> Pending<'_, Result<Vec<Finding>, Error>> {
    Box::pin(async move {
        let names = SETTINGS.join("', '");
        let settings = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ('{names}')");
        let settings = pairs(&session.ask(&settings).await?).collect();
        Ok(audit(&settings, &demands))
    })
}
