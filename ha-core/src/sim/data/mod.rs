//! Replicated data: a database on each node, its conductor, and clients that write through the gate.
//!
//! Checked are invariant 3 (no acknowledged write is lost by a promotion; writes are acknowledged by one node at a
//! time, in an order of epochs; no gate opens before the roles are promoted; no promotion is completed against a
//! greater epoch that was heard of). The databases are models; the conductors are the real ones.

mod executor;
mod server;
mod slow;

use std::{
    collections::{HashSet, VecDeque},
    format,
    string::String,
    vec::Vec,
};

use ha_common::Nanos;

use self::{
    server::{APPLIES, Server},
    slow::{Acknowledged, Clients, Slow},
};
use super::world::{Event, Word, World};
use crate::{
    Input, Manner, Mode,
    plan::{
        AfterFailover, Conductor, ConductorConfig, Durability, GroupWord, Limits, PlanAction,
        PlanInput, Record, RoleConfig, RoleKind, Stance, recover,
    },
};
use ha_common::MonoNs;

const MS: u64 = 1_000_000;
/// How often everything is looked at.
const LOOK: (u64, u64) = (MS, 3 * MS);
/// How often a conductor is told what is found, and tells the other one how it stands.
const OBSERVES: u64 = 50 * MS;
const SPEAKS: u64 = 100 * MS;
/// How likely it is at a look that what is committed stays so.
const FLUSHES_PERMILLE: u64 = 100;
/// Writes that wait at a time, at most.
const SESSIONS: usize = 32;
/// The group.
pub(super) const GROUP: &str = "group";

/// What goes wrong with a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// SIGKILL; it is started again.
    Killed { until: u64 },
    /// SIGSTOP.
    Stopped { until: u64 },
    /// It applies nothing of what it receives.
    Lags { until: u64 },
}

/// What a run has of this.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataPlan {
    pub(crate) sync_lease: Nanos,
    pub(crate) after_failover: AfterFailover,
}

/// All of it.
pub(crate) struct Data {
    plan: DataPlan,
    servers: Vec<Server>,
    slow: Vec<Option<Slow>>,
    journals: Vec<Vec<Record>>,
    modes: Vec<Mode>,
    clients: Clients,
    /// On their way: when they arrive, from whom, to whom.
    words: VecDeque<(u64, usize, usize, GroupWord)>,
    /// Likewise: the replica has received so many.
    receipts: VecDeque<(u64, usize, usize, usize)>,
    /// By node: the greatest epoch, and the greatest of a primary, that it was told of.
    told: Vec<(u64, u64)>,
    /// By node: what was found of its server last.
    answers: Vec<bool>,
}

impl Data {
    pub(crate) fn new(plan: DataPlan, nodes: usize) -> Self {
        let server = || Server {
            up: true,
            ..Server::default()
        };
        Self {
            plan,
            servers: (0..nodes).map(|_| server()).collect(),
            slow: (0..nodes).map(|_| None).collect(),
            journals: std::vec![Vec::new(); nodes],
            modes: std::vec![Mode::default(); nodes],
            clients: Clients::default(),
            words: VecDeque::new(),
            receipts: VecDeque::new(),
            told: std::vec![(0, 0); nodes],
            answers: std::vec![true; nodes],
        }
    }

    fn config(&self, node: usize) -> ConductorConfig {
        let role = RoleConfig {
            name: String::from("database"),
            kind: RoleKind::Mysql {
                durability: Durability::SemiSync,
                master_master: false,
            },
            limits: Limits {
                promote: Nanos::from_secs(1),
                drain: Nanos::from_secs(5),
                demote: Nanos::from_millis(500),
            },
            max_lag: Nanos::from_secs(1),
        };
        ConductorConfig {
            group: String::from(GROUP),
            node: name(node),
            roles: Vec::from([role]),
            peers: 1,
            sync_lease: self.plan.sync_lease,
            after_failover: self.plan.after_failover,
        }
    }
}

fn name(node: usize) -> String {
    format!("node{node}")
}

impl World {
    /// The daemon starts: its conductor reads the journal.
    pub(super) fn boot_data(&mut self, node: usize) {
        let now = self.clock(node);
        let mutations = self.mutations.plan;
        let Some(data) = &mut self.data else {
            return;
        };
        let found = recover(data.journals[node].iter());
        let mut conductor = Conductor::new(data.config(node), found, data.modes[node], now);
        conductor.set_mutations(mutations);
        data.slow[node] = Some(Slow::new(conductor));
        data.told[node] = (0, 0);
        let server = &mut data.servers[node];
        if !server.up && server.starts_at.is_none() {
            server.starts_at = Some(self.now + 300 * MS);
        }
    }

