//! MariaDB or MySQL, by what the server calls itself.

use alloc::{format, string::String};
use core::fmt;

/// The families, which differ in their statements and in their GTIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// MariaDB.
    MariaDb,
    /// MySQL from 8.0.26 on, and forks of it.
    MySql,
}

impl Dialect {
    /// As its makers write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        }
    }

    /// The oldest version whose statements are known.
    const fn oldest(self) -> Version {
        let (major, minor, patch) = match self {
            // Its CHANGE MASTER knows MASTER_DEMOTE_TO_SLAVE.
            Self::MariaDb => (10, 10, 0),
            Self::MySql => (8, 0, 26),
        };
        Version {
            major,
            minor,
            patch,
        }
    }

    /// By `@@version`; or the version that is too old.
    ///
    /// # Errors
    ///
    /// In words, for a server that cannot be managed.
    pub fn of(version: &str) -> Result<Self, String> {
        let dialect = if version.contains("MariaDB") {
            Self::MariaDb
        } else {
            Self::MySql
        };
        let oldest = dialect.oldest();
        match Version::parse(version) {
            Some(known) if known >= oldest => Ok(dialect),
            Some(known) => Err(format!(
                "{} {known} is too old: {oldest} or later is needed",
                dialect.name()
            )),
            None => Err("the server's version cannot be read".into()),
        }
    }
}

/// The first three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// As in 10.11.6: 10.
    pub major: u16,
    /// 11.
    pub minor: u16,
    /// 6.
    pub patch: u16,
}

impl Version {
    /// What stands before the first `-`; some servers put `5.5.5-` before it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("5.5.5-").unwrap_or(text);
        let end = text
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(text.len());
        let mut numbers = text.get(..end)?.split('.');
        let mut next = || numbers.next()?.parse().ok();
        Some(Self {
            major: next()?,
            minor: next()?,
            patch: next().unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_says_which() {
        for (version, dialect) in [
            ("10.11.19-MariaDB-0+deb12u1-log", Dialect::MariaDb),
            ("5.5.5-10.11.1-MariaDB", Dialect::MariaDb),
            ("11.4.2-MariaDB", Dialect::MariaDb),
            ("8.0.39-0ubuntu0.22.04.1", Dialect::MySql),
            ("8.4.3", Dialect::MySql),
            ("9.7.4-2", Dialect::MySql),
            ("8.0.36-28", Dialect::MySql),
        ] {
            assert_eq!(Dialect::of(version), Ok(dialect), "{version}");
        }
        for (version, words) in [
            ("10.9.8-MariaDB", "MariaDB 10.9.8 is too old: 10.10.0"),
            ("8.0.25", "MySQL 8.0.25 is too old: 8.0.26"),
            ("5.7.44-log", "too old"),
            ("", "cannot be read"),
            ("eight", "cannot be read"),
            ("70000.1", "cannot be read"),
        ] {
            let error = Dialect::of(version).unwrap_err();
            assert!(error.contains(words), "{version}: {error}");
        }
    }
}
