//! The task of one role: carries out its steps, and looks at it in between.

use std::time::Duration;

use ha_common::MonoNs;
use ha_core::plan::{Done, Observation, Order};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Role, Situation};
use crate::sys::clock;

/// Jobs that may wait for a worker: it takes them up at once, whatever it does.
const JOBS: usize = 32;
/// What a role does about the node's mode takes no longer.
const ADAPT_LIMIT: Duration = Duration::from_secs(30);
/// Until that is tried again.
const ADAPT_AGAIN: Duration = Duration::from_secs(5);
/// How much longer than its deadline a step is let be: who ordered it gives it up.
const SLACK: Duration = Duration::from_secs(1);
/// Between two events of a role that keeps noticing something.
const CALM: Duration = Duration::from_millis(5);

/// What a worker is to do.
#[derive(Debug)]
enum Job {
    Run(Order),
    Abandon(u64),
    Adapt(Situation),
    Look,
}

/// What a worker tells.
#[derive(Debug)]
pub(super) enum Report {
    /// A step has ended.
    Ended {
        serial: u64,
        result: Result<Done, String>,
    },
    /// The role was looked at.
    Observed { role: usize, found: Observation },
    /// It could not do what the node's mode or the group's state demands.
    Unadapted { role: usize, why: String },
}

/// The way to a worker, which ends with it.
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Begins one.
    pub(super) fn start(role: Box<dyn Role>, index: usize, reports: mpsc::Sender<Report>) -> Self {
        let (jobs, receiver) = mpsc::channel(JOBS);
        let bench = Bench {
            index,
            jobs: receiver,
            reports,
            situation: Situation::default(),
            adapt_at: Some(Instant::now()),
        };
        tokio::spawn(bench.work(role));
        Self { jobs }
    }

    /// Has a step carried out. `Err`: it will not be.
    pub(super) fn run(&self, order: Order) -> Result<(), String> {
        self.jobs
            .try_send(Job::Run(order))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => "it takes up no steps".to_owned(),
                mpsc::error::TrySendError::Closed(_) => "it has ended".to_owned(),
            })
    }

    /// Gives a step up. One that cannot be told has ended.
    pub(super) fn abandon(&self, serial: u64) {
        let _ = self.jobs.try_send(Job::Abandon(serial));
    }

    /// Has it look at the role at once: what it found before says nothing any more.
    pub(super) fn look(&self) {
        let _ = self.jobs.try_send(Job::Look);
    }

    /// Tells it what concerns it beside steps.
    pub(super) fn adapt(&self, situation: Situation) {
        let _ = self.jobs.try_send(Job::Adapt(situation));
    }
}

struct Bench {
    index: usize,
    jobs: mpsc::Receiver<Job>,
    reports: mpsc::Sender<Report>,
    situation: Situation,
    /// When the role is to be told the situation; `None`: it was.
    adapt_at: Option<Instant>,
}

impl Bench {
    async fn work(mut self, mut role: Box<dyn Role>) {
        let mut look_at = Instant::now();
        loop {
            let idle = idle(&mut *role, self.situation, self.adapt_at, look_at);
            let job = tokio::select! {
                biased;
                job = self.jobs.recv() => match job {
                    Some(job) => job,
                    None => return,
                },
                did = idle => {
                    match did {
                        Did::Adapted(result) => self.adapted(result).await,
                        Did::Looked(found) => {
                            look_at = Instant::now() + role.every();
                            self.tell(Report::Observed { role: self.index, found }).await;
                        }
                    }
                    continue;
                }
            };
            match job {
                Job::Adapt(situation) => self.heed(situation),
                Job::Look => look_at = Instant::now(),
                // It has ended meanwhile.
                Job::Abandon(_) => {}
                Job::Run(order) => {
                    self.carry_out(&mut *role, order).await;
                    look_at = Instant::now();
                }
            }
        }
    }

    async fn adapted(&mut self, result: Result<(), String>) {
        self.adapt_at = None;
        if let Err(why) = result {
            self.adapt_at = Some(Instant::now() + ADAPT_AGAIN);
            let role = self.index;
            self.tell(Report::Unadapted { role, why }).await;
        }
    }

    fn heed(&mut self, situation: Situation) {
        if situation != self.situation {
            self.situation = situation;
            self.adapt_at = Some(Instant::now());
        }
    }

    /// Carries a step out, and those that take its place.
    async fn carry_out(&mut self, role: &mut dyn Role, order: Order) {
        let mut next = Some(order);
        while let Some(order) = next.take() {
            let serial = order.serial;
            let mut run = role.run(&order);
            let limit = sleep_until(instant(order.deadline) + SLACK);
            tokio::pin!(limit);
            let result = loop {
                tokio::select! {
                    biased;
                    job = self.jobs.recv() => match job {
                        None => return,
                        Some(Job::Abandon(given_up)) if given_up == serial => break None,
                        // It is looked at after a step anyway.
                        Some(Job::Abandon(_) | Job::Look) => {}
                        Some(Job::Adapt(situation)) => self.heed(situation),
                        Some(Job::Run(other)) => {
                            next = Some(other);
                            break None;
                        }
                    },
                    result = &mut run => break Some(result),
                    () = &mut limit => break Some(Err("it had not ended in time".to_owned())),
                }
            };
            drop(run);
            if let Some(result) = result {
                self.tell(Report::Ended { serial, result }).await;
            }
        }
    }

    /// Who drives the group ends only together with its workers.
    async fn tell(&self, report: Report) {
        let _ = self.reports.send(report).await;
    }
}

/// What a worker does while there is nothing to do.
enum Did {
    Adapted(Result<(), String>),
    Looked(Observation),
}

async fn idle(
    role: &mut dyn Role,
    situation: Situation,
    adapt_at: Option<Instant>,
    look_at: Instant,
) -> Did {
    let adapts = adapt_at.is_some_and(|at| at <= look_at);
    let due = adapt_at.map_or(look_at, |at| at.min(look_at));
    tokio::select! {
        () = sleep_until(due) => {}
        () = role.watch(), if !adapts => sleep(CALM).await,
    }
    if adapts {
        let limit = format!("not within {} s", ADAPT_LIMIT.as_secs());
        let result = timeout(ADAPT_LIMIT, role.adapt(situation)).await;
        return Did::Adapted(result.unwrap_or(Err(limit)));
    }
    let limit = role.look_limit();
    let unknown = format!("it does not answer within {} s", limit.as_secs());
    let found = timeout(limit, role.observe()).await;
    Did::Looked(found.unwrap_or_else(|_| Observation::unknown(&unknown)))
}

fn instant(at: MonoNs) -> Instant {
    Instant::now() + Duration::from_nanos(at.since(clock::now()).0)
}
