//! A node's engine thread: it takes in what waits, carries out actions one after the other, and can be
//! held up between any two steps.

use core::mem;
use std::{collections::VecDeque, format, string::String, vec::Vec};

use ha_common::{MonoNs, Nanos, lease::Standing};

use super::{
    ledger::Known,
    scenario::Reports,
    world::{Event, Word, World, id},
};
use crate::{Action, Advert, Engine, Input, InstanceId, LeaseViews, State};

/// The daemon.
pub(crate) struct Process {
    engine: Engine,
    next: Step,
    /// Of adverts that were sent one after the other: handed in when the last one was.
    outcomes: VecDeque<Input>,
    /// The turn that is awaited; older ones are void.
    turn: u64,
    /// When that turn comes.
    due: u64,
    /// By instance: the stamp that was handed in last.
    stamps: Vec<Option<MonoNs>>,
    /// By instance: what the last advert said that was handed in.
    words: Vec<Option<Advert>>,
    /// By instance and node: the stay and send time of the last advert that was handed in.
    told: Vec<Known>,
    /// By instance: whether it knows what any advert said.
    knows: Vec<bool>,
    /// By instance: whether any was, before it was elected.
    heard: Vec<bool>,
    /// What was handed in, as it was when the engine decided to speak.
    decided: Vec<Option<Known>>,
}

/// What the thread does when it goes on.
enum Step {
    /// Takes in, or sleeps.
    Turn,
    /// Carries out an action.
    Execute(Action),
    /// Takes in what arrived while actions were carried out, before their outcomes.
    Listen,
    /// Hands in outcomes, one after the other.
    Report(VecDeque<Input>),
}

/// Steps that take no time, in one go; more than any call leaves to do.
const STEPS: usize = 10_000;

impl Process {
    /// Whether it knew of any advert for an instance before it was elected.
    pub(crate) fn had_heard(&self, instance: usize) -> bool {
        self.heard[instance]
    }

    pub(crate) fn read_leases(&mut self, instance: InstanceId, views: &LeaseViews, now: MonoNs) {
        self.engine.read_leases(instance, views, now);
        self.note_decisions();
    }

    /// Keeps what was known when the engine decided to speak.
    fn note_decisions(&mut self) {
        for (instance, decided) in self.decided.iter_mut().enumerate() {
            let state = self.engine.state(instance);
            match state {
                State::Active if decided.is_none() => *decided = Some(self.told[instance].clone()),
                State::Active => {}
                _ => *decided = None,
            }
            if !matches!(state, State::Promoting | State::Active) {
                self.heard[instance] = self.told[instance].iter().any(Option::is_some);
            }
        }
    }

    pub(crate) fn new(engine: Engine, instances: usize, nodes: usize) -> Self {
        Self {
            engine,
            next: Step::Turn,
            outcomes: VecDeque::new(),
            turn: 0,
            due: u64::MAX,
            stamps: std::vec![None; instances],
            words: std::vec![None; instances],
            told: std::vec![std::vec![None; nodes]; instances],
            knows: std::vec![false; instances],
            heard: std::vec![false; instances],
            decided: std::vec![None; instances],
        }
    }
}

impl World {
    /// Something waits for a process: if it sleeps, it goes on.
    pub(crate) fn wake(&mut self, node: usize) {
        let latency = self.rng.between(0, self.scenario.pace.step_max / 4);
        let at = self.now + latency;
        if let Some(process) = &mut self.nodes[node].process
            && matches!(process.next, Step::Turn)
            && process.due > at
        {
            self.resume(node, at);
        }
    }

    fn resume(&mut self, node: usize, at: u64) {
        self.turns += 1;
        let turn = self.turns;
        if let Some(process) = &mut self.nodes[node].process {
            process.turn = turn;
            process.due = at;
            self.at(at, Event::Run { node, turn });
        }
    }

