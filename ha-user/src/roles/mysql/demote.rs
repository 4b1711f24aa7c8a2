//! A primary lets go: it takes no more writes, or does not run.

use std::time::Duration;

use ha_common::MonoNs;
use ha_core::{data::mysql::Place, plan::Order};

use tokio::time::timeout;

use super::{MysqlExecutor, Outcome, done, left, look, pause, position};
use crate::{
    roles::database::{Failure, Presence, end_sessions},
    sys::clock,
};

/// A server that answers nothing for that long hangs: what has to let go does not wait for it any longer.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);
/// How long the end of the data has to stay where it is.
const STILL: Duration = Duration::from_millis(50);

impl MysqlExecutor {
    /// It waits for writes under way, for as long as there is; should it be given up, the server is told so before
    /// anything else is done.
    pub(super) async fn forbid_writes(&mut self, order: &Order) -> Outcome {
        let Ok(looked) = timeout(ANSWERS_WITHIN, self.look()).await else {
            let limit = ANSWERS_WITHIN.as_millis();
            return Err(format!("the server does not answer within {limit} ms").into());
        };
        let state = match looked {
            Ok(state) => state,
            Err(failure) if self.is_gone(&failure).await => {
                self.server.forget();
                return Ok(done("the server does not run"));
            }
            Err(failure) => return Err(failure),
        };
        if state.read_only {
            return Ok(done("takes no writes"));
        }
        let statements = self.statements().await?;
        self.switch_scheduler("ON", "OFF").await?;
        // What waits for a lock on the server gives up by itself, should it not hear that it is given up here.
        let seconds = left(order.deadline).as_secs().max(1);
        let limit = format!("SET SESSION lock_wait_timeout = {seconds}");
        self.server.ask(&limit).await?;
        self.server.ask(statements.forbid_writes).await?;
        if self.look().await?.read_only {
            Ok(done("takes no more writes"))
        } else {
            Err("it takes writes, though that was forbidden".into())
        }
    }

    /// Those that applications have with it.
    pub(super) async fn end_sessions(&mut self, order: &Order) -> Outcome {
        match self.end_all_sessions(order.deadline).await {
            Ok(ended) => Ok(done(format!("{ended} sessions ended"))),
            Err(failure) if self.is_gone(&failure).await => Ok(done("the server does not run")),
            Err(failure) => Err(failure),
        }
    }

    /// All but the server's own, replicas' and this role's.
    pub(super) async fn end_all_sessions(&mut self, deadline: MonoNs) -> Result<usize, Failure> {
        let statements = self.statements().await?;
        self.server.others = self.observer.session().into_iter().collect();
        end_sessions(&mut self.server, statements.spared_commands, deadline).await
    }

    /// Where its data ends, once nothing is added any more.
    pub(super) async fn settle(&mut self, order: &Order) -> Outcome {
        match self.end_of_data(order).await {
            Ok(place) => {
                let mut done = done(format!("ends at {}", place.in_words()));
                done.position = Some(position(&place));
                Ok(done)
            }
            Err(failure) if self.is_gone(&failure).await => Ok(done("the server does not run")),
            Err(failure) => Err(failure),
        }
    }

    async fn end_of_data(&mut self, order: &Order) -> Result<Place, Failure> {
        // Everything is on disk then. It is not replicated.
        self.server.ask("FLUSH LOCAL BINARY LOGS").await?;
        let mut before = self.look().await?;
        loop {
            if !before.read_only {
                return Err("it takes writes".into());
            }
            tokio::time::sleep(STILL).await;
            let now = self.look().await?;
            if now.here == before.here && now.semi_sync.waiting == 0 {
                return Ok(now.here);
            }
            if clock::now() >= order.deadline {
                return Err(format!(
                    "its data moves still, from {} to {}: somebody writes who may ignore read_only",
                    before.here, now.here
                )
                .into());
            }
            before = now;
        }
    }

    /// The hard way: what waits for an acknowledgement gets none, and is taken back at the start as a replica.
    pub(super) async fn kill_server(&mut self, order: &Order) -> Outcome {
        let text = self.process.kill(order.deadline).await?;
        self.server.forget();
        self.server.nobody_listens(order.deadline).await?;
        Ok(done(text))
    }

    /// So that nobody can write to it, whatever its files say.
    pub(super) async fn start_as_replica(&mut self, order: &Order) -> Outcome {
        self.ensure_running(order.deadline).await?;
        if self.look().await?.read_only {
            Ok(done("runs as a replica that takes no writes"))
        } else {
            self.forbid_writes(order).await
        }
    }

    /// Starts the server, if it does not run, and waits until it answers.
    pub(super) async fn ensure_running(&mut self, deadline: MonoNs) -> Result<(), Failure> {
        let mut was_started = false;
        loop {
            let failure = match self.server.ask("SELECT 1").await {
                Ok(answer) if look::value(&answer, 0) == "1" => return Ok(()),
                Ok(_) => return Err("the server answers something else than it was asked".into()),
                Err(failure) => failure,
            };
            let presence = if self.server.refuses(&failure) {
                Some(self.process.find().await)
            } else {
                None
            };
            match &presence {
                Some(Presence::Gone) if was_started => {
                    return Err("the server was started, and has ended again: see its log".into());
                }
                Some(Presence::Gone | Presence::Returning(_)) if !was_started => {
                    if !self.process.can_start() {
                        return Err(failure);
                    }
                    self.server.forget();
                    self.process.start(&[]).await?;
                    was_started = true;
                }
                _ => {}
            }
            if !pause(deadline).await {
                return Err(match presence {
                    Some(Presence::Unknown(why)) => {
                        format!("{}; whether it runs is not known: {why}", failure.why).into()
                    }
                    _ => failure,
                });
            }
        }
    }
}
