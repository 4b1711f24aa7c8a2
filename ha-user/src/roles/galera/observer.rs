//! What is found of the node between the steps.

use std::sync::Arc;

use ha_core::{
    data::{
        Finding, Severity,
        galera::{Demands, NodeState, Told},
    },
    plan::{Observation, Position},
};
use mysql_async::Error;

use super::{belonging::Belonging, look, look::Seen};
use crate::{
    checks::mysql::session::Session,
    config::{Bootstrap, GaleraRole},
    roles::{
        Neighbours,
        database::{Glance, Process, without},
    },
    sys::clock,
};

/// Looks between two audits.
const AUDIT_EACH: u32 = 300;

type Found = (Seen, Option<Vec<Finding>>);

/// See the module.
pub(super) struct Observer {
    name: String,
    config: Arc<GaleraRole>,
    glance: Glance<Found>,
    findings: Option<Vec<Finding>>,
    looks: u32,
}

impl Observer {
    pub(super) fn new(name: &str, config: &Arc<GaleraRole>) -> Self {
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

    pub(super) async fn observe(
        &mut self,
        process: &mut Process,
        belonging: &mut Belonging,
        neighbours: &Neighbours,
    ) -> Observation {
        let audits = self.findings.is_none() || self.looks.is_multiple_of(AUDIT_EACH);
        self.looks = self.looks.wrapping_add(1);
        let audits = audits.then_some(demands(&self.config));
        let at = clock::now();
        let taken = self
            .glance
            .take(move |session: &mut Session| Box::pin(found(session, audits)));
        match taken.await {
            None => Observation::unknown("the server does not answer"),
            Some(Ok((seen, findings))) => {
                belonging.note(&seen.node, at);
                neighbours.note_own(None);
                if findings.is_some() && self.findings != findings {
                    self.findings = findings;
                    self.tell();
                }
                self.observation(&seen, belonging)
            }
            Some(Err(error)) => {
                let words = self.glance.words(&error);
                let mut observation = without(&words, &error, process).await;
                if observation.promoted == Some(false) {
                    observation.history = Some(Told::Ended(neighbours.own()).to_string());
                }
                observation
            }
        }
    }

    /// What should be set otherwise, when it is found for the first time.
    fn tell(&self) {
        for finding in self.findings.iter().flatten() {
            tracing::warn!("role {}: {finding}", self.name);
        }
    }

    fn observation(&self, seen: &Seen, belonging: &Belonging) -> Observation {
        let node = &seen.node;
        let serves = node.serves(self.config.donor);
        let place = node.place();
        // Who has lost its cluster takes none, whatever it is set to.
        let promoted = Some(!seen.read_only && serves.is_ok());
        Observation {
            runs: Some(true),
            position: place.as_ref().map(|place| Position {
                rank: place.seqno,
                text: place.to_string(),
            }),
            history: Some(Told::Runs(place).to_string()),
            ..Observation::of(promoted, self.able(node, serves, belonging))
        }
    }

    fn able(
        &self,
        node: &NodeState,
        serves: Result<(), String>,
        belonging: &Belonging,
    ) -> Result<(), String> {
        let mut findings = self.findings.iter().flatten();
        if let Some(finding) = findings.find(|finding| finding.severity == Severity::Unsafe) {
            return Err(format!("the server is not set up for this: {finding}"));
        }
        match serves {
            Err(why) if !node.is_primary() => belonging
                .may_go_on(node, clock::now())
                .map_err(|refused| format!("{why}; {refused}")),
            other => other,
        }
    }
}

/// What the audit is told of the configuration.
pub(super) fn demands(role: &GaleraRole) -> Demands {
    Demands {
        alone: role.bootstrap == Bootstrap::Alone,
    }
}

async fn found(session: &mut Session, audits: Option<Demands>) -> Result<Found, Error> {
    let seen = look::look(session).await?;
    let findings = match audits {
        Some(demands) => Some(look::judged(session, demands).await?),
        None => None,
    };
    Ok((seen, findings))
}
