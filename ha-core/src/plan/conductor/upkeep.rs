//! What is done while nobody asks for anything: a standby follows the primary, the primary sees to its replica, and
//! what somebody else changed is put right. Not in maintenance.

use alloc::{format, string::String, vec::Vec};

use ha_common::{MonoNs, Nanos};

use super::{Conductor, plans::Aim, retry::Retry, sync::SyncNeed};
use crate::{
    plan::{
        StepSpec,
        config::{Durability, RoleConfig, RoleKind},
        event::{Context, GroupWord, Purpose, Stance},
        observation::{Follows, Observation, Position},
        run::Outcome,
        sequence,
    },
    roles::Mode,
};

/// How long a standby that follows the right server may go without receiving, before that is tried anew: it connects
/// again by itself, and to try anew is to throw away what it has received and not applied.
pub(super) const ASTRAY: Nanos = Nanos::from_secs(5);

impl Conductor {
    pub(super) fn look_after(&mut self, now: MonoNs) {
        if self.is_busy() {
            return;
        }
        if self.stance == Stance::Unsettled {
            self.settle(now);
            return;
        }
        if self.mode == Mode::Maintenance {
            return;
        }
        if !self.seen.iter().all(|seen| *seen) {
            return;
        }
        if self.stance == Stance::Primary && self.superseded().is_some() {
            // It is to let go: nothing is opened again that was closed meanwhile.
            return;
        }
        if self.stance == Stance::Primary && !self.may_open(now) {
            // What fences the roles is not worked against.
            return;
        }
        let corrections = self.corrections(now);
        if !corrections.is_empty() && self.mending.is_due(now) {
            let held = self.held_server.filter(|_| self.stance == Stance::Primary);
            let context = Context {
                source_gone: self.others_gone(now),
                incarnation: held,
                ..Context::default()
            };
            self.begin_steps(Purpose::Correct, Aim::Upkeep, context, corrections, now);
            return;
        }
        if !self.tending.is_due(now) {
            return;
        }
        match self.stance {
            Stance::Primary => {
                let purpose = match self.sync_need(now) {
                    SyncNeed::Nothing => return,
                    SyncNeed::GoSolo => Purpose::GoSolo,
                    SyncNeed::Rejoin => Purpose::Rejoin,
                };
                // Of another server than the one that was promoted it is not known what it lacks.
                let context = Context {
                    incarnation: self.held_server,
                    ..Context::default()
                };
                self.keep_up(purpose, context, now);
            }
            Stance::Standby => {
                if let Some(context) = self.is_to_follow(now) {
                    self.keep_up(Purpose::Follow, context, now);
                }
            }
            _ => {}
        }
    }

    fn keep_up(&mut self, purpose: Purpose, context: Context, now: MonoNs) {
        self.begin(purpose, Aim::Upkeep, context, now);
    }

    /// The steps for the roles that are not as they should be.
    fn corrections(&self, now: MonoNs) -> Vec<(usize, StepSpec)> {
        let is_primary = self.stance == Stance::Primary;
        let nobody_is = self.primary(now).is_none();
        let is_wrong = |observation: &Observation| {
            let same = observation
                .incarnation
                .is_none_or(|it| self.held_server.is_none_or(|held| held == it));
            observation.promoted == Some(!is_primary)
                && (!is_primary || observation.able.is_ok() && same)
        };
        let roles = self.config.roles.iter().zip(&self.observations).enumerate();
        roles
            .flat_map(|(index, (role, observation))| {
                let steps = if is_wrong(observation) {
                    sequence::correction(role, self.stance)
                } else if is_primary && observation.follows != Follows::Nobody {
                    sequence::detachment(role)
                } else if !is_primary && observation.runs == Some(false) {
                    sequence::revival(role)
                } else if !is_primary && observation.unread && nobody_is {
                    // What it has may be the only copy. Of a primary that was promoted meanwhile it is a part.
                    sequence::salvage(role)
                } else {
                    Vec::new()
                };
                steps.into_iter().map(move |step| (index, step))
            })
            .collect()
    }

