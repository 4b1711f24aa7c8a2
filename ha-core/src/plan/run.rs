//! One plan under way: its steps, one after the other.

use alloc::{
    collections::VecDeque,
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use ha_common::{MonoNs, Nanos};

use super::{
    config::RoleConfig,
    event::{Context, Done, Order, PlanAction, Purpose},
    journal::Record,
    observation::Position,
    status::StepReport,
    step::{Effect, OnFailure, StepSpec},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) purpose: Purpose,
    pub(super) epoch: u64,
    pub(super) context: Context,
    pub(super) reports: Vec<StepReport>,
    /// Where the data ended, as the step told that finds that out.
    pub(super) position: Option<Position>,
    todo: VecDeque<(usize, StepSpec)>,
    current: Option<Current>,
    /// What failed on the way of a plan that goes on all the same.
    failed: Vec<String>,
}

#[derive(Debug)]
struct Current {
    serial: u64,
    role: usize,
    step: StepSpec,
    /// `None`: its record is not on disk yet.
    deadline: Option<MonoNs>,
    /// Whether it was ordered, or waits until it may be.
    ordered: bool,
}

/// How a plan ended.
pub(super) type Outcome = Result<(), String>;

/// What a run acts with.
pub(super) struct Means<'a> {
    pub(super) roles: &'a [RoleConfig],
    pub(super) serial: &'a mut u64,
    /// Whether steps that open something may be carried out now.
    pub(super) may_open: bool,
    pub(super) out: &'a mut VecDeque<PlanAction>,
}

impl Means<'_> {
    fn next_serial(&mut self) -> u64 {
        *self.serial += 1;
        *self.serial
    }

    fn name(&self, role: usize) -> String {
        self.roles
            .get(role)
            .map_or_else(String::new, |role| role.name.clone())
    }
}

impl Run {
    pub(super) fn new(
        purpose: Purpose,
        epoch: u64,
        context: Context,
        steps: Vec<(usize, StepSpec)>,
    ) -> Self {
        Self {
            purpose,
            epoch,
            context,
            reports: Vec::new(),
            position: None,
            todo: steps.into(),
            current: None,
            failed: Vec::new(),
        }
    }

    /// Goes on to the next step; the outcome, if there is none.
    pub(super) fn advance(&mut self, now: MonoNs, means: &mut Means<'_>) -> Option<Outcome> {
        let Some((role, step)) = self.todo.pop_front() else {
            return Some(if self.failed.is_empty() {
                Ok(())
            } else {
                Err(self.failed.join("; "))
            });
        };
        let serial = means.next_serial();
        let changes = step.effect != Effect::Looks;
        let name = means.name(role);
        means
            .out
            .push_back(PlanAction::Progress(format!("{name}: {}", step.name)));
        self.reports.push(StepReport {
            role: name.clone(),
            step: step.name,
            began: now,
            took: None,
            result: Ok(String::new()),
        });
        if changes {
            means.out.push_back(PlanAction::Write {
                serial,
                record: Record::Step {
                    epoch: self.epoch,
                    role: name,
                    step: step.name.to_string(),
                },
            });
        }
        self.current = Some(Current {
            serial,
            role,
            step,
            deadline: None,
            ordered: false,
        });
        if !changes {
            self.order(now, means);
        }
        None
    }

    fn order(&mut self, now: MonoNs, means: &mut Means<'_>) {
        let Some(current) = &mut self.current else {
            return;
        };
        let deadline = now.after(current.step.limit);
        current.deadline = Some(deadline);
        current.ordered = current.step.effect != Effect::Opens || means.may_open;
        if !current.ordered {
            return;
        }
        means.out.push_back(PlanAction::Run(Order {
            serial: current.serial,
            role: current.role,
            step: current.step.name,
            deadline,
            epoch: self.epoch,
            context: self.context.clone(),
        }));
    }

    /// A record is on disk.
    pub(super) fn written(&mut self, serial: u64, now: MonoNs, means: &mut Means<'_>) {
        if self.awaits_record(serial) {
            self.order(now, means);
        }
    }

    /// What waited until it may be carried out is, if it may be now.
    pub(super) fn open(&mut self, now: MonoNs, means: &mut Means<'_>) {
        let waits = |current: &Current| current.deadline.is_some() && !current.ordered;
        if means.may_open && self.current.as_ref().is_some_and(waits) {
            self.order(now, means);
        }
    }

