//! An instance's timers: a fixed table, no heap, no tasks.

use core::fmt;

use ha_common::MonoNs;

/// What an instance can wait for.
///
/// When several are due at once they are served in this order: a gate that ran out comes before
/// anything that would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The gate's deadline: our adverts stopped renewing it.
    Gate,
    /// A peer that grants leases may have fallen silent.
    Alone,
    /// The interface's carrier has been away, or back, for long enough.
    Link,
    /// The end of the start delay.
    Start,
    /// The end of the hold-down after a failed promotion.
    HoldDown,
    /// Active_Down_Timer (RFC 9568 section 6.2), or its backstop where the kernel watches.
    ActiveDown,
    /// A lower-priority Active router has been heard for long enough to pre-empt it.
    Preempt,
    /// The loser of an election has been silent for as long as its gate can last.
    Rival,
    /// A promise that keeps this node from competing is over; or it has announced itself as a candidate, and
    /// a round trip is over.
    Candidate,
    /// An arbitrator is to be asked again.
    Arbitrate,
    /// A promotion has to be complete.
    Promotion,
    /// A promotion or a demotion of roles has to be complete.
    Roles,
    /// Adver_Timer (RFC 9568 section 6.2).
    Advert,
    /// The next echo of a path.
    Echo,
    /// What is reported of something tracked counts from here on.
    Track,
    /// The next announcement of a burst, or its retry.
    Announce,
    /// The second burst of announcements.
    Repeat,
    /// The periodic announcement.
    Refresh,
}

impl Timer {
    /// Every timer, in the order in which they are served.
    pub const ALL: [Self; 18] = [
        Self::Gate,
        Self::Alone,
        Self::Link,
        Self::Start,
        Self::HoldDown,
        Self::ActiveDown,
        Self::Preempt,
        Self::Rival,
        Self::Candidate,
        Self::Arbitrate,
        Self::Promotion,
        Self::Roles,
        Self::Advert,
        Self::Echo,
        Self::Track,
        Self::Announce,
        Self::Repeat,
        Self::Refresh,
    ];

    /// For logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate deadline",
            Self::Alone => "alone",
            Self::Link => "link delay",
            Self::Start => "start delay",
            Self::HoldDown => "hold-down",
            Self::ActiveDown => "active down",
            Self::Preempt => "preempt",
            Self::Rival => "rival",
            Self::Candidate => "candidate",
            Self::Arbitrate => "arbitration",
            Self::Promotion => "promotion",
            Self::Roles => "roles",
            Self::Advert => "advert",
            Self::Echo => "echo",
            Self::Track => "track",
            Self::Announce => "announce",
            Self::Repeat => "announce again",
            Self::Refresh => "announce refresh",
        }
    }
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When each timer is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimerTable {
    due: [Option<MonoNs>; Timer::ALL.len()],
}

impl TimerTable {
    pub(crate) fn set(&mut self, timer: Timer, due: MonoNs) {
        self.due[timer as usize] = Some(due);
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.due[timer as usize] = None;
    }

    /// Stops every one that belongs to a stay in a state: the interface's goes on.
    pub(crate) fn stop_all(&mut self) {
        let link = self.get(Timer::Link);
        self.due = Default::default();
        self.due[Timer::Link as usize] = link;
    }

    pub(crate) fn get(&self, timer: Timer) -> Option<MonoNs> {
        self.due[timer as usize]
    }

    /// Takes the timer out if it is due, and says when it had been due.
    pub(crate) fn take_expired(&mut self, timer: Timer, now: MonoNs) -> Option<MonoNs> {
        self.due[timer as usize].take_if(|due| *due <= now)
    }

    /// Whether one of them is due.
    pub(crate) fn is_due(&self, now: MonoNs) -> bool {
        self.due.iter().flatten().any(|due| *due <= now)
    }

    /// The earliest, and among equals the first served.
    pub(crate) fn next(&self) -> Option<(MonoNs, Timer)> {
        Timer::ALL
            .into_iter()
            .filter_map(|timer| Some((self.get(timer)?, timer)))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_indexed_by_the_order_of_service() {
        for (index, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }

    #[test]
    fn the_earliest_is_next_and_is_taken_once() {
        let mut table = TimerTable::default();
        assert_eq!(table.next(), None);
        table.set(Timer::Advert, MonoNs(5));
        table.set(Timer::Gate, MonoNs(5));
        table.set(Timer::Refresh, MonoNs(9));
        assert_eq!(table.next(), Some((MonoNs(5), Timer::Gate)));
        assert!(!table.is_due(MonoNs(4)));
        assert!(table.is_due(MonoNs(5)));
        assert_eq!(table.take_expired(Timer::Advert, MonoNs(4)), None);
        assert_eq!(
            table.take_expired(Timer::Advert, MonoNs(6)),
            Some(MonoNs(5))
        );
        assert_eq!(table.take_expired(Timer::Advert, MonoNs(6)), None);
        table.stop_all();
        assert_eq!(table.next(), None);
    }
}
