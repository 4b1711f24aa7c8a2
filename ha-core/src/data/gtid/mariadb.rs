//! MariaDB: `domain-server-sequence`, in lists.
//!
//! Sequence numbers grow within a domain. A position is the last identifier of each domain, a binary log's state the
//! last one of each server in each domain.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt::{self, Write as _};

use super::{GtidError, TEXT_LIMIT};

/// One transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gtid {
    /// `gtid_domain_id`.
    pub domain: u32,
    /// `server_id` of the server that wrote it first.
    pub server: u32,
    /// Its number within the domain.
    pub sequence: u64,
}

impl Gtid {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('-');
        let gtid = Self {
            domain: number(numbers.next()?)?,
            server: number(numbers.next()?)?,
            sequence: number(numbers.next()?)?,
        };
        numbers.next().is_none().then_some(gtid)
    }
}

/// Digits alone: no sign, no space.
fn number<T: core::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

fn list(text: &str) -> Result<Vec<Gtid>, GtidError> {
    if text.len() > TEXT_LIMIT {
        return Err(GtidError::TooLong);
    }
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let parts = text.split(',').enumerate();
    parts
        .map(|(index, part)| Gtid::parse(part.trim()).ok_or(GtidError::Malformed(index)))
        .collect()
}

fn show(f: &mut fmt::Formatter<'_>, gtids: impl Iterator<Item = Gtid>) -> fmt::Result {
    for (index, gtid) in gtids.enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        write!(f, "{gtid}")?;
    }
    Ok(())
}

/// `gtid_slave_pos`, `gtid_binlog_pos`, `Gtid_IO_Pos`: how far the transactions of each domain have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position(BTreeMap<u32, Gtid>);

impl Position {
    /// Reads what the server shows. Empty is a position, too: nothing.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, GtidError> {
        let mut position = BTreeMap::new();
        for gtid in list(text)? {
            if position.insert(gtid.domain, gtid).is_some() {
                return Err(GtidError::Twice);
            }
        }
        Ok(Self(position))
    }

    /// Whether there is nothing in it: nothing written, or nothing known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What of `wanted` has not been reached here.
    #[must_use]
    pub fn lacks(&self, wanted: &Self) -> Self {
        let lacking = |gtid: &&Gtid| {
            let here = self.0.get(&gtid.domain).map_or(0, |gtid| gtid.sequence);
            gtid.sequence > here
        };
        let lacking = wanted.0.values().filter(lacking);
        Self(lacking.map(|gtid| (gtid.domain, *gtid)).collect())
    }

    /// Whether everything up to `wanted` has been reached.
    #[must_use]
    pub fn covers(&self, wanted: &Self) -> bool {
        self.lacks(wanted).is_empty()
    }

    /// The later one of both in each domain.
    #[must_use]
    pub fn or_later(&self, other: &Self) -> Self {
        let mut later = self.clone();
        for gtid in other.0.values() {
            let known = later.0.entry(gtid.domain).or_insert(*gtid);
            if gtid.sequence > known.sequence {
                *known = *gtid;
            }
        }
        later
    }

    /// The same without what `server`, whose log's state is `log`, would have written itself and has not. In a ring
    /// MariaDB notes in `gtid_slave_pos` what comes back to its writer, which may be on disk before the write itself.
    #[must_use]
    pub fn without_own(&self, server: u32, log: &BinlogState) -> Self {
        let written = log.of_server(server);
        let logged = log.position();
        let last = |gtid: &Gtid| {
            let own = written.0.get(&gtid.domain).map_or(0, |gtid| gtid.sequence);
            match logged.0.get(&gtid.domain) {
                Some(last) if gtid.server == server && gtid.sequence > own => *last,
                // Of a domain of which nothing was written here the data is a copy, and that its position.
                _ => *gtid,
            }
        };
        let all = self.0.values();
        Self(all.map(|gtid| (gtid.domain, last(gtid))).collect())
    }

    /// How many transactions that is, if each domain's are numbered from 1 on.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        let sum = |sum: u64, gtid: &Gtid| sum.saturating_add(gtid.sequence);
        self.0.values().fold(0, sum)
    }

    /// In order of the domains.
    pub fn iter(&self) -> impl Iterator<Item = Gtid> {
        self.0.values().copied()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.iter())
    }
}

/// `gtid_binlog_state`: the last transaction of each server in each domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BinlogState(BTreeMap<(u32, u32), u64>);

