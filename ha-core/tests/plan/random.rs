//! Two nodes under random faults: no acknowledged write is lost, never two acknowledge, and in the end one serves and
//! the other one is in sync.

use std::fmt::Write as _;

use ha_common::{MonoNs, Nanos};
use ha_core::{
    Manner, Mode,
    plan::{
        Conductor, ConductorConfig, Durability, Observation, PlanAction, PlanInput, Record, Stance,
        recover,
    },
};
use proptest::prelude::*;

use crate::{
    database::{Database, Write},
    node::{config, mysql, role},
};

const NAMES: [&str; 2] = ["n1", "n2"];
const TICK: Nanos = Nanos::from_millis(20);

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A server is killed; its unit starts it again after so many ticks.
    KillServer(usize, u32),
    /// A server does not apply what it receives for so many ticks.
    Lag(usize, u32),
    /// A node stands still.
    Freeze(usize, u32),
    /// A node loses its power.
    PowerOff(usize, u32),
    /// A daemon is killed, and starts again at once.
    KillDaemon(usize),
    /// Nothing passes between the nodes; an arbitrator keeps the standby from taking over.
    Cut(u32),
    /// Replication is cut, the link is not.
    CutReplication(u32),
    /// An operator moves the service.
    Switchover,
}

fn faults() -> impl Strategy<Value = Vec<(u32, Fault)>> {
    let node = 0..2_usize;
    let span = 1..300_u32;
    let fault = prop_oneof![
        (node.clone(), span.clone()).prop_map(|(node, span)| Fault::KillServer(node, span)),
        (node.clone(), span.clone()).prop_map(|(node, span)| Fault::Lag(node, span)),
        (node.clone(), span.clone()).prop_map(|(node, span)| Fault::Freeze(node, span)),
        (node.clone(), span.clone()).prop_map(|(node, span)| Fault::PowerOff(node, span)),
        node.prop_map(Fault::KillDaemon),
        span.clone().prop_map(Fault::Cut),
        span.prop_map(Fault::CutReplication),
        Just(Fault::Switchover),
    ];
    prop::collection::vec((1..200_u32, fault), 1..12)
}

struct Host {
    conductor: Option<Conductor>,
    config: ConductorConfig,
    journal: Vec<Record>,
    database: Database,
    eligible: bool,
    /// Until which tick it stands still, has no power, its server does not run, or does not apply.
    frozen: u32,
    off: u32,
    down: u32,
    lags: u32,
    /// It was elected, and as far as it knows still is.
    elected: bool,
    /// Its gate is open.
    open: bool,
    letting_go: bool,
    orders: Vec<ha_core::plan::Order>,
    has_news: bool,
}

struct World {
    hosts: [Host; 2],
    tick: u32,
    cut: u32,
    cut_replication: u32,
    /// Who holds the election. The engine's leases see to it that this is one at most.
    holder: Option<usize>,
    silent_since: Option<u32>,
    next: Write,
    acknowledged: Vec<Write>,
    /// In the present tick: by whom.
    acknowledged_by: Vec<usize>,
    story: String,
}

impl World {
    fn new() -> Self {
        let hosts = NAMES.map(|name| {
            let config = config(name, vec![role("db", mysql(Durability::SemiSync))]);
            let database = Database {
                alive: true,
                applies: true,
                ..Database::default()
            };
            Host {
                conductor: None,
                config,
                journal: Vec::new(),
                database,
                eligible: false,
                frozen: 0,
                off: 0,
                down: 0,
                lags: 0,
                elected: false,
                open: false,
                letting_go: false,
                orders: Vec::new(),
                has_news: false,
            }
        });
        Self {
            hosts,
            tick: 1,
            cut: 0,
            cut_replication: 0,
            holder: None,
            silent_since: None,
            next: 0,
            acknowledged: Vec::new(),
            acknowledged_by: Vec::new(),
            story: String::new(),
        }
    }

    fn now(&self) -> MonoNs {
        MonoNs(u64::from(self.tick) * TICK.0)
    }

    fn say(&mut self, what: &str) {
        let _ = writeln!(self.story, "{:6} {what}", self.tick);
    }

