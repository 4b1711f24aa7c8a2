//! The run itself: true time, one queue of events, n nodes.

mod echo;
mod faults;
mod gate;
mod introduction;
mod network;
mod tracking;
mod verdict;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    fmt, format,
    string::String,
    vec::Vec,
};

use ha_common::{MonoNs, lease::Ask};

use self::echo::{Echo, PathWords};
use super::{
    Mutations,
    data::Data,
    grants::Grants,
    kernel::{Kernel, Origin},
    leases::{self, Cut, Packet, Span},
    ledger::{self, Limits, Stay, Violation},
    process::Process,
    rng::Rng,
    scenario::{Case, NodePlan, Scenario},
};
use crate::{Advert, Engine, Input, InstanceId, InterfaceCondition, vrrp::Rank};

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
    /// An echo or its answer arrives.
    Echo(Echo),
    /// A silence timer in a kernel, for the end of an instance's promises.
    Promise {
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
    /// Databases, conductors and clients are looked at.
    Data,
    /// A check answers the process that asked.
    Answer {
        node: usize,
        boot: u64,
        check: usize,
        round: MonoNs,
    },
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
    LeaseSilence {
        instance: usize,
    },
    Asked {
        instance: usize,
        peer: usize,
        ask: Ask,
    },
    Released {
        instance: usize,
        peer: usize,
        at: MonoNs,
    },
    Yielded {
        instance: usize,
        peer: usize,
    },
    /// A candidate was granted something.
    Answered,
    Input(Input),
}

/// One machine.
pub(crate) struct Node {
    pub(crate) plan: NodePlan,
    pub(crate) kernels: Vec<Kernel>,
    /// Since when each gate is open, and how much traffic had been recorded then.
    open_since: Vec<Option<(u64, usize)>>,
    pub(crate) stays: Vec<Option<usize>>,
    /// By instance and sender: when the last priority 0 was sent that arrived.
    let_go: Vec<Vec<u64>>,
    pub(crate) words: VecDeque<Word>,
    pub(crate) process: Option<Process>,
    powered: bool,
    /// Its programs are attached: from the first start until it ends in order, or the power goes.
    pub(crate) attached: bool,
    /// Counts its starts.
    boot: u64,
    /// By lease slot and link.
    paths: Vec<PathWords>,
    pub(crate) paused_until: u64,
    frozen_until: u64,
    /// Whether what arrives while it is frozen waits for it.
    keeps_packets: bool,
    waiting: Vec<Echo>,
    pub(crate) up: Vec<bool>,
    pub(crate) sends_fail_until: u64,
    pub(crate) vips_fail: u32,
    /// Which of its checks pass.
    checks: Vec<bool>,
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
    /// By link (the first is the LAN), from and to.
    cuts: Vec<Vec<Vec<bool>>>,
    /// When each of these was changed: link, from, to, time, cut.
    cut_history: Vec<Cut>,
    outages: Vec<Span>,
    hold_ups: Vec<Span>,
    /// By from and to: echoes and answers lost in a row.
    echoes_lost: Vec<Vec<u32>>,
    traffic: Vec<Packet>,
    loss_permille: u64,
    pub(super) data: Option<Data>,
    /// By node and instance: adverts lost in a row.
    lost_in_a_row: Vec<Vec<u32>>,
    pub(crate) stays: Vec<Stay>,
    /// By instance: when an advert reached a pre-emptor after a priority 0 that its sender sent later, for it or
    /// for a member of its group, since they open together.
    overtaken: Vec<Vec<u64>>,
    /// By instance: the last transition at any node.
    moved_at: Vec<u64>,
    pub(crate) mutations: Mutations,
    pub(crate) violation: Option<Violation>,
    pub(crate) trace: Option<Vec<(u64, String)>>,
}

