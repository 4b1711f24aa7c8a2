//! A standby follows the primary, if its data is a part of the primary's.

use std::net::SocketAddr;

use ha_common::Nanos;
use ha_core::{
    data::mysql::{Dialect, History, Link, Place, Receiving, ServerState},
    plan::Order,
};

use super::{
    MysqlExecutor, Outcome, Server, diverged, done, init, look, pause, position,
    promote::because,
    statements::{Source, quoted},
};
use crate::{
    config::{MysqlPlace, MysqlServer},
    roles::database::Failure,
};

impl MysqlExecutor {
    /// Its data is a part of the primary's; a server that has ended is started for that, as a replica.
    pub(super) async fn compare(&mut self, order: &Order) -> Outcome {
        self.ensure_running(order.deadline).await?;
        // First this one, then the primary's: read in the other order a replica that works would look like one that has
        // diverged.
        let state = self.look().await?;
        if !state.read_only {
            return Err("it takes writes".into());
        }
        let address = source_of(order)?;
        if let Some(link) = &state.link
            && follows_well(link, address)
        {
            return Ok(done(format!("follows {address} already")));
        }
        init::foreign(&mut self.server, state.here.is_empty()).await?;
        let told = order.context.history.as_ref();
        let told = told
            .map(|text| History::parse(state.dialect, text))
            .transpose();
        let told =
            told.map_err(|error| format!("the primary's history cannot be read: {error}"))?;
        let joins =
            |told: &History| state.history.within(told).is_ok() && told.skipped(&state).is_none();
        if told.as_ref().is_some_and(joins) {
            return Ok(done(format!(
                "all up to {} is the primary's too",
                state.here.in_words()
            )));
        }
        // What was told may be older than what is here by now.
        let mut primary = self.primary(address);
        let theirs = history(&mut primary, state.dialect).await?;
        if let Some(skipped) = theirs.skipped(&state) {
            return Err(format!("{skipped}, which it wrote itself and took back after a crash, is missing here for ever: the data has to be copied anew from the primary").into());
        }
        match state.history.within(&theirs) {
            Ok(()) => Ok(done(format!(
                "all up to {} is the primary's too",
                state.here.in_words()
            ))),
            Err(why) => {
                let kept = self.keep(&state, &theirs, order).await;
                Err(match kept {
                    Ok(file) => format!("{why}; what is here alone is kept in {file}: the data has to be copied anew from the primary"),
                    Err(failure) => format!("{why}; what is here alone could NOT be kept: {}", failure.why),
                }
                .into())
            }
        }
    }

    async fn keep(
        &mut self,
        state: &ServerState,
        theirs: &History,
        order: &Order,
    ) -> Result<String, Failure> {
        let dir = self.state_dir.join("diverged");
        let file = dir.join(format!("{}-epoch-{}.sql", self.name, order.epoch));
        diverged::keep(&mut self.server, &state.history, theirs, &file).await?;
        Ok(file.display().to_string())
    }

    /// The primary's server, as a replica sees it.
    fn primary(&self, address: SocketAddr) -> Server {
        Server::new(&MysqlServer {
            place: MysqlPlace::Address(address),
            user: self.config.replication_user.clone(),
            password: self.config.replication_password.clone(),
            database: None,
            tls: None,
            keep_open: true,
        })
    }

