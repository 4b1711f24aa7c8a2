//! Plans: when they begin, and what follows their end.

use alloc::{format, string::String, vec::Vec};

use ha_common::{MonoNs, Nanos};

use super::{Conductor, retry::Retry};
use crate::{
    plan::{
        AfterFailover, StepSpec,
        event::{Context, Handover, PlanAction, Purpose, Stance},
        journal::Record,
        membership::Keeper,
        observation::Position,
        run::{Means, Outcome, Run},
        sequence,
    },
    roles::{Manner, Mode},
};

/// How long a promotion waits to be told where the node before ended, which said that it lets go.
const HANDOVER: Nanos = Nanos::from_millis(300);

/// What a plan is for.
#[derive(Debug)]
pub(super) enum Aim {
    /// The engine waits for the promotion.
    Promote { round: MonoNs, failed_over: bool },
    /// A promotion failed: all is taken back before the engine is told.
    Unwind { round: MonoNs, why: String },
    /// The engine waits for the demotion, or nobody (at the start).
    Demote { round: Option<MonoNs> },
    /// The engine waits for the demotion, and goes on if it fails.
    HandOver { round: MonoNs },
    /// A hand-over failed: all is promoted again before the engine is told.
    RollBack { round: MonoNs, why: String },
    /// Nobody waits.
    Upkeep,
}

/// A promotion that waits to be told where the node before ended.
#[derive(Debug)]
pub(super) struct Pending {
    round: MonoNs,
    pub(super) until: MonoNs,
}

impl Conductor {
    /// At the start: nothing that is half-way, or promoted, stays so.
    pub(super) fn settle(&mut self, now: MonoNs) {
        if self.stance == Stance::Unsettled && self.run.is_none() && self.mending.is_due(now) {
            self.begin(
                Purpose::Demote,
                Aim::Demote { round: None },
                Context::default(),
                now,
            );
        }
    }

    pub(super) fn promote(&mut self, round: MonoNs, unplanned: bool, now: MonoNs) {
        if let Some((_, Aim::Upkeep)) = &self.run {
            self.drop_run(now);
        }
        let why = match &self.run {
            Some((run, _)) => Err(format!("a plan is under way: {}", run.purpose.name())),
            None if self.stance == Stance::Primary => Ok(()),
            None => self.eligible(now),
        };
        if let Err(why) = why {
            self.answer_promoted(round, Err(why));
            return;
        }
        if !unplanned && self.awaits_handover(now) {
            let until = now.after(HANDOVER);
            self.pending = Some(Pending { round, until });
            return;
        }
        self.begin_promotion(round, unplanned, now);
    }

    /// The node before has told where it ended, or has had the time to.
    pub(super) fn pending_due(&mut self, now: MonoNs) {
        let due = |pending: &mut Pending| pending.until <= now;
        let awaits = self.awaits_handover(now);
        if let Some(pending) = self.pending.take_if(|pending| due(pending) || !awaits) {
            self.begin_promotion(pending.round, false, now);
        }
    }

    fn begin_promotion(&mut self, round: MonoNs, unplanned: bool, now: MonoNs) {
        let target = self.target(now);
        let failed_over = self.is_failed_over();
        self.epoch = self.highest_epoch().saturating_add(1);
        let context = Context {
            source_gone: unplanned || target.is_none(),
            target,
            solo: true,
            incarnation: self.server(),
            ..Context::default()
        };
        let aim = Aim::Promote { round, failed_over };
        self.begin(Purpose::Promote, aim, context, now);
    }

    pub(super) fn demote(&mut self, round: MonoNs, manner: Manner, now: MonoNs) {
        if self.pending.take().is_some() {
            self.answer_demoted(round, Ok(()));
            return;
        }
        match &mut self.run {
            Some((_, aim @ (Aim::Demote { .. } | Aim::Unwind { .. }))) => {
                *aim = Aim::Demote { round: Some(round) };
                return;
            }
            Some((_, Aim::HandOver { round: waits })) if manner == Manner::Graceful => {
                *waits = round;
                return;
            }
            Some((run, _)) if run.purpose == Purpose::Follow => {
                self.drop_run(now);
                self.answer_demoted(round, Ok(()));
                return;
            }
            Some(_) => self.drop_run(now),
            None if self.stance == Stance::Standby => {
                self.answer_demoted(round, Ok(()));
                return;
            }
            None => {}
        }
        let context = Context::default();
        if manner == Manner::Graceful && self.stance == Stance::Primary {
            self.begin(Purpose::HandOver, Aim::HandOver { round }, context, now);
        } else {
            let aim = Aim::Demote { round: Some(round) };
            self.begin(Purpose::Demote, aim, context, now);
        }
    }

    pub(super) fn begin(&mut self, purpose: Purpose, aim: Aim, context: Context, now: MonoNs) {
        let steps = sequence::plan(&self.config.roles, purpose);
        #[cfg(feature = "sim")]
        let steps = steps
            .into_iter()
            .filter(|(_, step)| !self.mutations.no_drain || step.name != "drain")
            .collect();
        self.begin_steps(purpose, aim, context, steps, now);
    }

    pub(super) fn begin_steps(
        &mut self,
        purpose: Purpose,
        aim: Aim,
        context: Context,
        steps: Vec<(usize, StepSpec)>,
        now: MonoNs,
    ) {
        self.stance = purpose.under_way_from(self.stance);
        self.sole &= !purpose.ends_solitude();
        if self.stance != Stance::Primary {
            self.keeper.grants = false;
        }
        if matches!(purpose, Purpose::GoSolo | Purpose::Rejoin) {
            // Its server may acknowledge alone from the first step on: what had joined before counts no more.
            self.keeper.stop_granting();
        }
        if matches!(purpose, Purpose::Follow | Purpose::Demote) {
            self.leave_sync(now);
        }
        self.write(Record::Begin {
            epoch: self.epoch,
            purpose,
        });
        self.out.push_back(PlanAction::Tell);
        self.run = Some((Run::new(purpose, self.epoch, context, steps), aim));
        self.with_run(now, |run, means| run.advance(now, means));
    }