    /// Whether a role does not follow the primary as it should; then with what it is to.
    fn is_to_follow(&mut self, now: MonoNs) -> Option<Context> {
        let primary = &self.primary(now)?.word;
        let roles = self.config.roles.iter().zip(&self.observations);
        let worst = roles
            .filter(|(role, _)| sequence::follows(role.kind))
            .map(|(role, observation)| stray(role, observation, primary))
            .max();
        let context = Context {
            source: primary.endpoint.clone(),
            history: primary.history.clone(),
            ..Context::default()
        };
        match worst {
            Some(Stray::Wrong) => Some(context),
            Some(Stray::Interrupted) => {
                let since = *self.astray_since.get_or_insert(now);
                (since.after(ASTRAY) <= now).then(|| {
                    self.astray_since = None;
                    context
                })
            }
            Some(Stray::No) | None => {
                self.astray_since = None;
                None
            }
        }
    }

    /// A plan of upkeep has ended.
    pub(super) fn kept_up(
        &mut self,
        purpose: Purpose,
        position: Option<Position>,
        outcome: Outcome,
        now: MonoNs,
    ) {
        match outcome {
            Ok(()) => {
                *self.retry(purpose) = Retry::default();
                if purpose == Purpose::Follow {
                    self.refused = None;
                }
                if matches!(purpose, Purpose::GoSolo | Purpose::Rejoin) {
                    self.replica_seen_to(purpose, position.map(|position| position.rank));
                }
                let stance = self.stance;
                self.end(stance, None);
            }
            Err(why) => self.upkeep_failed(purpose, why, now),
        }
    }

    const fn retry(&mut self, purpose: Purpose) -> &mut Retry {
        match purpose {
            Purpose::Correct => &mut self.mending,
            _ => &mut self.tending,
        }
    }

    fn upkeep_failed(&mut self, purpose: Purpose, why: String, now: MonoNs) {
        if self.retry(purpose).is_first() {
            self.note(format!("{}: {why}", purpose.name()));
        }
        if purpose == Purpose::Follow {
            self.refused = Some(why.clone());
        }
        self.retry(purpose).failed(now);
        let stance = self.stance;
        self.end(stance, Some(why));
    }

    /// What was found of roles before they were demoted does not say that they could be promoted again.
    pub(super) fn forget(&mut self) {
        for observation in &mut self.observations {
            observation.able = Err("it was not looked at since it was demoted".into());
            observation.position = None;
        }
    }
}

/// How far a role is from following the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stray {
    /// It follows.
    No,
    /// It follows the right server, and does not receive, or does not acknowledge.
    Interrupted,
    /// It follows nobody, or somebody else.
    Wrong,
}

fn stray(role: &RoleConfig, observation: &Observation, primary: &GroupWord) -> Stray {
    let RoleKind::Mysql { durability, .. } = role.kind else {
        // Where it is worth a try its executor says that it follows nobody, also where that is why it is not able.
        let detached = observation.follows == Follows::Nobody && observation.promoted.is_some();
        return if detached { Stray::Wrong } else { Stray::No };
    };
    // Of a server that does not answer nothing is known; one that does not run is started to follow. And a primary may
    // not have looked at its own yet.
    let is_known = observation.position.is_some() || observation.promoted == Some(false);
    if !is_known || primary.endpoint.is_none() {
        return Stray::No;
    }
    match &observation.follows {
        Follows::Source {
            source,
            receives,
            acknowledges,
            ..
        } if Some(source) == primary.endpoint.as_ref() => {
            if *receives && (*acknowledges || durability == Durability::Async) {
                Stray::No
            } else {
                Stray::Interrupted
            }
        }
        _ => Stray::Wrong,
    }
}
