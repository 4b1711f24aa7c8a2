//! The decisions for one group.

mod ballots;
mod engine;
mod knowledge;
mod plans;
mod retry;
mod sync;
mod upkeep;
mod words;

use alloc::{collections::VecDeque, string::String, vec::Vec};

use ha_common::{MonoNs, Nanos};

use super::{
    config::ConductorConfig,
    event::{Handover, PlanAction, PlanInput, Purpose, Stance},
    journal::Recovered,
    membership::{Keeper, Member},
    observation::Observation,
    run::{Means, Run},
    sequence,
    status::{GroupStatus, PlannedStep, StepReport},
};
use crate::{
    data::gtid::rank_position,
    roles::{Mode, Prospect},
};

#[cfg(feature = "sim")]
use super::event::Done;

use self::{ballots::Ballots, plans::Aim, retry::Retry, words::Peer};

/// How often the engine is told that this node's data has moved: its thread is not to be woken without need.
const POSITION_EACH: Nanos = Nanos::from_secs(1);

/// How long an operator's word counts that what only another node has may be lost: for the election that it is given for.
const PERMISSION: Nanos = Nanos::from_secs(60);

/// Decides for one group; see [`crate::plan`].
#[derive(Debug)]
pub struct Conductor {
    config: ConductorConfig,
    engine: Option<engine::Heard>,
    stance: Stance,
    /// The greatest that is known.
    epoch: u64,
    mode: Mode,
    run: Option<(Run, Aim)>,
    /// A promotion that waits for where the node before ended.
    pending: Option<plans::Pending>,
    /// The plan before, for people.
    last: Option<(Purpose, Vec<StepReport>)>,
    observations: Vec<Observation>,
    peers: Vec<Peer>,
    /// As a standby: until when it counts as in sync.
    member: Member,
    /// A standby of an asynchronous database: until when it counts as close enough.
    fresh_until: MonoNs,
    /// As the primary: who counts as in sync.
    keeper: Keeper,
    /// A demotion at the start, and what puts right what somebody else changed.
    mending: Retry,
    /// Following the primary, and seeing to the replica: not held up by what cannot be put right.
    tending: Retry,
    /// Why the last attempt to follow the primary failed.
    refused: Option<String>,
    /// Until when an operator lets this node be promoted although newer data may exist.
    accepts_loss_until: MonoNs,
    renounces: bool,
    ballots: Ballots,
    priority: u8,
    handover: Option<Handover>,
    /// The epoch in which it is primary, or was until a demotion that is under way.
    held: Option<u64>,
    alone_since: Option<u64>,
    /// The last epoch in which a survivor's word sent this node into maintenance.
    heeded: u64,
    told: Option<(Prospect, MonoNs)>,
    /// By role: whether it was looked at since the last plan.
    seen: Vec<bool>,
    /// The incarnation of its database's server that became primary: another one may lack what it had acknowledged.
    held_server: Option<u64>,
    /// When the last look at its database began.
    looked_at: MonoNs,
    /// The incarnation that was seen last.
    seen_server: Option<u64>,
    /// Since when this node does not receive from the primary, or does not acknowledge.
    astray_since: Option<MonoNs>,
    /// Whether no other node may have all that was acknowledged: this one was primary last, and nobody counts as in
    /// sync.
    sole: bool,
    serial: u64,
    out: VecDeque<PlanAction>,
    #[cfg(feature = "sim")]
    mutations: Mutations,
}

/// Rules that are broken on purpose, to prove that the simulator's checkers notice.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutations {
    /// What was received is not applied before a promotion.
    pub no_drain: bool,
    /// Nobody has to agree to an epoch: what was heard of the other nodes is enough, and a promotion completes whatever
    /// epochs are heard of.
    pub ignore_epochs: bool,
    /// A standby counts itself as in sync for ever.
    pub eternal_membership: bool,
    /// A primary goes on although another node was promoted after it.
    pub ignore_later: bool,
    /// A server that was started again counts as the one before.
    pub any_incarnation: bool,
    /// Who agrees to another one's promotion goes by what it found of its own data before it was asked.
    pub blind_consent: bool,
    /// A primary goes on alone while somebody may still count as in sync.
    pub solo_at_once: bool,
}