    fn drop_run(&mut self, now: MonoNs) {
        if let Some((mut run, _)) = self.run.take() {
            let mut means = Means {
                roles: &self.config.roles,
                serial: &mut self.serial,
                may_open: false,
                out: &mut self.out,
            };
            run.abandon(now, &mut means);
            self.last = Some((run.purpose, run.reports));
        }
    }

    /// The plan has ended.
    pub(super) fn finish(&mut self, outcome: Outcome, now: MonoNs) {
        let Some((run, aim)) = self.run.take() else {
            return;
        };
        let (purpose, epoch, position) = (run.purpose, run.epoch, run.position);
        let server = run.context.incarnation;
        self.last = Some((purpose, run.reports));
        // What was found before says nothing of what the plan did.
        self.seen.fill(false);
        match (aim, outcome) {
            (Aim::Promote { round, failed_over }, Ok(())) => match self.rival(epoch) {
                None => {
                    self.held_server = server;
                    self.promoted(round, failed_over);
                }
                Some(why) => self.unwind(round, why, now),
            },
            (Aim::Promote { round, .. }, Err(why)) => self.unwind(round, why, now),
            (Aim::Unwind { round, why }, outcome) => {
                self.end_demotion(&outcome, Some(&why), now);
                self.answer_promoted(round, Err(why));
            }
            (Aim::Demote { round }, outcome) => {
                self.ended_as_primary(false, position);
                self.end_demotion(&outcome, None, now);
                if let Some(round) = round {
                    self.answer_demoted(round, outcome);
                }
            }
            (Aim::HandOver { round }, Ok(())) => {
                self.ended_as_primary(true, position);
                self.forget();
                self.end(Stance::Standby, None);
                self.answer_demoted(round, Ok(()));
            }
            (Aim::HandOver { round }, Err(why)) => {
                self.note(format!("the hand-over failed and is taken back: {why}"));
                let aim = Aim::RollBack { round, why };
                let context = Context {
                    incarnation: self.held_server,
                    ..Context::default()
                };
                self.begin(Purpose::Promote, aim, context, now);
            }
            (Aim::RollBack { round, why }, Ok(())) => {
                self.held_server = server;
                self.end(Stance::Primary, None);
                self.answer_demoted(round, Err(why));
            }
            (Aim::RollBack { round, .. }, Err(why)) => {
                self.note(format!("it could not be taken back: {why}"));
                let aim = Aim::Demote { round: Some(round) };
                self.begin(Purpose::Demote, aim, Context::default(), now);
            }
            (Aim::Upkeep, outcome) => self.kept_up(purpose, position, outcome, now),
        }
    }

    fn unwind(&mut self, round: MonoNs, why: String, now: MonoNs) {
        let aim = Aim::Unwind { round, why };
        self.begin(Purpose::Demote, aim, Context::default(), now);
    }

    fn ended_as_primary(&mut self, asked: bool, position: Option<Position>) {
        if let Some(epoch) = self.held.take() {
            self.handover = Some(Handover {
                epoch,
                asked,
                position,
            });
        }
    }

    fn promoted(&mut self, round: MonoNs, failed_over: bool) {
        self.ballots.clear();
        // Whom it followed before counts no more.
        self.member.heard(self.epoch);
        self.held = Some(self.epoch);
        self.keeper = Keeper::default();
        self.sole = self.data().is_some();
        self.handover = None;
        self.accepts_loss_until = MonoNs::ZERO;
        self.mending = Retry::default();
        self.tending = Retry::default();
        self.refused = None;
        if failed_over && self.config.after_failover == AfterFailover::Maintenance {
            self.alone_since = Some(self.epoch);
            self.write(Record::Alone {
                epoch: self.epoch,
                here: true,
            });
            if self.mode == Mode::ActiveStandby {
                self.mode = Mode::Standalone;
                self.out.push_back(PlanAction::SetMode(Mode::Standalone));
            }
        }
        self.end(Stance::Primary, None);
        self.answer_promoted(round, Ok(()));
    }

    fn end_demotion(&mut self, outcome: &Outcome, failed: Option<&String>, now: MonoNs) {
        self.forget();
        match outcome {
            Ok(()) => {
                self.mending = Retry::default();
                self.end(Stance::Standby, failed.cloned());
            }
            Err(why) => {
                self.note(format!(
                    "NOT PROVEN that this node's roles are demoted: {why}"
                ));
                self.mending.failed(now);
                self.end(Stance::Unsettled, Some(why.clone()));
            }
        }
    }

    /// From now on the node stands so.
    pub(super) fn end(&mut self, stance: Stance, failed: Option<String>) {
        self.stance = stance;
        self.write(Record::End {
            epoch: self.epoch,
            stance,
            sole: self.sole,
            failed,
        });
        self.out.push_back(PlanAction::Tell);
    }

    /// Has a record written; returns its number, for who waits until it is on disk.
    pub(super) fn write(&mut self, record: Record) -> u64 {
        self.serial += 1;
        let serial = self.serial;
        self.out.push_back(PlanAction::Write { serial, record });
        serial
    }

    fn answer_promoted(&mut self, round: MonoNs, result: Outcome) {
        self.out.push_back(PlanAction::Promoted { round, result });
    }

    fn answer_demoted(&mut self, round: MonoNs, result: Outcome) {
        self.out.push_back(PlanAction::Demoted { round, result });
    }
}
