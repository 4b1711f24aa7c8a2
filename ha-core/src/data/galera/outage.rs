//! A cluster of which no node commits any more: which one has the newest data, so that it may begin the cluster anew.

use alloc::{
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use super::{Place, Told};

/// A node, as far as another one knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// Its name.
    pub node: String,
    /// What it told last; `None`: nothing is heard from it.
    pub told: Option<Told>,
}

impl Remains {
    /// What is known of it, for people.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.told {
            None => "nothing is heard from it".to_string(),
            Some(Told::Runs(None)) => "its server runs".to_string(),
            Some(Told::Runs(Some(place))) => format!("its server runs, at {place}"),
            Some(Told::Ended(None)) => {
                "its server has ended; where its data ends is not known: run this there".to_string()
            }
            Some(Told::Ended(Some(place))) => format!("its server has ended, its data at {place}"),
        }
    }
}

/// What stands against a node that is to begin the cluster anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// For people.
    pub why: String,
    /// Whether somebody may say that it does not matter: then what another node alone has is lost.
    pub may_be_accepted: bool,
}

impl Obstacle {
    /// One that somebody may accept.
    #[must_use]
    pub fn of_loss(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            may_be_accepted: true,
        }
    }

    /// One that stays.
    #[must_use]
    pub fn of_safety(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            may_be_accepted: false,
        }
    }
}

/// Whether a node whose data ends at `own` has all that any node has, of `expected` others.
#[must_use]
pub fn obstacles(own: &Place, others: &[Remains], expected: usize) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if others.len() < expected {
        found.push(Obstacle::of_loss(format!(
            "of {expected} other nodes, {} were heard since this daemon was started",
            others.len()
        )));
    }
    for other in others {
        let node = &other.node;
        match &other.told {
            None => found.push(Obstacle::of_loss(format!(
                "nothing is heard from {node}: it may have newer data, or be there and only cut off"
            ))),
            Some(Told::Runs(_)) => found.push(Obstacle::of_safety(format!(
                "the server of {node} runs: two clusters could come of it. If it is in its cluster, start this node's server, which joins it; else look there first, or end it"
            ))),
            Some(Told::Ended(None)) => found.push(Obstacle::of_loss(format!(
                "where the data of {node} ends is not known: run this there, too"
            ))),
            Some(Told::Ended(Some(place))) if place.history != own.history => {
                found.push(Obstacle::of_loss(format!(
                    "the data of {node} has another history ({})",
                    place.history
                )));
            }
            Some(Told::Ended(Some(place))) if place.seqno > own.seqno => {
                found.push(Obstacle::of_loss(format!(
                    "{node} is ahead by {} transactions: run this there",
                    place.seqno - own.seqno
                )));
            }
            Some(Told::Ended(Some(_))) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "c78bbce6-e676-11f1-9995-7224c4323290";

    fn place(seqno: u64) -> Place {
        Place {
            history: UUID.to_string(),
            seqno,
        }
    }

    fn against(own: u64, told: Option<Told>) -> Vec<Obstacle> {
        let other = Remains {
            node: "n2".to_string(),
            told,
        };
        obstacles(&place(own), &[other], 1)
    }

    #[test]
    fn only_who_has_everything_that_any_node_has_begins() {
        for less in [11, 12] {
            assert_eq!(against(12, Some(Told::Ended(Some(place(less))))), []);
        }
        let ahead = against(12, Some(Told::Ended(Some(place(15)))));
        assert!(ahead[0].why.contains("n2 is ahead by 3"), "{ahead:?}");
        assert!(ahead[0].may_be_accepted);
        let other = Place {
            history: UUID.replace('c', "d"),
            seqno: 1,
        };
        let other = against(12, Some(Told::Ended(Some(other))));
        assert!(other[0].why.contains("another history"), "{other:?}");
    }

    #[test]
    fn who_is_not_known_may_have_more() {
        for told in [None, Some(Told::Ended(None))] {
            let unknown = against(12, told);
            assert!(unknown[0].may_be_accepted, "{unknown:?}");
        }
        assert!(obstacles(&place(12), &[], 1)[0].may_be_accepted);
        assert_eq!(obstacles(&place(12), &[], 0), []);
    }

    #[test]
    fn beside_a_server_that_runs_none_begins() {
        let runs = against(12, Some(Told::Runs(Some(place(3)))));
        assert!(!runs[0].may_be_accepted, "{runs:?}");
    }
}
