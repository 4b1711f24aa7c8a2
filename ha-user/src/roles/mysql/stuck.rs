//! A replica's session that MariaDB does not end, which keeps the replica away.
//!
//! The thread that takes acknowledgements sleeps while no replica is connected. Where one connects and leaves again
//! before it has woken up, its session waits for that thread for ever (`Ack_receiver::remove_slave`, as of MariaDB
//! 12.1), and each session with which the replica comes again waits for the end of the one before. Only when the
//! thread is started anew it lets go of it.

use ha_common::{MonoNs, Nanos};
use ha_core::data::mysql::{Dialect, ServerState};

use super::MysqlExecutor;
use crate::{roles::database::Asked, sys::clock};

/// Between two looks; who is seen in both has not just come to its end.
const EVERY: Nanos = Nanos::from_secs(1);
const ENDING: &str =
    "SELECT ID FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting to finalize termination'";

/// The sessions that were about to end, and when that was looked up.
#[derive(Debug, Default)]
pub(super) struct Ending {
    sessions: Vec<String>,
    looked_at: Option<MonoNs>,
}

impl MysqlExecutor {
    /// Ends sessions that do not end, of a primary that waits for no replica.
    pub(super) async fn end_stuck_sessions(&mut self) -> Asked<()> {
        let now = clock::now();
        let due = |looked_at: MonoNs| now.since(looked_at) >= EVERY;
        if !self.ending.looked_at.is_none_or(due)
            || self.server.dialect().await? != Dialect::MariaDb
        {
            return Ok(());
        }
        let rows = self.server.ask(ENDING).await?.rows;
        let sessions: Vec<String> = rows.into_iter().flatten().flatten().collect();
        let stuck = sessions
            .iter()
            .any(|session| self.ending.sessions.contains(session));
        self.ending = Ending {
            sessions,
            looked_at: Some(now),
        };
        if stuck && waits_for_nobody(&self.look().await?) {
            let statements = self.statements().await?;
            self.server.ask(statements.source_off).await?;
            self.server.ask(statements.source_on).await?;
            tracing::warn!(
                "role {}: a replica's session did not end (a race in the server's semi-synchronous replication): acknowledgements are taken anew",
                self.name
            );
        }
        Ok(())
    }
}

/// Whether no write can be acknowledged too early by that.
fn waits_for_nobody(state: &ServerState) -> bool {
    let semi_sync = &state.semi_sync;
    let solo = semi_sync.source && !semi_sync.waits_alone;
    !state.read_only && solo && semi_sync.replicas == 0 && semi_sync.waiting == 0
}
