//! What is found of the server between the steps.

use std::sync::Arc;

use ha_common::Nanos;
use ha_core::{
    data::mysql::{Demands, Dialect, Finding, Receiving, ServerState},
    plan::{Follows, Observation, Replicas},
};
use mysql_async::Error;

use super::{Process, look, position};
use crate::{
    checks::mysql::session::Session,
    config::MysqlRole,
    roles::database::{Audit, Failure, Glance, Runs, Sighting, Taken, without},
};

/// What a look came back with.
struct Found {
    seen: Sighting,
    state: Result<ServerState, Failure>,
    findings: Option<Vec<Finding>>,
}

/// See the module.
pub(super) struct Observer {
    config: Arc<MysqlRole>,
    glance: Glance<Found>,
    runs: Arc<Runs>,
    audit: Audit,
}

impl Observer {
    /// `runs`: of the server that steps speak to.
    pub(super) fn new(name: &str, config: &Arc<MysqlRole>, runs: Arc<Runs>) -> Self {
        Self {
            config: Arc::clone(config),
            glance: Glance::new(&config.server),
            runs,
            audit: Audit::new(name),
        }
    }

    /// Its own session with the server.
    pub(super) fn session(&self) -> Option<u32> {
        self.glance.session()
    }

    /// `salvaged`: the run of the server that has read what it had received before.
    pub(super) async fn observe(
        &mut self,
        process: &mut Process,
        salvaged: Option<u64>,
    ) -> Observation {
        let audits = self.audit.is_due().then(|| look::demands(&self.config));
        let taken = self
            .glance
            .take(move |session: &mut Session| Box::pin(found(session, audits)));
        let Some(Taken { began_at, found }) = taken.await else {
            return Observation::unknown("the server does not answer");
        };
        let observation = match found {
            Ok(found) => {
                self.audit.take(found.findings);
                match found.state {
                    Ok(state) => self.observation(&state, self.runs.number(found.seen), salvaged),
                    Err(failure) => Observation::unknown(&failure.why),
                }
            }
            Err(error) => without(&self.glance.words(&error), &error, process).await,
        };
        Observation {
            began_at,
            ..observation
        }
    }

    fn observation(
        &self,
        state: &ServerState,
        incarnation: u64,
        salvaged: Option<u64>,
    ) -> Observation {
        let able = self.audit.allows().and_then(|()| state.able());
        let semi_sync = &state.semi_sync;
        // MariaDB says nothing of what it had received before it was started, and throws it away when it follows.
        let unread = state.dialect == Dialect::MariaDb
            && state.read_only
            && state.is_stopped()
            && salvaged != Some(incarnation);
        Observation {
            runs: Some(true),
            incarnation: Some(incarnation),
            unread,
            position: (!unread).then(|| position(&state.reached())),
            history: Some(state.history.text()),
            follows: follows(state),
            replicas: Some(Replicas {
                acknowledging: semi_sync.replicas,
                waiting: semi_sync.waiting,
                solo: !(semi_sync.source && semi_sync.waits_alone),
            }),
            ..Observation::of(Some(!state.read_only), able)
        }
    }
}

async fn found(session: &mut Session, audits: Option<Demands>) -> Result<Found, Error> {
    let seen = Sighting::of(session).await?;
    let version = session.ask("SELECT @@global.version").await?;
    let dialect = match Dialect::of(&look::value(&version, 0)) {
        Ok(dialect) => dialect,
        Err(why) => {
            return Ok(Found {
                seen,
                state: Err(why.into()),
                findings: None,
            });
        }
    };
    let state = look::look(session, dialect).await?;
    let findings = match audits {
        Some(demands) => Some(look::audit(session, dialect, &demands).await?),
        None => None,
    };
    Ok(Found {
        seen,
        state,
        findings,
    })
}

fn follows(state: &ServerState) -> Follows {
    let Some(link) = &state.link else {
        return Follows::Nobody;
    };
    Follows::Source {
        source: link.source.clone(),
        receives: link.receiving == Receiving::Connected,
        acknowledges: state.semi_sync.replica && state.semi_sync.acknowledges,
        lag: link.lag_seconds.map(Nanos::from_secs),
    }
}