impl Conductor {
    /// Starts, with what the journal comes to and the node's mode. Whatever is not a standby is demoted first.
    #[must_use]
    pub fn new(config: ConductorConfig, found: Recovered, mode: Mode, now: MonoNs) -> Self {
        let observations = config
            .roles
            .iter()
            .map(|_| Observation::unknown("it was not looked at yet"))
            .collect();
        let seen = config.roles.iter().map(|_| false).collect();
        let stance = match found.stance {
            Stance::Standby => Stance::Standby,
            _ => Stance::Unsettled,
        };
        let mut conductor = Self {
            config,
            engine: None,
            stance,
            epoch: found.epoch,
            mode,
            run: None,
            pending: None,
            last: None,
            observations,
            peers: Vec::new(),
            member: Member::default(),
            fresh_until: MonoNs::ZERO,
            keeper: Keeper::default(),
            mending: Retry::default(),
            tending: Retry::default(),
            refused: None,
            accepts_loss_until: MonoNs::ZERO,
            renounces: false,
            ballots: Ballots::default(),
            priority: 0,
            handover: None,
            held: None,
            alone_since: found.alone_since,
            heeded: found.heeded,
            told: None,
            seen,
            held_server: None,
            looked_at: MonoNs::ZERO,
            seen_server: None,
            astray_since: None,
            sole: found.sole,
            serial: 0,
            out: VecDeque::new(),
            #[cfg(feature = "sim")]
            mutations: Mutations::default(),
        };
        // What was granted to the daemon before counts no more.
        conductor.member.leave(now);
        conductor.settle(now);
        conductor.review(now);
        conductor
    }

    /// The configured priority of the group's instances: of two nodes with the same data the one with the greater is
    /// promoted.
    pub const fn set_priority(&mut self, priority: u8) {
        self.priority = priority;
    }

    /// Takes in something that happened. Poll the actions and the timeout afterwards.
    pub fn handle(&mut self, input: PlanInput, now: MonoNs) {
        match input {
            PlanInput::Promote { round, unplanned } => self.promote(round, unplanned, now),
            PlanInput::Demote { round, manner } => self.demote(round, manner, now),
            PlanInput::Written { serial } => {
                self.ballots.written(serial, &mut self.out);
                self.with_run(now, |run, means| {
                    run.written(serial, now, means);
                    None
                });
            }
            PlanInput::Unwritten { serial, why } => {
                self.with_run(now, |run, means| run.unwritten(serial, &why, now, means));
            }
            PlanInput::StepDone { serial, done } => {
                #[cfg(feature = "sim")]
                let done = Done {
                    incarnation: done.incarnation.filter(|_| !self.mutations.any_incarnation),
                    ..done
                };
                self.with_run(now, |run, means| run.done(serial, done, now, means));
            }
            PlanInput::StepFailed { serial, why } => {
                self.with_run(now, |run, means| run.step_failed(serial, why, now, means));
            }
            PlanInput::Observed { role, observation } => {
                if let (Some(known), Some(seen)) =
                    (self.observations.get_mut(role), self.seen.get_mut(role))
                {
                    *known = observation;
                    *seen = true;
                    #[cfg(feature = "sim")]
                    if self.mutations.any_incarnation {
                        known.incarnation = None;
                    }
                }
                if self.data_role().is_some_and(|(index, _)| index == role) {
                    self.looked_at = self.data().map_or(MonoNs::ZERO, |data| data.began_at);
                }
                self.weigh(now);
            }
            PlanInput::Heard(word) => self.hear(word, now),
            PlanInput::Mode(mode) => self.set_mode(mode),
            PlanInput::AcceptLoss => self.accepts_loss_until = now.after(PERMISSION),
        }
        self.let_open(now);
        self.look_after(now);
        self.review(now);
    }

