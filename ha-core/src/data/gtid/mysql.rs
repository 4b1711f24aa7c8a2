//! MySQL: sets of `uuid:number`, and of `uuid:tag:number` from 8.3 on.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString as _},
    vec::Vec,
};
use core::fmt;

use super::{GtidError, TEXT_LIMIT};

/// Bytes of the longest tag.
const TAG_LIMIT: usize = 32;

/// Who numbered the transactions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    /// `server_uuid`.
    uuid: u128,
    /// Empty = none.
    tag: String,
}

/// Numbers from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Interval {
    first: u64,
    last: u64,
}

/// `gtid_executed`, `gtid_purged`, `Retrieved_Gtid_Set`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidSet(BTreeMap<Source, Vec<Interval>>);

impl GtidSet {
    /// Reads what the server shows, which has line breaks in it.
    ///
    /// # Errors
    ///
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, GtidError> {
        if text.len() > TEXT_LIMIT {
            return Err(GtidError::TooLong);
        }
        let mut set: BTreeMap<Source, Vec<Interval>> = BTreeMap::new();
        for (index, part) in text.split(',').map(str::trim).enumerate() {
            // As the server has it: empty parts say nothing.
            if !part.is_empty() {
                read(part, &mut set).ok_or(GtidError::Malformed(index))?;
            }
        }
        for intervals in set.values_mut() {
            *intervals = normal(core::mem::take(intervals));
        }
        set.retain(|_, intervals| !intervals.is_empty());
        Ok(Self(set))
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many transactions it has.
    #[must_use]
    pub fn count(&self) -> u64 {
        let each = |interval: &Interval| (interval.last - interval.first).saturating_add(1);
        let intervals = self.0.values().flatten();
        intervals.map(each).fold(0, u64::saturating_add)
    }

    /// Whether every transaction of `other` is in it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.subtract(self).is_empty()
    }

    /// What is in one of them.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.0.clone();
        for (source, intervals) in &other.0 {
            let known = union.entry(source.clone()).or_default();
            known.extend(intervals);
            *known = normal(core::mem::take(known));
        }
        Self(union)
    }

    /// What is in it and not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut rest = BTreeMap::new();
        for (source, intervals) in &self.0 {
            let without = other.0.get(source).map_or(&[][..], Vec::as_slice);
            let left = difference(intervals, without);
            if !left.is_empty() {
                rest.insert(source.clone(), left);
            }
        }
        Self(rest)
    }
}

/// One `uuid[:tag]:numbers…`; a tag holds for the numbers after it.
fn read(part: &str, set: &mut BTreeMap<Source, Vec<Interval>>) -> Option<()> {
    let mut fields = part.split(':').map(str::trim);
    let uuid = uuid(fields.next()?)?;
    let mut tag = String::new();
    let mut numbered = false;
    for field in fields {
        if field.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
            let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if field.len() > TAG_LIMIT || !field.bytes().all(word) {
                return None;
            }
            tag = field.to_ascii_lowercase();
            numbered = false;
            continue;
        }
        let (first, last) = field.split_once('-').unwrap_or((field, field));
        let interval = Interval {
            first: number(first)?,
            last: number(last)?,
        };
        let tag = tag.clone();
        let intervals = set.entry(Source { uuid, tag }).or_default();
        // The server takes an empty interval as none.
        if interval.first <= interval.last {
            intervals.push(interval);
        }
        numbered = true;
    }
    numbered.then_some(())
}

fn uuid(text: &str) -> Option<u128> {
    let groups = [8, 4, 4, 4, 12];
    let mut parts = text.split('-');
    let mut uuid = 0;
    for length in groups {
        let part = parts.next()?;
        let hex = part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex {
            return None;
        }
        uuid = uuid << (4 * length) | u128::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(uuid)
}

/// From 1 to the last but one that a signed number holds, as the server numbers them.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.then(|| text.parse().ok()).flatten()?;
    (1..u64::MAX >> 1).contains(&number).then_some(number)
}

/// In order, and without two that touch.
fn normal(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    let mut normal: Vec<Interval> = Vec::with_capacity(intervals.len());
    for interval in intervals {
        match normal.last_mut() {
            Some(last) if interval.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(interval.last);
            }
            _ => normal.push(interval),
        }
    }
    normal
}

