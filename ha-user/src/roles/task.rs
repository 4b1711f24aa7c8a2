//! The task of one group: carries out what its conductor decides, and tells it what happens.

mod report;
mod steps;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ha_common::{MonoNs, Nanos};
use ha_core::{
    Manner, Mode,
    plan::{Conductor, GroupWord, Observation, PlanAction, PlanInput, Recovered, Stance},
};
use tokio::{sync::mpsc, time::sleep};

use self::steps::Steps;
use super::{
    Neighbours, Peers, Situation, Spec,
    groups::ModeRequest,
    journal::Journal,
    neighbours::Leader,
    role,
    scribe::Scribe,
    worker::{Report, Worker},
};
use crate::{
    control::report::GroupReport,
    engine::{Command, Handle, Message, Unreachable},
    events::{Event, Kind},
    fence::Fence,
    sys::clock,
};

/// The other nodes hear so often how the group stands.
const WORDS: Nanos = Nanos::from_millis(100);
/// Until the engine thread is told again what it could not take.
const TELL_AGAIN: Nanos = Nanos::from_millis(5);
/// Reports of workers that may wait.
const REPORTS: usize = 64;

/// What a group's task is told.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// The engine asks for it.
    Promote { round: MonoNs, unplanned: bool },
    /// The engine asks for it.
    Demote { round: MonoNs, manner: Manner },
    /// Another node said something.
    Heard(Box<GroupWord>),
    /// The node's mode.
    Mode(Mode),
    /// Whether the group is in Fault.
    Fault(bool),
    /// An operator lets this node be promoted although newer data may exist.
    AcceptLoss,
    /// The task is to end, as soon as nothing is promoted any more.
    Retire,
}

/// To whom a group's task speaks.
#[derive(Clone)]
pub(super) struct Ways {
    pub(super) engine: Handle,
    pub(super) messages: mpsc::Sender<Message>,
    pub(super) modes: mpsc::Sender<ModeRequest>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) fence: Fence,
}

/// Where everybody sees how a group stands.
pub(super) type Board = Arc<Mutex<GroupReport>>;

/// See the module.
pub(super) struct Task {
    spec: Spec,
    name: Arc<str>,
    conductor: Conductor,
    workers: Vec<Worker>,
    reports: mpsc::Receiver<Report>,
    inputs: mpsc::Receiver<Input>,
    scribe: Scribe,
    ways: Ways,
    board: Board,
    /// What the engine thread has not taken up yet.
    commands: VecDeque<Command>,
    steps: Steps,
    found: Vec<Observation>,
    heard: BTreeMap<String, (GroupWord, MonoNs)>,
    neighbours: Arc<Neighbours>,
    situation: Situation,
    told_at: MonoNs,
    /// Whether a plan was under way when it was looked last.
    under_way: bool,
    retires: bool,
}

impl Task {
    pub(super) fn new(
        spec: Spec,
        journal: (Journal, Recovered),
        mode: Mode,
        inputs: mpsc::Receiver<Input>,
        ways: Ways,
        board: Board,
        neighbours: Arc<Neighbours>,
    ) -> Self {
        let (to_task, reports) = mpsc::channel(REPORTS);
        let workers = spec.roles.iter().enumerate();
        let workers = workers.map(|(index, role)| {
            let executor = role::of(role, spec.setting(role), &neighbours);
            Worker::start(executor, index, to_task.clone())
        });
        let (journal, found) = journal;
        let situation = Situation { mode, fault: false };
        let mut conductor = Conductor::new(spec.conductor.clone(), found, mode, clock::now());
        conductor.set_priority(spec.priority.0);
        let task = Self {
            name: spec.conductor.group.as_str().into(),
            conductor,
            workers: workers.collect(),
            reports,
            inputs,
            scribe: Scribe::new(journal),
            ways,
            board,
            commands: VecDeque::new(),
            steps: Steps::default(),
            found: spec
                .roles
                .iter()
                .map(|_| Observation::unknown("it was not looked at yet"))
                .collect(),
            heard: BTreeMap::new(),
            neighbours,
            situation,
            told_at: MonoNs::ZERO,
            under_way: false,
            retires: false,
            spec,
        };
        task.adapt();
        task
    }