    /// Goes on, unless the process is held up.
    pub(crate) fn run_process(&mut self, node: usize, turn: u64) {
        let held = self.nodes[node].paused_until;
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        if process.turn != turn {
            return;
        }
        if self.now < held {
            self.resume(node, held);
            return;
        }
        for _ in 0..STEPS {
            let Some(process) = &mut self.nodes[node].process else {
                return;
            };
            let wait = match mem::replace(&mut process.next, Step::Turn) {
                Step::Turn => self.turn(node),
                Step::Execute(action) => self.execute(node, action),
                Step::Listen => {
                    if !self.mutations.outcome_first {
                        self.read_all(node);
                        self.read_leases(node);
                    }
                    let Some(process) = &mut self.nodes[node].process else {
                        return;
                    };
                    process.next = Step::Report(mem::take(&mut process.outcomes));
                    Some(0)
                }
                Step::Report(outcomes) => self.hand_in_outcomes(node, outcomes),
            };
            match wait {
                Some(0) => {}
                Some(span) => {
                    let at = self.now.saturating_add(span);
                    return self.resume(node, at);
                }
                None => return,
            }
        }
        let due = self.nodes[node]
            .process
            .as_ref()
            .and_then(|process| process.engine.poll_timeout());
        let now = self.clock(node).0;
        self.break_rule(format!("node{node} is busy for ever: at {now} for {due:?}"));
    }

    fn hand_in(&mut self, node: usize, input: Input) {
        let now = self.clock(node);
        let unread = self.nodes[node].process.as_ref();
        if unread.is_some_and(|process| !process.engine.unread(&input, now).is_empty()) {
            self.read_leases(node);
        }
        if let Some(process) = &mut self.nodes[node].process {
            process.engine.handle(input, now);
            process.note_decisions();
        }
    }

    /// Hands in the next outcome.
    fn hand_in_outcomes(&mut self, node: usize, mut outcomes: VecDeque<Input>) -> Option<u64> {
        let input = outcomes.pop_front()?;
        self.hand_in(node, input);
        if outcomes.is_empty() {
            return Some(0);
        }
        self.nodes[node].process.as_mut()?.next = Step::Report(outcomes);
        Some(self.step_time(node))
    }

    /// How long a step takes.
    fn step_time(&mut self, node: usize) -> u64 {
        let pace = self.scenario.pace;
        if self.rng.chance(pace.stall_permille) && self.now < self.scenario.quiet_at {
            let stall = self.rng.between(0, pace.stall_max);
            let stall = stall.min(self.scenario.quiet_at - self.now);
            self.hold_up(node, self.now + stall);
            return stall;
        }
        self.rng.between(0, pace.step_max)
    }

    /// The next action, the next word, or sleep. `None`: the process is gone.
    fn turn(&mut self, node: usize) -> Option<u64> {
        let process = self.nodes[node].process.as_mut()?;
        if let Some(action) = process.engine.poll_action() {
            if let Action::Report(transition) = action {
                self.report(node, &transition);
                return Some(0);
            }
            if let Action::Note { instance, sentence } = action {
                self.say(|| format!("node{node} vr{} notes: {sentence}", instance.0));
                return Some(0);
            }
            if action == Action::Finished {
                self.say(|| format!("node{node} has ended"));
                self.nodes[node].process = None;
                self.nodes[node].attached = false;
                self.nodes[node].words.clear();
                self.kill_data(node);
                return None;
            }
            process.next = Step::Execute(action);
            return Some(self.step_time(node));
        }
        if let Some(word) = self.nodes[node].words.pop_front() {
            self.take_in(node, word);
            return Some(self.step_time(node));
        }
        for instance in 0..self.scenario.instances {
            self.read_stamp(node, instance);
        }
        self.read_leases(node);
        let now = self.clock(node);
        let process = self.nodes[node].process.as_mut()?;
        // What was read may have led to something to do.
        if process.engine.has_action() {
            return Some(0);
        }
        let Some((due, _)) = process.engine.poll_timeout() else {
            process.due = u64::MAX;
            return None;
        };
        if due <= now {
            for input in self.path_inputs(node) {
                self.hand_in(node, input);
            }
            let process = self.nodes[node].process.as_mut()?;
            process.engine.handle_timeout(now);
            process.note_decisions();
            return Some(0);
        }
        let wakes = self.nodes[node].plan.clock.when(due);
        let latency = self.rng.between(0, self.scenario.pace.step_max / 4);
        Some((wakes - self.now).max(1) + latency)
    }

