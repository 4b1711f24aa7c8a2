//! The run itself: true time, one queue of events, n nodes.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    fmt, format,
    string::{String, ToString},
    vec::Vec,
};

use ha_common::{MonoNs, Nanos, Priority, gate::Epoch};

use super::{
    Mutations,
    kernel::{Kernel, Origin},
    ledger::{self, Limits, Sent, Stay, Violation, millis},
    process::Process,
    rng::Rng,
    scenario::{Fault, NodePlan, Reports, Scenario},
};
use crate::{Advert, Cause, Engine, Input, InstanceId, InterfaceCondition, vrrp, vrrp::Rank};

/// What happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// An advert arrives.
    Deliver {
        to: usize,
        instance: usize,
        advert: Advert,
        origin: Origin,
    },
    /// A node's process goes on, if it still waits for this.
    Run { node: usize, turn: u64 },
    /// A silence timer in a kernel.
    Silence {
        node: usize,
        instance: usize,
        timer: u64,
    },
    /// By index into the scenario's faults.
    Fault(usize),
    /// A node starts.
    Boot(usize),
    /// A frozen node's kernel goes on.
    Thaw(usize),
}

/// What waits for a node's engine thread.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    Advert {
        instance: usize,
        advert: Advert,
        received_at: MonoNs,
        origin: Origin,
    },
    Silence {
        instance: usize,
        last: MonoNs,
    },
    Input(Input),
}

/// One machine.
pub(crate) struct Node {
    pub(crate) plan: NodePlan,
    pub(crate) kernels: Vec<Kernel>,
    /// Since when each gate is open.
    open_since: Vec<Option<u64>>,
    pub(crate) stays: Vec<Option<usize>>,
    pub(crate) words: VecDeque<Word>,
    pub(crate) process: Option<Process>,
    powered: bool,
    pub(crate) paused_until: u64,
    frozen_until: u64,
    pub(crate) up: Vec<bool>,
    pub(crate) sends_fail_until: u64,
    pub(crate) vips_fail: u32,
}

/// Where the choices of a run come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choices<'a> {
    Seed(u64),
    Tape(&'a [u8]),
}

impl fmt::Display for Choices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(seed) => write!(f, "seed {seed}"),
            Self::Tape(tape) => write!(f, "a tape of {} bytes", tape.len()),
        }
    }
}

/// Everything.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    pub(crate) turns: u64,
    pub(crate) nodes: Vec<Node>,
    cuts: Vec<Vec<bool>>,
    loss_permille: u64,
    /// By node and instance: adverts lost in a row.
    lost_in_a_row: Vec<Vec<u32>>,
    pub(crate) stays: Vec<Stay>,
    /// By instance: the last transition at any node.
    moved_at: Vec<u64>,
    pub(crate) mutations: Mutations,
    pub(crate) violation: Option<Violation>,
    pub(crate) trace: Option<Vec<(u64, String)>>,
}

impl World {
    /// The run that `choices` stand for.
    pub(crate) fn new(choices: Choices<'_>, mutations: Mutations, traced: bool) -> Self {
        let (scenario, rng) = match choices {
            Choices::Seed(seed) => (Scenario::draw(&mut Rng::new(seed)), Rng::new(!seed)),
            Choices::Tape(tape) => {
                let mut rng = Rng::of_tape(tape, 0);
                (Scenario::draw(&mut rng), rng)
            }
        };
        let count = scenario.nodes.len();
        let instances = scenario.instances;
        let nodes: Vec<Node> = scenario
            .nodes
            .iter()
            .map(|plan| Node::new(plan, instances))
            .collect();
        let mut world = Self {
            rng,
            now: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            turns: 0,
            nodes,
            cuts: std::vec![std::vec![false; count]; count],
            loss_permille: 0,
            lost_in_a_row: std::vec![std::vec![0; instances]; count],
            stays: Vec::new(),
            moved_at: std::vec![0; instances],
            mutations,
            violation: None,
            trace: traced.then(Vec::new),
            scenario,
        };
        for index in 0..world.scenario.faults.len() {
            let at = world.scenario.faults[index].0;
            world.at(at, Event::Fault(index));
        }
        for node in 0..count {
            let at = world.scenario.nodes[node].starts_at;
            world.at(at, Event::Boot(node));
        }
        world
    }