    fn runs(&self, at: usize) -> bool {
        self.hosts[at].off <= self.tick && self.hosts[at].frozen <= self.tick
    }

    fn connected(&self) -> bool {
        self.cut <= self.tick && self.cut_replication <= self.tick
    }

    fn strike(&mut self, fault: Fault) {
        self.say(&format!("{fault:?}"));
        match fault {
            Fault::KillServer(at, span) => {
                self.hosts[at].database.die();
                self.hosts[at].down = self.tick + span;
            }
            Fault::Lag(at, span) => self.hosts[at].lags = self.tick + span,
            Fault::Freeze(at, span) => self.hosts[at].frozen = self.tick + span,
            Fault::PowerOff(at, span) => {
                self.hosts[at].off = self.tick + span;
                self.hosts[at].down = 0;
                self.hosts[at].database.die();
                self.end_daemon(at);
            }
            Fault::KillDaemon(at) => self.end_daemon(at),
            Fault::Cut(span) => self.cut = self.tick + span,
            Fault::CutReplication(span) => self.cut_replication = self.tick + span,
            Fault::Switchover => {
                if let Some(holder) = self.holder.filter(|holder| self.hosts[*holder].open)
                    && self.runs(holder)
                {
                    self.let_go(holder, Manner::Graceful);
                }
            }
        }
    }

    fn end_daemon(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.conductor = None;
        host.orders.clear();
        host.eligible = false;
        host.elected = false;
        host.open = false;
        host.letting_go = false;
    }

    fn let_go(&mut self, at: usize, manner: Manner) {
        let round = self.now();
        self.hosts[at].open = false;
        self.hosts[at].letting_go = true;
        self.tell(at, PlanInput::Demote { round, manner });
    }

    fn tell(&mut self, at: usize, input: PlanInput) {
        let now = self.now();
        if let Some(conductor) = &mut self.hosts[at].conductor {
            conductor.handle(input, now);
        }
        self.act(at);
    }

    fn act(&mut self, at: usize) {
        let now = self.now();
        for _ in 0..10_000 {
            let host = &mut self.hosts[at];
            let Some(conductor) = &mut host.conductor else {
                return;
            };
            let Some(action) = conductor.poll_action() else {
                return;
            };
            match action {
                PlanAction::Write { serial, record } => {
                    host.journal.push(record);
                    conductor.handle(PlanInput::Written { serial }, now);
                }
                PlanAction::Run(order) => host.orders.push(order),
                PlanAction::Abandon { serial } => {
                    host.orders.retain(|order| order.serial != serial);
                }
                PlanAction::Promoted { result, .. } => self.promoted(at, result),
                PlanAction::Demoted { result, .. } => self.demoted(at, &result),
                PlanAction::Prospect(prospect) => {
                    let before = std::mem::replace(&mut host.eligible, prospect.eligible.is_ok());
                    if before != prospect.eligible.is_ok() {
                        self.say(&format!("{}: {:?}", NAMES[at], prospect.eligible));
                    }
                }
                PlanAction::Note(sentence) => self.say(&format!("{}: {sentence}", NAMES[at])),
                PlanAction::Progress(text) => self.say(&format!("{}: {text}", NAMES[at])),
                PlanAction::Tell => host.has_news = true,
                PlanAction::SetMode(_) => {}
            }
        }
        panic!("it never ends\n{}", self.story);
    }

    fn promoted(&mut self, at: usize, result: Result<(), String>) {
        self.say(&format!("{} promoted: {result:?}", NAMES[at]));
        if self.holder != Some(at) {
            return;
        }
        if result.is_err() {
            self.holder = None;
            self.hosts[at].elected = false;
            return;
        }
        self.hosts[at].open = true;
        // What the one before acknowledged in this tick it did before.
        self.acknowledged_by.clear();
        let database = &self.hosts[at].database;
        let mut writes = self.acknowledged.iter();
        if let Some(lost) = writes.find(|write| !database.log.contains(write)) {
            panic!("write {lost} was acknowledged and is lost\n{}", self.story);
        }
    }