/// Both in order and without overlap.
fn difference(from: &[Interval], without: &[Interval]) -> Vec<Interval> {
    let mut rest = Vec::new();
    let mut without = without.iter().peekable();
    for &Interval { mut first, last } in from {
        while without.next_if(|cut| cut.last < first).is_some() {}
        let mut cuts = without.clone();
        while let Some(cut) = cuts.next_if(|cut| cut.first <= last && first <= last) {
            if cut.first > first {
                rest.push(Interval {
                    first,
                    last: cut.first - 1,
                });
            }
            first = cut.last.saturating_add(1);
        }
        if first <= last {
            rest.push(Interval { first, last });
        }
    }
    rest
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (source, intervals) in &self.0 {
            let uuid = source.uuid;
            let group = |shift: u32, mask: u128| (uuid >> shift) & mask;
            write!(
                f,
                "{separator}{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                group(96, 0xffff_ffff),
                group(80, 0xffff),
                group(64, 0xffff),
                group(48, 0xffff),
                group(0, 0xffff_ffff_ffff)
            )?;
            if !source.tag.is_empty() {
                write!(f, ":{}", source.tag)?;
            }
            for Interval { first, last } in intervals {
                write!(f, ":{first}")?;
                if last != first {
                    write!(f, "-{last}")?;
                }
            }
            separator = ",";
        }
        Ok(())
    }
}

/// The whole set, cut where it is longer than people read.
#[must_use]
pub fn shown(set: &GtidSet) -> String {
    const LONGEST: usize = 400;
    let mut text = set.to_string();
    // All of it is ASCII.
    if text.len() > LONGEST {
        text.truncate(LONGEST);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::{collection, prelude::*};

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "00000000-0000-0000-0000-0000000000b1";

    fn set(text: &str) -> GtidSet {
        let text = text.replace('A', A).replace('B', B);
        GtidSet::parse(&text).unwrap()
    }

    #[test]
    fn sets_are_read_as_the_server_shows_them() {
        let shown = set("A:1-5:7,\nB:1");
        assert_eq!(shown, set("B : 1 , A:7:3-5:1-3, A:4"));
        assert_eq!(shown.count(), 7);
        assert_eq!(shown.to_string(), set(&shown.to_string()).to_string());
        assert_eq!(set("").count(), 0);
        assert_eq!(set("A:5-3"), set(""));
        let tagged = set("A:1-3:blue:1-2:green:4");
        assert_eq!(tagged.count(), 6);
        assert_eq!(set(&tagged.to_string()), tagged);
        assert!(!set("A:1-3").contains(&tagged) && tagged.contains(&set("A:bLUE:2")));
    }

    #[test]
    fn a_transaction_of_a_killed_source_is_found() {
        let joiner = set("A:1-1001");
        let primary = set("A:1-1000,B:1-7");
        assert_eq!(joiner.subtract(&primary), set("A:1001"));
        assert!(!primary.contains(&joiner));
        assert!(primary.contains(&set("A:1-1000")));
    }

    #[test]
    fn rubbish_is_an_error() {
        for rubbish in [
            "A",
            "A:",
            "A:x",
            "A:tag",
            "A:1:tag",
            "A:0",
            "A:1-",
            "A:-1",
            "A:1-2-3",
            "A:+1",
            ":1",
            "1-5",
            "3e11fa47-71ca-11e1-9e33:1",
            "A:9223372036854775807",
            "A:1:99999999999999999999",
            "A:a_tag_that_is_longer_than_any_may_be:1",
            "A:t-g:1",
            "NULL",
        ] {
            let text = rubbish.replace('A', A);
            assert!(GtidSet::parse(&text).is_err(), "{rubbish}");
        }
        let long = alloc::format!("{A}:1").repeat(TEXT_LIMIT / 38 + 1);
        assert_eq!(GtidSet::parse(&long), Err(GtidError::TooLong));
    }

    type Numbers = BTreeSet<u64>;

    fn of(numbers: &[Numbers; 2]) -> GtidSet {
        let mut text = String::new();
        for (uuid, numbers) in [A, B].iter().zip(numbers) {
            for number in numbers {
                text += &alloc::format!("{uuid}:{number},");
            }
        }
        GtidSet::parse(&text).unwrap()
    }

    fn numbers() -> impl Strategy<Value = [Numbers; 2]> {
        [
            collection::btree_set(1..40_u64, 0..30),
            collection::btree_set(1..40_u64, 0..30),
        ]
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in ".{0,80}", fields in "[0-9a-f:, \\-]{0,40}") {
            for text in [text, alloc::format!("{A}:{fields}")] {
                if let Ok(set) = GtidSet::parse(&text) {
                    prop_assert_eq!(&GtidSet::parse(&set.to_string()), &Ok(set));
                }
            }
        }

        #[test]
        fn they_are_sets(a in numbers(), b in numbers()) {
            let each = |op: fn(&Numbers, &Numbers) -> Numbers| [op(&a[0], &b[0]), op(&a[1], &b[1])];
            let (one, other) = (of(&a), of(&b));
            prop_assert_eq!(one.union(&other), of(&each(|a, b| a | b)));
            prop_assert_eq!(one.subtract(&other), of(&each(|a, b| a - b)));
            prop_assert_eq!(one.contains(&other), a[0].is_superset(&b[0]) && a[1].is_superset(&b[1]));
            prop_assert_eq!(usize::try_from(one.count()), Ok(a[0].len() + a[1].len()));
            prop_assert_eq!(GtidSet::parse(&one.to_string()), Ok(one));
        }
    }
}
