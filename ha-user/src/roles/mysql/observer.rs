//! What is found of the server between the steps.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use ha_common::Nanos;
use ha_core::{
    data::mysql::{Dialect, Finding, Receiving, ServerState, Severity},
    plan::{Follows, Observation, Replicas},
};
use mysql_async::{Error, Opts};
use tokio::time::timeout;

use super::{look, position, process::Process};
use crate::{
    checks::mysql::{
        session::{Session, opts},
        trouble::Who,
    },
    config::MysqlRole,
    roles::mysql::failure::Failure,
};

/// How long an answer may take before the server counts as one that hangs.
const PATIENCE: Duration = Duration::from_secs(1);
/// Looks between two audits.
const AUDIT_EACH: u32 = 300;

type Work = Pin<Box<dyn Future<Output = (Option<Session>, Found)> + Send>>;

/// What a look came back with.
type Found = Result<(Result<ServerState, Failure>, Option<Vec<Finding>>), Error>;

/// See the module. A look at a server that hangs goes on from one observation to the next: it is not given one more
/// session to carry with each.
pub(super) struct Observer {
    name: String,
    config: Arc<MysqlRole>,
    who: Who,
    opts: Opts,
    session: Option<Session>,
    work: Option<Work>,
    findings: Option<Vec<Finding>>,
    looks: u32,
}

impl Observer {
    pub(super) fn new(name: &str, config: &Arc<MysqlRole>) -> Self {
        Self {
            name: name.to_owned(),
            config: Arc::clone(config),
            who: Who::new(&config.server),
            opts: opts(&config.server),
            session: None,
            work: None,
            findings: None,
            looks: 0,
        }
    }

    /// Its own session with the server.
    pub(super) fn session(&self) -> Option<u32> {
        self.session.as_ref().map(Session::id)
    }

    pub(super) async fn observe(&mut self, process: &mut Process) -> Observation {
        let was_under_way = self.work.is_some();
        let Some(mut found) = self.found().await else {
            return Observation::unknown("the server does not answer");
        };
        // What went wrong with a look that began long ago may be put right.
        if found.is_err() && was_under_way {
            match self.found().await {
                Some(anew) => found = anew,
                None => return Observation::unknown("the server does not answer"),
            }
        }
        match found {
            Ok((Ok(state), findings)) => {
                if findings.is_some() && self.findings != findings {
                    self.findings = findings;
                    self.tell();
                }
                self.observation(&state)
            }
            Ok((Err(failure), _)) => Observation::unknown(&failure.why),
            Err(error) => without(&self.who.words(&error), &error, process).await,
        }
    }

    /// `None`: it hangs.
    async fn found(&mut self) -> Option<Found> {
        let work = match self.work.take() {
            Some(work) => work,
            None => self.begin(),
        };
        let work = self.work.insert(work);
        let (session, found) = timeout(PATIENCE, work).await.ok()?;
        self.work = None;
        self.session = session;
        Some(found)
    }

    fn begin(&mut self) -> Work {
        let audits = self.findings.is_none() || self.looks.is_multiple_of(AUDIT_EACH);
        self.looks = self.looks.wrapping_add(1);
        let semi_sync = self.config.semi_sync;
        let (session, opts) = (self.session.take(), self.opts.clone());
        Box::pin(async move {
            let mut session = match session {
                Some(session) => session,
                None => match Session::open(&opts).await {
                    Ok(session) => session,
                    Err(error) => return (None, Err(error)),
                },
            };
            let found = found(&mut session, audits.then_some(semi_sync)).await;
            let broken = matches!(&found, Err(error) if error.is_fatal());
            ((!broken).then_some(session), found)
        })
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

/// The server did not answer.
async fn without(words: &str, error: &Error, process: &mut Process) -> Observation {
    let mut observation = Observation::unknown(words);
    // Whose process has ended takes no writes.
    let broken = matches!(error, Error::Io(_) | Error::Driver(_));
    if broken && process.find().await.is_ok_and(|found| found.is_none()) {
        observation.promoted = Some(false);
        observation.able = Err(format!("the server does not run: {words}"));
    }
    observation
}

async fn found(session: &mut Session, audits: Option<bool>) -> Found {
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
