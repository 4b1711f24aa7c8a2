//! A replica becomes the primary: everything that was received is applied and proved to be, before it is detached.

use std::time::Duration;

use ha_common::Nanos;
use ha_core::{
    data::mysql::{Link, Place, Receiving, ServerState},
    plan::Order,
};
use tokio::time::timeout;

use super::{
    MysqlExecutor, Outcome, done, look, pause, position,
    statements::{named, wait_for},
};
use crate::{roles::database::Failure, sys::clock};

/// Seconds of one wait for the applier, so that it ends soon where the step is given up.
const SLICE: f32 = 0.25;
/// How long the server may take to allow writes before those are ended that keep it from it.
const ALLOWING: Duration = Duration::from_secs(1);
/// How long a killed thread may take to end before it is left to that.
const ENDING: Nanos = Nanos::from_millis(20);
/// How long a thread that was started may take to run or to say why it does not.
const STARTING: Nanos = Nanos::from_secs(2);

/// Events that run on the primary alone, as a replica has them.
const EVENTS: &str = "SELECT EVENT_SCHEMA, EVENT_NAME, STATUS FROM information_schema.EVENTS WHERE STATUS <> 'DISABLED'";

impl MysqlExecutor {
    /// Whether it can be promoted; with its applier running, if that alone was stopped.
    pub(super) async fn inspect(&mut self, order: &Order) -> Outcome {
        self.ended_receiver = false;
        let state = self.look().await?;
        if !state.read_only {
            return Ok(done("takes writes already"));
        }
        state.able()?;
        let Some(link) = &state.link else {
            return Ok(done(format!(
                "follows nobody, and is at {}",
                state.here.in_words()
            )));
        };
        if state.is_stopped() {
            return self.stopped(&state, order).await;
        }
        if !link.applying {
            let statements = self.statements().await?;
            self.server.ask(statements.start_applying).await?;
            self.applies(order).await?;
        }
        Ok(done(format!(
            "received up to {}, applied up to {}",
            link.received.in_words(),
            state.here.in_words()
        )))
    }

    /// Both threads are stopped: to start one is to throw away what was received.
    async fn stopped(&mut self, state: &ServerState, order: &Order) -> Outcome {
        let target = self.target(order, state)?;
        let lacks_target = target.is_some_and(|target| !state.here.covers(&target));
        if order.context.source_gone || !lacks_target {
            return self.salvage(state).await;
        }
        // The source is there still, and sends everything again.
        let statements = self.statements().await?;
        self.salvaged = None;
        self.server.ask(statements.start).await?;
        self.applies(order).await?;
        Ok(done("replication was stopped and is started again"))
    }

    async fn applies(&mut self, order: &Order) -> Result<(), Failure> {
        let until = order.deadline.min(clock::now().after(STARTING));
        loop {
            let state = self.look().await?;
            state.able()?;
            if state.link.as_ref().is_none_or(|link| link.applying) {
                return Ok(());
            }
            if !pause(until).await {
                return Err(
                    "what it received is not applied: the thread for that does not run".into(),
                );
            }
        }
    }

    fn target(&self, order: &Order, state: &ServerState) -> Result<Option<Place>, Failure> {
        let target = order.context.target.as_ref();
        target
            .map(|text| Self::place(state.dialect, text))
            .transpose()
    }

    /// What has to be here before it is detached.
    fn wanted(&self, order: &Order, state: &ServerState, link: &Link) -> Result<Place, Failure> {
        let target = self.target(order, state)?;
        Ok(match target {
            Some(target) => link.received.with(&target),
            None => link.received.clone(),
        })
    }

    /// Nothing more comes in. Where the node before said where it ended, only once all of that was received.
    pub(super) async fn stop_receiving(&mut self, order: &Order) -> Outcome {
        loop {
            let state = self.look().await?;
            let Some(link) = &state.link else {
                return Ok(done("follows nobody"));
            };
            if link.receiving == Receiving::Stopped {
                return Ok(done(format!("received up to {}", link.received.in_words())));
            }
            let target = self.target(order, &state)?;
            let lacking = target.and_then(|target| state.reached().lacks(&target));
            let Some(lacking) = lacking.filter(|_| !order.context.source_gone) else {
                if !link.applying {
                    // With this one both would be stopped.
                    return Err("the applying thread has stopped".into());
                }
                let statements = self.statements().await?;
                if order.context.source_gone
                    && let Some(receiver) = statements.receiver
                {
                    return self.end_receiver(receiver).await;
                }
                self.server.ask(statements.stop_receiving).await?;
                continue;
            };
            if !pause(order.deadline).await {
                return Err(format!(
                    "{lacking}, which the node before wrote, has not been received{}",
                    because(link)
                )
                .into());
            }
        }
    }

