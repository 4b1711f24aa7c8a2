//! The tasks of the checks: started, kept over a reload where nothing changed, and ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ha_common::MonoNs;
use ha_core::check::{CheckAction, CheckStatus, Found, HealthChange, Round};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Duration, sleep},
};

use super::{
    probe::{self, Probe, Role, RoleWatch},
    report::Watched,
};
use crate::{
    config::{Check, Config},
    control::report::CheckReport,
    engine::{Command, Handle, Message, Unreachable},
    events::{Event, Kind},
    sys::clock,
};

/// Those who ask for a probe at once and wait at the same time: an instance each.
const ASKS: usize = 256;
/// Until the engine thread is told again what it could not take.
const TELL_AGAIN: Duration = Duration::from_millis(5);

/// All checks of this node. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct Checks {
    running: Arc<Mutex<Vec<Running>>>,
    engine: Handle,
    messages: mpsc::Sender<Message>,
}

/// One check and its task.
#[derive(Debug)]
struct Running {
    config: Check,
    role: watch::Sender<Role>,
    asks: mpsc::Sender<MonoNs>,
    watched: Arc<Mutex<Watched>>,
    task: JoinHandle<()>,
}

impl Checks {
    /// None so far.
    #[must_use]
    pub fn new(engine: Handle, messages: mpsc::Sender<Message>) -> Self {
        Self {
            running: Arc::default(),
            engine,
            messages,
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins, ends and replaces tasks until they are those of a configuration. A check that stayed as it was
    /// goes on.
    pub fn configure(&self, config: &Config) {
        let mut running = self.running();
        let before = std::mem::take(&mut *running);
        let (mut kept, gone): (Vec<Running>, Vec<Running>) = before
            .into_iter()
            .partition(|running| config.checks.contains(&running.config));
        drop(gone);
        for check in &config.checks {
            let one = match kept.iter().position(|running| running.config == *check) {
                Some(index) => kept.swap_remove(index),
                None => self.start(check),
            };
            running.push(one);
        }
    }

    fn start(&self, check: &Check) -> Running {
        let (role, roles) = watch::channel(Role::default());
        let (asks, asked) = mpsc::channel(ASKS);
        let watched = Arc::new(Mutex::new(Watched::default()));
        let runner = Runner {
            name: check.name.as_str().into(),
            watched: Arc::clone(&watched),
            engine: self.engine.clone(),
            messages: self.messages.clone(),
        };
        Running {
            task: tokio::spawn(runner.run(check.clone(), roles, asked)),
            config: check.clone(),
            role,
            asks,
            watched,
        }
    }

    /// Tells a check what this node is for the instances that track it.
    pub fn set_role(&self, check: &str, role: Role) {
        let all = self.running();
        if let Some(running) = all.iter().find(|running| running.config.name == check) {
            running.role.send_if_modified(|known| {
                let changed = *known != role;
                *known = role;
                changed
            });
        }
    }

    /// Lets a check be looked at now, and the engine thread be told what it found. One that is not there any more
    /// is not reached.
    pub fn ask(&self, check: &str, round: MonoNs) {
        let all = self.running();
        let running = all.iter().find(|running| running.config.name == check);
        let asked = running.is_some_and(|running| running.asks.try_send(round).is_ok());
        if !asked {
            // If its queue is full, it is asked again as soon as the engine has waited for long enough.
            let _ = self.engine.send(Command::Confirmed {
                check: check.to_owned(),
                round,
                result: Err("it cannot be looked at at present".to_owned()),
            });
        }
    }

    /// Every check with what is known of it.
    #[must_use]
    pub fn report(&self) -> Vec<CheckReport> {
        let all = self.running();
        all.iter()
            .map(|running| {
                let watched = running.watched.lock();
                let watched = watched.unwrap_or_else(PoisonError::into_inner);
                watched.report(&running.config)
            })
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a task tells, and to whom.
struct Runner {
    name: Arc<str>,
    watched: Arc<Mutex<Watched>>,
    engine: Handle,
    messages: mpsc::Sender<Message>,
}

impl Runner {
    async fn run(self, config: Check, roles: RoleWatch, mut asked: mpsc::Receiver<MonoNs>) {
        let mut probe = probe::of(&config.kind, roles);
        let mut check = ha_core::check::Check::new(config.times, clock::now());
        let mut under_way: Option<Round> = None;
        let mut rounds: Vec<MonoNs> = Vec::new();
        loop {
            while let Some(action) = check.poll_action() {
                match action {
                    CheckAction::Probe(round) => under_way = Some(round),
                    CheckAction::Abandon(_) => under_way = None,
                    CheckAction::Answer(result) => {
                        let result = result.map(drop);
                        for round in rounds.drain(..) {
                            self.confirm(round, result.clone()).await;
                        }
                    }
                    CheckAction::Report(change) => self.report(change).await,
                }
            }
            self.publish(check.status(), &*probe);
            let due = sleep(Duration::from_nanos(
                check.poll_timeout().since(clock::now()).0,
            ));
            match under_way {
                Some(round) => tokio::select! {
                    biased;
                    result = probe.probe() => {
                        under_way = None;
                        let count = probe.count();
                        let found = result.map(|text| Found { text, count });
                        check.probed(round, found, clock::now());
                    }
                    Some(round) = asked.recv() => {
                        rounds.push(round);
                        check.ask(round, clock::now());
                    }
                    () = due => check.handle_timeout(clock::now()),
                },
                None => tokio::select! {
                    biased;
                    Some(round) = asked.recv() => {
                        rounds.push(round);
                        check.ask(round, clock::now());
                    }
                    observation = probe.watch() => check.observe(observation, clock::now()),
                    () = due => check.handle_timeout(clock::now()),
                },
            }
        }
    }

    fn publish(&self, status: CheckStatus, probe: &dyn Probe) {
        let output = probe.output();
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Watched {
            status: Some(status),
            output,
        };
    }

    /// Tells the engine first: it acts.
    async fn report(&self, change: HealthChange) {
        self.tell(|| Command::Checked {
            check: self.name.to_string(),
            health: change.to,
            count: change.count,
            why: change.why.clone(),
        })
        .await;
        if change.from == change.to {
            // What it counts changed; the instances say what that makes of their priority.
            return;
        }
        let sentence = format!(
            "check {} is {}: {}",
            self.name,
            change.to.name(),
            change.why
        );
        let event = Message::Event(Event {
            at: change.at,
            instance: Arc::clone(&self.name),
            kind: Kind::Check,
            states: Some((change.from.name(), change.to.name())),
            sentence,
        });
        // It ends only together with the daemon.
        let _ = self.messages.send(event).await;
    }

    async fn confirm(&self, round: MonoNs, result: Result<(), String>) {
        self.tell(|| Command::Confirmed {
            check: self.name.to_string(),
            round,
            result: result.clone(),
        })
        .await;
    }

    /// Its thread may be busy for a while; what it is told is never lost.
    async fn tell(&self, command: impl Fn() -> Command) {
        while let Err(Unreachable::Busy) = self.engine.send(command()) {
            sleep(TELL_AGAIN).await;
        }
    }
}