    /// Runs to the end, or to the first broken rule.
    pub(crate) fn run(&mut self) {
        while let Some(Reverse((at, _, index))) = self.queue.pop() {
            if at > self.scenario.end_at || self.violation.is_some() {
                break;
            }
            self.now = at;
            if let Some(event) = self.events[index].take() {
                self.serve(event);
            }
        }
        if self.violation.is_some() {
            return;
        }
        self.now = self.scenario.end_at;
        let speakers = self.speakers();
        for node in 0..self.nodes.len() {
            for instance in 0..self.scenario.instances {
                self.shut(node, instance);
            }
        }
        let limits = Limits {
            delay_max: self.scenario.pace.delay.1,
            uniform: self.scenario.is_uniform(),
        };
        self.violation =
            ledger::judge(&self.stays, limits).or_else(|| self.judge_service(&speakers));
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        let index = self.events.len();
        self.queue.push(Reverse((at, index as u64, index)));
        self.events.push(Some(event));
    }

    pub(crate) fn say(&mut self, words: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push((self.now, words()));
        }
    }

    pub(crate) fn break_rule(&mut self, what: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { at: self.now, what });
        }
    }

    pub(crate) fn clock(&self, node: usize) -> MonoNs {
        self.nodes[node].plan.clock.show(self.now)
    }

    fn serve(&mut self, event: Event) {
        match event {
            Event::Deliver {
                to,
                instance,
                advert,
                origin,
            } => self.deliver(to, instance, advert, origin),
            Event::Run { node, turn } => self.run_process(node, turn),
            Event::Silence {
                node,
                instance,
                timer,
            } => self.silence(node, instance, timer),
            Event::Fault(index) => {
                let fault = self.scenario.faults[index].1.clone();
                self.fault(fault);
            }
            Event::Boot(node) => self.boot(node),
            Event::Thaw(node) => {
                for instance in 0..self.scenario.instances {
                    self.look(node, instance);
                }
            }
        }
    }

    // --- the network ---

    /// Sends an advert to every other node.
    pub(crate) fn transmit(&mut self, from: usize, instance: usize, advert: Advert, round: MonoNs) {
        let stay =
            self.nodes[from].stays[instance].filter(|_| advert.priority != Priority::RELEASE);
        if let Some(stay) = stay {
            let clock = self.nodes[from].plan.clock;
            self.stays[stay].sends.push(Sent {
                at: self.now,
                round: clock.when(round),
                until: clock.when(round.after(vrrp::gate_time(advert.interval))),
            });
        }
        self.say(|| format!("node{from} vr{instance} sends priority {}", advert.priority));
        let origin = Origin {
            node: from,
            stay,
            sent_at: self.now,
        };
        for to in 0..self.nodes.len() {
            if to == from {
                continue;
            }
            if self.is_lost(from, to, instance, advert.priority == Priority::RELEASE) {
                if let Some(stay) = stay {
                    self.stays[stay].lost_to[to] = true;
                }
                self.say(|| format!("node{from} vr{instance} -> node{to}: lost"));
                continue;
            }
            let copies = 1 + u64::from(self.rng.chance(self.scenario.pace.duplicate_permille));
            for _ in 0..copies {
                let (low, high) = self.scenario.pace.delay;
                let arrives = self.now + self.rng.between(low, high);
                self.at(
                    arrives,
                    Event::Deliver {
                        to,
                        instance,
                        advert,
                        origin,
                    },
                );
            }
        }
    }

    fn is_lost(&mut self, from: usize, to: usize, instance: usize, release: bool) -> bool {
        let cut = self.cuts[from][to];
        let in_a_row = &mut self.lost_in_a_row[to][instance];
        let spared = self
            .scenario
            .pace
            .longest_loss
            .is_some_and(|longest| *in_a_row >= longest);
        let lost = cut || (self.rng.chance(self.loss_permille) && !spared);
        if !release {
            *in_a_row = if lost { *in_a_row + 1 } else { 0 };
        }
        lost
    }

    fn deliver(&mut self, to: usize, instance: usize, advert: Advert, origin: Origin) {
        let node = &self.nodes[to];
        if !node.powered || !node.up[instance] || self.now < node.frozen_until {
            // A machine that does not run, or an interface that is down, loses what arrives.
            if let Some(stay) = origin.stay {
                self.stays[stay].lost_to[to] = true;
            }
            return;
        }
        let clock = self.clock(to);
        self.look(to, instance);
        let receipt =
            self.nodes[to].kernels[instance].receive(advert, origin, clock, self.mutations);
        self.look(to, instance);
        self.say(|| {
            format!(
                "node{to} vr{instance} receives priority {} from node{}{}",
                advert.priority,
                origin.node,
                if receipt.outranks {
                    ", which outranks it"
                } else {
                    ""
                }
            )
        });
        if receipt.outranks
            && let Some(stay) = self.nodes[to].stays[instance]
        {
            let stay = &mut self.stays[stay];
            stay.outranked_at = stay.outranked_at.or(Some(self.now));
        }
        if receipt.arm {
            self.arm(to, instance, clock);
        }
        if receipt.event || self.nodes[to].plan.reports == Reports::Every {
            self.tell(
                to,
                Word::Advert {
                    instance,
                    advert,
                    received_at: clock,
                    origin,
                },
            );
        }
    }

    // --- the kernel's part ---

    /// Starts the silence timer for what is left of the watched time.
    pub(crate) fn arm(&mut self, node: usize, instance: usize, from: MonoNs) {
        let late = self.rng.between(0, self.scenario.pace.step_max / 4);
        let machine = &mut self.nodes[node];
        let kernel = &mut machine.kernels[instance];
        kernel.armed = kernel.watch;
        kernel.timer += 1;
        let timer = kernel.timer;
        let due = machine
            .plan
            .clock
            .when(from.after(kernel.watch))
            .max(self.now);
        self.at(
            due + late,
            Event::Silence {
                node,
                instance,
                timer,
            },
        );
    }

    fn silence(&mut self, node: usize, instance: usize, timer: u64) {
        let machine = &self.nodes[node];
        if self.now < machine.frozen_until {
            let again = machine.frozen_until;
            self.at(
                again,
                Event::Silence {
                    node,
                    instance,
                    timer,
                },
            );
            return;
        }
        let now = self.clock(node);
        let kernel = &mut self.nodes[node].kernels[instance];
        if kernel.timer != timer {
            return;
        }
        kernel.armed = Nanos::ZERO;
        let Some((last, _)) = kernel.last else {
            return;
        };
        if kernel.watch == Nanos::ZERO {
            return;
        }
        if now.since(last) < kernel.watch {
            self.arm(node, instance, last);
            return;
        }
        self.say(|| format!("node{node} vr{instance} kernel reports silence"));
        self.tell(node, Word::Silence { instance, last });
    }

    /// Brings the record of a gate up to this moment.
    pub(crate) fn look(&mut self, node: usize, instance: usize) {
        let now = self.clock(node);
        let machine = &self.nodes[node];
        let open = machine.kernels[instance].is_open(now) && self.now >= machine.frozen_until;
        match (machine.open_since[instance], open) {
            (None, true) => {
                self.nodes[node].open_since[instance] = Some(self.now);
                self.say(|| format!("node{node} vr{instance} GATE OPEN"));
            }
            (Some(_), false) => self.shut(node, instance),
            _ => {}
        }
    }

    /// Ends the record of an open gate: at its deadline if that has passed, else here.
    pub(crate) fn shut(&mut self, node: usize, instance: usize) {
        let machine = &mut self.nodes[node];
        let Some(from) = machine.open_since[instance].take() else {
            return;
        };
        let deadline = machine
            .plan
            .clock
            .when(machine.kernels[instance].deadline());
        let until = deadline.min(self.now);
        if let Some(stay) = machine.stays[instance] {
            let stay = &mut self.stays[stay];
            stay.open.push((from, until));
        }
        let ran_out = deadline <= self.now;
        self.say(|| {
            format!(
                "node{node} vr{instance} gate closed{}",
                if ran_out {
                    format!(" since {} ms", millis(deadline))
                } else {
                    String::new()
                }
            )
        });
    }

    /// A new epoch: what was open is over.
    pub(crate) fn set_epoch(&mut self, node: usize, instance: usize, epoch: Epoch) {
        self.look(node, instance);
        self.shut(node, instance);
        let machine = &mut self.nodes[node];
        let before = core::mem::replace(&mut machine.kernels[instance].epoch, epoch);
        machine.stays[instance] = None;
        if before.raised() != epoch {
            self.break_rule(format!(
                "node{node} vr{instance}: epoch {} follows {}",
                epoch.0, before.0
            ));
        }
    }

    /// The first advert of an election.
    pub(crate) fn begin_stay(&mut self, node: usize, instance: usize, cause: Cause) {
        let count = self.nodes.len();
        let machine = &mut self.nodes[node];
        machine.stays[instance] = Some(self.stays.len());
        self.stays.push(Stay {
            node,
            instance,
            cause,
            sends: Vec::new(),
            lost_to: std::vec![false; count],
            told: None,
            open: Vec::new(),
            outranked_at: None,
        });
    }

    /// Puts a word into a node's queue and wakes its process.
    pub(crate) fn tell(&mut self, node: usize, word: Word) {
        self.nodes[node].words.push_back(word);
        self.wake(node);
    }

    pub(crate) fn moved(&mut self, instance: usize) {
        self.moved_at[instance] = self.now;
    }

    // --- machines ---

    fn boot(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        let clock = self.clock(node);
        let count = self.nodes.len();
        let machine = &mut self.nodes[node];
        let mut config = machine.plan.config.clone();
        for (instance, kernel) in config.instances.iter_mut().zip(&machine.kernels) {
            instance.adopted_epoch = kernel.epoch;
        }
        let mut engine = Engine::new(config, clock);
        engine.set_mutations(self.mutations);
        machine.powered = true;
        machine.process = Some(Process::new(engine, machine.kernels.len(), count));
        self.nodes[node].words.clear();
        self.say(|| format!("node{node} starts"));
        for instance in 0..self.scenario.instances {
            let input = self.interface(node, instance);
            self.tell(node, Word::Input(input));
        }
    }

    pub(crate) fn interface(&self, node: usize, instance: usize) -> Input {
        let machine = &self.nodes[node];
        Input::Interface {
            instance: id(instance),
            condition: if machine.up[instance] {
                InterfaceCondition::Ready {
                    source: machine.plan.address,
                }
            } else {
                InterfaceCondition::NoCarrier
            },
        }
    }

    fn kill(&mut self, node: usize) {
        self.nodes[node].process = None;
        self.nodes[node].words.clear();
    }

    fn fault(&mut self, fault: Fault) {
        self.say(|| describe(&fault));
        match fault {
            Fault::Pause { node, until } => {
                let machine = &mut self.nodes[node];
                machine.paused_until = machine.paused_until.max(until);
            }
            Fault::Freeze { node, until } => self.freeze(node, until),
            Fault::Kill { node } => self.kill(node),
            Fault::PowerOff { node } => self.power_off(node),
            Fault::Stop { node } => self.tell(node, Word::Input(Input::Shutdown)),
            Fault::Start { node } => self.boot(node),
            Fault::Cut { from, to } => self.cuts[from][to] = true,
            Fault::Heal => {
                for row in &mut self.cuts {
                    row.fill(false);
                }
            }
            Fault::Loss { permille } => self.loss_permille = permille,
            Fault::Switchover { node, instance } => {
                let target = crate::Target::Instance(id(instance));
                self.tell(node, Word::Input(Input::Switchover(target)));
            }
            Fault::Link { node, instance, up } => {
                if self.nodes[node].up[instance] != up {
                    self.nodes[node].up[instance] = up;
                    let input = self.interface(node, instance);
                    self.tell(node, Word::Input(input));
                }
            }
            Fault::Reload { node, config } => {
                self.nodes[node].plan.config = config.clone();
                self.tell(node, Word::Input(Input::Reconfigure(config)));
            }
            Fault::VipsFail { node, times } => self.nodes[node].vips_fail = times,
            Fault::SendsFail { node, until } => self.nodes[node].sends_fail_until = until,
            Fault::VipLost { node, instance } => {
                let instance = id(instance);
                self.tell(node, Word::Input(Input::VipLost { instance }));
            }
        }
    }

    fn freeze(&mut self, node: usize, until: u64) {
        for instance in 0..self.scenario.instances {
            self.look(node, instance);
            self.shut(node, instance);
        }
        let machine = &mut self.nodes[node];
        machine.frozen_until = machine.frozen_until.max(until);
        machine.paused_until = machine.paused_until.max(until);
        let until = machine.frozen_until;
        self.at(until, Event::Thaw(node));
    }

    fn power_off(&mut self, node: usize) {
        self.kill(node);
        self.nodes[node].powered = false;
        for instance in 0..self.scenario.instances {
            self.look(node, instance);
            self.shut(node, instance);
            let machine = &mut self.nodes[node];
            machine.stays[instance] = None;
            machine.kernels[instance] = Kernel::new(machine.kernels[instance].rank);
        }
    }

    // --- the end ---

    /// By instance: who speaks.
    fn speakers(&self) -> Vec<Vec<usize>> {
        (0..self.scenario.instances)
            .map(|instance| {
                (0..self.nodes.len())
                    .filter(|node| self.nodes[*node].kernels[instance].is_open(self.clock(*node)))
                    .collect()
            })
            .collect()
    }

    /// Invariant 2: exactly one eligible node, in time, and it stays.
    fn judge_service(&self, speakers: &[Vec<usize>]) -> Option<Violation> {
        let eligible = self.nodes.iter().any(|node| node.process.is_some());
        let Scenario {
            served_by,
            settled_by,
            hand_over,
            ..
        } = self.scenario;
        for (instance, speaking) in speakers.iter().enumerate() {
            let fault = |at: u64, what: String| {
                Some(Violation {
                    at,
                    what: format!("invariant 2: vr{instance}: {what}"),
                })
            };
            if speaking.len() != usize::from(eligible) {
                return fault(
                    self.scenario.end_at,
                    format!("{} nodes speak at the end: {speaking:?}", speaking.len()),
                );
            }
            if !eligible {
                continue;
            }
            if self.moved_at[instance] > settled_by {
                return fault(
                    self.moved_at[instance],
                    String::from("a transition long after everything was put right"),
                );
            }
            let served = self.stays.iter().any(|stay| {
                stay.instance == instance
                    && stay
                        .open
                        .iter()
                        .any(|(from, until)| *from <= served_by + hand_over && served_by < *until)
            });
            if !served {
                return fault(
                    served_by,
                    format!(
                        "nobody speaks {} ms after everything was put right",
                        millis(served_by - self.scenario.quiet_at)
                    ),
                );
            }
        }
        None
    }

    /// Invariant 4, where losses are bounded: silence that was proven is not due to them.
    pub(crate) fn judge_election(&mut self, node: usize, instance: usize, cause: &Cause) {
        let bounded = self.scenario.pace.longest_loss.is_some();
        let heard = self.nodes[node]
            .process
            .as_ref()
            .is_some_and(|process| process.had_heard(instance));
        if bounded && heard && matches!(cause, Cause::Silence { .. }) {
            self.break_rule(format!(
                "invariant 4: node{node} took vr{instance} over although never three adverts in a row \
                 were lost: {cause}"
            ));
        }
    }
}

