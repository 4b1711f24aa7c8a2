//! What is found of the node between the steps.

use std::sync::Arc;

use ha_core::{
    data::{
        Finding,
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
        database::{Audit, Glance, Process, Taken, without},
    },
    sys::clock,
};

type Found = (Seen, Option<Vec<Finding>>);

/// See the module.
pub(super) struct Observer {
    config: Arc<GaleraRole>,
    glance: Glance<Found>,
    audit: Audit,
}

impl Observer {
    pub(super) fn new(name: &str, config: &Arc<GaleraRole>) -> Self {
        Self {
            config: Arc::clone(config),
            glance: Glance::new(&config.server),
            audit: Audit::new(name),
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
        let audits = self.audit.is_due().then_some(demands(&self.config));
        let taken = self
            .glance
            .take(move |session: &mut Session| Box::pin(found(session, audits)));
        let Some(Taken { began_at, found }) = taken.await else {
            return Observation::unknown("the server does not answer");
        };
        let observation = match found {
            Ok((seen, findings)) => {
                belonging.note(&seen.node, began_at);
                neighbours.note_own(None);
                self.audit.take(findings);
                self.observation(&seen, belonging)
            }
            Err(error) => {
                let words = self.glance.words(&error);
                let mut observation = without(&words, &error, process).await;
                if observation.promoted == Some(false) {
                    observation.history = Some(Told::Ended(neighbours.own()).to_string());
                }
                observation
            }
        };
        Observation {
            began_at,
            ..observation
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
        self.audit.allows()?;
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