    /// The daemon is gone; a step that was under way is given up.
    pub(super) fn kill_data(&mut self, node: usize) {
        if let Some(data) = &mut self.data {
            data.slow[node] = None;
            data.servers[node].closing = false;
        }
    }

    pub(super) fn power_off_data(&mut self, node: usize) {
        if let Some(data) = &mut self.data {
            data.servers[node].crash();
        }
    }

    pub(super) fn trouble(&mut self, node: usize, trouble: Trouble) {
        let Some(data) = &mut self.data else {
            return;
        };
        let server = &mut data.servers[node];
        match trouble {
            Trouble::Killed { until } if server.up => {
                server.crash();
                server.starts_at = Some(until);
            }
            Trouble::Killed { .. } => {}
            Trouble::Stopped { until } => server.stopped_until = server.stopped_until.max(until),
            Trouble::Lags { until } => server.lags_until = server.lags_until.max(until),
        }
    }

    /// The engine asks.
    pub(super) fn order_promotion(&mut self, node: usize, round: MonoNs, unplanned: bool) {
        self.say(|| format!("node{node} promotes its roles (unplanned: {unplanned})"));
        self.hand_to_conductor(node, PlanInput::Promote { round, unplanned });
    }

    pub(super) fn order_demotion(&mut self, node: usize, round: MonoNs, manner: Manner) {
        self.say(|| format!("node{node} demotes its roles ({manner:?})"));
        self.hand_to_conductor(node, PlanInput::Demote { round, manner });
    }

    fn hand_to_conductor(&mut self, node: usize, input: PlanInput) {
        let slow = self.data.as_mut().and_then(|data| data.slow[node].as_mut());
        if let Some(slow) = slow {
            slow.inbox.push_back(input);
        }
    }

    /// A gate has opened: the roles are promoted by then.
    pub(super) fn judge_opening(&mut self, node: usize) {
        let now = self.clock(node);
        let Some(mut data) = self.data.take() else {
            return;
        };
        // After SIGKILL, what is recorded as opened was open before.
        let slow = data.slow[node].as_ref();
        let stance = slow.map(|slow| slow.conductor.status(now).stance);
        if stance.is_some_and(|stance| stance != Stance::Primary) {
            self.break_rule(format!(
                "invariant 3: node{node} opened its gate although its roles are not promoted ({stance:?})"
            ));
        }
        data.servers[node].judged = false;
        self.data = Some(data);
    }

    /// Looks at everything, and again soon.
    pub(super) fn look_at_data(&mut self) {
        let (least, most) = LOOK;
        let again = self.now + self.rng.between(least, most);
        self.at(again, Event::Data);
        let Some(mut data) = self.data.take() else {
            return;
        };
        for node in 0..data.servers.len() {
            self.serve_server(&mut data, node);
        }
        self.replicate(&mut data);
        self.deliver_receipts(&mut data);
        self.write(&mut data);
        for node in 0..data.servers.len() {
            if self.is_awake(node) {
                self.serve_slow(&mut data, node);
            }
        }
        self.data = Some(data);
    }

    /// Whether its daemon runs.
    fn is_awake(&self, node: usize) -> bool {
        !self.is_frozen(node)
            && self.now >= self.nodes[node].paused_until
            && self.nodes[node].process.is_some()
    }

    fn serve_server(&mut self, data: &mut Data, node: usize) {
        let frozen = self.is_frozen(node);
        let count = self.rng.index(APPLIES + 1);
        let server = &mut data.servers[node];
        if !frozen && server.starts_at.is_some_and(|at| at <= self.now) {
            server.start();
        }
        if !frozen {
            server.apply(count, self.now);
            if self.rng.chance(FLUSHES_PERMILLE) {
                server.flush();
            }
        }
    }

    /// Replicas receive what passes on the LAN.
    fn replicate(&mut self, data: &mut Data) {
        for node in 0..data.servers.len() {
            data.servers[node].connected = false;
            let Some(source) = data.servers[node].source else {
                continue;
            };
            let passes = self.passes(0, node, source) && self.passes(0, source, node);
            let [one, other] = [node, source].map(|at| data.servers[at].runs(self.now));
            let receives = data.servers[node].receives;
            let is_part = data.servers[node].is_part_of(&data.servers[source]);
            if !(passes && one && other && receives && is_part) {
                continue;
            }
            let Ok([replica, primary]) = data.servers.get_disjoint_mut([node, source]) else {
                continue;
            };
            let from = replica.len();
            replica.receive(from, primary);
            replica.connected = true;
            if replica.acknowledges && !primary.waiting.is_empty() {
                let arrives = self.now + self.rng.between(MS / 10, MS);
                let received = replica.len();
                data.receipts.push_back((arrives, node, source, received));
            }
        }
    }

