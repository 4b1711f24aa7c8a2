//! A node is no longer written to. It stays in its cluster, and applies what the next one writes.

use ha_core::plan::Order;

use super::{GaleraExecutor, Outcome, done, end_of, left};
use crate::roles::database::end_sessions;

/// Sessions of the server's own and of replicas.
const SPARED: &str = "'Daemon', 'Binlog Dump'";

impl GaleraExecutor {
    /// It waits for writes under way, for as long as there is; should it be given up, the server is told so before
    /// anything else is done.
    pub(super) async fn forbid_writes(&mut self, order: &Order) -> Outcome {
        let seen = match self.look().await {
            Ok(seen) => seen,
            Err(failure) if self.is_gone(&failure).await => {
                self.server.forget();
                return Ok(done("the server does not run"));
            }
            Err(failure) => return Err(failure),
        };
        if seen.read_only {
            return Ok(done("takes no writes"));
        }
        // What waits for a lock on the server gives up by itself, should it not hear that it is given up here.
        let seconds = left(order.deadline).as_secs().max(1);
        let limit = format!("SET SESSION lock_wait_timeout = {seconds}");
        self.server.ask(&limit).await?;
        self.server.ask("SET GLOBAL read_only = 1").await?;
        if self.look().await?.read_only {
            Ok(done("takes no more writes"))
        } else {
            Err("it takes writes, though that was forbidden".into())
        }
    }

    /// Those that applications have with it.
    pub(super) async fn end_sessions(&mut self, order: &Order) -> Outcome {
        self.server.others = self.observer.session().into_iter().collect();
        match end_sessions(&mut self.server, SPARED, end_of(order)).await {
            Ok(ended) => Ok(done(format!("{ended} sessions ended"))),
            Err(failure) if self.is_gone(&failure).await => Ok(done("the server does not run")),
            // Without its cluster it ends none, and they can do nothing: once it is back they find a server that takes
            // no writes.
            Err(failure) => match self.look().await {
                Ok(seen) if seen.read_only && !seen.node.is_primary() => Ok(done(
                    "sessions are left alone: the node has lost its cluster, and serves nobody",
                )),
                _ => Err(failure),
            },
        }
    }

    /// The hard way.
    pub(super) async fn kill_server(&mut self, order: &Order) -> Outcome {
        let text = self.process.kill(order.deadline).await?;
        self.server.forget();
        self.server.nobody_listens(order.deadline).await?;
        Ok(done(text))
    }
}