    fn demoted(&mut self, at: usize, result: &Result<(), String>) {
        self.say(&format!("{} demoted: {result:?}", NAMES[at]));
        self.hosts[at].letting_go = false;
        if self.holder != Some(at) {
            return;
        }
        if result.is_ok() {
            self.holder = None;
            self.hosts[at].elected = false;
        } else {
            self.hosts[at].open = true;
        }
    }

    /// Who is silent for long enough loses the election; who holds it and has lost its server lets go.
    fn elect(&mut self) {
        let Some(holder) = self.holder else {
            self.silent_since = None;
            self.find_holder(false);
            return;
        };
        if self.runs(holder) && self.hosts[holder].elected {
            self.silent_since = None;
            let host = &self.hosts[holder];
            if host.open && !host.database.alive && !host.letting_go {
                self.let_go(holder, Manner::Forced);
            }
            return;
        }
        let since = *self.silent_since.get_or_insert(self.tick);
        if self.tick >= since + 15 {
            self.say(&format!("{} has lost", NAMES[holder]));
            self.hosts[holder].open = false;
            self.holder = None;
            self.silent_since = None;
            self.find_holder(true);
        }
    }

    fn find_holder(&mut self, unplanned: bool) {
        // Who cannot hear the other one asks the arbitrator, which says no.
        let may = |at: usize| {
            let host = &self.hosts[at];
            self.runs(at) && host.eligible && host.conductor.is_some() && self.cut <= self.tick
        };
        let first = self.tick as usize % 2;
        let Some(at) = [first, 1 - first].into_iter().find(|at| may(*at)) else {
            return;
        };
        self.holder = Some(at);
        self.hosts[at].elected = true;
        let round = self.now();
        self.say(&format!("{} is elected", NAMES[at]));
        self.tell(at, PlanInput::Promote { round, unplanned });
    }

    fn turn(&mut self) {
        self.tick += 1;
        self.acknowledged_by.clear();
        for at in 0..2 {
            self.wake(at);
        }
        self.replicate();
        self.elect();
        for at in 0..2 {
            if self.runs(at) {
                self.work(at);
            }
        }
        for at in 0..2 {
            let has_news = std::mem::take(&mut self.hosts[at].has_news);
            if self.cut <= self.tick && (has_news || self.tick.is_multiple_of(5)) {
                self.speak(at);
            }
        }
        self.write();
        let mut by = self.acknowledged_by.clone();
        by.dedup();
        assert!(by.len() < 2, "two acknowledge\n{}", self.story);
    }

    /// What starts again by itself.
    fn wake(&mut self, at: usize) {
        let tick = self.tick;
        let host = &mut self.hosts[at];
        if host.off > tick {
            return;
        }
        host.database.applies = host.lags <= tick;
        if !host.database.alive && host.down <= tick && host.frozen <= tick {
            host.database.start();
        }
        if host.conductor.is_none() && host.frozen <= tick {
            let found = recover(host.journal.iter());
            let now = MonoNs(u64::from(tick) * TICK.0);
            let config = host.config.clone();
            host.conductor = Some(Conductor::new(config, found, Mode::ActiveStandby, now));
            self.act(at);
        }
        // It has slept through the end of its lease.
        if self.runs(at) && self.hosts[at].elected && self.holder != Some(at) {
            self.hosts[at].elected = false;
            self.let_go(at, Manner::Forced);
        }
    }

