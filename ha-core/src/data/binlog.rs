//! Which of a server's binary logs nobody needs any more.
//!
//! A log may go when every replica has what is in it, also one that is not there now; when it is in a backup; and when it
//! is old enough. The server itself spares only what a connected replica reads.

use alloc::{format, string::String, vec::Vec};

use ha_common::Nanos;

use super::mysql::{History, Place};

/// One of the server's binary logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryLog {
    /// Its name, without a directory.
    pub name: String,
    /// What had been written before it. `None`: it does not say.
    pub begins: Option<Place>,
    /// How long ago it was closed. `None`: that is not known.
    pub age: Option<Nanos>,
    /// Whether a backup of it was verified.
    pub backed_up: bool,
}

/// A configured replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its node. `None`: one that was never heard of.
    pub node: Option<String>,
    /// What it has applied, as far as it told. `None`: it never did.
    pub has: Option<Place>,
    /// For how long it has told nothing.
    pub silent: Nanos,
}

/// What limits a purge beside replicas and backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Up to this age the logs stay on the server.
    pub age: Nanos,
    /// A replica that has told nothing for so long holds nothing back. `None`: it always does.
    pub give_up_replica_after: Option<Nanos>,
}

/// Up to where logs may be purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many of the oldest may go: the next one is the first that stays.
    pub logs: usize,
    /// What keeps the first one that stays, for people. There may be several reasons.
    pub held_by: Vec<Hold>,
    /// Nodes of replicas that were given up.
    pub given_up: Vec<String>,
}

/// Why a log stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is the newest one, which is written to.
    Newest,
    /// It is not old enough, or its age is not known.
    Age,
    /// There is no verified backup of it.
    NoBackup,
    /// This replica needs it.
    Replica {
        /// Its node.
        node: String,
        /// For how long it has told nothing.
        silent: Nanos,
    },
    /// It is not known what this replica has, or no replica has told anything.
    Unknown {
        /// Its node. `None`: one that was never heard of.
        node: Option<String>,
        /// For how long it has told nothing.
        silent: Nanos,
    },
}

impl Hold {
    /// The same for people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Newest => "the newest one is written to".into(),
            Self::Age => "`keep`".into(),
            Self::NoBackup => "there is no backup of it yet".into(),
            Self::Replica { node, .. } => format!("the replica on {node} needs it"),
            Self::Unknown {
                node: Some(node), ..
            } => format!("what the replica on {node} has is not known"),
            Self::Unknown { node: None, .. } => {
                "a replica was not heard of since this daemon started".into()
            }
        }
    }
}

/// Of logs from the oldest to the newest, which ones may go.
#[must_use]
pub fn limit(logs: &[BinaryLog], replicas: &[Replica], keep: Keep) -> Limit {
    let is_given_up = |replica: &&Replica| {
        let after = keep.give_up_replica_after;
        after.is_some_and(|after| replica.silent >= after)
    };
    let (lost, needed): (Vec<&Replica>, Vec<&Replica>) = replicas.iter().partition(is_given_up);
    let reasons = |index: usize| {
        let (Some(log), Some(next)) = (logs.get(index), logs.get(index + 1)) else {
            return [Hold::Newest].into();
        };
        let mut reasons = Vec::new();
        if log.age.is_none_or(|age| age < keep.age) {
            reasons.push(Hold::Age);
        }
        if !log.backed_up {
            reasons.push(Hold::NoBackup);
        }
        // What is in it is what had been written before the next one.
        let needs = needed.iter().map(|one| hold(one, next.begins.as_ref()));
        reasons.extend(needs.flatten());
        reasons
    };
    let mut free = 0;
    let held_by = loop {
        let reasons = reasons(free);
        if !reasons.is_empty() {
            break reasons;
        }
        free += 1;
    };
    let lost = lost.into_iter().filter_map(|replica| replica.node.clone());
    Limit {
        logs: free,
        held_by,
        given_up: lost.collect(),
    }
}

/// Whether a replica needs the log that ends at `end`.
fn hold(replica: &Replica, end: Option<&Place>) -> Option<Hold> {
    let silent = replica.silent;
    let unknown = Hold::Unknown {
        node: replica.node.clone(),
        silent,
    };
    let (Some(node), Some(has), Some(end)) = (&replica.node, &replica.has, end) else {
        return Some(unknown);
    };
    (!has.covers(end)).then(|| Hold::Replica {
        node: node.clone(),
        silent,
    })
}

