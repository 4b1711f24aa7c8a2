//! A node: a conductor, the executors that it gives orders to, and its journal. Time passes when a test says so.

use std::collections::VecDeque;

use ha_common::{MonoNs, Nanos};
use ha_core::{
    Manner, Mode, Prospect,
    plan::{
        AfterFailover, Conductor, ConductorConfig, Done, Durability, Follows, GroupWord, Limits,
        Observation, Order, PlanAction, PlanInput, Position, Purpose, Record, Recovered, Replicas,
        RoleConfig, RoleKind, Stance, recover,
    },
};

pub(crate) const LEASE: Nanos = Nanos::from_secs(2);

/// The incarnation of a database's server, as steps find it, unless a test says otherwise.
pub(crate) const SERVER: Option<u64> = Some(1);

/// What an executor does with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    Fails,
    Hangs,
}

pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) conductor: Conductor,
    pub(crate) config: ConductorConfig,
    pub(crate) now: MonoNs,
    pub(crate) journal: Vec<Record>,
    /// Steps that were begun, as `role: step`.
    pub(crate) steps: Vec<String>,
    pub(crate) orders: Vec<Order>,
    pub(crate) abandoned: Vec<u64>,
    /// The steps that do not succeed.
    pub(crate) bad: Vec<(&'static str, Manners)>,
    /// What was found of the first role last.
    pub(crate) found: Option<Observation>,
    /// The incarnation of its database's server, as steps find it.
    pub(crate) server: Option<u64>,
    /// What "settle" and "restore" find.
    pub(crate) end: u64,
    pub(crate) promoted: Vec<Result<(), String>>,
    pub(crate) demoted: Vec<Result<(), String>>,
    pub(crate) prospect: Option<Prospect>,
    pub(crate) mode: Mode,
    pub(crate) notes: Vec<String>,
    pub(crate) disk_full: bool,
    /// Ends, as a daemon that is killed, once its journal is this long.
    pub(crate) killed_at: Option<usize>,
}

pub(crate) fn mysql(durability: Durability) -> RoleKind {
    RoleKind::Mysql {
        durability,
        master_master: false,
    }
}

pub(crate) fn role(name: &str, kind: RoleKind) -> RoleConfig {
    RoleConfig {
        name: name.to_owned(),
        kind,
        limits: Limits {
            promote: Nanos::from_secs(1),
            drain: Nanos::from_secs(10),
            demote: Nanos::from_secs(2),
        },
        max_lag: Nanos::from_secs(5),
    }
}

pub(crate) fn config(name: &str, roles: Vec<RoleConfig>) -> ConductorConfig {
    ConductorConfig {
        group: "db".to_owned(),
        node: name.to_owned(),
        roles,
        peers: 1,
        sync_lease: LEASE,
        after_failover: AfterFailover::Rejoin,
    }
}

/// A device, a file system on it and a unit on that.
pub(crate) fn disk_roles() -> Vec<RoleConfig> {
    vec![
        role("r0", RoleKind::Drbd),
        role("data", RoleKind::Mount),
        role("app", RoleKind::Unit),
    ]
}

pub(crate) fn standby() -> Recovered {
    Recovered {
        epoch: 0,
        stance: Stance::Standby,
        sole: false,
        alone_since: None,
        heeded: 0,
    }
}

pub(crate) fn able() -> Observation {
    Observation::of(None, Ok(()))
}

pub(crate) fn at(rank: u64) -> Option<Position> {
    Some(Position {
        rank,
        text: format!("0-1-{rank}"),
    })
}

impl Node {
    /// A node that was a standby when its daemon ended, and of which everything could be promoted.
    pub(crate) fn new(name: &'static str, config: ConductorConfig) -> Self {
        let mut node = Self::found(name, config, standby(), Mode::ActiveStandby);
        node.observe_all(able());
        node
    }

    pub(crate) fn found(
        name: &'static str,
        config: ConductorConfig,
        found: Recovered,
        mode: Mode,
    ) -> Self {
        let now = MonoNs(1_000_000_000);
        let mut node = Self {
            name,
            conductor: Conductor::new(config.clone(), found, mode, now),
            config,
            now,
            journal: Vec::new(),
            steps: Vec::new(),
            orders: Vec::new(),
            abandoned: Vec::new(),
            bad: Vec::new(),
            found: None,
            server: SERVER,
            end: 0,
            promoted: Vec::new(),
            demoted: Vec::new(),
            prospect: None,
            mode,
            notes: Vec::new(),
            disk_full: false,
            killed_at: None,
        };
        node.act();
        node
    }