impl BinlogState {
    /// Reads what the server shows.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, GtidError> {
        let mut state = BTreeMap::new();
        for gtid in list(text)? {
            let key = (gtid.domain, gtid.server);
            if state.insert(key, gtid.sequence).is_some() {
                return Err(GtidError::Twice);
            }
        }
        Ok(Self(state))
    }

    /// Whether nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last transaction of each domain.
    #[must_use]
    pub fn position(&self) -> Position {
        let mut position = Position::default();
        for gtid in self.iter() {
            let known = position.0.entry(gtid.domain).or_insert(gtid);
            if gtid.sequence > known.sequence {
                *known = gtid;
            }
        }
        position
    }

    /// What is here and was never written at `other`: each the last one of a server in a domain. A node that has such
    /// transactions has diverged. Sequence numbers of the domain alone would not show it: 0-1-7 is not in a log that
    /// went from 0-1-5 on to 0-2-9.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> Vec<Gtid> {
        let extra = |gtid: &Gtid| {
            let there = other.0.get(&(gtid.domain, gtid.server));
            there.is_none_or(|&sequence| sequence < gtid.sequence)
        };
        self.iter().filter(extra).collect()
    }

    /// What one server wrote.
    #[must_use]
    pub fn of_server(&self, server: u32) -> Position {
        let own = self.iter().filter(|gtid| gtid.server == server);
        Position(own.map(|gtid| (gtid.domain, gtid)).collect())
    }

    /// What `server` wrote itself, is in `all`, and cannot come here any more, because what was written later in its
    /// domain is here. A log in which the server wrote nothing begins after that.
    #[must_use]
    pub fn skipped_of(&self, server: u32, all: &Self) -> Position {
        let (own, last) = (self.of_server(server), self.position());
        let sequence =
            |position: &Position, domain| position.0.get(&domain).map(|gtid| gtid.sequence);
        let skipped = all.of_server(server).0.into_values().filter(|gtid| {
            sequence(&own, gtid.domain).is_some_and(|own| own < gtid.sequence)
                && sequence(&last, gtid.domain) > Some(gtid.sequence)
        });
        Position(skipped.map(|gtid| (gtid.domain, gtid)).collect())
    }

    /// Up to where both have the same.
    #[must_use]
    pub fn common(&self, other: &Self) -> Position {
        let mut position = Position::default();
        for here in self.iter() {
            let Some(&there) = other.0.get(&(here.domain, here.server)) else {
                continue;
            };
            let both = Gtid {
                sequence: here.sequence.min(there),
                ..here
            };
            let known = position.0.entry(both.domain).or_insert(both);
            if both.sequence > known.sequence {
                *known = both;
            }
        }
        position
    }

    /// In order of domain and server.
    pub fn iter(&self) -> impl Iterator<Item = Gtid> {
        self.0.iter().map(|(&(domain, server), &sequence)| Gtid {
            domain,
            server,
            sequence,
        })
    }
}

impl fmt::Display for BinlogState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.iter())
    }
}