    /// MariaDB's receiving thread, as it stops, connects to the primary once more to end its session there, and is
    /// waited for: two seconds where that has lost its power. One that was killed does the same, and receives and
    /// acknowledges nothing any more.
    async fn end_receiver(&mut self, receiver: &str) -> Outcome {
        let threads = self.server.ask(receiver).await?;
        for id in threads.rows.iter().flatten().flatten() {
            // One that has just ended is as good.
            let _ = self
                .server
                .try_ask(&format!("KILL CONNECTION {id}"))
                .await?;
            self.ended_receiver = true;
        }
        let until = clock::now().after(ENDING);
        loop {
            let state = self.look().await?;
            let Some(link) = state
                .link
                .filter(|link| link.receiving != Receiving::Stopped)
            else {
                return Ok(done("receives nothing more"));
            };
            if !pause(until).await {
                let source = link.source;
                return Ok(done(format!(
                    "ends its connection to {source}, and receives nothing more"
                )));
            }
        }
    }

    /// Everything that was received is applied.
    pub(super) async fn drain(&mut self, order: &Order) -> Outcome {
        let began = clock::now();
        loop {
            let state = self.look().await?;
            state.able()?;
            let Some(link) = &state.link else {
                return Ok(done(format!("is at {}", state.here.in_words())));
            };
            let wanted = self.wanted(order, &state, link)?;
            let lacking = match state.here.lacks(&wanted) {
                None if !wanted.is_empty() || self.has_read_all().await? => {
                    return Ok(done(format!(
                        "applied up to {wanted} in {}",
                        clock::now().since(began)
                    )));
                }
                None => {
                    "how far it received is not known, and it has not read all of that".to_owned()
                }
                Some(lacking) => format!("not applied up to {lacking}, only to {}", state.here),
            };
            if state.is_stopped() && self.has_salvaged() && state.here.covers(&wanted) {
                return Ok(done(format!("is at {}", state.here.in_words())));
            }
            if !link.applying {
                return Err(format!("{lacking}; the applying thread has stopped").into());
            }
            if clock::now() >= order.deadline {
                return Err(lacking.into());
            }
            if wanted.is_empty() {
                pause(order.deadline).await;
            } else {
                let wait = wait_for(state.dialect, &wanted.to_string(), SLICE);
                self.server.ask(&wait).await?;
            }
        }
    }

    /// Right after a start the server may not tell how far it received.
    async fn has_read_all(&mut self) -> Result<bool, Failure> {
        let statements = self.statements().await?;
        let rows = self.server.table(statements.link).await?;
        let column = statements.columns.applying_state;
        let said = rows.first().and_then(|row| row.get(column)).cloned();
        let read = |said: String| said.contains(statements.read_all);
        Ok(said.flatten().is_some_and(read))
    }

    pub(super) async fn prove(&mut self, order: &Order) -> Outcome {
        let state = self.look().await?;
        self.proved(order, &state)?;
        Ok(done(format!(
            "has everything up to {}",
            state.here.in_words()
        )))
    }

    fn proved(&self, order: &Order, state: &ServerState) -> Result<(), Failure> {
        state.able()?;
        let wanted = match &state.link {
            Some(link) => self.wanted(order, state, link)?,
            None => self
                .target(order, state)?
                .unwrap_or(Place::nothing(state.dialect)),
        };
        match state.here.lacks(&wanted) {
            Some(lacking) => {
                Err(format!("it lacks {lacking}, and is at {}", state.here.in_words()).into())
            }
            None => Ok(()),
        }
    }

    /// The point of no return: from here on it follows nobody. Whom it followed is forgotten only once it takes writes:
    /// a server without that, which was not the last primary, could not be promoted should this be interrupted. Of two
    /// that follow each other it stays.
    pub(super) async fn detach(&mut self, order: &Order) -> Outcome {
        let state = self.look().await?;
        let Some(link) = &state.link else {
            return Ok(done("follows nobody"));
        };
        let source = link.source.clone();
        let statements = self.statements().await?;
        if !state.is_stopped() {
            self.proved(order, &state)?;
            if self.ended_receiver && link.receiving != Receiving::Stopped && state.read_only {
                self.server.ask(statements.stop_applying).await?;
                return Ok(done(format!("applies nothing more from {source}")));
            }
            self.server.ask(statements.stop).await?;
        }
        if self.config.master_master || state.read_only {
            let stopped = self.look().await?.is_stopped();
            return if stopped {
                Ok(done(format!("does not follow {source} any more")))
            } else {
                Err(format!("it still follows {source}").into())
            };
        }
        self.server.ask(statements.forget_link).await?;
        match self.look().await?.link {
            None => Ok(done(format!("no longer follows {source}"))),
            Some(link) => Err(format!("it still follows {}", link.source).into()),
        }
    }

