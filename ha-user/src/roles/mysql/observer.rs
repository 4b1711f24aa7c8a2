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
    roles::database::{Failure, Glance, without},
};

/// Looks between two audits.
const AUDIT_EACH: u32 = 300;

/// What a look came back with.
type Found = (Result<ServerState, Failure>, Option<Vec<Finding>>);

/// See the module.
pub(super) struct Observer {
    name: String,
    config: Arc<MysqlRole>,
    glance: Glance<Found>,
    findings: Option<Vec<Finding>>,
    looks: u32,
}

impl Observer {
    pub(super) fn new(name: &str, config: &Arc<MysqlRole>) -> Self {
        Self {
            name: name.to_owned(),
            config: Arc::clone(config),
            glance: Glance::new(&config.server),
            findings: None,
            looks: 0,
        }
    }

    /// Its own session with the server.
    pub(super) fn session(&self) -> Option<u32> {
        self.glance.session()
    }

    pub(super) async fn observe(&mut self, process: &mut Process) -> Observation {
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
            Ok((Ok(state), findings)) => {
                if findings.is_some() && self.findings != findings {
                    self.findings = findings;
                    self.tell();
                }
                self.observation(&state)
            }
            Ok((Err(failure), _)) => Observation::unknown(&failure.why),
            Err(error) => without(&self.glance.words(&error), &error, process).await,
        }
    }

    /// What should be set otherwise, when it is found for the first time.
    fn tell(&self) {
        for finding in self.findings.iter().flatten() {
            tracing::warn!("role {}: {finding}", self.name);
        }
    }

    fn observation(&self, state: &ServerState) -> Observation {
        let findings = self.findings.iter().flatten();
        let mut wrong = findings.filter(|finding| finding.severity == Severity::Unsafe);
        let able = match wrong.next() {
            Some(finding) => Err(format!("the server is not set up for this: {finding}")),
            None => state.able(),
        };
        let semi_sync = &state.semi_sync;
        Observation {
            promoted: Some(!state.read_only),
            able,
            position: Some(position(&state.reached())),
            history: Some(state.history.text()),
            follows: follows(state),
            replicas: Some(Replicas {
                acknowledging: semi_sync.replicas,
                waiting: semi_sync.waiting,
                solo: !(semi_sync.source && semi_sync.waits_alone),
            }),
        }
    }
}

async fn found(session: &mut Session, audits: Option<bool>) -> Result<Found, Error> {
    let version = session.ask("SELECT @@global.version").await?;
    let dialect = match Dialect::of(&look::value(&version, 0)) {
        Ok(dialect) => dialect,
        Err(why) => return Ok((Err(why.into()), None)),
    };
    let state = look::look(session, dialect).await?;
    let findings = match audits {
        Some(semi_sync) => Some(look::audit(session, dialect, semi_sync).await?),
        None => None,
    };
    Ok((state, findings))
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
