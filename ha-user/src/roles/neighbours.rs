//! What the other nodes of a group told last, for roles that go by it while a step is under way, and the way to them.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use ha_common::{MonoNs, Nanos};
use ha_core::data::galera::{Place, Remains, Told};

use crate::link::Link;

/// A node that said nothing for so long is silent: it tells ten times a second.
const SILENT: Nanos = Nanos::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub struct Neighbours {
    heard: Mutex<BTreeMap<String, Word>>,
    /// Where this node's own data ends, once that was found out of a server that has ended.
    own: Mutex<Option<Place>>,
    leader: Mutex<Option<Leader>>,
    /// Whether all roles of this node have been promoted since the last promotion began.
    served: AtomicBool,
    link: Option<Link>,
}

/// The other node that is promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) node: String,
    /// Since when, counted in promotions.
    pub(super) epoch: u64,
}

/// How it is known that the others' servers are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// Their daemons say so.
    Told,
    /// Nothing is heard from one of them: it is dead, or this node is cut off.
    Silent,
}

/// The last that a node told.
#[derive(Clone, Debug)]
struct Word {
    told: Option<Told>,
    heard_at: MonoNs,
    /// The last history that it told, and when: what its server had then it has still.
    history: Option<(String, MonoNs)>,
}

impl Neighbours {
    /// Nothing is heard so far.
    pub(super) fn new(link: Option<Link>) -> Self {
        Self {
            link,
            ..Self::default()
        }
    }

    /// The way to them, where there is one.
    pub(super) const fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// All roles of this node are promoted: it serves.
    pub(super) fn note_service(&self) {
        self.served.store(true, Ordering::SeqCst);
    }

    /// A promotion begins: from now on it counts whether the node serves.
    pub(super) fn forget_service(&self) {
        self.served.store(false, Ordering::SeqCst);
    }

    /// Whether this node has served since its last promotion began.
    pub(super) fn has_served(&self) -> bool {
        self.served.load(Ordering::SeqCst)
    }

    /// Whom this node would follow now, as a standby.
    pub(super) fn note_leader(&self, leader: Option<Leader>) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }

    /// Whom this node would follow now: nobody, unless it is a standby.
    pub(super) fn leader(&self) -> Option<Leader> {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        leader.clone()
    }

    /// A node told this of its role.
    pub(super) fn hear(&self, node: &str, history: Option<&str>, now: MonoNs) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let before = heard.remove(node).and_then(|word| word.history);
        let word = Word {
            told: history.and_then(Told::parse),
            heard_at: now,
            history: history.map(|text| (text.to_owned(), now)).or(before),
        };
        heard.insert(node.to_owned(), word);
    }

    /// The nodes that were heard, each with the last history of its data that it told, and when.
    pub(super) fn histories(&self) -> Vec<(String, Option<(String, MonoNs)>)> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(node, word): (&String, &Word)| (node.clone(), word.history.clone());
        heard.iter().map(of).collect()
    }

    /// Where this node's own data ends, or that its server runs again: the other nodes are told.
    pub(super) fn note_own(&self, place: Option<Place>) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        *own = place;
    }

    /// Where this node's own data ends, if that was found out.
    pub(super) fn own(&self) -> Option<Place> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.clone()
    }

    /// What is known of the others now.
    pub(super) fn remains(&self, now: MonoNs) -> Vec<Remains> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(node, word): (&String, &Word)| Remains {
            node: node.clone(),
            told: word
                .told
                .clone()
                .filter(|_| word.heard_at.after(SILENT) > now),
        };
        heard.iter().map(of).collect()
    }

    /// Whether the servers of all other nodes are gone, and how that is known.
    pub(super) fn are_gone(&self, now: MonoNs) -> Result<Gone, String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = if heard.is_empty() {
            Gone::Silent
        } else {
            Gone::Told
        };
        for (node, word) in &*heard {
            if word.heard_at.after(SILENT) <= now {
                gone = Gone::Silent;
            } else if !matches!(word.told, Some(Told::Ended(_))) {
                return Err(format!(
                    "{node} is there, and does not say that its server has ended"
                ));
            }
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_has_is_known_when_its_server_is_down() {
        let start = MonoNs(5_000_000_000);
        let neighbours = Neighbours::default();
        assert!(neighbours.histories().is_empty());
        neighbours.hear("n2", None, start);
        assert_eq!(neighbours.histories(), [("n2".to_owned(), None)]);
        let told = ("0-1-7".to_owned(), start.after(SILENT));
        neighbours.hear("n2", Some("0-1-7"), told.1);
        neighbours.hear("n2", None, told.1.after(SILENT));
        assert_eq!(neighbours.histories(), [("n2".to_owned(), Some(told))]);
        // Its data was made anew.
        let anew = (String::new(), start.after(SILENT.times(3)));
        neighbours.hear("n2", Some(""), anew.1);
        assert_eq!(neighbours.histories(), [("n2".to_owned(), Some(anew))]);
    }

    #[test]
    fn who_is_silent_or_says_so_is_gone() {
        let start = MonoNs(5_000_000_000);
        let neighbours = Neighbours::default();
        assert_eq!(neighbours.are_gone(start), Ok(Gone::Silent));
        neighbours.hear("n2", Some("runs"), start);
        assert!(neighbours.are_gone(start).unwrap_err().contains("n2"));
        neighbours.hear("n2", None, start);
        neighbours.are_gone(start).unwrap_err();
        neighbours.hear("n2", Some("ended"), start);
        assert_eq!(neighbours.are_gone(start), Ok(Gone::Told));
        neighbours.hear("n3", Some("runs"), start);
        neighbours.are_gone(start).unwrap_err();
        let later = start.after(SILENT);
        neighbours.hear("n2", Some("ended"), later);
        assert_eq!(neighbours.are_gone(later), Ok(Gone::Silent));
    }
}