    /// Hands in every advert that has arrived.
    fn read_all(&mut self, node: usize) {
        let waiting = mem::take(&mut self.nodes[node].words);
        for word in waiting {
            if matches!(word, Word::Advert { .. } | Word::Yielded { .. }) {
                self.take_in(node, word);
            } else {
                self.nodes[node].words.push_back(word);
            }
        }
        for instance in 0..self.scenario.instances {
            self.read_stamp(node, instance);
        }
    }

    fn take_in(&mut self, node: usize, word: Word) {
        match word {
            Word::Advert {
                instance,
                advert,
                received_at,
                origin,
            } => {
                if let Some(process) = &mut self.nodes[node].process {
                    process.words[instance] = Some(advert);
                }
                if let Some(process) = &mut self.nodes[node].process
                    && let Some(stay) = origin.stay
                {
                    process.told[instance][origin.node] = Some((stay, origin.sent_at));
                    process.knows[instance] = true;
                    process.stamps[instance] = process.stamps[instance].max(Some(received_at));
                }
                self.hand_in(
                    node,
                    Input::Advert {
                        instance: id(instance),
                        advert,
                        received_at,
                    },
                );
            }
            Word::Silence { instance, last } => {
                self.read_all(node);
                self.hand_in(
                    node,
                    Input::Silence {
                        instance: id(instance),
                        last_received_at: last,
                    },
                );
            }
            Word::LeaseSilence { instance } => {
                self.read_all(node);
                self.read_leases(node);
                let instance = id(instance);
                self.hand_in(node, Input::LeaseSilence { instance });
            }
            Word::Asked {
                instance,
                peer,
                ask,
            } => {
                let instance = id(instance);
                self.hand_in(
                    node,
                    Input::Asked {
                        instance,
                        peer,
                        ask,
                    },
                );
            }
            Word::Released { instance, peer, at } => {
                self.read_leases(node);
                let released = Input::Released {
                    instance: id(instance),
                    peer,
                    received_at: at,
                };
                self.hand_in(node, released);
            }
            Word::Yielded { instance, peer } => {
                let instance = id(instance);
                self.hand_in(node, Input::Yielded { instance, peer });
            }
            Word::Answered => self.read_leases(node),
            Word::Input(input) => {
                let interfaces = matches!(input, Input::Reconfigure(_));
                self.hand_in(node, input);
                if interfaces {
                    for instance in 0..self.scenario.instances {
                        let input = self.interface(node, instance);
                        self.nodes[node].words.push_back(Word::Input(input));
                    }
                }
            }
        }
    }

    /// Hands in a stamp that moved without an event; and what the advert said, unless a Backup knows it.
    fn read_stamp(&mut self, node: usize, instance: usize) {
        let machine = &mut self.nodes[node];
        let (Some(process), Some((received_at, origin))) =
            (&mut machine.process, machine.kernels[instance].last)
        else {
            return;
        };
        if process.stamps[instance] >= Some(received_at) {
            return;
        }
        if machine.plan.reports == Reports::Every && process.stamps[instance].is_some() {
            return;
        }
        process.stamps[instance] = Some(received_at);
        let word = machine.kernels[instance].last_word();
        let backup = process.engine.state(instance) == State::Backup;
        let news = word.filter(|word| !backup || process.words[instance] != Some(*word));
        // A stamp without the word says nothing about the sender's interval.
        process.knows[instance] |= news.is_some();
        if let Some(stay) = origin.stay
            && process.knows[instance]
        {
            process.told[instance][origin.node] = Some((stay, origin.sent_at));
        }
        let input = match news {
            Some(advert) => {
                process.words[instance] = news;
                Input::Advert {
                    instance: id(instance),
                    advert,
                    received_at,
                }
            }
            None => Input::Heard {
                instance: id(instance),
                received_at,
            },
        };
        self.hand_in(node, input);
    }