    /// The daemon starts again, with the journal that is on disk.
    pub(crate) fn restarted(&self) -> Self {
        let found = recover(self.journal.iter());
        let mut node = Self::found(self.name, self.config.clone(), found, self.mode);
        node.now = self.now;
        node
    }

    pub(crate) fn stance(&self) -> Stance {
        self.conductor.status(self.now).stance
    }

    pub(crate) fn eligible(&self) -> Result<(), String> {
        self.prospect.clone().expect("told at the start").eligible
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.killed_at.is_some_and(|at| self.journal.len() >= at)
    }

    pub(crate) fn handle(&mut self, input: PlanInput) {
        if !self.is_dead() {
            self.conductor.handle(input, self.now);
            self.act();
        }
    }

    pub(crate) fn promote(&mut self, unplanned: bool) {
        let round = self.now;
        self.handle(PlanInput::Promote { round, unplanned });
    }

    pub(crate) fn demote(&mut self, manner: Manner) {
        let round = self.now;
        self.handle(PlanInput::Demote { round, manner });
    }

    /// It is looked at now, unless the look is said to have begun before.
    pub(crate) fn observe(&mut self, role: usize, mut observation: Observation) {
        if observation.began_at == MonoNs::ZERO {
            observation.began_at = self.now;
        }
        if role == 0 {
            self.found = Some(observation.clone());
        }
        self.handle(PlanInput::Observed { role, observation });
    }

    pub(crate) fn observe_all(&mut self, observation: Observation) {
        for role in 0..self.config.roles.len() {
            self.observe(role, observation.clone());
        }
    }

    pub(crate) fn hear(&mut self, word: GroupWord) {
        self.handle(PlanInput::Heard(word));
    }

    /// What it tells another node now.
    pub(crate) fn word(&mut self, to: &str) -> GroupWord {
        let endpoint = format!("{}:3306", self.name);
        let word = self.conductor.word(to, Some(&endpoint), self.now);
        self.act();
        word
    }

    pub(crate) fn tell(&mut self, other: &mut Self) {
        // No two things happen at the same time.
        self.now = self.now.after(Nanos(1));
        let word = self.word(other.name);
        if word.wish.is_some() {
            // It looks at its own data before it agrees.
            other.hear(word.clone());
            other.look_again();
        }
        other.hear(word);
    }

    /// What was found last of a standby's first role is found again.
    fn look_again(&mut self) {
        if let Some(found) = self.found.clone()
            && self.stance() == Stance::Standby
        {
            let began_at = self.now;
            self.observe(0, Observation { began_at, ..found });
        }
    }