impl World {
    /// What a seed stands for, in words.
    pub(crate) fn introduce(&self, choices: Choices<'_>, text: &mut String) {
        use fmt::Write as _;
        let Scenario { class, pace, .. } = &self.scenario;
        let _ = writeln!(
            text,
            "{choices}: {class:?}; one way {} to {} ms; a step takes up to {} ms, {} of 1000 up to {} ms",
            millis(pace.delay.0),
            millis(pace.delay.1),
            millis(pace.step_max),
            pace.stall_permille,
            millis(pace.stall_max)
        );
        for (index, node) in self.scenario.nodes.iter().enumerate() {
            for one in &node.config.instances {
                let _ = writeln!(
                    text,
                    "  node{index} {} {}: {} {:?} priority {} every {}{}{}",
                    node.address,
                    format!("{:?}", node.reports).to_lowercase(),
                    one.name,
                    one.version,
                    one.priority,
                    one.advert_interval,
                    if one.preempt { ", preempts" } else { "" },
                    if one.group.is_some() {
                        ", in the group"
                    } else {
                        ""
                    },
                );
            }
        }
    }
}

impl Node {
    fn new(plan: &NodePlan, instances: usize) -> Self {
        let kernels = plan
            .config
            .instances
            .iter()
            .map(|instance| {
                Kernel::new(Rank {
                    priority: instance.priority,
                    address: plan.address,
                })
            })
            .collect();
        Self {
            plan: plan.clone(),
            kernels,
            open_since: std::vec![None; instances],
            stays: std::vec![None; instances],
            words: VecDeque::new(),
            process: None,
            powered: true,
            paused_until: 0,
            frozen_until: 0,
            up: std::vec![true; instances],
            sends_fail_until: 0,
            vips_fail: 0,
        }
    }
}

