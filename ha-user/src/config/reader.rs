//! Walks a parsed TOML document and collects every mistake instead of stopping at the first.
//!
//! A walker of our own instead of serde, because serde ends at the first unknown key or wrong type and
//! knows no line of a value that is only wrong together with another one.

use std::{borrow::Cow, cell::RefCell, net::IpAddr, ops::Range, str::FromStr as _, time::Duration};

use ha_common::Nanos;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::{diagnostic::Diagnostic, foreign};

/// Characters of a line that a message shows.
const EXCERPT_LIMIT: usize = 160;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) offset: usize,
}

/// The file's text and the mistakes found in it.
pub(super) struct Reader<'a> {
    text: &'a str,
    diagnostics: RefCell<Vec<Diagnostic>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            diagnostics: RefCell::new(Vec::new()),
        }
    }

    /// Records a mistake at a byte offset.
    pub(super) fn fail(
        &self,
        offset: usize,
        key: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let line = self.line(offset);
        self.diagnostics.borrow_mut().push(Diagnostic {
            line: Some(line),
            excerpt: self
                .text
                .lines()
                .nth(line - 1)
                .map(|text| shortened(text.trim()))
                .filter(|text| !text.is_empty()),
            key: key.into(),
            message: message.into(),
            fix: fix.into(),
        });
    }

    /// The same without showing the line: a secret may stand there.
    pub(super) fn fail_unshown(
        &self,
        offset: usize,
        key: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.fail(offset, key, message, fix);
        if let Some(diagnostic) = self.diagnostics.borrow_mut().last_mut() {
            diagnostic.excerpt = None;
        }
    }

    /// The line of a byte offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        1 + self.text.as_bytes()[..end]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
    }

    /// The mistakes, in the order of their lines. The parser finds some of them twice.
    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        let mut diagnostics = self.diagnostics.into_inner();
        diagnostics.sort_by_key(|diagnostic| diagnostic.line);
        diagnostics.dedup();
        diagnostics
    }

    pub(super) fn is_clean(&self) -> bool {
        self.diagnostics.borrow().is_empty()
    }
}

/// A key that the configuration contract has, and a later version of `had` will take.
pub(super) type Later = (&'static str, &'static str);

/// One table of the file.
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader<'a>,
    /// How messages name it, as `[[instance]] "web"`; empty for the file's top level.
    pub(super) place: String,
    table: &'a DeTable<'a>,
    /// Where it begins.
    pub(super) offset: usize,
}

impl<'a> Section<'a> {
    /// Takes a table and reports each key that is not `known`.
    pub(super) fn new(
        reader: &'a Reader<'a>,
        place: String,
        table: &'a DeTable<'a>,
        span: Range<usize>,
        known: &[&str],
        later: &[Later],
    ) -> Self {
        let section = Self {
            reader,
            place,
            table,
            offset: span.start,
        };
        for (key, _) in table {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let offset = key.span().start;
            if let Some((_, why)) = later.iter().find(|(later, _)| *later == name) {
                section.fail(
                    offset,
                    name,
                    format!("not supported by this version of had: {why}"),
                    "remove it",
                );
                continue;
            }
            section.fail(offset, name, "unknown key", fix_of_unknown(name, known));
        }
        section
    }

    /// Records a mistake in one of this section's keys.
    pub(super) fn fail(
        &self,
        offset: usize,
        key: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.reader
            .fail(offset, self.key_in_place(key), message, fix);
    }

    /// The same without showing the line: a secret may stand there.
    pub(super) fn fail_unshown(
        &self,
        offset: usize,
        key: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.reader
            .fail_unshown(offset, self.key_in_place(key), message, fix);
    }

    fn key_in_place(&self, key: &str) -> String {
        if self.place.is_empty() {
            key.to_owned()
        } else {
            format!("{}, {key}", self.place)
        }
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        self.fail(
            value.span().start,
            key,
            format!("is {} but must be {wanted}", article(value.get_ref())),
            format!("write {wanted}"),
        );
    }

    /// Reports a key that must be there and is not.
    pub(super) fn require<T>(&self, key: &str, value: Option<T>, example: &str) -> Option<T> {
        self.require_or(key, value, || format!("add `{key} = {example}`"))
    }

