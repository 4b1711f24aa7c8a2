//! Something tracked: from what is reported of it to what counts.

use core::cmp::Ordering;

use ha_common::{MonoNs, Nanos};

use super::{Advisor, Reading, Source, TrackedConfig, TrackedStatus};
use crate::check::Health;

/// What the second fall in a row costs; each further one twice as much as the one before.
const FIRST_HOLD: Nanos = Nanos::from_secs(1);
/// The end of a mute that has none.
const FOREVER: MonoNs = MonoNs(u64::MAX);
/// Beyond so many doublings every hold is as long as the configuration allows.
const DOUBLINGS: u32 = 20;

/// One tracked thing.
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    config: TrackedConfig,
    reported: Reading,
    counts: Reading,
    /// Since when it is reported to be up, or down.
    reported_at: MonoNs,
    /// When what is reported counts, if it is not what counts.
    settles_at: Option<MonoNs>,
    /// Falls, of which none lies back so long that it is forgotten.
    falls: u32,
    /// Since when it has counted as up.
    up_since: MonoNs,
    muted_until: Option<MonoNs>,
}

impl Tracked {
    pub(crate) fn new(config: TrackedConfig) -> Self {
        Self {
            config,
            reported: Reading::default(),
            counts: Reading::default(),
            reported_at: MonoNs::ZERO,
            settles_at: None,
            falls: 0,
            up_since: MonoNs::ZERO,
            muted_until: None,
        }
    }

    /// The same thing by another configuration: what is known of it stays.
    pub(crate) fn reconfigure(&mut self, config: TrackedConfig) {
        self.config = config;
    }

    pub(crate) fn is(&self, source: &Source) -> bool {
        self.config.source == *source
    }

    /// What counts at present.
    pub(crate) const fn counts(&self) -> &Reading {
        &self.counts
    }

    /// As an arbitrator: goes by what is reported; neither delays nor damping matter.
    pub(crate) fn advisor(&self) -> Advisor {
        let down = self.reported.health == Health::Down;
        Advisor {
            source: self.config.source.clone(),
            fault: down.then(|| (self.reported_at, self.reported.why.clone())),
            interval: self.config.interval,
            timeout: self.config.timeout,
        }
    }

    /// Where it is reported to be up, and does not count as that yet: when it does.
    pub(crate) fn rises_at(&self) -> Option<MonoNs> {
        self.settles_at
            .filter(|_| self.reported.health == Health::Up)
    }

    pub(crate) const fn is_muted(&self) -> bool {
        self.muted_until.is_some()
    }

    /// Takes in what is reported. What it comes to is to be asked for by [`Self::settle`].
    pub(crate) fn read(&mut self, reading: Reading, now: MonoNs) {
        let before = core::mem::replace(&mut self.reported, reading);
        if before.health != self.reported.health {
            self.reported_at = now;
        }
        if self.reported.health == Health::Unknown {
            self.settles_at = None;
            return;
        }
        if self.compare(&self.reported, &before) == Ordering::Less {
            let forgotten = self.config.damping.max(FIRST_HOLD);
            if self.counts.health == Health::Up && now.since(self.up_since) >= forgotten {
                self.falls = 0;
            }
            self.falls = self.falls.saturating_add(1);
        }
        let direction = self.compare(&self.reported, &self.counts);
        if direction == Ordering::Equal {
            self.settles_at = None;
            self.counts.clone_from(&self.reported);
        } else if self.settles_at.is_none()
            || before.health != self.reported.health
            || self.compare(&before, &self.counts) != direction
        {
            self.settles_at = Some(now.after(self.wait(direction)));
        }
    }

    /// Whether one condition is better than another.
    fn compare(&self, one: &Reading, other: &Reading) -> Ordering {
        let rank = |reading: &Reading| match (&self.config.source, reading.health) {
            (_, Health::Unknown) => (1, 0),
            (_, Health::Down) => (0, 0),
            (Source::Interface(_), Health::Up) => (2, reading.count),
            (Source::Check(_), Health::Up) => (2, 0),
        };
        rank(one).cmp(&rank(other))
    }

    /// How long what is reported must last before it counts.
    fn wait(&self, direction: Ordering) -> Nanos {
        match (self.counts.health, direction) {
            (Health::Unknown, _) => Nanos::ZERO,
            (_, Ordering::Greater) => self.config.up_delay.max(self.hold()),
            _ => self.config.down_delay,
        }
    }

    /// How long a recovery is held back for what fell before.
    fn hold(&self) -> Nanos {
        let Some(doublings) = self.falls.checked_sub(2) else {
            return Nanos::ZERO;
        };
        FIRST_HOLD
            .times(1 << doublings.min(DOUBLINGS))
            .min(self.config.damping)
    }

    /// Applies what is due.
    pub(crate) fn settle(&mut self, now: MonoNs) {
        if self.settles_at.take_if(|due| *due <= now).is_some() {
            let risen = self.compare(&self.reported, &self.counts) == Ordering::Greater;
            self.counts.clone_from(&self.reported);
            if risen && self.counts.health == Health::Up {
                self.up_since = now;
            }
        }
        self.muted_until.take_if(|until| *until <= now);
    }

    /// When to call [`Self::settle`].
    pub(crate) fn next(&self) -> Option<MonoNs> {
        let muted_until = self.muted_until.filter(|until| *until != FOREVER);
        self.settles_at.into_iter().chain(muted_until).min()
    }

    /// Lets it count for nothing until then; `None`: count again.
    pub(crate) fn mute(&mut self, until: Option<MonoNs>) {
        self.muted_until = until;
    }

    pub(crate) fn status(&self) -> TrackedStatus {
        TrackedStatus {
            source: self.config.source.clone(),
            reported: self.reported.clone(),
            counts: self.counts.clone(),
            settles_at: self.settles_at,
            muted_until: self.muted_until,
        }
    }
}