    /// Does what an action says, and prepares its outcome.
    fn execute(&mut self, node: usize, action: Action) -> Option<u64> {
        let advertised = matches!(action, Action::SendAdvert { .. });
        let outcome = match action {
            Action::SetEpoch { instance, epoch } => {
                self.set_epoch(node, instance.0 as usize, epoch);
                None
            }
            Action::SetLease {
                instance, lease, ..
            } => {
                self.set_lease(node, instance.0 as usize, lease);
                None
            }
            Action::SetRank {
                instance,
                priority,
                position,
            } => {
                let kernel = &mut self.nodes[node].kernels[instance.0 as usize];
                kernel.rank.priority = priority;
                if let Some(grants) = &mut kernel.grants {
                    grants.rank.priority = priority.0;
                    grants.rank.position = position;
                }
                None
            }
            Action::Stand { instance, standing } => {
                self.stand(node, instance.0 as usize, standing);
                None
            }
            Action::Act { instance } => {
                let now = self.clock(node);
                let kernel = &mut self.nodes[node].kernels[instance.0 as usize];
                let grants = kernel.grants.as_mut()?;
                Some(Input::Acted {
                    instance,
                    result: grants.act(now),
                })
            }
            Action::LetGo { instance } => {
                let kernel = &mut self.nodes[node].kernels[instance.0 as usize];
                if let Some(grants) = &mut kernel.grants {
                    grants.let_go();
                }
                None
            }
            Action::SendEcho { path, round } => {
                let fails = self.now < self.nodes[node].sends_fail_until;
                let result = if fails {
                    Err(String::from("network is down"))
                } else {
                    self.send_echo(node, path, round);
                    Ok(())
                };
                Some(Input::EchoSent {
                    path,
                    round,
                    result,
                })
            }
            Action::SendRelease { instance, round } => {
                if self.now >= self.nodes[node].sends_fail_until {
                    self.send_release(node, instance.0 as usize, round);
                }
                None
            }
            Action::RenewAlone {
                instance,
                peer,
                lease,
                heard_at,
            } => {
                self.renew_alone(node, instance.0 as usize, peer, lease, heard_at);
                self.read_leases(node);
                None
            }
            Action::Confirm { source, round } => {
                self.ask_check(node, &source, round);
                None
            }
            Action::PathReport { path, up, .. } => {
                let how = if up { "works" } else { "is silent" };
                self.say(|| format!("node{node} path{} {how}", path.0));
                None
            }
            Action::Watch { instance, down } => {
                self.set_watch(node, instance.0 as usize, down.unwrap_or(Nanos::ZERO));
                None
            }
            Action::SendAdvert {
                instance,
                priority,
                interval,
                round,
            } => {
                let advert = Advert {
                    sender: self.nodes[node].plan.address,
                    priority,
                    interval,
                    from_had: true,
                };
                let result = self.send(node, instance.0 as usize, advert, round);
                Some(Input::AdvertSent {
                    instance,
                    round,
                    result,
                })
            }
            Action::AddVips { instance } => {
                let machine = &mut self.nodes[node];
                let fails = machine.vips_fail > 0;
                machine.vips_fail = machine.vips_fail.saturating_sub(1);
                let result = if fails {
                    Err(String::from("no buffer space"))
                } else {
                    Ok(())
                };
                Some(Input::VipsAdded { instance, result })
            }
            Action::Announce { instance, .. } => {
                let result = if self.rng.chance(20) && self.now < self.scenario.quiet_at {
                    Err(String::from("network is down"))
                } else {
                    Ok(())
                };
                Some(Input::Announced { instance, result })
            }
            Action::PromoteRoles {
                round, unplanned, ..
            } => {
                self.order_promotion(node, round, unplanned);
                None
            }
            Action::DemoteRoles { round, manner, .. } => {
                self.order_demotion(node, round, manner);
                None
            }
            Action::RemoveVips { .. }
            | Action::Report(_)
            | Action::Note { .. }
            | Action::Alarm { .. }
            | Action::Finished => None,
        };
        let process = self.nodes[node].process.as_mut()?;
        let Some(outcome) = outcome else {
            return Some(0);
        };
        process.outcomes.push_back(outcome);
        process.next = match advertised.then(|| process.engine.poll_advert()).flatten() {
            Some(advert) => Step::Execute(advert),
            None => Step::Listen,
        };
        Some(self.step_time(node))
    }

