//! Whether servers kept what they acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, Result};

use super::{
    DATABASE, Server, bank,
    ledger::{Ledger, Outcome},
};

/// The tables that must be equal on all servers.
const TABLES: [&str; 2] = ["writes", "accounts"];

/// How the clients' knowledge and one server's rows differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged, and not there.
    pub lost: Vec<u64>,
    /// There more than once.
    pub twice: Vec<u64>,
    /// Refused, and there.
    pub refused_and_there: Vec<u64>,
    /// There, and nobody's.
    pub nobodys: Vec<u64>,
}

impl Findings {
    /// Whether everything is as it must be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Compares what clients know with the numbers that a server has and how often, of writes from `first` on.
    #[must_use]
    pub fn of(ledger: &Ledger, first: u64, rows: &HashMap<u64, u32>) -> Self {
        let mut findings = Self::default();
        let mut known = BTreeSet::new();
        for write in ledger.writes.iter().filter(|write| write.id >= first) {
            known.insert(write.id);
            let there = rows.contains_key(&write.id);
            match write.outcome {
                Outcome::Acknowledged if !there => findings.lost.push(write.id),
                Outcome::Refused(_) if there => findings.refused_and_there.push(write.id),
                _ => {}
            }
        }
        for (id, count) in rows {
            if *count > 1 {
                findings.twice.push(*id);
            }
            if !known.contains(id) {
                findings.nobodys.push(*id);
            }
        }
        findings.twice.sort_unstable();
        findings.nobodys.sort_unstable();
        findings
    }
}

/// Compares the ledger of clients that have stopped with the rows of a server, from the write `first` on.
pub fn check(server: &Server, ledger: &Ledger, first: u64) -> Result<Findings> {
    let rows = server.sql(&[&format!(
        "SELECT id, COUNT(*) FROM {DATABASE}.writes WHERE id >= {first} GROUP BY id"
    )])?;
    let mut found = HashMap::new();
    for row in rows {
        let [Some(id), Some(count)] = row.as_slice() else {
            anyhow::bail!("a row without number: {row:?}");
        };
        found.insert(id.parse()?, count.parse()?);
    }
    Ok(Findings::of(ledger, first, &found))
}

/// What must be the same on servers that have caught up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// By table.
    pub checksums: Vec<String>,
    /// The last sequence number of each domain and server that wrote.
    pub positions: BTreeMap<(u32, u32), u64>,
    /// Whether the bank has all its money.
    pub balanced: bool,
}

impl Contents {
    /// Whether another server has the same and nothing is missing.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self == other && self.balanced
    }

    /// As [`Self::is_same`], of nodes of a Galera cluster: each one numbers its GTIDs by itself, and spends one on a
    /// commit that its cluster takes back.
    #[must_use]
    pub fn has_same_rows(&self, other: &Self) -> bool {
        self.checksums == other.checksums && self.balanced && other.balanced
    }

    /// Of a server.
    pub fn of(server: &Server) -> Result<Self> {
        let mut checksums = Vec::new();
        for table in TABLES {
            let rows = server.sql(&[&format!("CHECKSUM TABLE {DATABASE}.{table}")])?;
            let sum = rows.into_iter().flatten().nth(1).flatten();
            checksums.push(sum.with_context(|| format!("{table} has no checksum"))?);
        }
        Ok(Self {
            checksums,
            positions: positions(&server.value("SELECT @@GLOBAL.gtid_binlog_state")?)?,
            balanced: bank::is_balanced(server)?,
        })
    }
}

/// Reads `gtid_binlog_state`: `domain-server-sequence`, separated by commas.
fn positions(state: &str) -> Result<BTreeMap<(u32, u32), u64>> {
    let read = |text: &str| {
        let mut parts = text.trim().splitn(3, '-');
        let domain = parts.next()?.parse().ok()?;
        let server = parts.next()?.parse().ok()?;
        Some(((domain, server), parts.next()?.parse().ok()?))
    };
    let parts = state.split(',').filter(|text| !text.trim().is_empty());
    parts
        .map(|text| read(text).with_context(|| format!("{text} is no GTID")))
        .collect()
}

#[cfg(test)]
mod tests {
    use ha_common::MonoNs;

    use super::*;
    use crate::mariadb::Write;

    fn ledger(outcomes: &[Outcome]) -> Ledger {
        let write = |(id, outcome): (u64, &Outcome)| Write {
            id,
            client: 1,
            sent: MonoNs(id),
            done: MonoNs(id),
            outcome: *outcome,
            server: None,
        };
        Ledger {
            writes: (1..).zip(outcomes).map(write).collect(),
        }
    }

    #[test]
    fn each_kind_of_difference_is_found() {
        use Outcome::{Acknowledged, Refused, Unknown};
        let ledger = ledger(&[
            Acknowledged,
            Acknowledged,
            Refused(1290),
            Unknown,
            Unknown,
            Refused(1290),
        ]);
        let clean = HashMap::from([(1, 1), (2, 1), (4, 1)]);
        assert!(Findings::of(&ledger, 1, &clean).is_clean());
        let rows = HashMap::from([(1, 2), (3, 1), (5, 1), (99, 1)]);
        assert_eq!(
            Findings::of(&ledger, 1, &rows),
            Findings {
                lost: vec![2],
                twice: vec![1],
                refused_and_there: vec![3],
                nobodys: vec![99],
            }
        );
    }

    #[test]
    fn positions_are_read_by_domain_and_server() {
        let read = positions("0-1-15, 0-2-9,3-1-1").unwrap();
        assert_eq!(
            read,
            BTreeMap::from([((0, 1), 15), ((0, 2), 9), ((3, 1), 1)])
        );
        assert!(positions("").unwrap().is_empty());
        assert!(positions("0-1").is_err());
    }
}