    /// It receives from the primary. Not as one that acknowledges: with what it lacks the primary's writes would wait
    /// until it has all of that.
    pub(super) async fn follow(&mut self, order: &Order) -> Outcome {
        let address = source_of(order)?;
        let state = self.look().await?;
        if !state.read_only {
            return Err("it takes writes".into());
        }
        self.stop_being_source(&state).await?;
        self.commit_as_configured().await?;
        if let Some(link) = &state.link
            && follows_well(link, address)
        {
            return Ok(done(format!("follows {address}")));
        }
        if self.config.master_master {
            self.same_domain(address, state.dialect).await?;
        }
        let statements = self.statements().await?;
        let theirs = history(&mut self.primary(address), state.dialect).await?;
        let taken_back = theirs.taken_back(&state);
        // MariaDB skips what has its own server_id, unless it acknowledges: what a killed primary took back at its start
        // would be missing for ever, and nobody would notice.
        let acknowledge = match &taken_back {
            Some(_) => Some(statements.replica_on),
            None => self.config.semi_sync.then_some(statements.replica_off),
        };
        if let Some(acknowledge) = acknowledge {
            self.server.ask(acknowledge).await?;
        }
        if state.link.is_some() {
            self.server.ask(statements.stop).await?;
        }
        if taken_back.is_some() {
            // Where two follow each other it may have noted as received what it wrote itself, and has no longer.
            let here = quoted(&state.here.to_string());
            let noted = format!("SET GLOBAL gtid_slave_pos = {here}");
            self.server.ask(&noted).await?;
        }
        let change = Source {
            host: &address.ip().to_string(),
            port: address.port(),
            user: &self.config.replication_user,
            password: self
                .config
                .replication_password
                .as_ref()
                .map_or("", |password| password.reveal()),
            demotes: true,
        };
        let change = change.statement(state.dialect);
        self.server.ask(&change).await?;
        self.salvaged = None;
        self.server.ask(statements.start).await?;
        let done = self.receives(order, address).await?;
        match taken_back {
            Some(own) => self.regain(&own, order, address).await,
            None => Ok(done),
        }
    }

    /// From now on nothing waits here for a replica. Of two that follow each other the one that was primary applies what
    /// it receives already, and its applying thread waits until then: what that has is the primary's.
    async fn stop_being_source(&mut self, state: &ServerState) -> Result<(), Failure> {
        const WAITING: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for semi-sync ACK%' AND USER <> 'system user'";
        if !(self.config.semi_sync && state.semi_sync.source) {
            return Ok(());
        }
        if state.semi_sync.waiting > 0 && look::value(&self.server.ask(WAITING).await?, 0) != "0" {
            return Err("writes wait here for an acknowledgement, which must not be given".into());
        }
        let statements = self.statements().await?;
        self.server.ask(statements.source_off).await.map(drop)
    }

    /// What it had taken back is here again; from then on it does not acknowledge until it has caught up.
    async fn regain(&mut self, own: &Place, order: &Order, address: SocketAddr) -> Outcome {
        loop {
            let state = self.look().await?;
            state.able()?;
            if state.history.has_of(state.server, own) {
                break;
            }
            if !pause(order.deadline).await {
                return Err(format!(
                    "{own}, which it wrote itself and took back after a crash, does not come back from {address}"
                )
                .into());
            }
        }
        let statements = self.statements().await?;
        self.server.ask(statements.replica_off).await?;
        self.server.ask(statements.stop_receiving).await?;
        self.server.ask(statements.start_receiving).await?;
        let mut done = self.receives(order, address).await?;
        done.text = format!(
            "{}; {own}, taken back after a crash, is here again",
            done.text
        );
        Ok(done)
    }

    async fn receives(&mut self, order: &Order, address: SocketAddr) -> Outcome {
        loop {
            let state = self.look().await?;
            state.able()?;
            let Some(link) = &state.link else {
                return Err("it follows nobody, though it was told to".into());
            };
            if link.receiving == Receiving::Connected {
                return Ok(done(format!("receives from {address}")));
            }
            // Of a source that does not have what comes next, or that has another history.
            if link.receiving == Receiving::Stopped && link.receive_error.is_some() {
                return Err(format!("the primary does not let it follow{}", because(link)).into());
            }
            if !pause(order.deadline).await {
                return Err(format!("it does not receive from {address}{}", because(link)).into());
            }
        }
    }

