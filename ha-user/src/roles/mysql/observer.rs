//! What is found of the server between the steps.

use std::sync::Arc;

use ha_common::Nanos;
use ha_core::{
    data::mysql::{Dialect, Finding, Receiving, ServerState, Severity},
    plan::{Follows, Observation, Replicas},
};
use mysql_async::Error;

use super::{Process, look, position};
use crate::{
    checks::mysql::session::Session,
    config::MysqlRole,
    roles::database::{Failure, Glance, Runs, Sighting, without},
};

/// Looks between two audits.
const AUDIT_EACH: u32 = 300;

/// What a look came back with.
struct Found {
    seen: Sighting,
    state: Result<ServerState, Failure>,
    findings: Option<Vec<Finding>>,
}

/// See the module.
pub(super) struct Observer {
    name: String,
    config: Arc<MysqlRole>,
    glance: Glance<Found>,
    runs: Arc<Runs>,
    findings: Option<Vec<Finding>>,
    looks: u32,
}

impl Observer {
    /// `runs`: of the server that steps speak to.
    pub(super) fn new(name: &str, config: &Arc<MysqlRole>, runs: Arc<Runs>) -> Self {
        Self {
            name: name.to_owned(),
            config: Arc::clone(config),
            glance: Glance::new(&config.server),
            runs,
            findings: None,
            looks: 0,
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
        let audits = self.findings.is_none() || self.looks.is_multiple_of(AUDIT_EACH);
        self.looks = self.looks.wrapping_add(1);
        let audits = audits.then_some(self.config.semi_sync);
        let taken = self
            .glance
            .take(move |session: &mut Session| Box::pin(found(session, audits)));
        let Some(found) = taken.await else {
            return Observation::unknown("the server does not answer");
        };
        match found {
            Ok(found) => {
                if found.findings.is_some() && self.findings != found.findings {
                    self.findings = found.findings;
                    self.tell();
                }
                match found.state {
                    Ok(state) => self.observation(&state, self.runs.number(found.seen), salvaged),
                    Err(failure) => Observation::unknown(&failure.why),
                }
            }
            Err(error) => without(&self.glance.words(&error), &error, process).await,
        }
    }

    /// What should be set otherwise, when it is found for the first time.
    fn tell(&self) {
        for finding in self.findings.iter().flatten() {
            tracing::warn!("role {}: {finding}", self.name);
        }
    }

    fn observation(
        &self,
        state: &ServerState,
        incarnation: u64,
        salvaged: Option<u64>,
    ) -> Observation {
        let findings = self.findings.iter().flatten();
        let mut wrong = findings.filter(|finding| finding.severity == Severity::Unsafe);
        let able = match wrong.next() {
            Some(finding) => Err(format!("the server is not set up for this: {finding}")),
            None => state.able(),
        };
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

async fn found(session: &mut Session, audits: Option<bool>) -> Result<Found, Error> {
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
        Some(semi_sync) => Some(look::audit(session, dialect, semi_sync).await?),
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