    /// The same with a fix of its own.
    pub(super) fn require_or<T>(
        &self,
        key: &str,
        value: Option<T>,
        fix: impl FnOnce() -> String,
    ) -> Option<T> {
        if value.is_none() && self.value(key).is_none() {
            self.fail(self.offset, key, "is missing", fix());
        }
        value
    }

    /// Where the value of a key stands, whatever it is.
    pub(super) fn offset_of(&self, key: &str) -> Option<usize> {
        self.value(key).map(|value| value.span().start)
    }

    pub(super) fn string(&self, key: &str) -> Option<At<String>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At {
                value: text.to_string(),
                offset: value.span().start,
            }),
            _ => {
                self.wrong_type(key, value, "a string in quotes");
                None
            }
        }
    }

    pub(super) fn boolean(&self, key: &str) -> Option<At<bool>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(At {
                value: *flag,
                offset: value.span().start,
            }),
            _ => {
                self.wrong_type(key, value, "true or false");
                None
            }
        }
    }

    /// An integer from `low` to `high`.
    pub(super) fn integer(&self, key: &str, low: u32, high: u32) -> Option<At<u32>> {
        self.integer_of(key, self.value(key)?, low, high)
    }

    /// An integer from `-limit` to `limit`.
    pub(super) fn signed_integer(&self, key: &str, limit: u32) -> Option<At<i64>> {
        let value = self.value(key)?;
        let wanted = format!("a number from -{limit} to {limit}");
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong_type(key, value, &wanted);
            return None;
        };
        let offset = value.span().start;
        let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok();
        let found = parsed.filter(|parsed| parsed.unsigned_abs() <= u64::from(limit));
        if found.is_none() {
            self.fail(
                offset,
                key,
                format!("{number} is out of range"),
                format!("write {wanted}"),
            );
        }
        found.map(|value| At { value, offset })
    }

    /// A list of integers from `low` to `high`; other items are reported and left out.
    pub(super) fn integers(&self, key: &str, low: u32, high: u32) -> Option<Vec<u32>> {
        let value = self.value(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, value, "a list in brackets, as [2, 3]");
            return None;
        };
        let integers = items
            .iter()
            .filter_map(|item| self.integer_of(key, item, low, high));
        Some(integers.map(|integer| integer.value).collect())
    }

    fn integer_of(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        low: u32,
        high: u32,
    ) -> Option<At<u32>> {
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong_type(key, value, &format!("a number from {low} to {high}"));
            return None;
        };
        let offset = value.span().start;
        match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(parsed) if (i64::from(low)..=i64::from(high)).contains(&parsed) => Some(At {
                value: u32::try_from(parsed).unwrap_or(high),
                offset,
            }),
            _ => {
                self.fail(
                    offset,
                    key,
                    format!("{number} is out of range"),
                    format!("write a number from {low} to {high}"),
                );
                None
            }
        }
    }

    /// A span of time as a string, as `"10ms"`.
    pub(super) fn duration(&self, key: &str) -> Option<At<Nanos>> {
        let text = match self.value(key)?.get_ref() {
            DeValue::String(_) => self.string(key)?,
            _ => {
                let value = self.value(key)?;
                self.wrong_type(key, value, "a time with its unit in quotes, as \"10ms\"");
                return None;
            }
        };
        let parsed = humantime::parse_duration(&text.value)
            .ok()
            .as_ref()
            .map(Duration::as_nanos)
            .and_then(|nanos| u64::try_from(nanos).ok());
        let Some(nanos) = parsed else {
            self.fail(
                text.offset,
                key,
                format!("\"{}\" is no time", text.value),
                "write a number with its unit, as \"10ms\", \"1s\" or \"1m 30s\"",
            );
            return None;
        };
        Some(At {
            value: Nanos(nanos),
            offset: text.offset,
        })
    }

    /// An IP address as a string.
    pub(super) fn address(&self, key: &str) -> Option<At<IpAddr>> {
        let text = self.string(key)?;
        let address = self.parse_address(key, &text)?;
        Some(At {
            value: address,
            offset: text.offset,
        })
    }

    pub(super) fn parse_address(&self, key: &str, text: &At<String>) -> Option<IpAddr> {
        match IpAddr::from_str(&text.value) {
            Ok(address) if is_host(address) => Some(address),
            Ok(address) => {
                self.fail(
                    text.offset,
                    key,
                    format!("{address} cannot be the address of a host"),
                    "write a unicast address",
                );
                None
            }
            Err(_) => {
                self.fail(
                    text.offset,
                    key,
                    format!("\"{}\" is no IP address", text.value),
                    "write it as \"192.168.33.101\" or \"2001:db8::101\", without a prefix length",
                );
                None
            }
        }
    }

    /// A list of strings; an item of another type is reported and left out.
    pub(super) fn strings(&self, key: &str) -> Option<At<Vec<At<String>>>> {
        let value = self.value(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, value, "a list in brackets, as [\"…\"]");
            return None;
        };
        let mut strings = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => strings.push(At {
                    value: text.to_string(),
                    offset: item.span().start,
                }),
                _ => self.wrong_type(key, item, "a string in quotes"),
            }
        }
        Some(At {
            value: strings,
            offset: value.span().start,
        })
    }

    /// A table whose keys are the operator's own, each with a string, which may be a secret; none where there is no
    /// such table. `None`: it is wrong, and has been reported.
    pub(super) fn pairs(&self, key: &str) -> Option<Vec<(At<String>, String)>> {
        let Some(value) = self.value(key) else {
            return Some(Vec::new());
        };
        let wanted = "a table in braces, as { NAME = \"…\" }, each value in quotes";
        let wrong = |offset: usize| {
            let message = format!("must be {wanted}");
            self.fail_unshown(offset, key, message, format!("write {wanted}"));
        };
        let DeValue::Table(table) = value.get_ref() else {
            wrong(value.span().start);
            return None;
        };
        let pair = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: (&Cow<'_, str>, usize) = (name.get_ref(), name.span().start);
            let DeValue::String(text) = value.get_ref() else {
                wrong(name.1);
                return None;
            };
            let name = At {
                value: name.0.to_string(),
                offset: name.1,
            };
            Some((name, text.to_string()))
        };
        let pairs: Vec<Option<_>> = table.iter().map(pair).collect();
        pairs.into_iter().collect()
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<At<T>> {
        let text = self.string(key)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some(At {
                value: *value,
                offset: text.offset,
            });
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let fix = match nearest(&text.value, &words) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of \"{}\"", words.join("\", \"")),
        };
        self.fail(
            text.offset,
            key,
            format!("\"{}\" is not possible here", text.value),
            fix,
        );
        None
    }

    /// One of several numbers.
    pub(super) fn choice_of_numbers<T: Copy>(
        &self,
        key: &str,
        choices: &[(u32, T)],
    ) -> Option<At<T>> {
        let low = choices.iter().map(|(number, _)| *number).min()?;
        let high = choices.iter().map(|(number, _)| *number).max()?;
        let chosen = self.integer(key, low, high)?;
        choices
            .iter()
            .find(|(number, _)| *number == chosen.value)
            .map(|(_, value)| At {
                value: *value,
                offset: chosen.offset,
            })
    }

    /// A table within this one.
    pub(super) fn section(
        &self,
        key: &str,
        place: String,
        known: &[&str],
        later: &[Later],
    ) -> Option<Section<'a>> {
        let value = self.value(key)?;
        let table = match value.get_ref() {
            DeValue::Table(table) => table,
            DeValue::Array(_) if self.place.is_empty() => {
                self.fail(
                    value.span().start,
                    key,
                    "is a list of tables, and there is one of it",
                    format!("write [{key}], in single brackets, once"),
                );
                return None;
            }
            _ => {
                self.wrong_type(key, value, "a table");
                return None;
            }
        };
        Some(Section::new(
            self.reader,
            place,
            table,
            value.span(),
            known,
            later,
        ))
    }

    /// A list of tables within this one, as `[{ … }, { … }]`.
    pub(super) fn list_of_tables(&self, key: &str, known: &[&str]) -> Vec<Section<'a>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(key, value, "a list of tables, as [{ … }]");
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let DeValue::Table(table) = item.get_ref() else {
                self.wrong_type(key, item, "a table, as { … }");
                continue;
            };
            let place = format!("{}, {key} {}", self.place, index + 1);
            sections.push(Section::new(
                self.reader,
                place,
                table,
                item.span(),
                known,
                &[],
            ));
        }
        sections
    }

    /// Whether there is something under the key, be it right or wrong.
    pub(super) fn has_any(&self, key: &str) -> bool {
        match self.value(key).map(Spanned::get_ref) {
            None => false,
            Some(DeValue::Array(items)) => !items.is_empty(),
            Some(_) => true,
        }
    }

    /// The tables of `[[key]]`.
    pub(super) fn sections(&self, key: &str, known: &[&str], later: &[Later]) -> Vec<Section<'a>> {
        self.tables(key)
            .into_iter()
            .map(|(place, table, span)| Section::new(self.reader, place, table, span, known, later))
            .collect()
    }

    /// The same, where the known keys depend on the word behind `kind`; `None`: of such a kind no key is known.
    pub(super) fn sections_of_kinds(
        &self,
        key: &str,
        known: impl Fn(Option<&str>) -> Option<Vec<&'static str>>,
    ) -> Vec<Section<'a>> {
        self.tables(key)
            .into_iter()
            .map(|(place, table, span)| {
                let kind = match table.get("kind").map(Spanned::get_ref) {
                    Some(DeValue::String(kind)) => Some(&**kind),
                    _ => None,
                };
                // A kind that is refused is the one mistake: its keys are none.
                let written = || table.keys().map(|key| &**key.get_ref()).collect();
                let known = known(kind).unwrap_or_else(written);
                Section::new(self.reader, place, table, span, &known, &[])
            })
            .collect()
    }

    /// The tables of `[[key]]`, each with its place.
    fn tables(&self, key: &str) -> Vec<(String, &'a DeTable<'a>, Range<usize>)> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let items: &DeArray<'a> = match value.get_ref() {
            DeValue::Array(items) => items,
            _ => {
                self.fail(
                    value.span().start,
                    key,
                    format!(
                        "is {} but must be a list of tables",
                        article(value.get_ref())
                    ),
                    format!("write [[{key}]], in double brackets"),
                );
                return Vec::new();
            }
        };
        let mut tables = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let DeValue::Table(table) = item.get_ref() else {
                self.wrong_type(key, item, &format!("a table under [[{key}]]"));
                continue;
            };
            let place = match table.get("name").map(Spanned::get_ref) {
                Some(DeValue::String(name)) => format!("[[{key}]] \"{name}\""),
                _ => format!("[[{key}]] number {}", index + 1),
            };
            tables.push((place, table, item.span()));
        }
        tables
    }
}

