//! `kind = "mysql"`: a MariaDB or MySQL server with replication. What its state means is decided in
//! [`ha_core::data::mysql`].
//!
//! What must not be done, and why (each was measured):
//!
//! - MariaDB forgets its relay log when both replication threads are stopped and one is started. So nothing is
//!   stopped before it is drained, and what a restarted replica has is salvaged from the files ([`salvage`]).
//! - Switching semi-synchronous replication off acknowledges writes that no replica has; ending a session that waits
//!   commits its write here alone. So a primary that does not let go is killed, and starts again as a replica, which
//!   takes back what was not acknowledged.

mod audit;
mod demote;
mod diverged;
mod durable;
mod follow;
mod grants;
mod init;
mod look;
mod observer;
mod promote;
mod relay_log;
mod salvage;
mod statements;
mod stuck;
mod upkeep;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use ha_core::{
    data::mysql::{Dialect, Place, ServerState},
    plan::{Done, Observation, Order, Position},
};

pub(crate) use self::audit::findings;
pub use self::init::init_replication;
use self::{observer::Observer, statements::Statements, stuck::Ending};
use super::{
    Pending, Role,
    database::{Asked, Failure, Outcome, Presence, Process, Server, done, left, pause},
};
use crate::config::MysqlRole;

/// Of a server that is to be a replica, whatever its files say. The other family skips what it does not know.
const AS_REPLICA: [&str; 6] = [
    "--read-only=1",
    "--loose-super-read-only=1",
    "--loose-skip-slave-start",
    "--loose-skip-replica-start",
    "--loose-init-rpl-role=SLAVE",
    "--loose-rpl-semi-sync-slave-enabled=1",
];

/// The executor of such a role.
pub(crate) struct MysqlExecutor {
    config: Arc<MysqlRole>,
    /// The role's name, as files are called after it.
    name: String,
    /// Where what a diverged node has is kept.
    state_dir: PathBuf,
    server: Server,
    process: Process,
    observer: Observer,
    /// Its receiving thread was killed in this promotion.
    ended_receiver: bool,
    /// How commits were flushed before they had to be durable by themselves.
    flushed_before: Option<String>,
    /// The run of the server of which the relay log was salvaged.
    salvaged: Option<u64>,
    ending: Ending,
}

impl MysqlExecutor {
    /// Of a role called `name`, which keeps files in `state_dir`.
    #[must_use]
    pub(crate) fn new(name: &str, config: &MysqlRole, state_dir: PathBuf) -> Self {
        let config = Arc::new(config.clone());
        let server = Server::new(&config.server);
        Self {
            name: name.to_owned(),
            state_dir,
            observer: Observer::new(name, &config, server.runs()),
            server,
            process: Process::new(&config.process, &AS_REPLICA),
            ended_receiver: false,
            flushed_before: None,
            salvaged: None,
            ending: Ending::default(),
            config,
        }
    }

    async fn step(&mut self, order: &Order) -> Outcome {
        match order.step {
            "inspect" => self.inspect(order).await,
            "stop-receiving" => self.stop_receiving(order).await,
            "salvage" => self.read_relay_log().await,
            "drain" => self.drain(order).await,
            "prove" => self.prove(order).await,
            "detach" => self.detach(order).await,
            "become-primary" => self.become_primary(order).await,
            "mark" => self.mark(order).await,
            "forbid-writes" => self.forbid_writes(order).await,
            "end-sessions" => self.end_sessions(order).await,
            "settle" => self.settle(order).await,
            "kill-server" => self.kill_server(order).await,
            "start-as-replica" => self.start_as_replica(order).await,
            "compare" => self.compare(order).await,
            "follow" => self.follow(order).await,
            "catch-up" => self.catch_up(order).await,
            "join-sync" => self.join_sync(order).await,
            "degrade" => self.degrade(order).await,
            "restore" => self.restore(order).await,
            other => Err(format!("there is no step \"{other}\"").into()),
        }
    }

    async fn look(&mut self) -> Asked<ServerState> {
        self.server.look().await
    }

    async fn statements(&mut self) -> Asked<&'static Statements> {
        Ok(Statements::of(self.server.dialect().await?))
    }

    /// A position that another node told.
    fn place(dialect: Dialect, text: &str) -> Result<Place, Failure> {
        Place::parse(dialect, text).map_err(|error| {
            format!("the position that has to be reached cannot be read: {error}").into()
        })
    }

    /// Whether the server is not there, so that it takes no writes: nobody listens, and its process has ended.
    async fn is_gone(&mut self, refused: &Failure) -> bool {
        self.server.refuses(refused) && self.process.find().await == Presence::Gone
    }
}

impl Role for MysqlExecutor {
    fn run<'a>(&'a mut self, order: &'a Order) -> Pending<'a, Result<Done, String>> {
        Box::pin(async {
            self.server.begin();
            let done = self.step(order).await.map_err(|failure| failure.why)?;
            Ok(Done {
                incarnation: self.server.carried_out_on(order.context.incarnation),
                ..done
            })
        })
    }

    fn observe(&mut self) -> Pending<'_, Observation> {
        Box::pin(async {
            // What a step began that was given up must not go on behind what is seen here.
            self.server.sweep().await;
            let observed = self.observer.observe(&mut self.process, self.salvaged);
            let observation = observed.await;
            if observation.runs == Some(true)
                && let Some(why) = self.process.acquaint().await
            {
                tracing::warn!("role {}: {why}", self.name);
            }
            let alone = observation.replicas.as_ref();
            if observation.promoted == Some(true)
                && alone.is_some_and(|replicas| replicas.solo && replicas.acknowledging == 0)
                && let Err(failure) = self.end_stuck_sessions().await
            {
                tracing::debug!("role {}: {}", self.name, failure.why);
            }
            observation
        })
    }
}

fn position(place: &Place) -> Position {
    Position {
        rank: place.transactions(),
        text: place.to_string(),
    }
}