    fn work(&mut self, at: usize) {
        let now = self.now();
        for _ in 0..50 {
            let orders = std::mem::take(&mut self.hosts[at].orders);
            let mut waiting = Vec::new();
            let mut done = Vec::new();
            for order in orders {
                let database = &mut self.hosts[at].database;
                let before = self.acknowledged.len();
                match database.step(&order, NAMES, &mut self.acknowledged) {
                    None => waiting.push(order),
                    Some(result) => done.push((order.serial, result)),
                }
                if self.acknowledged.len() > before {
                    self.acknowledged_by.push(at);
                }
            }
            self.hosts[at].orders.extend(waiting);
            if done.is_empty() {
                break;
            }
            for (serial, result) in done {
                self.tell(
                    at,
                    match result {
                        Ok(done) => PlanInput::StepDone { serial, done },
                        Err(why) => PlanInput::StepFailed { serial, why },
                    },
                );
            }
        }
        if let Some(conductor) = &mut self.hosts[at].conductor
            && conductor.poll_timeout(now).is_some_and(|due| due <= now)
        {
            conductor.handle_timeout(now);
            self.act(at);
        }
        let busy = !self.hosts[at].orders.is_empty();
        if !busy && self.tick % 5 == 1 {
            let other_runs = self.hosts[1 - at].database.alive;
            let connected = self.connected() && other_runs;
            let observation = Observation {
                began_at: self.now(),
                ..self.hosts[at].database.observe(NAMES, connected)
            };
            self.tell(
                at,
                PlanInput::Observed {
                    role: 0,
                    observation,
                },
            );
        }
    }

    fn speak(&mut self, at: usize) {
        if !self.runs(at) || !self.runs(1 - at) {
            return;
        }
        let now = self.now();
        let Some(conductor) = &mut self.hosts[at].conductor else {
            return;
        };
        let endpoint = format!("{}:3306", NAMES[at]);
        let word = conductor.word(NAMES[1 - at], Some(&endpoint), now);
        self.act(at);
        self.tell(1 - at, PlanInput::Heard(word));
    }

    /// What replicas receive and acknowledge: servers go on while their nodes' daemons do not.
    fn replicate(&mut self) {
        if !self.connected() {
            return;
        }
        for at in 0..2 {
            let [one, two] = &mut self.hosts;
            let (replica, source) = if at == 0 { (one, two) } else { (two, one) };
            let is_off = replica.off > self.tick || source.off > self.tick;
            let (replica, source) = (&mut replica.database, &mut source.database);
            let follows = replica.source == Some(1 - at) && replica.receives;
            if is_off || !follows || !replica.alive || !source.alive {
                continue;
            }
            // The server itself refuses what is not of its history.
            if !source.log.starts_with(&replica.log) {
                continue;
            }
            replica.receive(&source.log);
            if replica.acknowledges {
                let (known, waiting): (Vec<Write>, Vec<Write>) = source
                    .pending
                    .iter()
                    .partition(|write| replica.has(**write));
                source.pending = waiting;
                if !known.is_empty() {
                    self.acknowledged.extend(known);
                    self.acknowledged_by.push(1 - at);
                }
            }
        }
    }

    /// A client writes to who has the address; another one to every server, by its own address.
    fn write(&mut self) {
        for at in 0..2 {
            let host = &mut self.hosts[at];
            let reached = host.off <= self.tick && host.database.alive && host.database.writable;
            if !reached || !host.open || self.holder != Some(at) || host.frozen > self.tick {
                continue;
            }
            self.next += 1;
            let write = self.next;
            if host.database.write(write) {
                self.acknowledged.push(write);
                self.acknowledged_by.push(at);
            }
        }
    }

    fn is_whole(&self) -> bool {
        let Some(holder) = self.holder else {
            return false;
        };
        let stance = |at: usize| {
            let conductor = self.hosts[at].conductor.as_ref();
            conductor.map(|conductor| conductor.status(self.now()))
        };
        let (Some(primary), Some(standby)) = (stance(holder), stance(1 - holder)) else {
            return false;
        };
        self.hosts[holder].open
            && primary.in_sync == Some(true)
            && standby.stance == Stance::Standby
            && standby.eligible.is_ok()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_acknowledged_write_is_lost_and_all_is_well_in_the_end(faults in faults()) {
        let mut world = World::new();
        for _ in 0..100 {
            world.turn();
        }
        prop_assert!(world.is_whole(), "it never began\n{}", world.story);
        for (pause, fault) in faults {
            world.strike(fault);
            for _ in 0..pause {
                world.turn();
            }
        }
        // Faults last 6 s at most; a hard demotion takes 2, and what failed is tried again after 30 at most.
        for _ in 0..4_000 {
            if world.is_whole() && world.tick > world.cut + 300 {
                break;
            }
            world.turn();
        }
        prop_assert!(world.is_whole(), "it is never whole again\n{}", world.story);
    }
}
