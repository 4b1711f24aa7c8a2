//! Something tracked: from what is reported of it to what counts.

use alloc::string::String;

use ha_common::{MonoNs, Nanos};

use super::{Reading, Source, TrackedConfig, TrackedStatus};
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

    /// Since when it is reported to be down, and why; neither delays nor damping matter.
    pub(crate) fn fault(&self) -> Option<(MonoNs, String)> {
        let down = self.reported.health == Health::Down;
        down.then(|| (self.reported_at, self.reported.why.clone()))
    }

    pub(crate) const fn is_muted(&self) -> bool {
        self.muted_until.is_some()
    }

    /// Takes in what is reported. What it comes to is to be asked for by [`Self::settle`].
    pub(crate) fn read(&mut self, reading: Reading, now: MonoNs) {
        let before = core::mem::replace(&mut self.reported, reading).health;
        let after = self.reported.health;
        if before != after {
            self.reported_at = now;
        }
        if after == Health::Down && before != Health::Down {
            let forgotten = self.config.damping.max(FIRST_HOLD);
            if self.counts.health == Health::Up && now.since(self.up_since) >= forgotten {
                self.falls = 0;
            }
            self.falls = self.falls.saturating_add(1);
        }
        if after == self.counts.health || after == Health::Unknown {
            self.settles_at = None;
            if after != Health::Unknown {
                self.counts.clone_from(&self.reported);
            }
            return;
        }
        if before != after || self.settles_at.is_none() {
            self.settles_at = Some(now.after(self.wait()));
        }
    }

    /// How long what is reported must last before it counts.
    fn wait(&self) -> Nanos {
        match (self.counts.health, self.reported.health) {
            (Health::Unknown, _) => Nanos::ZERO,
            (_, Health::Up) => self.config.up_delay.max(self.hold()),
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
            self.counts.clone_from(&self.reported);
            if self.counts.health == Health::Up {
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