/// Whether a node can have the address: not a network, loopback, multicast or broadcast address, nor an
/// IPv4-mapped one.
pub(super) fn is_host(address: IpAddr) -> bool {
    let reserved = match address {
        IpAddr::V4(address) => address.octets()[0] == 0 || address.octets()[0] >= 240,
        IpAddr::V6(address) => address.is_unspecified() || address.to_ipv4_mapped().is_some(),
    };
    !(reserved || address.is_loopback() || address.is_multicast())
}

/// Of a long line its beginning.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(EXCERPT_LIMIT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What to write instead of an unknown key.
fn fix_of_unknown(name: &str, known: &[&str]) -> String {
    if let Some(hint) = foreign::hint(name) {
        return hint.to_owned();
    }
    match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("remove it; known here: {}", known.join(", ")),
    }
}

/// The known word that `word` was probably meant to be.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edit distance: insertions, deletions, substitutions and swaps of neighbours (optimal string
/// alignment).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let above = &rows[i - 1];
            let substituted = above[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = substituted.min(above[j] + 1).min(row[j - 1] + 1);
            let swapped =
                i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if swapped {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_word_is_suggested() {
        let known = ["priority", "preempt", "preempt_delay", "vips"];
        assert_eq!(nearest("prioritty", &known), Some("priority"));
        assert_eq!(nearest("prempt", &known), Some("preempt"));
        assert_eq!(nearest("vip", &known), Some("vips"));
        assert_eq!(nearest("vird", &["vips", "vrid"]), Some("vrid"));
        assert_eq!(nearest("colour", &known), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(distance("vird", "vrid"), 1);
    }

    #[test]
    fn lines_count_from_one() {
        let reader = Reader::new("a\nb\n");
        assert_eq!(reader.line(0), 1);
        assert_eq!(reader.line(2), 2);
        assert_eq!(reader.line(99), 3);
    }
}