    fn deliver_receipts(&mut self, data: &mut Data) {
        let mut waiting = core::mem::take(&mut data.receipts);
        while let Some((at, from, to, received)) = waiting.pop_front() {
            if at > self.now {
                data.receipts.push_back((at, from, to, received));
            } else if self.passes(0, from, to) && data.servers[to].runs(self.now) {
                let done = data.servers[to].acknowledged(received);
                self.acknowledge(data, to, &done);
            }
        }
    }

    /// Clients are told that their writes are done, if the gate lets the answer out.
    fn acknowledge(&mut self, data: &mut Data, node: usize, done: &[u64]) {
        let now = self.clock(node);
        if done.is_empty() || self.is_frozen(node) || !self.nodes[node].kernels[0].is_open(now) {
            return;
        }
        let epoch = data.servers[node].epoch;
        data.clients.done.extend(done);
        let at = self.now;
        let last = data.clients.last.replace(Acknowledged { at, node, epoch });
        let Some(last) = last else {
            return;
        };
        if epoch < last.epoch || epoch == last.epoch && node != last.node {
            self.break_rule(format!(
                "invariant 3: node{node} acknowledged a write in epoch {epoch}, {} ms after node{} did in epoch {}",
                (at - last.at) / MS,
                last.node,
                last.epoch
            ));
        }
    }

    /// A client writes where the gate is open.
    fn write(&mut self, data: &mut Data) {
        for node in 0..data.servers.len() {
            let now = self.clock(node);
            let open = !self.is_frozen(node) && self.nodes[node].kernels[0].is_open(now);
            let server = &mut data.servers[node];
            let takes = server.runs(self.now) && server.writable && !server.closing;
            if !open || !takes {
                server.judged = false;
                continue;
            }
            if !core::mem::replace(&mut server.judged, true) {
                self.judge_data(data, node, "takes writes");
            }
            let server = &mut data.servers[node];
            if server.waiting.len() >= SESSIONS {
                continue;
            }
            data.clients.next += 1;
            let write = data.clients.next;
            if server.solo {
                server.log.push(write);
                if !self.mutations.lazy_commit {
                    server.flush();
                }
                self.acknowledge(data, node, &[write]);
            } else {
                server.waiting.push_back(write);
            }
        }
    }

    /// What a node that becomes primary, or serves at the end, has to have.
    fn judge_data(&mut self, data: &Data, node: usize, when: &str) {
        let has: HashSet<u64> = data.servers[node].log.iter().copied().collect();
        let lost = data.clients.done.iter().filter(|one| !has.contains(one));
        let count = lost.count();
        if count > 0 {
            self.break_rule(format!(
                "invariant 3: node{node} {when} without {count} of {} writes that were acknowledged",
                data.clients.done.len()
            ));
        }
    }

    /// At the end of a run.
    pub(super) fn judge_end_of_data(&mut self) {
        let Some(data) = self.data.take() else {
            return;
        };
        for node in 0..data.servers.len() {
            let now = self.clock(node);
            if self.nodes[node].kernels[0].is_open(now) && data.servers[node].writable {
                self.judge_data(&data, node, "serves at the end");
            }
        }
        self.data = Some(data);
    }

    fn serve_slow(&mut self, data: &mut Data, node: usize) {
        let Some(mut slow) = data.slow[node].take() else {
            return;
        };
        let now = self.clock(node);
        if let Some(outcome) = self.try_step(data, node, &mut slow) {
            slow.conductor.handle(outcome, now);
            self.carry_out(data, node, &mut slow);
        }
        while let Some(input) = slow.inbox.pop_front() {
            slow.conductor.handle(input, now);
            self.carry_out(data, node, &mut slow);
        }
        self.hear_words(data, node, &mut slow);
        if self.now >= slow.observes_at {
            slow.observes_at = self.now + OBSERVES;
            let observation = self.observe(data, node);
            let input = PlanInput::Observed {
                role: 0,
                observation,
            };
            slow.conductor.handle(input, now);
            self.carry_out(data, node, &mut slow);
            let answers = data.servers[node].runs(self.now);
            if core::mem::replace(&mut data.answers[node], answers) != answers {
                self.check_is(node, 0, answers);
            }
        }
        let due = slow.conductor.poll_timeout(now);
        if due.is_some_and(|due| due <= now) {
            slow.conductor.handle_timeout(now);
            self.carry_out(data, node, &mut slow);
        }
        if slow.tells || self.now >= slow.speaks_at {
            slow.tells = false;
            slow.speaks_at = self.now + SPEAKS;
            self.speak(data, node, &mut slow);
            self.carry_out(data, node, &mut slow);
        }
        data.slow[node] = Some(slow);
    }