    /// Serves what is due by the clock. Poll the actions and the timeout afterwards.
    pub fn handle_timeout(&mut self, now: MonoNs) {
        self.let_open(now);
        self.with_run(now, |run, means| run.expire(now, means));
        self.pending_due(now);
        self.look_after(now);
        self.review(now);
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<PlanAction> {
        self.out.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self, now: MonoNs) -> Option<MonoNs> {
        let lease = self.config.sync_lease;
        let later = [
            self.mending.at,
            self.tending.at,
            self.astray_since
                .map_or(MonoNs::ZERO, |since| since.after(upkeep::ASTRAY)),
            self.member.until(),
            self.ballots.until(),
            self.fresh_until,
            self.accepts_loss_until,
            self.keeper.asked_until(),
            self.keeper.free_at(lease),
            self.opens_at(),
        ];
        let due = [
            self.run.as_ref().and_then(|(run, _)| run.deadline()),
            self.pending.as_ref().map(|pending| pending.until),
        ];
        later
            .into_iter()
            .filter(|due| *due > now)
            .chain(due.into_iter().flatten())
            .min()
    }

    /// Breaks the rules named.
    #[cfg(feature = "sim")]
    pub const fn set_mutations(&mut self, mutations: Mutations) {
        self.mutations = mutations;
    }

    /// How the roles stand.
    #[must_use]
    pub fn status(&self, now: MonoNs) -> GroupStatus {
        let (plan, steps) = match (&self.run, &self.last) {
            (Some((run, _)), _) => (Some(run.purpose), run.reports.clone()),
            (None, Some((purpose, reports))) => (Some(*purpose), reports.clone()),
            (None, None) => (None, Vec::new()),
        };
        GroupStatus {
            group: self.config.group.clone(),
            stance: self.stance,
            epoch: self.epoch,
            eligible: self.eligible(now),
            in_sync: self.in_sync(),
            plan,
            under_way: self.is_busy(),
            steps,
        }
    }

    /// The steps that a hand-over would carry out, here and then on the other node.
    #[must_use]
    pub fn preview(&self, purpose: Purpose) -> Vec<PlannedStep> {
        sequence::plan(&self.config.roles, purpose)
            .into_iter()
            .filter_map(|(role, step)| {
                Some(PlannedStep {
                    role: self.config.roles.get(role)?.name.clone(),
                    step: step.name,
                    limit: step.limit,
                })
            })
            .collect()
    }

    /// Tells the engine what has changed for it.
    fn review(&mut self, now: MonoNs) {
        let position = self.position().map_or(0, |position| position.rank);
        let prospect = Prospect {
            eligible: self.eligible(now),
            position: rank_position(position),
        };
        let is_news = self.told.as_ref().is_none_or(|(told, at)| {
            told.eligible != prospect.eligible
                || told.position != prospect.position && at.after(POSITION_EACH) <= now
        });
        if is_news {
            self.out.push_back(PlanAction::Prospect(prospect.clone()));
            self.told = Some((prospect, now));
        }
    }

    /// Has the plan under way do something, and sees to its end.
    fn with_run(
        &mut self,
        now: MonoNs,
        act: impl FnOnce(&mut Run, &mut Means<'_>) -> Option<Result<(), String>>,
    ) {
        let may_open = self.may_open(now);
        let Some((run, _)) = &mut self.run else {
            return;
        };
        let mut means = Means {
            roles: &self.config.roles,
            serial: &mut self.serial,
            may_open,
            out: &mut self.out,
        };
        if let Some(outcome) = act(run, &mut means) {
            self.finish(outcome, now);
        }
    }

    fn is_busy(&self) -> bool {
        self.run.is_some() || self.pending.is_some()
    }

    fn note(&mut self, sentence: String) {
        self.out.push_back(PlanAction::Note(sentence));
    }

    /// Until when something counts that was heard of another node.
    const fn freshness() -> Nanos {
        Nanos::from_secs(2)
    }
}