    fn send(
        &mut self,
        node: usize,
        instance: usize,
        advert: Advert,
        round: MonoNs,
    ) -> Result<(), String> {
        let machine = &self.nodes[node];
        if self.now < machine.sends_fail_until || !machine.up[instance] {
            return Err(String::from("network is down"));
        }
        if machine.stays[instance].is_none() && advert.priority.0 != 0 {
            let now = self.clock(node);
            let status = self.nodes[node]
                .process
                .as_ref()
                .and_then(|process| process.engine.status(now).into_iter().nth(instance));
            if let Some(status) = status {
                self.judge_election(node, instance, &status.cause);
                self.begin_stay(node, instance, status.cause);
            }
        }
        self.transmit(node, instance, advert, round);
        Ok(())
    }

    fn set_lease(&mut self, node: usize, instance: usize, lease: ha_common::gate::Lease) {
        self.look(node, instance);
        self.nodes[node].kernels[instance].set_lease(lease);
        self.look(node, instance);
        let machine = &self.nodes[node];
        if let (Some(stay), Some(process)) = (machine.stays[instance], &machine.process)
            && self.stays[stay].told.is_none()
        {
            self.stays[stay].told.clone_from(&process.decided[instance]);
        }
    }

    /// What a node is for an instance from now on, and so whether its leases open the gate.
    fn stand(&mut self, node: usize, instance: usize, standing: Standing) {
        self.look(node, instance);
        let now = self.clock(node);
        if let Some(grants) = &mut self.nodes[node].kernels[instance].grants {
            grants.stand(standing);
            grants.candidate_until = now.after(grants.slowest);
        }
        if matches!(standing, Standing::Candidate | Standing::Lapsed) {
            let now = self.clock(node);
            let status = self.nodes[node]
                .process
                .as_ref()
                .and_then(|process| process.engine.status(now).into_iter().nth(instance));
            if let Some(status) = status {
                self.begin_stay(node, instance, status.cause);
            }
        }
        self.look(node, instance);
    }

    /// Lengthens a lease, unless its peer was heard after all.
    fn renew_alone(
        &mut self,
        node: usize,
        instance: usize,
        peer: usize,
        lease: ha_common::gate::Lease,
        heard_at: MonoNs,
    ) {
        let views = self.views(node, instance);
        if views.is_none_or(|views| views[peer].heard_at > heard_at) {
            return;
        }
        self.look(node, instance);
        if let Some(grants) = &mut self.nodes[node].kernels[instance].grants {
            grants.renew_alone(peer, lease);
        }
        self.look(node, instance);
        self.say(|| format!("node{node} vr{instance} renews its lease alone"));
    }

    fn set_watch(&mut self, node: usize, instance: usize, down: Nanos) {
        let now = self.clock(node);
        let kernel = &mut self.nodes[node].kernels[instance];
        kernel.watch = down;
        // As the dataplane does: a recent advert is watched from when it came.
        if let Some((last, _)) = kernel.last
            && down != Nanos::ZERO
            && now.since(last) <= down.plus(Nanos::from_secs(1))
            && kernel.armed != down
        {
            self.arm(node, instance, last);
        }
    }

    fn report(&mut self, node: usize, transition: &crate::Transition) {
        let instance = transition.instance.0 as usize;
        self.say(|| {
            format!(
                "node{node} vr{instance} {} -> {}: {}",
                transition.from, transition.to, transition.cause
            )
        });
        self.moved(instance);
        let now = self.clock(node);
        let Some(process) = &self.nodes[node].process else {
            return;
        };
        let silent = process
            .engine
            .status(now)
            .iter()
            .any(|status| status.explanation.is_empty() || status.explanation[0].is_empty());
        if silent {
            self.break_rule(format!("invariant 6: node{node} cannot explain its state"));
        }
    }
}