    fn speak(&mut self, data: &mut Data, node: usize, slow: &mut Slow) {
        let now = self.clock(node);
        for to in (0..data.servers.len()).filter(|to| *to != node) {
            let endpoint = name(node);
            let word = slow.conductor.word(&name(to), Some(endpoint.as_str()), now);
            if self.reaches(node, to) {
                let arrives = self.now + self.rng.between(MS / 10, 2 * MS);
                data.words.push_back((arrives, node, to, word));
            }
        }
    }

    fn hear_words(&mut self, data: &mut Data, node: usize, slow: &mut Slow) {
        let now = self.clock(node);
        let mut waiting = core::mem::take(&mut data.words);
        while let Some((at, from, to, word)) = waiting.pop_front() {
            if to != node || at > self.now {
                data.words.push_back((at, from, to, word));
                continue;
            }
            if !self.reaches(from, to) {
                continue;
            }
            let holds = matches!(word.stance, Stance::Primary | Stance::Promoting);
            let (epoch, primary) = &mut data.told[node];
            *epoch = word.epoch.max(*epoch);
            if holds {
                *primary = word.epoch.max(*primary);
            }
            slow.conductor.handle(PlanInput::Heard(word), now);
            self.carry_out(data, node, slow);
        }
    }

    /// Does what the conductor decides.
    fn carry_out(&mut self, data: &mut Data, node: usize, slow: &mut Slow) {
        let now = self.clock(node);
        while let Some(action) = slow.conductor.poll_action() {
            match action {
                PlanAction::Write { serial, record } => {
                    self.judge_record(data, node, &record);
                    data.journals[node].push(record);
                    slow.inbox.push_back(PlanInput::Written { serial });
                }
                PlanAction::Run(order) => {
                    let lasts = executor::duration(order.step, &mut self.rng);
                    slow.step = Some((order, self.now + lasts));
                }
                PlanAction::Abandon { serial } => {
                    if slow
                        .step
                        .take_if(|(order, _)| order.serial == serial)
                        .is_some()
                    {
                        data.servers[node].closing = false;
                    }
                }
                PlanAction::Promoted { round, result } => self.answer_engine(
                    node,
                    Input::RolesPromoted {
                        group: String::from(GROUP),
                        round,
                        result,
                    },
                ),
                PlanAction::Demoted { round, result } => self.answer_engine(
                    node,
                    Input::RolesDemoted {
                        group: String::from(GROUP),
                        round,
                        result,
                    },
                ),
                PlanAction::Prospect(prospect) => {
                    self.say(|| format!("node{node} prospect: {prospect:?}"));
                    let group = String::from(GROUP);
                    self.answer_engine(node, Input::Prospect { group, prospect });
                }
                PlanAction::Progress(text) => {
                    self.say(|| format!("node{node} {text}"));
                    let group = String::from(GROUP);
                    self.answer_engine(node, Input::RolesProgress { group, text });
                }
                PlanAction::SetMode(mode) => {
                    self.say(|| format!("node{node} mode: {mode}"));
                    data.modes[node] = mode;
                    self.answer_engine(node, Input::Mode(mode));
                    slow.conductor.handle(PlanInput::Mode(mode), now);
                }
                PlanAction::Tell => slow.tells = true,
                PlanAction::Note(sentence) => self.say(|| format!("node{node} {sentence}")),
            }
        }
    }

    fn answer_engine(&mut self, node: usize, input: Input) {
        self.tell(node, Word::Input(input));
    }

    /// A promotion is not completed against a greater epoch that was heard of.
    fn judge_record(&mut self, data: &Data, node: usize, record: &Record) {
        self.say(|| format!("node{node} journal: {record:?}"));
        let Record::End {
            epoch,
            stance: Stance::Primary,
            ..
        } = record
        else {
            return;
        };
        let before = data.journals[node].iter().rev().find_map(|one| match one {
            Record::Begin { purpose, .. } => Some(*purpose),
            _ => None,
        });
        let (told, primary) = data.told[node];
        if before == Some(crate::plan::Purpose::Promote) && (told > *epoch || primary >= *epoch) {
            self.break_rule(format!(
                "invariant 3: node{node} completed its promotion in epoch {epoch} although it had been told of epoch {told}"
            ));
        }
    }
}