    /// Until the group retires, or the daemon ends.
    pub(super) async fn run(mut self) {
        loop {
            self.carry_out();
            self.look_again();
            // Who is told something finds it so when he asks.
            self.publish();
            self.tell_engine();
            self.tell_others();
            if self.is_done() {
                return;
            }
            let due = self.due();
            tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
                Some(report) = self.reports.recv() => self.take_report(report),
                (serial, result) = self.scribe.next() => self.written(serial, result),
                () = sleep(due) => {
                    self.hear_engine();
                    self.conductor.handle_timeout(clock::now());
                }
            }
        }
    }

    /// Until something is due by the clock.
    fn due(&self) -> Duration {
        let now = clock::now();
        let again = (!self.commands.is_empty()).then(|| now.after(TELL_AGAIN));
        let due = [
            self.conductor.poll_timeout(now),
            again,
            Some(self.told_at.after(WORDS)),
        ];
        let due = due.into_iter().flatten().min();
        Duration::from_nanos(due.map_or(WORDS, |due| due.since(now)).0)
    }

    fn is_done(&self) -> bool {
        let status = self.conductor.status(clock::now());
        self.retires
            && status.stance == Stance::Standby
            && !status.under_way
            && self.commands.is_empty()
            && self.scribe.is_idle()
    }

    fn handle(&mut self, input: PlanInput) {
        self.hear_engine();
        self.conductor.handle(input, clock::now());
    }

    /// Where the engine thread alone hangs, its conductor does not.
    fn hear_engine(&mut self) {
        if let Some(heard) = self.ways.fence.heard() {
            let until = heard.last.after(self.spec.gate_time);
            self.conductor.set_engine(heard.since, until);
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Promote { round, unplanned } => {
                self.steps.begin(clock::now());
                self.handle(PlanInput::Promote { round, unplanned });
            }
            Input::Demote { round, manner } => {
                self.steps.begin(clock::now());
                self.handle(PlanInput::Demote { round, manner });
            }
            Input::Heard(word) => {
                let now = clock::now();
                let history = word.history.as_deref();
                self.neighbours.hear(&word.node, history, now);
                self.heard.insert(word.node.clone(), ((*word).clone(), now));
                self.handle(PlanInput::Heard(*word));
            }
            Input::Mode(mode) => {
                self.situation.mode = mode;
                self.adapt();
                self.handle(PlanInput::Mode(mode));
            }
            Input::Fault(fault) => {
                self.situation.fault = fault;
                self.adapt();
            }
            Input::AcceptLoss => {
                self.note("an operator lets this node be promoted, although the other one may have newer data");
                self.handle(PlanInput::AcceptLoss);
            }
            Input::Retire => self.retires = true,
        }
    }

    fn adapt(&self) {
        for worker in &self.workers {
            worker.adapt(self.situation);
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Ended { serial, result } => {
                // One that was given up meanwhile has been told.
                if let Some(sentence) = self.steps.end(serial, &result, clock::now()) {
                    self.note(&sentence);
                }
                self.handle(match result {
                    Ok(done) => PlanInput::StepDone { serial, done },
                    Err(why) => PlanInput::StepFailed { serial, why },
                });
            }
            Report::Observed { role, found } => {
                let before = self.found.get_mut(role).map(|before| {
                    let warned = before.warning.take();
                    before.clone_from(&found);
                    warned
                });
                if let Some(warning) = &found.warning
                    && before.flatten().as_ref() != Some(warning)
                {
                    let name = self.role_name(role);
                    self.note(&format!("{name}: {warning}"));
                }
                self.handle(PlanInput::Observed {
                    role,
                    observation: found,
                });
            }
            Report::Unadapted { role, why } => {
                let name = self.role_name(role);
                self.note(&format!("{name}: in mode {}: {why}", self.situation.mode));
            }
        }
    }

    fn written(&mut self, serial: u64, result: Result<(), String>) {
        self.handle(match result {
            Ok(()) => PlanInput::Written { serial },
            Err(why) => {
                self.note(&format!("the journal cannot be written: {why}"));
                PlanInput::Unwritten { serial, why }
            }
        });
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.conductor.poll_action() {
            match action {
                PlanAction::Write { serial, record } => self.scribe.write(serial, record),
                PlanAction::Run(order) => self.order(order),
                PlanAction::Abandon { serial } => self.abandon(serial),
                PlanAction::Promoted { round, result } => {
                    self.conclude("promoted", result.as_ref().err());
                    self.commands.push_back(Command::RolesPromoted {
                        group: self.name.to_string(),
                        round,
                        result,
                    });
                }
                PlanAction::Demoted { round, result } => {
                    self.conclude("demoted", result.as_ref().err());
                    self.commands.push_back(Command::RolesDemoted {
                        group: self.name.to_string(),
                        round,
                        result,
                    });
                }
                PlanAction::Prospect(prospect) => {
                    // Only the latest says anything.
                    self.commands
                        .retain(|command| !matches!(command, Command::Prospect { .. }));
                    self.commands.push_back(Command::Prospect {
                        group: self.name.to_string(),
                        prospect,
                    });
                }
                PlanAction::Progress(text) => {
                    self.commands
                        .retain(|command| !matches!(command, Command::RolesProgress { .. }));
                    self.commands.push_back(Command::RolesProgress {
                        group: self.name.to_string(),
                        text,
                    });
                }
                PlanAction::Tell => self.told_at = MonoNs::ZERO,
                PlanAction::SetMode(mode) => self.wish(mode),
                PlanAction::Note(sentence) => self.note(&sentence),
            }
        }
    }

    /// After a plan each role is looked at at once: what was found before does not count, and a node that was demoted
    /// may not be elected until all of them were.
    fn look_again(&mut self) {
        let before = self.under_way;
        self.under_way = self.conductor.status(clock::now()).under_way;
        if before && !self.under_way {
            for worker in &self.workers {
                worker.look();
            }
        }
    }

    fn order(&mut self, order: ha_core::plan::Order) {
        let role = self.role_name(order.role);
        self.steps.ordered(&order, role, clock::now());
        let (serial, index) = (order.serial, order.role);
        let refused = match self.workers.get(index) {
            Some(worker) => worker.run(order),
            None => Err("there is no such role".to_owned()),
        };
        if let Err(why) = refused {
            self.handle(PlanInput::StepFailed { serial, why });
        }
    }

    fn abandon(&mut self, serial: u64) {
        let Some((role, sentence)) = self.steps.abandon(serial, clock::now()) else {
            return;
        };
        if let Some(worker) = self.workers.get(role) {
            worker.abandon(serial);
        }
        self.note(&sentence);
    }

    /// Tells what came of a plan that the engine waits for.
    fn conclude(&mut self, what: &str, failed: Option<&String>) {
        let took = self.steps.took(clock::now());
        let epoch = self.conductor.status(clock::now()).epoch;
        let sentence = match failed {
            None => format!("its roles are {what} after {took} (epoch {epoch})"),
            Some(why) => format!("its roles are not {what}, after {took}: {why}"),
        };
        self.note(&sentence);
    }

    /// The daemon's main task sees to the node's mode: it concerns every group.
    fn wish(&self, mode: Mode) {
        let request = ModeRequest {
            mode: Some(mode),
            reply: None,
        };
        if self.ways.modes.try_send(request).is_err() {
            self.note(&format!("the node's mode could not be set to {mode}"));
        }
    }

    fn role_name(&self, role: usize) -> String {
        let role = self.spec.roles.get(role);
        role.map_or_else(String::new, |role| role.name.clone())
    }

    /// An event. The main task is far behind where it does not fit.
    fn note(&self, sentence: &str) {
        let event = Message::Event(Event {
            at: clock::now(),
            instance: Arc::clone(&self.name),
            kind: Kind::Roles,
            states: None,
            sentence: sentence.to_owned(),
        });
        let _ = self.ways.messages.try_send(event);
    }

    /// What it cannot take up now it is told again: nothing is lost, and nothing waits for it.
    fn tell_engine(&mut self) {
        while let Some(command) = self.commands.pop_front() {
            let Err(refused) = self.ways.engine.offer(command) else {
                continue;
            };
            // One that has ended needs to be told nothing.
            if let (Unreachable::Busy, command) = *refused {
                self.commands.push_front(command);
                return;
            }
        }
    }

    /// Each node hears what concerns it, also one that was not heard yet: each of two may wait to hear the other.
    fn tell_others(&mut self) {
        let now = clock::now();
        if self.told_at.after(WORDS) > now {
            return;
        }
        self.told_at = now;
        let endpoint = self.spec.endpoint.clone();
        let mut known = self.ways.peers.members(&self.name);
        known.extend(self.heard.keys().cloned());
        known.sort_unstable();
        known.dedup();
        if known.is_empty() {
            known.push(String::new());
        }
        for node in known {
            let word = self.conductor.word(&node, endpoint.as_deref(), now);
            let to = (!node.is_empty()).then_some(&*node);
            self.ways.peers.tell(to, &self.name, &word);
        }
    }

    /// From the first step of a promotion to the last of the demotion the roles are fenced should the daemon hang.
    fn see_to_fence(&self) {
        if !self.spec.is_fenced() {
            return;
        }
        match self.conductor.status(clock::now()).stance {
            Stance::Promoting | Stance::Primary => {
                self.ways.fence.arm(&self.name, self.spec.gate_time);
            }
            // A daemon that starts demotes, and has not been elected: nothing depends on its engine thread yet.
            // What could not be demoted may be written to still.
            Stance::Demoting | Stance::Unsettled => {}
            Stance::Standby => self.ways.fence.disarm(&self.name),
        }
    }

    fn publish(&self) {
        self.see_to_fence();
        if self.conductor.status(clock::now()).stance == Stance::Primary {
            self.neighbours.note_service();
        }
        let leader = self.conductor.leader(clock::now());
        self.neighbours
            .note_leader(leader.map(|(node, epoch)| Leader {
                node: node.to_owned(),
                epoch,
            }));
        let report = report::of(self);
        *self.board.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}
