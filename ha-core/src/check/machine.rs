//! From probes and events to what is believed of a service.

use alloc::{collections::VecDeque, format, string::String};

use ha_common::{MonoNs, Nanos};

use super::{
    config::CheckConfig,
    event::{CheckAction, HealthChange, Observation, Round},
    status::{CheckStatus, Found, Health, Probed},
};
use crate::status::Span;

/// Results that are kept for `hactl checks`.
const RECENT: usize = 16;

/// Probes that events cause at once within an interval: an event source that never rests, such as a server that
/// closes each connection, must not keep this node busy.
const EVENT_PROBES: u32 = 3;

/// How soon an event beyond those is followed by a probe, at the latest: sooner where the interval is short.
const LATE_EVENT_PROBE: Nanos = Nanos::from_secs(1);

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until the next probe.
    Waiting { next: MonoNs },
    /// A probe is under way.
    Probing {
        round: Round,
        began: MonoNs,
        /// Its failure alone decides: an event was the first sign.
        decides: bool,
        /// Something changed since it began, so that it is followed by another one.
        stale: bool,
    },
}

/// One watched service.
#[derive(Clone, Debug)]
pub struct Check {
    config: CheckConfig,
    phase: Phase,
    /// Before that, events are not news: the service is only starting.
    starts_at: MonoNs,
    last_round: Round,
    /// Probes that events caused at once since then.
    event_probes: u32,
    counting_since: MonoNs,
    /// The next probe's failure alone decides: an event that could not cause one was the first sign.
    suspected: bool,
    health: Health,
    since: MonoNs,
    why: String,
    /// What the last probe that passed counted.
    count: i32,
    passed: u32,
    failed: u32,
    recent: VecDeque<Probed>,
    /// Whether somebody waits for the result of the probe under way.
    asked: bool,
    actions: VecDeque<CheckAction>,
}

impl Check {
    /// Begins to watch.
    #[must_use]
    pub fn new(config: CheckConfig, now: MonoNs) -> Self {
        let starts_at = now.after(config.start_delay);
        Self {
            config,
            phase: Phase::Waiting { next: starts_at },
            starts_at,
            last_round: Round::default(),
            event_probes: 0,
            counting_since: now,
            suspected: false,
            health: Health::Unknown,
            since: now,
            why: String::new(),
            count: 0,
            passed: 0,
            failed: 0,
            recent: VecDeque::with_capacity(RECENT),
            asked: false,
            actions: VecDeque::new(),
        }
    }

    /// A probe ended: with what it found, or what is wrong.
    pub fn probed(&mut self, round: Round, result: Result<Found, String>, now: MonoNs) {
        match self.phase {
            Phase::Probing { round: current, .. } if current == round => self.conclude(result, now),
            _ => {}
        }
    }

    /// An event source says something.
    pub fn observe(&mut self, observation: Observation, now: MonoNs) {
        if now < self.starts_at {
            return;
        }
        match observation {
            Observation::Failed(why) => {
                self.abandon();
                if core::mem::take(&mut self.asked) {
                    self.actions
                        .push_back(CheckAction::Answer(Err(why.clone())));
                }
                self.suspected = false;
                self.passed = 0;
                self.failed = self.failed.max(self.config.fall);
                self.phase = Phase::Waiting {
                    next: now.after(self.config.interval),
                };
                self.believe(Health::Down, why, now);
            }
            Observation::Suspect(_) if self.health != Health::Down => {
                self.suspected = true;
                if self.may_probe(now) {
                    self.abandon();
                    self.begin(false, now);
                } else {
                    self.probe_soon(now);
                }
            }
            Observation::Suspect(_) | Observation::Changed => match &mut self.phase {
                Phase::Probing { stale, .. } => *stale = true,
                Phase::Waiting { .. } => {
                    if self.may_probe(now) {
                        self.begin(false, now);
                    } else {
                        self.probe_soon(now);
                    }
                }
            },
        }
    }

    /// Somebody wants to know how it is, from a probe that begins no earlier than `from`. Asks for nothing; the answer
    /// is a [`CheckAction::Answer`], within the timeout.
    pub fn ask(&mut self, from: MonoNs, now: MonoNs) {
        self.asked = true;
        let mut decides = false;
        if let Phase::Probing {
            began, decides: by, ..
        } = self.phase
        {
            if began >= from {
                return;
            }
            decides = by;
        }
        self.abandon();
        self.begin(decides, now);
    }

