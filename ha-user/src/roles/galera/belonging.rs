//! When a node was last a part of its cluster: whether its data may be all that there is.

use ha_common::{MonoNs, Nanos};
use ha_core::data::galera::NodeState;

use crate::config::Bootstrap;

/// How long after it was a part of its cluster a node may go on alone, beside the time that the other one may take to
/// let go of a server that hangs: later the other one may have gone on, and be gone again.
const RECENT: Nanos = Nanos::from_secs(5);

/// See the module. It is known of a server for as long as that runs, and this daemon.
pub(super) struct Belonging {
    bootstrap: Bootstrap,
    recent: Nanos,
    /// Which run of the server it was, and when.
    last: Option<(String, MonoNs)>,
}

impl Belonging {
    /// Where a server that hangs is killed after `demote_limit`.
    pub(super) const fn new(bootstrap: Bootstrap, demote_limit: Nanos) -> Self {
        Self {
            bootstrap,
            recent: Nanos(RECENT.0.saturating_add(demote_limit.0)),
            last: None,
        }
    }

    /// What the node was, at the earliest when it began to be asked.
    pub(super) fn note(&mut self, node: &NodeState, began_at: MonoNs) {
        // As a donor it has everything, too.
        if node.serves(true).is_err() {
            return;
        }
        let is_known = |(incarnation, at): &(String, MonoNs)| {
            *incarnation == node.incarnation && *at >= began_at
        };
        if !self.last.as_ref().is_some_and(is_known) {
            self.last = Some((node.incarnation.clone(), began_at));
        }
    }

    /// Whether a node that has lost its cluster may go on alone, as far as it knows by itself.
    pub(super) fn may_go_on(&self, node: &NodeState, now: MonoNs) -> Result<(), String> {
        if self.bootstrap == Bootstrap::Never {
            return Err("it waits for the other nodes (`bootstrap = \"never\"`)".to_owned());
        }
        let guided = "`hactl db bootstrap` says which node has the newest data";
        match &self.last {
            Some((incarnation, at)) if *incarnation == node.incarnation => {
                if at.after(self.recent) > now {
                    return Ok(());
                }
                let seconds = now.since(*at).0 / 1_000_000_000;
                Err(format!(
                    "it left its cluster {seconds} s ago, and the other node may have gone on since; {guided}"
                ))
            }
            _ => Err(format!(
                "it was not seen as a part of its cluster since its server was started, or this daemon; {guided}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonoNs = MonoNs(60_000_000_000);

    fn node(status: &str, incarnation: &str) -> NodeState {
        NodeState {
            cluster_status: status.to_owned(),
            connected: "ON".to_owned(),
            ready: "ON".to_owned(),
            local_state: "4".to_owned(),
            incarnation: incarnation.to_owned(),
            ..NodeState::default()
        }
    }

    #[test]
    fn only_who_has_just_been_a_part_goes_on() {
        let mut belonging = Belonging::new(Bootstrap::Alone, Nanos::from_secs(2));
        let lost = node("non-Primary", "a");
        belonging.note(&lost, NOW);
        let why = belonging.may_go_on(&lost, NOW).unwrap_err();
        assert!(why.contains("was not seen"), "{why}");
        belonging.note(&node("Primary", "a"), NOW);
        belonging.note(&lost, NOW.after(Nanos::from_secs(4)));
        let after = |seconds| NOW.after(Nanos::from_secs(seconds));
        assert_eq!(belonging.may_go_on(&lost, after(6)), Ok(()));
        let why = belonging.may_go_on(&lost, after(7)).unwrap_err();
        assert!(why.contains("7 s ago"), "{why}");
        // Another run of the server.
        let why = belonging.may_go_on(&node("non-Primary", "b"), after(1));
        assert!(why.unwrap_err().contains("was not seen"));
    }

    #[test]
    fn an_answer_counts_from_when_it_was_asked_for() {
        let mut belonging = Belonging::new(Bootstrap::Alone, Nanos::from_secs(2));
        let lost = node("non-Primary", "a");
        let after = |seconds| NOW.after(Nanos::from_secs(seconds));
        // The node stood still for a minute, and is answered then.
        belonging.note(&node("Primary", "a"), NOW);
        let why = belonging.may_go_on(&lost, after(60)).unwrap_err();
        assert!(why.contains("60 s ago"), "{why}");
        // A step asked meanwhile; the look from before takes nothing back.
        belonging.note(&node("Primary", "a"), after(60));
        belonging.note(&node("Primary", "a"), NOW);
        assert_eq!(belonging.may_go_on(&lost, after(61)), Ok(()));
    }

    #[test]
    fn who_is_not_to_never_does() {
        let mut belonging = Belonging::new(Bootstrap::Never, Nanos::from_secs(2));
        belonging.note(&node("Primary", "a"), NOW);
        let why = belonging.may_go_on(&node("non-Primary", "a"), NOW);
        assert!(why.unwrap_err().contains("never"));
    }
}