    /// Lets time pass, and serves what becomes due.
    pub(crate) fn pass(&mut self, span: Nanos) {
        let end = self.now.after(span);
        for _ in 0..10_000 {
            if self.is_dead() {
                return;
            }
            match self.conductor.poll_timeout(self.now) {
                Some(due) if due <= end => {
                    self.now = self.now.max(due);
                    self.conductor.handle_timeout(self.now);
                    self.act();
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!(
            "it is never done: {:?}",
            self.conductor.poll_timeout(self.now)
        );
    }

    fn act(&mut self) {
        let mut answers = VecDeque::new();
        for _ in 0..10_000 {
            if self.is_dead() {
                return;
            }
            let Some(action) = self.conductor.poll_action() else {
                let Some(answer) = answers.pop_front() else {
                    return;
                };
                self.conductor.handle(answer, self.now);
                continue;
            };
            match action {
                PlanAction::Write { serial, record } => {
                    if self.disk_full {
                        let why = "no space left on device".to_owned();
                        answers.push_back(PlanInput::Unwritten { serial, why });
                        continue;
                    }
                    self.journal.push(record);
                    answers.push_back(PlanInput::Written { serial });
                }
                PlanAction::Run(order) => answers.extend(self.run(order)),
                PlanAction::Abandon { serial } => self.abandoned.push(serial),
                PlanAction::Promoted { result, .. } => self.promoted.push(result),
                PlanAction::Demoted { result, .. } => self.demoted.push(result),
                PlanAction::Prospect(prospect) => self.prospect = Some(prospect),
                PlanAction::SetMode(mode) => self.mode = mode,
                PlanAction::Note(sentence) => self.notes.push(sentence),
                PlanAction::Progress(_) | PlanAction::Tell => {}
            }
        }
        panic!("it never ends");
    }

    fn run(&mut self, order: Order) -> Option<PlanInput> {
        let name = &self.config.roles[order.role].name;
        self.steps.push(format!("{name}: {}", order.step));
        let serial = order.serial;
        let step = order.step;
        self.orders.push(order);
        let manners = self.bad.iter().find(|(name, _)| *name == step);
        match manners {
            Some((_, Manners::Hangs)) => None,
            Some((_, Manners::Fails)) => Some(PlanInput::StepFailed {
                serial,
                why: "told to fail".to_owned(),
            }),
            None => {
                let ends = matches!(step, "settle" | "restore");
                let position = if ends { at(self.end) } else { None };
                let text = String::new();
                Some(PlanInput::StepDone {
                    serial,
                    done: Done {
                        text,
                        position,
                        incarnation: self.server,
                    },
                })
            }
        }
    }
}

/// Two nodes with a semi-synchronous database: the first primary, the second in sync.
pub(crate) fn pair() -> (Node, Node) {
    pair_with(AfterFailover::Rejoin)
}

/// The same, with what becomes of one that is taken over from.
pub(crate) fn pair_with(after_failover: AfterFailover) -> (Node, Node) {
    let roles = || vec![role("mariadb", mysql(Durability::SemiSync))];
    let mut nodes = ["n1", "n2"].map(|name| {
        let config = config(name, roles());
        Node::new(
            name,
            ConductorConfig {
                after_failover,
                ..config
            },
        )
    });
    let [one, two] = &mut nodes;
    one.conductor.set_priority(150);
    for node in [&mut *one, &mut *two] {
        node.observe(0, database(100));
    }
    // The other one agrees.
    exchange(one, two);
    exchange(one, two);
    one.promote(true);
    assert_eq!(one.promoted, [Ok(())], "{:?}", one.eligible());
    one.observe(0, primary(100, true));
    one.tell(two);
    assert!(
        two.steps.iter().any(|step| step.ends_with("join-sync")),
        "{:?}",
        two.steps
    );
    two.observe(0, replica(100, true));
    two.tell(one);
    assert!(
        one.steps.iter().any(|step| step.ends_with("restore")),
        "{:?}",
        one.steps
    );
    one.observe(0, primary(100, false));
    exchange(one, two);
    exchange(one, two);
    assert_eq!(two.eligible(), Ok(()));
    let [one, two] = nodes;
    (one, two)
}

/// Each hears the other.
pub(crate) fn exchange(one: &mut Node, two: &mut Node) {
    two.tell(one);
    one.tell(two);
}

/// Time passes, in which they hear each other.
pub(crate) fn together(one: &mut Node, two: &mut Node, span: Nanos) {
    let step = Nanos::from_millis(100);
    for _ in 0..span.0 / step.0 {
        one.pass(step);
        two.pass(step);
        exchange(one, two);
    }
}

/// A server that nobody writes to and that follows nobody.
pub(crate) fn database(rank: u64) -> Observation {
    Observation {
        promoted: Some(false),
        position: at(rank),
        history: Some(format!("0-1-{rank}")),
        ..able()
    }
}

pub(crate) fn primary(rank: u64, solo: bool) -> Observation {
    Observation {
        promoted: Some(true),
        replicas: Some(Replicas {
            acknowledging: u32::from(!solo),
            waiting: 0,
            solo,
        }),
        ..database(rank)
    }
}

pub(crate) fn replica(rank: u64, connected: bool) -> Observation {
    Observation {
        follows: Follows::Source {
            source: "n1:3306".to_owned(),
            receives: connected,
            acknowledges: connected,
            lag: connected.then_some(Nanos::ZERO),
        },
        ..database(rank)
    }
}

/// Which plans a journal tells of.
pub(crate) fn purposes(journal: &[Record]) -> Vec<Purpose> {
    journal
        .iter()
        .filter_map(|record| match record {
            Record::Begin { purpose, .. } => Some(*purpose),
            _ => None,
        })
        .collect()
}

/// How often a step was begun.
pub(crate) fn steps(node: &Node, step: &str) -> usize {
    node.steps
        .iter()
        .filter(|done| done.ends_with(step))
        .count()
}
