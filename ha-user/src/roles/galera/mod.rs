//! `kind = "galera"`: a node of a Galera cluster, of which one at a time is written to. What its state means is decided
//! in [`ha_core::data::galera`].
//!
//! The cluster knows by itself who has everything, as long as most of it are there. Of two nodes one is not most: what
//! is left of a pair goes on only if somebody says so who knows that the other one is gone ([`survivor`]). Whoever
//! says so wrongly makes two clusters.

mod audit;
mod belonging;
mod demote;
mod look;
mod observer;
mod outage;
mod start;
mod survivor;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ha_core::{
    data::galera::NodeState,
    plan::{Done, Observation, Order},
};

pub(crate) use self::audit::findings;
pub use self::outage::Wish;
pub(crate) use self::outage::bootstrap;
use self::{belonging::Belonging, look::Seen, observer::Observer};
use super::{
    Neighbours, Pending, Role,
    database::{Asked, Failure, Outcome, Presence, Process, Server, done, left, pause},
    found::end_of,
};
use crate::{
    config::{Check, GaleraRole},
    sys::clock,
};

/// Of a server that nobody is to write to, whatever its files say.
const READ_ONLY: [&str; 1] = ["--read-only=1"];

/// The executor of such a role.
pub(crate) struct GaleraExecutor {
    name: String,
    config: Arc<GaleraRole>,
    neighbours: Arc<Neighbours>,
    arbitrators: Vec<Check>,
    server: Server,
    process: Process,
    observer: Observer,
    belonging: Belonging,
}

impl GaleraExecutor {
    /// Of a role called `name`, whose neighbours are these; where one is silent, the arbitrators tell who is cut off.
    #[must_use]
    pub(crate) fn new(
        name: &str,
        config: &GaleraRole,
        neighbours: Arc<Neighbours>,
        arbitrators: Vec<Check>,
    ) -> Self {
        let config = Arc::new(config.clone());
        Self {
            name: name.to_owned(),
            neighbours,
            arbitrators,
            server: Server::new(&config.server),
            process: Process::new(&config.process, &READ_ONLY),
            observer: Observer::new(name, &config),
            belonging: Belonging::new(config.bootstrap, config.demote_limit),
            config,
        }
    }

    async fn step(&mut self, order: &Order) -> Outcome {
        match order.step {
            "inspect" => self.inspect().await,
            "bootstrap" => self.bootstrap(order).await,
            "drain" => self.drain().await,
            "allow-writes" => self.allow_writes().await,
            "forbid-writes" => self.forbid_writes(order).await,
            "end-sessions" => self.end_sessions(order).await,
            "kill-server" => self.kill_server(order).await,
            "start-server" => self.start_server(order).await,
            other => Err(format!("there is no step \"{other}\"").into()),
        }
    }

    /// The node, and whether it is read-only.
    async fn look(&mut self) -> Asked<Seen> {
        let at = clock::now();
        let seen = self.server.inquire(&look::look).await?;
        self.belonging.note(&seen.node, at);
        Ok(seen)
    }

    fn serves(&self, node: &NodeState) -> Result<(), String> {
        node.serves(self.config.donor)
    }

    /// Whether the server is not there, so that it takes no writes: nobody listens, and its process has ended.
    async fn is_gone(&mut self, refused: &Failure) -> bool {
        self.server.refuses(refused) && self.process.find().await == Presence::Gone
    }
}

impl Role for GaleraExecutor {
    fn run<'a>(&'a mut self, order: &'a Order) -> Pending<'a, Result<Done, String>> {
        Box::pin(async { self.step(order).await.map_err(|failure| failure.why) })
    }

    fn observe(&mut self) -> Pending<'_, Observation> {
        Box::pin(async {
            // What a step began that was given up must not go on behind what is seen here.
            self.server.sweep().await;
            let (process, belonging) = (&mut self.process, &mut self.belonging);
            let neighbours = &self.neighbours;
            let observation = self.observer.observe(process, belonging, neighbours).await;
            if observation.runs == Some(true)
                && let Some(why) = self.process.acquaint().await
            {
                tracing::warn!("role {}: {why}", self.name);
            }
            observation
        })
    }
}