    /// A record is not. What lets go does so all the same.
    pub(super) fn unwritten(
        &mut self,
        serial: u64,
        why: &str,
        now: MonoNs,
        means: &mut Means<'_>,
    ) -> Option<Outcome> {
        if !self.awaits_record(serial) {
            return None;
        }
        if self.purpose == Purpose::Demote {
            self.order(now, means);
            return None;
        }
        let why = format!("the journal cannot be written: {why}");
        self.current = None;
        self.end_report(now, Err(why.clone()));
        Some(Err(why))
    }

    fn awaits_record(&self, serial: u64) -> bool {
        let awaits = |current: &Current| current.serial == serial && current.deadline.is_none();
        self.current.as_ref().is_some_and(awaits)
    }

    /// A step was carried out.
    pub(super) fn done(
        &mut self,
        serial: u64,
        done: Done,
        now: MonoNs,
        means: &mut Means<'_>,
    ) -> Option<Outcome> {
        let current = self.take(serial)?;
        if let Some(incarnation) = done.incarnation
            && self.is_of_another(incarnation)
        {
            let why = "its server was started again meanwhile".to_string();
            return self.fail(current, why, now, means);
        }
        if done.position.is_some() {
            self.position = done.position;
        }
        self.end_report(now, Ok(done.text));
        self.advance(now, means)
    }

    /// Of a promotion: whether the server is another one than that of the step before, which may have had more.
    fn is_of_another(&mut self, incarnation: u64) -> bool {
        let pins = self.purpose == Purpose::Promote || self.context.incarnation.is_some();
        pins && *self.context.incarnation.get_or_insert(incarnation) != incarnation
    }

    /// A step failed.
    pub(super) fn step_failed(
        &mut self,
        serial: u64,
        why: String,
        now: MonoNs,
        means: &mut Means<'_>,
    ) -> Option<Outcome> {
        let current = self.take(serial)?;
        self.fail(current, why, now, means)
    }

    /// Gives a step up whose time is over.
    pub(super) fn expire(&mut self, now: MonoNs, means: &mut Means<'_>) -> Option<Outcome> {
        let deadline = self.deadline()?;
        if deadline > now {
            return None;
        }
        let current = self.current.take()?;
        let limit = current.step.limit;
        let why = if current.ordered {
            means.out.push_back(PlanAction::Abandon {
                serial: current.serial,
            });
            format!("it had not ended after {limit}")
        } else {
            format!("nothing was heard of the engine thread for {limit}")
        };
        self.fail(current, why, now, means)
    }

    fn fail(
        &mut self,
        current: Current,
        why: String,
        now: MonoNs,
        means: &mut Means<'_>,
    ) -> Option<Outcome> {
        self.end_report(now, Err(why.clone()));
        let sentence = format!("{}: {}: {why}", means.name(current.role), current.step.name);
        match current.step.failure {
            OnFailure::Instead(steps) => {
                means.out.push_back(PlanAction::Note(sentence));
                for step in steps.into_iter().rev() {
                    self.todo.push_front((current.role, step));
                }
                self.advance(now, means)
            }
            OnFailure::GoOn => {
                means.out.push_back(PlanAction::Note(sentence));
                self.advance(now, means)
            }
            // What must let go does as much of it as it can.
            OnFailure::Unwind if self.purpose == Purpose::Demote => {
                self.failed.push(sentence);
                self.advance(now, means)
            }
            OnFailure::Unwind => Some(Err(sentence)),
        }
    }

    /// Gives up what is under way.
    pub(super) fn abandon(&mut self, now: MonoNs, means: &mut Means<'_>) {
        if let Some(current) = self.current.take() {
            if current.ordered {
                means.out.push_back(PlanAction::Abandon {
                    serial: current.serial,
                });
            }
            self.end_report(now, Err("given up".to_string()));
        }
        self.todo.clear();
    }

    /// When the present step is given up.
    pub(super) fn deadline(&self) -> Option<MonoNs> {
        self.current.as_ref()?.deadline
    }

    fn take(&mut self, serial: u64) -> Option<Current> {
        self.current
            .take_if(|current| current.serial == serial && current.ordered)
    }

    fn end_report(&mut self, now: MonoNs, result: Result<String, String>) {
        if let Some(report) = self.reports.last_mut() {
            report.took = Some(Nanos(now.since(report.began).0));
            report.result = result;
        }
    }
}
