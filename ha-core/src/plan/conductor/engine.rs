//! The engine thread, as far as it is heard: while it is silent, its gate closes and another node may take over.
//! Nothing is opened then, for what fences the roles is at work already.

use ha_common::{MonoNs, Nanos};

use super::Conductor;

/// After a silence the engine has had the time to say what came of it.
const SETTLES: Nanos = Nanos::from_millis(200);

/// What was heard of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// Since when it was not silent for longer than its gate stays open.
    since: MonoNs,
    /// Until when its gate may be open by itself.
    until: MonoNs,
}

impl Conductor {
    /// The engine thread runs `since` then without a silence in which its gate closes, and by what was heard last that
    /// is open `until` then at most. Never said, its thread is the conductor's.
    pub const fn set_engine(&mut self, since: MonoNs, until: MonoNs) {
        self.engine = Some(Heard { since, until });
    }

    /// Whether anything may be opened.
    pub(super) fn may_open(&self, now: MonoNs) -> bool {
        self.engine
            .is_none_or(|heard| heard.settled_at() <= now && now < heard.until)
    }

    /// When it may be, if nothing else happens.
    pub(super) fn opens_at(&self) -> MonoNs {
        let heard = self.engine.filter(|heard| heard.settled_at() < heard.until);
        heard.map_or(MonoNs::ZERO, Heard::settled_at)
    }

    /// Has a step carried out that waited until it may be.
    pub(super) fn let_open(&mut self, now: MonoNs) {
        self.with_run(now, |run, means| {
            run.open(now, means);
            None
        });
    }
}

impl Heard {
    fn settled_at(self) -> MonoNs {
        if self.since == MonoNs::ZERO {
            return MonoNs::ZERO;
        }
        self.since.after(SETTLES)
    }
}