/// Whether nothing was written to a log that began at `begins`, on a server that has `history` now: a new one would be
/// empty as well.
#[must_use]
pub fn is_empty(begins: &Place, history: &History) -> bool {
    begins.covers(&history.place())
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString as _, vec};

    use super::*;
    use crate::data::mysql::Dialect;

    const HOUR: Nanos = Nanos::from_secs(3_600);

    fn at(position: &str) -> Place {
        Place::parse(Dialect::MariaDb, position).unwrap()
    }

    /// Four logs: of ages 4 h, 3 h, 2 h, and the one that is written to. Each has ten transactions.
    fn logs() -> Vec<BinaryLog> {
        let begins = ["", "0-1-10", "0-1-20", "0-1-30"];
        let logs = begins
            .iter()
            .zip(1_u64..)
            .map(|(begins, number)| BinaryLog {
                name: format!("binlog.00000{number}"),
                begins: Some(at(begins)),
                age: Some(HOUR.times(5 - number)),
                backed_up: number < 4,
            });
        logs.collect()
    }

    fn replica(has: &str) -> Replica {
        Replica {
            node: Some("n2".into()),
            has: Some(at(has)),
            silent: Nanos::ZERO,
        }
    }

    const KEEP: Keep = Keep {
        age: HOUR,
        give_up_replica_after: None,
    };

    fn free(logs: &[BinaryLog], replicas: &[Replica], keep: Keep) -> (usize, String) {
        let limit = limit(logs, replicas, keep);
        let why: Vec<String> = limit.held_by.iter().map(Hold::text).collect();
        (limit.logs, why.join("; "))
    }

    #[test]
    fn what_every_replica_has_and_a_backup_has_may_go_when_it_is_old_enough() {
        let newest = "the newest one is written to".to_string();
        assert_eq!(free(&logs(), &[replica("0-1-34")], KEEP), (3, newest));
        let table = [
            ("0-1-30", 1, 3, "the newest"),
            // Half of the third log is needed, so all of it stays.
            ("0-1-29", 1, 2, "the replica on n2 needs it"),
            ("0-1-20", 1, 2, "the replica on n2"),
            ("0-1-9", 1, 0, "the replica on n2"),
            ("", 1, 0, "the replica on n2"),
            // Another domain has nothing of this one.
            ("5-1-99", 1, 0, "the replica on n2"),
            ("0-1-34", 3, 2, "`keep`"),
            ("0-1-34", 4, 1, "`keep`"),
            ("0-1-34", 5, 0, "`keep`"),
        ];
        for (has, hours, expected, why) in table {
            let keep = Keep {
                age: HOUR.times(hours),
                ..KEEP
            };
            let (logs, held) = free(&logs(), &[replica(has)], keep);
            assert_eq!(logs, expected, "{has} {hours}: {held}");
            assert!(held.starts_with(why), "{has} {hours}: {held}");
        }
    }

    #[test]
    fn the_replica_that_is_furthest_behind_counts_also_when_it_is_away() {
        let away = Replica {
            silent: HOUR.times(1_000),
            ..replica("0-1-10")
        };
        let both = [replica("0-1-34"), away];
        assert_eq!(free(&logs(), &both, KEEP).0, 1);
        let limited = Keep {
            give_up_replica_after: Some(HOUR.times(1_000)),
            ..KEEP
        };
        let found = limit(&logs(), &both, limited);
        assert_eq!((found.logs, found.given_up), (3, vec!["n2".to_string()]));
        let longer = Keep {
            give_up_replica_after: Some(HOUR.times(1_001)),
            ..KEEP
        };
        let found = limit(&logs(), &both, longer);
        assert_eq!((found.logs, found.given_up), (1, Vec::new()));
    }

    #[test]
    fn nothing_goes_while_a_replica_is_not_known() {
        let never = Replica {
            node: None,
            has: None,
            silent: HOUR,
        };
        let (count, why) = free(&logs(), &[replica("0-1-34"), never.clone()], KEEP);
        assert_eq!(count, 0);
        assert!(why.contains("was not heard of"), "{why}");
        let mute = Replica {
            has: None,
            ..replica("")
        };
        let (count, why) = free(&logs(), &[mute], KEEP);
        assert_eq!(count, 0);
        assert!(why.contains("on n2 has is not known"), "{why}");
        let limited = Keep {
            give_up_replica_after: Some(HOUR),
            ..KEEP
        };
        assert_eq!(free(&logs(), &[never], limited).0, 3);
    }

    #[test]
    fn what_is_not_in_a_backup_stays_with_all_that_follows() {
        let mut some = logs();
        some[1].backed_up = false;
        let found = limit(&some, &[replica("0-1-34")], KEEP);
        assert_eq!((found.logs, found.held_by), (1, vec![Hold::NoBackup]));
    }

    #[test]
    fn what_is_not_known_of_a_log_keeps_it() {
        let mut some = logs();
        some[1].begins = None;
        assert_eq!(free(&some, &[replica("0-1-34")], KEEP).0, 0);
        let mut some = logs();
        some[0].age = None;
        assert_eq!(free(&some, &[replica("0-1-34")], KEEP).0, 0);
        for count in [0, 1] {
            let found = limit(&logs()[..count], &[], KEEP);
            assert_eq!((found.logs, found.held_by), (0, vec![Hold::Newest]));
        }
    }

    #[test]
    fn positions_of_mysql_are_sets() {
        let source = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let set = |text: &str| Place::parse(Dialect::MySql, text).unwrap();
        let mut some = logs();
        some[0].begins = Some(set(""));
        for (log, end) in some.iter_mut().skip(1).zip([10, 20, 30]) {
            log.begins = Some(set(&format!("{source}:1-{end}")));
        }
        let mut behind = replica("");
        behind.has = Some(set(&format!("{source}:1-20:25")));
        assert_eq!(free(&some, &[behind], KEEP).0, 2);
        // Another family's position says nothing.
        assert_eq!(free(&some, &[replica("0-1-34")], KEEP).0, 0);
    }

    #[test]
    fn a_log_without_a_transaction_is_empty() {
        let history = |text: &str| History::parse(Dialect::MariaDb, text).unwrap();
        assert!(is_empty(&at("0-2-7"), &history("0-1-5,0-2-7")));
        assert!(!is_empty(&at("0-2-7"), &history("0-1-8,0-2-7")));
        assert!(is_empty(&at(""), &history("")));
    }
}