impl World {
    /// The run that `choices` stand for.
    pub(crate) fn new(
        case: Case,
        choices: Choices<'_>,
        mutations: Mutations,
        traced: bool,
    ) -> Self {
        let draw = |rng: &mut Rng| match case {
            Case::Adverts => Scenario::draw(rng),
            Case::Leases => Scenario::draw_leases(rng, mutations),
            Case::Roles => Scenario::draw_roles(rng),
        };
        let (scenario, rng) = match choices {
            Choices::Seed(seed) => (draw(&mut Rng::new(seed)), Rng::new(!seed)),
            Choices::Tape(tape) => {
                let mut rng = Rng::of_tape(tape, 0);
                (draw(&mut rng), rng)
            }
        };
        let count = scenario.nodes.len();
        let instances = scenario.instances;
        let nodes: Vec<Node> = scenario
            .nodes
            .iter()
            .map(|plan| Node::new(plan, instances, count, scenario.links, mutations))
            .collect();
        let mut world = Self {
            rng,
            now: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            turns: 0,
            nodes,
            cuts: std::vec![std::vec![std::vec![false; count]; count]; scenario.links],
            cut_history: Vec::new(),
            outages: Vec::new(),
            hold_ups: Vec::new(),
            echoes_lost: std::vec![std::vec![0; count]; count],
            traffic: Vec::new(),
            loss_permille: 0,
            data: scenario.data.map(|plan| Data::new(plan, count)),
            lost_in_a_row: std::vec![std::vec![0; instances]; count],
            stays: Vec::new(),
            overtaken: std::vec![Vec::new(); instances],
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
        if world.data.is_some() {
            world.at(0, Event::Data);
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
        self.judge_end_of_data();
        if self.violation.is_some() {
            return;
        }
        let speakers = self.speakers();
        for node in 0..self.nodes.len() {
            for instance in 0..self.scenario.instances {
                self.shut(node, instance);
            }
        }
        let found = match self.scenario.case {
            Case::Adverts => {
                let limits = Limits {
                    delay_max: self.scenario.pace.delay.1,
                    uniform: self.scenario.is_uniform(),
                };
                ledger::judge(&self.stays, limits)
            }
            Case::Leases | Case::Roles => leases::judge(&self.stays, &self.network()),
        };
        self.violation = found.or_else(|| self.judge_moves()).or_else(|| {
            // A database that is not known to have everything is served by nobody.
            let always = self.data.is_none();
            always.then(|| self.judge_service(&speakers)).flatten()
        });
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
            Event::Echo(echo) => self.deliver_echo(echo),
            Event::Promise {
                node,
                instance,
                timer,
            } => self.promise_ends(node, instance, timer),
            Event::Boot(node) => self.boot(node),
            Event::Thaw(node) => self.thaw(node),
            Event::Data => self.look_at_data(),
            Event::Answer {
                node,
                boot,
                check,
                round,
            } => self.answer(node, boot, check, round),
        }
    }

    /// Puts a word into a node's queue and wakes its process.
    pub(crate) fn tell(&mut self, node: usize, word: Word) {
        self.nodes[node].words.push_back(word);
        self.wake(node);
    }

    pub(crate) fn moved(&mut self, instance: usize) {
        self.moved_at[instance] = self.now;
    }

    fn boot(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        let clock = self.clock(node);
        let count = self.nodes.len();
        for instance in 0..self.scenario.instances {
            let kernel = &self.nodes[node].kernels[instance];
            if kernel.grants.is_none() {
                continue;
            }
            // Before the programs are attached or adopted, every gate is closed.
            let raised = kernel.epoch.raised();
            self.set_epoch(node, instance, raised);
            if let Some(grants) = &mut self.nodes[node].kernels[instance].grants {
                grants.attach(clock);
            }
        }
        let machine = &mut self.nodes[node];
        let mut config = machine.plan.config.clone();
        for (instance, kernel) in config.instances.iter_mut().zip(&machine.kernels) {
            instance.adopted_epoch = kernel.epoch;
        }
        let mut engine = Engine::new(config, clock);
        engine.set_mutations(self.mutations);
        machine.powered = true;
        machine.attached = true;
        machine.boot += 1;
        machine.process = Some(Process::new(engine, machine.kernels.len(), count));
        self.nodes[node].words.clear();
        for held in self.hold_ups.iter_mut().filter(|held| held.node == node) {
            held.until = held.until.min(self.now);
        }
        self.say(|| format!("node{node} starts"));
        for instance in 0..self.scenario.instances {
            let input = self.interface(node, instance);
            self.tell(node, Word::Input(input));
        }
        self.tell_checks(node);
        self.boot_data(node);
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

    /// A node's engine does not run until a time.
    pub(crate) fn hold_up(&mut self, node: usize, until: u64) {
        let from = self.now;
        self.hold_ups.push(Span { node, from, until });
    }

    fn kill(&mut self, node: usize) {
        self.hold_up(node, u64::MAX);
        self.nodes[node].process = None;
        self.nodes[node].words.clear();
        self.kill_data(node);
    }

    /// Whether a link carries what a node sends to another one.
    pub(super) fn passes(&self, link: usize, from: usize, to: usize) -> bool {
        !self.cuts[link][from][to]
    }

    /// Whether what a node says gets to another one, by any link.
    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        let links = 0..self.scenario.links;
        !self.is_frozen(from) && !self.is_frozen(to) && { links }
            .any(|link| self.passes(link, from, to))
    }

    /// Whether nothing of a node runs.
    pub(super) fn is_frozen(&self, node: usize) -> bool {
        let machine = &self.nodes[node];
        !machine.powered || self.now < machine.frozen_until
    }
}

impl Node {
    fn new(
        plan: &NodePlan,
        instances: usize,
        nodes: usize,
        links: usize,
        mutations: Mutations,
    ) -> Self {
        let kernels = (0..instances)
            .map(|instance| kernel(plan, instance, mutations))
            .collect();
        Self {
            plan: plan.clone(),
            kernels,
            open_since: std::vec![None; instances],
            stays: std::vec![None; instances],
            let_go: std::vec![std::vec![0; nodes]; instances],
            words: VecDeque::new(),
            process: None,
            powered: true,
            attached: false,
            boot: 0,
            paths: std::vec![PathWords::default(); (nodes - 1) * links],
            paused_until: 0,
            frozen_until: 0,
            keeps_packets: false,
            waiting: Vec::new(),
            up: std::vec![true; instances],
            sends_fail_until: 0,
            vips_fail: 0,
            checks: std::vec![true; plan.config.tracked.len()],
        }
    }
}

/// A kernel's fresh words for one instance.
fn kernel(plan: &NodePlan, instance: usize, mutations: Mutations) -> Kernel {
    let config = &plan.config.instances[instance];
    let mut kernel = Kernel::new(Rank {
        priority: config.priority,
        address: plan.address,
    });
    kernel.grants = config.lease.as_ref().map(|lease| {
        let greater = lease.peers.iter().map(|peer| peer.address > plan.address);
        let rank = ha_common::lease::Rank {
            position: 0,
            priority: config.priority.0,
        };
        Grants::new(greater, rank, plan.slowest_lease(), mutations)
    });
    kernel
}

/// An instance's number as the engine has it.
pub(crate) fn id(instance: usize) -> InstanceId {
    InstanceId(u32::try_from(instance).unwrap_or(u32::MAX))
}
