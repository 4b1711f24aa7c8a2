//! What a primary does about its replica: goes on without it, and waits for it again.

use ha_core::plan::Order;

use super::{MysqlExecutor, Outcome, done, pause, position};
use crate::{roles::database::Failure, sys::clock};

impl MysqlExecutor {
    /// It acknowledges writes that no replica has. In this order: the server counts the session of a replica that died
    /// as one that will acknowledge, so that must be ended; and once it is, only who may wait alone is released.
    pub(super) async fn degrade(&mut self, order: &Order) -> Outcome {
        let statements = self.statements().await?;
        let state = self.look().await?;
        // Whoever waits is released only then.
        let said = self.commit_durably().await?.unwrap_or_default();
        if !state.semi_sync.source {
            return Ok(done(format!("waits for no replica{said}")));
        }
        if state.semi_sync.waits_alone {
            self.server.ask(statements.go_alone).await?;
        }
        loop {
            self.end_replicas().await?;
            let state = self.look().await?;
            if state.semi_sync.waits_alone {
                return Err("it waits for a replica still, though it is not to".into());
            }
            if state.semi_sync.waiting == 0 {
                // What was being committed when that was switched over.
                self.flush().await?;
                let text = format!("acknowledges writes that no replica has{said}");
                return Ok(done(text));
            }
            if state.semi_sync.replicas == 0 {
                // Whoever waited for a replica whose session ended by itself is released by nothing else.
                self.server.ask(statements.source_off).await?;
                self.server.ask(statements.source_on).await?;
            }
            if !pause(order.deadline).await {
                let waiting = state.semi_sync.waiting;
                return Err(format!("{waiting} sessions wait for a replica still").into());
            }
        }
    }

    /// The sessions by which replicas receive; one that lives comes again by itself.
    async fn end_replicas(&mut self) -> Result<(), Failure> {
        const DUMPS: &str =
            "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
        let dumps = self.server.ask(DUMPS).await?;
        for id in dumps.rows.iter().flatten().flatten() {
            // It may have ended by itself.
            let _ = self
                .server
                .try_ask(&format!("KILL CONNECTION {id}"))
                .await?;
        }
        Ok(())
    }

    /// From now on nothing is acknowledged that no replica has. Who has what there is then has everything.
    pub(super) async fn restore(&mut self, order: &Order) -> Outcome {
        let statements = self.statements().await?;
        if self.config.master_master {
            self.follow_back().await?;
        }
        loop {
            let state = self.look().await?;
            if state.read_only {
                return Err("it is not the primary: it takes no writes".into());
            }
            if state.semi_sync.replicas > 0 {
                break;
            }
            if clock::now() >= order.deadline {
                return Err("no replica that acknowledges is connected".into());
            }
            self.end_stuck_sessions().await?;
            pause(order.deadline).await;
        }
        self.server.ask(statements.source_on).await?;
        self.server.ask(statements.wait_alone).await?;
        self.commit_as_configured().await?;
        let state = self.look().await?;
        if !(state.semi_sync.source && state.semi_sync.waits_alone) {
            return Err("it does not wait for a replica, though it is to".into());
        }
        let mut done = done(format!("waits for its replica from {} on", state.here));
        done.position = Some(position(&state.here));
        Ok(done)
    }

    /// Of two that follow each other: the other one is verified by now, so the link back to it may run again.
    async fn follow_back(&mut self) -> Result<(), Failure> {
        let state = self.look().await?;
        if state.is_stopped() {
            let statements = self.statements().await?;
            self.salvaged = None;
            self.server.ask(statements.start).await?;
        }
        Ok(())
    }
}
