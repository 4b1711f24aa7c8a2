//! How far a node's data is, and what nodes tell each other of it.

use alloc::string::{String, ToString as _};
use core::fmt;

/// The history of nobody.
const UNDEFINED: &str = "00000000-0000-0000-0000-000000000000";

/// A history, and how many write sets of it a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The history's UUID.
    pub history: String,
    /// The last write set.
    pub seqno: u64,
}

impl Place {
    /// As Galera writes it, `uuid:seqno`; `None` where it says that it does not know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (history, seqno) = text.trim().rsplit_once(':')?;
        let place = Self {
            history: history.to_string(),
            seqno: seqno.parse().ok()?,
        };
        (history.len() == UNDEFINED.len() && !place.is_undefined()).then_some(place)
    }

    pub(super) fn is_undefined(&self) -> bool {
        self.history.is_empty() || self.history == UNDEFINED
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.history, self.seqno)
    }
}

/// What a node tells the others of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It runs.
    Runs(Option<Place>),
    /// Its process has ended.
    Ended(Option<Place>),
}

impl Told {
    /// What another node told; `None`: it said nothing of this kind.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (word, place) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "runs" => Some(Self::Runs(Place::parse(place))),
            "ended" => Some(Self::Ended(Place::parse(place))),
            _ => None,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, place) = match self {
            Self::Runs(place) => ("runs", place),
            Self::Ended(place) => ("ended", place),
        };
        match place {
            Some(place) => write!(f, "{word} {place}"),
            None => f.write_str(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "c78bbce6-e676-11f1-9995-7224c4323290";

    #[test]
    fn places_are_read_as_they_are_written() {
        let text = alloc::format!("{UUID}:12");
        assert_eq!(Place::parse(&text).unwrap().to_string(), text);
        for none in [
            "",
            "x:1",
            &alloc::format!("{UUID}:-1"),
            &alloc::format!("{UNDEFINED}:3"),
        ] {
            assert_eq!(Place::parse(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_told_is_understood() {
        let place = Place::parse(&alloc::format!("{UUID}:12"));
        for told in [
            Told::Runs(None),
            Told::Runs(place.clone()),
            Told::Ended(None),
            Told::Ended(place),
        ] {
            assert_eq!(Told::parse(&told.to_string()), Some(told));
        }
        assert_eq!(Told::parse("0-1-5"), None);
    }
}