    /// It takes writes; that comes last.
    pub(super) async fn become_primary(&mut self, order: &Order) -> Outcome {
        let state = self.look().await?;
        let wanted = order.context.incarnation;
        if wanted.is_some() && wanted != self.server.incarnation() {
            return Err("the server was started again meanwhile".into());
        }
        let statements = self.statements().await?;
        let semi_sync = state.semi_sync;
        if let Some(link) = &state.link
            && link.receiving != Receiving::Stopped
            && (link.applying || !self.ended_receiver)
        {
            return Err(format!("it follows {} still", link.source).into());
        }
        let mut said = None;
        if order.context.solo || !self.config.semi_sync {
            said = self.commit_durably().await?;
        }
        if self.config.semi_sync {
            if semi_sync.replica {
                self.server.ask(statements.replica_off).await?;
            }
            if order.context.solo && semi_sync.waits_alone {
                self.server.ask(statements.go_alone).await?;
            }
            if !semi_sync.source {
                self.server.ask(statements.source_on).await?;
            }
        }
        if !state.read_only {
            return Ok(done("takes writes already"));
        }
        self.enable_events().await?;
        self.allow_writes(statements.allow_writes, order).await?;
        let state = self.look().await?;
        if state.read_only {
            return Err("it does not take writes, though that was allowed".into());
        }
        let takes = if order.context.solo && self.config.semi_sync {
            "takes writes, and waits for no replica"
        } else {
            "takes writes"
        };
        let mut done = done(format!("{takes}{}", said.unwrap_or_default()));
        done.position = Some(position(&state.here));
        Ok(done)
    }

    async fn allow_writes(&mut self, statements: &[&str], order: &Order) -> Result<(), Failure> {
        for statement in statements {
            if let Ok(allowed) = timeout(ALLOWING, self.server.ask(statement)).await {
                allowed?;
                continue;
            }
            // Nobody comes in by the group's addresses yet: whoever is here is in the way.
            self.end_all_sessions(order.deadline).await?;
            self.server.ask(statement).await?;
        }
        Ok(())
    }

    /// Events of the primary run here from now on.
    async fn enable_events(&mut self) -> Result<(), Failure> {
        let events = self.server.ask(EVENTS).await?;
        if events.rows.is_empty() {
            return Ok(());
        }
        for row in &events.rows {
            let [Some(schema), Some(event), Some(status)] = row.as_slice() else {
                continue;
            };
            if status != "ENABLED" {
                let enable = format!("ALTER EVENT {}.{} ENABLE", named(schema), named(event));
                self.server.ask(&enable).await?;
            }
        }
        self.switch_scheduler("OFF", "ON").await
    }

    /// One that was disabled at the server's start stays so.
    pub(super) async fn switch_scheduler(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let scheduler = self.server.ask("SELECT @@global.event_scheduler").await?;
        if look::value(&scheduler, 0) == from {
            let switch = format!("SET GLOBAL event_scheduler = {to}");
            self.server.ask(&switch).await?;
        }
        Ok(())
    }

    /// The epoch is written into the data, so that every copy of it knows who wrote last.
    pub(super) async fn mark(&mut self, order: &Order) -> Outcome {
        const NO_DATABASE: u16 = 1049;
        const NO_TABLE: u16 = 1146;
        let insert = format!(
            "REPLACE INTO had.epoch (epoch, server_id, since) VALUES ({}, @@global.server_id, UTC_TIMESTAMP(6))",
            order.epoch
        );
        let state = self.look().await?;
        let is_marked = state
            .mark
            .is_some_and(|mark| mark.epoch == order.epoch && mark.server == state.server);
        if is_marked {
            return Ok(done(format!("epoch {} is written", order.epoch)));
        }
        if let Err(NO_DATABASE | NO_TABLE) = self.server.try_ask(&insert).await? {
            for create in [
                "CREATE DATABASE IF NOT EXISTS had",
                "CREATE TABLE IF NOT EXISTS had.epoch (epoch BIGINT UNSIGNED NOT NULL PRIMARY KEY, server_id INT UNSIGNED NOT NULL, since DATETIME(6) NOT NULL) ENGINE=InnoDB",
            ] {
                self.server.ask(create).await?;
            }
        }
        self.server.ask(&insert).await?;
        let state = self.look().await?;
        match state.mark {
            Some(mark) if mark.epoch == order.epoch => {
                let mut done = done(format!("epoch {} is written", order.epoch));
                done.position = Some(position(&state.here));
                Ok(done)
            }
            Some(mark) => Err(format!("epoch {} is there already", mark.epoch).into()),
            None => Err("the epoch that was written cannot be read back".into()),
        }
    }
}

/// What the receiving thread says.
pub(super) fn because(link: &Link) -> String {
    match &link.receive_error {
        Some(error) => format!(" ({error})"),
        None => String::new(),
    }
}