    /// Begins the probe that is due, or gives up the one whose time is over.
    pub fn handle_timeout(&mut self, now: MonoNs) {
        if self.poll_timeout() > now {
            return;
        }
        match self.phase {
            Phase::Waiting { .. } => self.begin(false, now),
            Phase::Probing { round, .. } => {
                self.actions.push_back(CheckAction::Abandon(round));
                let why = format!("no answer within {}", Span(self.config.timeout));
                self.conclude(Err(why), now);
                // It took its time already: nothing is gained by waiting for the interval as well.
                if self.failed < self.config.fall
                    && let Phase::Waiting { next } = &mut self.phase
                {
                    *next = now;
                }
            }
        }
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> MonoNs {
        match self.phase {
            Phase::Waiting { next } => next,
            Phase::Probing { began, .. } => began.after(self.config.timeout),
        }
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<CheckAction> {
        self.actions.pop_front()
    }

    /// What is known.
    #[must_use]
    pub fn status(&self) -> CheckStatus {
        CheckStatus {
            health: self.health,
            since: self.since,
            why: self.why.clone(),
            passed: self.passed,
            failed: self.failed,
            recent: self.recent.iter().cloned().collect(),
        }
    }

    /// Whether an event may cause one more probe at once.
    fn may_probe(&mut self, now: MonoNs) -> bool {
        if now >= self.counting_since.after(self.config.interval) {
            self.counting_since = now;
            self.event_probes = 0;
        }
        let may = self.event_probes < EVENT_PROBES;
        if may {
            self.event_probes += 1;
        }
        may
    }

    /// An event that may not cause a probe at once causes one soon.
    fn probe_soon(&mut self, now: MonoNs) {
        let soon = now.after(Nanos(self.config.interval.0 / 4).min(LATE_EVENT_PROBE));
        match &mut self.phase {
            Phase::Waiting { next } => *next = (*next).min(soon),
            Phase::Probing { stale, .. } => *stale = true,
        }
    }

    /// Begins a probe. Its failure alone decides if that is said, or something was the first sign.
    fn begin(&mut self, decides: bool, now: MonoNs) {
        let decides = core::mem::take(&mut self.suspected) || decides;
        let round = Round(self.last_round.0 + 1);
        self.last_round = round;
        self.phase = Phase::Probing {
            round,
            began: now,
            decides,
            stale: false,
        };
        self.actions.push_back(CheckAction::Probe(round));
    }

    fn abandon(&mut self) {
        if let Phase::Probing { round, .. } = self.phase {
            self.actions.push_back(CheckAction::Abandon(round));
        }
    }

    fn conclude(&mut self, result: Result<Found, String>, now: MonoNs) {
        let Phase::Probing {
            began,
            decides,
            stale,
            ..
        } = self.phase
        else {
            return;
        };
        let said = result.as_ref().map(|found| found.text.clone());
        let said = said.map_err(Clone::clone);
        if core::mem::take(&mut self.asked) {
            self.actions.push_back(CheckAction::Answer(said.clone()));
        }
        self.record(now, now.since(began), said);
        self.phase = Phase::Waiting {
            next: began.after(self.config.interval).max(now),
        };
        match result {
            Ok(found) => {
                self.failed = 0;
                self.passed = self.passed.saturating_add(1);
                let risen = self.passed >= self.config.rise || self.health == Health::Unknown;
                let recounted = core::mem::replace(&mut self.count, found.count) != found.count;
                if self.health != Health::Up && risen {
                    self.believe(Health::Up, found.text, now);
                } else if self.health == Health::Up && recounted {
                    self.why = found.text;
                    self.tell(Health::Up, now);
                }
            }
            Err(why) => {
                self.passed = 0;
                self.failed = self.failed.saturating_add(1);
                let fallen = self.failed >= self.config.fall || decides;
                if self.health != Health::Down && fallen {
                    self.believe(Health::Down, why, now);
                } else if self.health == Health::Down && self.why != why {
                    self.why = why;
                    self.tell(Health::Down, now);
                }
            }
        }
        if stale {
            if self.may_probe(now) {
                self.begin(false, now);
            } else {
                self.probe_soon(now);
            }
        }
    }

    fn record(&mut self, at: MonoNs, lasted: Nanos, result: Result<String, String>) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Probed { at, lasted, result });
    }

    fn believe(&mut self, to: Health, why: String, now: MonoNs) {
        let from = self.health;
        self.why = why;
        if from == to {
            return;
        }
        self.health = to;
        self.since = now;
        self.tell(from, now);
    }

    fn tell(&mut self, from: Health, now: MonoNs) {
        self.actions.push_back(CheckAction::Report(HealthChange {
            from,
            to: self.health,
            count: self.count,
            why: self.why.clone(),
            at: now,
        }));
    }
}