/// As people list them.
#[must_use]
pub fn shown(gtids: &[Gtid]) -> String {
    let mut text = String::new();
    for (index, gtid) in gtids.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = write!(text, "{}{gtid}", if index > 0 { ", " } else { "" });
    }
    text
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use proptest::{collection, prelude::*};

    use super::*;

    fn position(text: &str) -> Position {
        Position::parse(text).unwrap()
    }

    fn state(text: &str) -> BinlogState {
        BinlogState::parse(text).unwrap()
    }

    #[test]
    fn positions_are_compared_by_domain() {
        assert!(position("0-1-9").covers(&position("0-2-9")));
        assert!(!position("0-1-8").covers(&position("0-2-9")));
        assert!(!position("1-1-9").covers(&position("0-1-1")));
        assert!(position("0-1-9, 1-1-3").covers(&position("")));
        let lacking = position("0-1-9,1-1-3").lacks(&position("0-1-9,1-2-4,2-1-1"));
        assert_eq!(lacking.to_string(), "1-2-4,2-1-1");
        assert_eq!(
            position("0-1-9,1-1-3").or_later(&position("0-2-8,1-2-4,2-1-1")),
            position("0-1-9,1-2-4,2-1-1")
        );
        assert_eq!(position("0-1-5,7-1-2").transactions(), 7);
    }

    #[test]
    fn what_came_back_to_its_writer_does_not_count_before_it_is_written() {
        let noted = |noted: &str, log: &str| position(noted).without_own(2, &state(log));
        assert_eq!(noted("0-2-110", "0-1-7,0-2-109"), position("0-2-109"));
        assert_eq!(noted("0-2-110", "0-1-109"), position("0-1-109"));
        assert_eq!(noted("0-2-110", "0-1-7,0-2-110"), position("0-2-110"));
        // Another one's is applied, or is none of ours.
        assert_eq!(
            noted("0-1-110,1-3-5", "0-2-109,1-3-4"),
            position("0-1-110,1-3-5")
        );
        // A copy of another one's data, with a server's number that was in use before.
        assert_eq!(noted("0-2-110", ""), position("0-2-110"));
        assert_eq!(noted("0-2-110", "1-2-3"), position("0-2-110"));
    }

    #[test]
    fn a_write_of_its_own_that_a_node_has_skipped_is_found() {
        let skipped = |here: &str| {
            let skipped = state(here).skipped_of(2, &state("0-1-120,0-2-110,1-2-4"));
            skipped.to_string()
        };
        assert_eq!(skipped("0-1-112,0-2-109"), "0-2-110");
        // Those can still be received.
        assert_eq!(skipped("0-1-7,0-2-109"), "");
        assert_eq!(skipped("0-1-120,0-2-110"), "");
        // The beginning of a copy's log is after that.
        assert_eq!(skipped("0-1-112"), "");
        assert_eq!(skipped("0-1-112,0-2-110,1-1-5,1-2-3"), "1-2-4");
    }

    #[test]
    fn a_write_that_the_other_never_saw_is_found() {
        // The greater number of the domain is the other's, and the write is missing there all the same.
        let errant = state("0-1-7").beyond(&state("0-1-5,0-2-9"));
        assert_eq!(shown(&errant), "0-1-7");
        assert!(position("0-2-9").covers(&state("0-1-7").position()));
        assert!(
            state("0-1-5,0-2-8")
                .beyond(&state("0-1-5,0-2-9"))
                .is_empty()
        );
        assert_eq!(
            shown(&state("0-1-5,0-3-10,1-1-1").beyond(&state("0-1-6,0-2-9"))),
            "0-3-10, 1-1-1"
        );
        assert!(state("").beyond(&state("0-1-1")).is_empty());
        assert_eq!(
            state("0-1-7,1-1-4").common(&state("0-1-5,0-2-9")),
            position("0-1-5")
        );
        assert_eq!(
            state("0-1-5,0-2-9,1-1-3").position(),
            position("0-2-9,1-1-3")
        );
    }

    #[test]
    fn rubbish_is_an_error() {
        for rubbish in [
            "0",
            "0-1",
            "0-1-2-3",
            "0-1-",
            "-0-1-2",
            "0-1--2",
            "+0-1-2",
            "0- 1-2",
            "a-b-c",
            ",",
            "0-1-2,",
            "0-1-18446744073709551616",
            "4294967296-1-1",
            "0-4294967296-1",
            "NULL",
        ] {
            assert!(Position::parse(rubbish).is_err(), "{rubbish}");
            assert!(BinlogState::parse(rubbish).is_err(), "{rubbish}");
        }
        assert_eq!(Position::parse("0-1-2,0-2-3"), Err(GtidError::Twice));
        assert_eq!(BinlogState::parse("0-1-2,0-1-3"), Err(GtidError::Twice));
        let long = "0-1-1,".repeat(TEXT_LIMIT / 6 + 1);
        assert_eq!(Position::parse(&long), Err(GtidError::TooLong));
    }

    fn gtids() -> impl Strategy<Value = Vec<(u32, u32, u64)>> {
        collection::vec((0..4_u32, 1..4_u32, 1..50_u64), 0..10)
    }

    /// What a binary log is in after these, in an order in which they could be written.
    fn log_of(gtids: &[(u32, u32, u64)]) -> BinlogState {
        let mut state = BTreeMap::new();
        for &(domain, server, sequence) in gtids {
            let known = state.entry((domain, server)).or_insert(sequence);
            *known = sequence.max(*known);
        }
        BinlogState(state)
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in ".{0,80}", list in "[0-9,\\- ]{0,80}") {
            for text in [text, list] {
                if let Ok(position) = Position::parse(&text) {
                    prop_assert_eq!(&Position::parse(&position.to_string()), &Ok(position));
                }
                if let Ok(state) = BinlogState::parse(&text) {
                    prop_assert_eq!(&BinlogState::parse(&state.to_string()), &Ok(state));
                }
            }
        }

        #[test]
        fn what_a_prefix_has_the_whole_has(gtids in gtids(), more in gtids()) {
            let prefix = log_of(&gtids);
            let whole = log_of(&[gtids, more].concat());
            prop_assert!(prefix.beyond(&whole).is_empty());
            prop_assert!(whole.position().covers(&prefix.position()));
            prop_assert!(whole.position().transactions() >= prefix.position().transactions());
            prop_assert_eq!(whole.beyond(&prefix).is_empty(), whole == prefix);
        }

        #[test]
        fn the_later_of_two_covers_both(a in gtids(), b in gtids()) {
            let (a, b) = (log_of(&a).position(), log_of(&b).position());
            let later = a.or_later(&b);
            prop_assert!(later.covers(&a) && later.covers(&b));
            prop_assert!(a.lacks(&b).is_empty() == a.covers(&b));
            let known = |gtid| a.iter().chain(b.iter()).any(|one| one == gtid);
            prop_assert!(later.iter().all(known));
        }
    }
}
