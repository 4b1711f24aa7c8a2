//! What happened: the last events, for `hactl events` and for the log.

use std::{collections::VecDeque, sync::Arc};

use ha_common::MonoNs;

use crate::{control::report::EventReport, sys::clock};

/// How many events are kept.
pub const CAPACITY: usize = 1_000;

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An instance changed its state.
    Transition,
    /// Something worth knowing that is no transition.
    Note,
    /// The kernel lets this node speak for the VIPs from here on.
    GateOpen,
    /// The kernel lets this node no longer speak for the VIPs.
    GateClosed,
    /// The VIPs are on the interface.
    VipsAdded,
    /// The VIPs are off the interface.
    VipsRemoved,
    /// The first gratuitous ARP of a take-over was sent.
    Announced,
    /// The kernel's timer found silence: no adverts, or nobody who asks for leases.
    Silence,
    /// This node asks its peers for leases, to take over.
    Candidate,
    /// A channel's session changed its state; the event names the channel instead of an instance.
    Channel,
    /// What is believed of a watched service changed; the event names the check instead of an instance.
    Check,
    /// What passes between this node's daemon and another one's; the event names the path instead of an instance.
    Link,
    /// Something about a group's roles; the event names the group instead of an instance.
    Roles,
}

impl Kind {
    /// As in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transition => "transition",
            Self::Note => "note",
            Self::GateOpen => "gate_open",
            Self::GateClosed => "gate_closed",
            Self::VipsAdded => "vips_added",
            Self::VipsRemoved => "vips_removed",
            Self::Announced => "announced",
            Self::Silence => "silence",
            Self::Candidate => "candidate",
            Self::Channel => "channel",
            Self::Check => "check",
            Self::Link => "link",
            Self::Roles => "roles",
        }
    }
}

/// An event, as the engine thread tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it happened.
    pub at: MonoNs,
    /// Whom it concerns.
    pub instance: Arc<str>,
    /// What kind.
    pub kind: Kind,
    /// States before and after, of a transition or a channel's session.
    pub states: Option<(&'static str, &'static str)>,
    /// What happened and why.
    pub sentence: String,
}

/// The last [`CAPACITY`] events.
#[derive(Debug, Default)]
pub struct History {
    events: VecDeque<EventReport>,
}

impl History {
    /// Adds an event; the oldest gives way.
    pub fn record(&mut self, event: &Event) {
        if self.events.len() == CAPACITY {
            self.events.pop_front();
        }
        self.events.push_back(EventReport {
            at_ns: event.at.0,
            time: clock::rfc3339(event.at),
            instance: event.instance.to_string(),
            kind: event.kind.name().to_owned(),
            from: event.states.map(|(from, _)| from.to_owned()),
            to: event.states.map(|(_, to)| to.to_owned()),
            sentence: event.sentence.clone(),
        });
    }

    /// The latest `limit` events in the order in which they happened.
    #[must_use]
    pub fn latest(&self, limit: usize) -> Vec<EventReport> {
        let mut events: Vec<EventReport> = self.events.iter().cloned().collect();
        // What the kernel stamped is reported later than what the engine did meanwhile.
        events.sort_by_key(|event| event.at_ns);
        events.split_off(events.len().saturating_sub(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64) -> Event {
        Event {
            at: MonoNs(at),
            instance: "web".into(),
            kind: Kind::Note,
            states: None,
            sentence: at.to_string(),
        }
    }

    #[test]
    fn the_oldest_gives_way_and_order_is_by_time() {
        let mut history = History::default();
        for at in 0..1_500 {
            history.record(&event(at ^ 1));
        }
        let all = history.latest(usize::MAX);
        assert_eq!(all.len(), CAPACITY);
        assert!(all.is_sorted_by_key(|event| event.at_ns));
        assert_eq!(all[0].at_ns, 500);
        let last = history.latest(2);
        assert_eq!(last.len(), 2);
        assert_eq!(last[1].at_ns, 1_499);
    }
}