/// An instance's number as the engine has it.
pub(crate) fn id(instance: usize) -> InstanceId {
    InstanceId(u32::try_from(instance).unwrap_or(u32::MAX))
}

fn describe(fault: &Fault) -> String {
    match fault {
        Fault::Pause { node, until } => {
            format!(
                "node{node} its process is held up until {} ms",
                millis(*until)
            )
        }
        Fault::Freeze { node, until } => {
            format!("node{node} is frozen until {} ms", millis(*until))
        }
        Fault::Kill { node } => format!("node{node} its daemon is killed"),
        Fault::PowerOff { node } => format!("node{node} loses power"),
        Fault::Stop { node } => format!("node{node} its daemon is told to end"),
        Fault::Start { node } => format!("node{node} its daemon is started if it does not run"),
        Fault::Cut { from, to } => format!("network: cut from node{from} to node{to}"),
        Fault::Heal => "network: whole".to_string(),
        Fault::Loss { permille } => format!("network: {permille} of 1000 adverts are lost"),
        Fault::Switchover { node, instance } => {
            format!("node{node} vr{instance} switchover")
        }
        Fault::Link { node, instance, up } => {
            let how = if *up { "up" } else { "down" };
            format!("node{node} vr{instance} interface {how}")
        }
        Fault::Reload { node, .. } => format!("node{node} reloads its configuration"),
        Fault::VipsFail { node, times } => {
            format!("node{node} cannot add addresses {times} times")
        }
        Fault::SendsFail { node, until } => {
            format!("node{node} cannot send until {} ms", millis(*until))
        }
        Fault::VipLost { node, instance } => {
            format!("node{node} vr{instance} loses an address")
        }
    }
}
