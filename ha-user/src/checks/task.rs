//! The task of one check: carries its probes out, and tells what came of them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use ha_common::MonoNs;
use ha_core::check::{Check, CheckAction, CheckStatus, Found, HealthChange, Round};
use tokio::{
    sync::mpsc,
    time::{Duration, sleep},
};

use super::{
    asks::Asks,
    probe::{self, Probe, RoleWatch},
    report::Watched,
};
use crate::{
    config,
    engine::{Command, Handle, Message, Unreachable},
    events::{Event, Kind},
    sys::clock,
};

/// Until the engine thread is told again what it could not take.
const TELL_AGAIN: Duration = Duration::from_millis(5);

/// What a task tells, and to whom.
pub(super) struct Runner {
    pub(super) name: Arc<str>,
    pub(super) asks: Asks,
    pub(super) watched: Arc<Mutex<Watched>>,
    pub(super) engine: Handle,
    pub(super) messages: mpsc::Sender<Message>,
}

/// A check, and what it decided that was not done yet.
struct Decisions {
    check: Check,
    /// The round that is to be carried out.
    under_way: Option<Round>,
    news: VecDeque<News>,
}

/// What is to be told.
enum News {
    /// The result that those who asked wait for.
    Answer(Result<(), String>),
    Change(HealthChange),
}

impl Decisions {
    fn take_up(&mut self) {
        while let Some(action) = self.check.poll_action() {
            match action {
                CheckAction::Probe(round) => self.under_way = Some(round),
                CheckAction::Abandon(_) => self.under_way = None,
                CheckAction::Answer(result) => self.news.push_back(News::Answer(result.map(drop))),
                CheckAction::Report(change) => self.news.push_back(News::Change(change)),
            }
        }
    }

    /// What the clock makes of it, when its time has come.
    async fn due(&mut self) {
        let due = self.check.poll_timeout().since(clock::now());
        sleep(Duration::from_nanos(due.0)).await;
        self.check.handle_timeout(clock::now());
    }

    fn ask(&mut self, round: MonoNs) {
        self.check.ask(round, clock::now());
    }
}

impl Runner {
    pub(super) async fn run(mut self, config: config::Check, roles: RoleWatch) {
        let mut probe = probe::of(&config.kind, roles);
        let mut decisions = Decisions {
            check: Check::new(config.times, clock::now()),
            under_way: None,
            news: VecDeque::new(),
        };
        loop {
            decisions.take_up();
            self.tell_all(&mut decisions.news).await;
            // Many ask at the same time: a probe that begins now answers all of them.
            while let Some(round) = self.asks.try_next() {
                decisions.ask(round);
            }
            decisions.take_up();
            self.publish(decisions.check.status(), &*probe);
            match decisions.under_way {
                Some(round) => self.probe(&mut *probe, round, &mut decisions).await,
                None => tokio::select! {
                    biased;
                    round = self.asks.next() => decisions.ask(round),
                    observation = probe.watch() => {
                        decisions.check.observe(observation, clock::now());
                    }
                    () = decisions.due() => {}
                },
            }
        }
    }

    /// Carries a round out, until it has ended or is given up. Those who ask meanwhile do not disturb it, unless it
    /// began too early for them.
    async fn probe(&mut self, probe: &mut dyn Probe, round: Round, decisions: &mut Decisions) {
        let mut pending = probe.probe();
        let result = loop {
            tokio::select! {
                biased;
                result = &mut pending => break result,
                round = self.asks.next() => decisions.ask(round),
                () = decisions.due() => {}
            }
            decisions.take_up();
            if decisions.under_way != Some(round) {
                return;
            }
        };
        drop(pending);
        decisions.under_way = None;
        let count = probe.count();
        let found = result.map(|text| Found { text, count });
        decisions.check.probed(round, found, clock::now());
    }

    async fn tell_all(&mut self, news: &mut VecDeque<News>) {
        while let Some(one) = news.pop_front() {
            match one {
                News::Answer(result) => {
                    while let Some(round) = self.asks.first() {
                        self.confirm(round, &result).await;
                        self.asks.answered();
                    }
                }
                News::Change(change) => self.report(change).await,
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
        tell(&self.engine, || Command::Checked {
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

    async fn confirm(&self, round: MonoNs, result: &Result<(), String>) {
        tell(&self.engine, || Command::Confirmed {
            check: self.name.to_string(),
            round,
            result: result.clone(),
        })
        .await;
    }
}

/// The engine thread may be busy for a while; what it is told is never lost.
pub(super) async fn tell(engine: &Handle, command: impl Fn() -> Command) {
    while let Err(Unreachable::Busy) = engine.send(command()) {
        sleep(TELL_AGAIN).await;
    }
}