    /// With a domain for each, what a killed primary wrote last would come back to the other one when it returns.
    async fn same_domain(&mut self, address: SocketAddr, dialect: Dialect) -> Result<(), Failure> {
        const DOMAIN: &str = "SELECT @@global.gtid_domain_id";
        if dialect == Dialect::MySql {
            return Ok(());
        }
        let own = look::value(&self.server.ask(DOMAIN).await?, 0);
        let theirs = look::value(&self.primary(address).ask(DOMAIN).await?, 0);
        if own == theirs {
            return Ok(());
        }
        Err(format!(
            "gtid_domain_id is {own} here and {theirs} at {address}: with `master_master` both must have the same, else writes that were lost come back"
        )
        .into())
    }

    /// It has received what the primary had a moment ago, and is not far behind in applying it. Once it acknowledges, the
    /// primary's writes wait until it has received what was before them.
    pub(super) async fn catch_up(&mut self, order: &Order) -> Outcome {
        let address = source_of(order)?;
        let mut primary = self.primary(address);
        loop {
            let dialect = self.server.dialect().await?;
            let theirs = history(&mut primary, dialect).await?.place();
            let state = self.look().await?;
            state.able()?;
            let Some(link) = &state.link else {
                return Err("it follows nobody".into());
            };
            let lacking = state.reached().lacks(&theirs);
            let lag = link.lag_seconds.map_or(Nanos(u64::MAX), Nanos::from_secs);
            if lacking.is_none() && lag <= self.config.max_lag {
                return Ok(done(format!("has received everything up to {theirs}")));
            }
            if !(link.applying && link.receiving != Receiving::Stopped) {
                return Err(format!("replication has stopped{}", because(link)).into());
            }
            if !pause(order.deadline).await {
                return Err(match lacking {
                    Some(lacking) => format!("it has not received {lacking} yet"),
                    None => "it is too far behind in applying what it received".to_owned(),
                }
                .into());
            }
        }
    }

    /// From now on it acknowledges what it receives.
    pub(super) async fn join_sync(&mut self, order: &Order) -> Outcome {
        let statements = self.statements().await?;
        let state = self.look().await?;
        if !(state.semi_sync.replica && state.semi_sync.acknowledges) {
            if !state.link.as_ref().is_some_and(|link| link.applying) {
                return Err("what it receives is not applied".into());
            }
            self.server.ask(statements.replica_on).await?;
            // The applying thread runs on: what was received stays.
            self.server.ask(statements.stop_receiving).await?;
            self.server.ask(statements.start_receiving).await?;
        }
        loop {
            let state = self.look().await?;
            state.able()?;
            if state.semi_sync.replica && state.semi_sync.acknowledges {
                let mut done = done(format!(
                    "acknowledges what it receives, from {}",
                    state.here
                ));
                done.position = Some(position(&state.reached()));
                return Ok(done);
            }
            if !pause(order.deadline).await {
                let link = state.link.as_ref();
                let because = link.map(because).unwrap_or_default();
                return Err(format!("it does not acknowledge{because}: is semi-synchronous replication on at the primary?").into());
            }
        }
    }
}

fn source_of(order: &Order) -> Result<SocketAddr, Failure> {
    let source = order.context.source.as_ref();
    let source = source.ok_or("where the primary can be followed is not known")?;
    let address = source.parse();
    address.map_err(|_| format!("\"{source}\" is no address of a server").into())
}

fn follows_well(link: &Link, address: SocketAddr) -> bool {
    link.source == address.to_string()
        && link.by_gtid
        && link.receiving == Receiving::Connected
        && link.applying
}

/// What the primary has, by its own word.
async fn history(primary: &mut Server, dialect: Dialect) -> Result<History, Failure> {
    let statement = match dialect {
        Dialect::MariaDb => "SELECT @@global.gtid_binlog_state",
        Dialect::MySql => "SELECT @@global.gtid_executed",
    };
    let asked = primary.ask(statement).await;
    let answer =
        asked.map_err(|failure| format!("the primary cannot be asked: {}", failure.why))?;
    let history = History::parse(dialect, &look::value(&answer, 0));
    history.map_err(|error| format!("the primary's history cannot be read: {error}").into())
}
