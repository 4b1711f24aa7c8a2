//! `grastate.dat`: what a node's provider noted when it ended.

use alloc::{
    format,
    string::{String, ToString as _},
};

use super::Place;

/// The key that says whether a node may begin its cluster anew.
const SAFE: &str = "safe_to_bootstrap";

/// The file, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grastate {
    /// The data's history; of a node that was given data and did not get all of it, that of nobody.
    pub history: String,
    /// The last write set, where the server ended in order.
    pub seqno: Option<u64>,
    /// Whether it was the last one of its cluster.
    pub is_safe: bool,
}

impl Grastate {
    /// What stands in the file.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut this = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            match (key.trim(), value.trim()) {
                ("uuid", value) => this.history = value.to_string(),
                ("seqno", value) => this.seqno = value.parse().ok(),
                (SAFE, value) => this.is_safe = value == "1",
                _ => {}
            }
        }
        this
    }

    /// Where the data ends, if the server ended in order.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let place = Place {
            history: self.history.clone(),
            seqno: self.seqno?,
        };
        (!place.is_undefined()).then_some(place)
    }

    /// Whether the node was given data, and did not get all of it.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        let place = Place {
            history: self.history.clone(),
            seqno: 0,
        };
        place.is_undefined()
    }
}

/// The file of a node that is to begin its cluster anew.
#[must_use]
pub fn made_safe(text: &str) -> String {
    let is_it = |line: &&str| line.trim_start().starts_with(SAFE);
    let others = text.lines().filter(|line| !is_it(line));
    let mut made: String = others.map(|line| format!("{line}\n")).collect();
    made.push_str(&format!("{SAFE}: 1\n"));
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: &str = "# GALERA saved state\nversion: 2.1\nuuid:    c78bbce6-e676-11f1-9995-7224c4323290\nseqno:   -1\nsafe_to_bootstrap: 0\n";

    #[test]
    fn what_a_node_noted_is_read() {
        let killed = Grastate::parse(KILLED);
        assert_eq!((killed.place(), killed.is_safe), (None, false));
        assert!(!killed.is_incomplete());
        let ended = Grastate::parse(&KILLED.replace("seqno:   -1", "seqno:   42"));
        let place = ended.place().unwrap();
        assert_eq!(place.to_string(), "c78bbce6-e676-11f1-9995-7224c4323290:42");
        let begun = KILLED.replace(
            "c78bbce6-e676-11f1-9995-7224c4323290",
            "00000000-0000-0000-0000-000000000000",
        );
        assert!(Grastate::parse(&begun).is_incomplete());
    }

    #[test]
    fn nothing_else_is_changed_in_it() {
        let made = made_safe(KILLED);
        assert_eq!(made, KILLED.replace("bootstrap: 0", "bootstrap: 1"));
        assert!(Grastate::parse(&made).is_safe);
        assert_eq!(made_safe(&made), made);
    }
}
