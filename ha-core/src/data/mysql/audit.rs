//! Whether a server is set up so that nothing is lost.

mod expiry;
mod network;

use alloc::{format, string::ToString as _, vec::Vec};
use core::net::SocketAddr;

pub use self::network::unreachable;
use super::Dialect;
use crate::data::{Finding, Settings, Severity};

/// What of it depends on the role's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// `durability = "semi-sync"`.
    pub semi_sync: bool,
    /// Where the other nodes' replicas reach the server, if that is known.
    pub replication_address: Option<SocketAddr>,
    /// A role of kind `binlog` backs the binary logs up, and purges them.
    pub backs_up: bool,
}

/// The server's variables that are looked at, in either family's names.
pub const SETTINGS: &[&str] = &[
    "bind_address",
    "binlog_expire_logs_seconds",
    "binlog_format",
    "enforce_gtid_consistency",
    "expire_logs_days",
    "gtid_domain_id",
    "gtid_mode",
    "gtid_strict_mode",
    "innodb_flush_log_at_trx_commit",
    "log_bin",
    "log_replica_updates",
    "log_slave_updates",
    "port",
    "relay_log_recovery",
    "replica_net_timeout",
    "rpl_semi_sync_master_timeout",
    "rpl_semi_sync_master_wait_point",
    "rpl_semi_sync_slave_enabled",
    "rpl_semi_sync_source_timeout",
    "rpl_semi_sync_source_wait_point",
    "rpl_semi_sync_replica_enabled",
    "server_id",
    "skip_networking",
    "slave_net_timeout",
    "sync_binlog",
];

struct Rule {
    dialect: Option<Dialect>,
    name: &'static str,
    right: fn(&str) -> bool,
    /// What it is to be, as in the file.
    want: &'static str,
    severity: Severity,
    only: fn(&Demands) -> bool,
    why: &'static str,
}

const MARIADB: Option<Dialect> = Some(Dialect::MariaDb);
const MYSQL: Option<Dialect> = Some(Dialect::MySql);

fn on(value: &str) -> bool {
    value.eq_ignore_ascii_case("ON") || value == "1"
}

fn always(_: &Demands) -> bool {
    true
}

fn semi_sync(demands: &Demands) -> bool {
    demands.semi_sync
}

/// Milliseconds in which a primary would go on alone: longer than any failure is left as it is.
const LONG: u64 = 86_400_000;

const RULES: &[Rule] = &[
    Rule {
        dialect: None,
        name: "log_bin",
        right: on,
        want: "log_bin",
        severity: Severity::Unsafe,
        only: always,
        why: "without a binary log nothing can be replicated from it once it is the primary",
    },
    Rule {
        dialect: MARIADB,
        name: "gtid_strict_mode",
        right: on,
        want: "gtid_strict_mode = ON",
        severity: Severity::Unsafe,
        only: always,
        why: "without strict mode a node that has diverged replicates on in silence",
    },
    Rule {
        dialect: MARIADB,
        name: "log_slave_updates",
        right: on,
        want: "log_slave_updates = ON",
        severity: Severity::Unsafe,
        only: always,
        why: "a replica that does not log what it applies cannot become the source of the others",
    },
    Rule {
        dialect: MYSQL,
        name: "log_replica_updates",
        right: on,
        want: "log_replica_updates = ON",
        severity: Severity::Unsafe,
        only: always,
        why: "a replica that does not log what it applies cannot become the source of the others",
    },
    Rule {
        dialect: MYSQL,
        name: "gtid_mode",
        right: on,
        want: "gtid_mode = ON",
        severity: Severity::Unsafe,
        only: always,
        why: "only with GTIDs can be proved that a node has everything",
    },
    Rule {
        dialect: MYSQL,
        name: "enforce_gtid_consistency",
        right: on,
        want: "enforce_gtid_consistency = ON",
        severity: Severity::Unsafe,
        only: always,
        why: "GTIDs need it",
    },
    Rule {
        dialect: None,
        name: "binlog_format",
        right: |value| value == "ROW",
        want: "binlog_format = ROW",
        severity: Severity::Advice,
        only: always,
        why: "a replica that carries statements out again may come to another result",
    },
    Rule {
        dialect: None,
        name: "sync_binlog",
        right: |value| value == "1",
        want: "sync_binlog = 1",
        severity: Severity::Advice,
        only: always,
        why: "after a power failure the binary log may lack writes that were acknowledged",
    },
    Rule {
        dialect: None,
        name: "innodb_flush_log_at_trx_commit",
        // 3 is had's own, while a primary is alone.
        right: |value| matches!(value, "1" | "3"),
        want: "innodb_flush_log_at_trx_commit = 1",
        severity: Severity::Advice,
        only: always,
        why: "after a power failure writes that were acknowledged may be missing",
    },
    Rule {
        dialect: MARIADB,
        name: "rpl_semi_sync_master_wait_point",
        right: |value| value == "AFTER_SYNC",
        want: "rpl_semi_sync_master_wait_point = AFTER_SYNC",
        severity: Severity::Unsafe,
        only: semi_sync,
        why: "with AFTER_COMMIT others read, and a killed primary keeps, what no replica has",
    },
    Rule {
        dialect: MYSQL,
        name: "rpl_semi_sync_source_wait_point",
        right: |value| value == "AFTER_SYNC",
        want: "rpl_semi_sync_source_wait_point = AFTER_SYNC",
        severity: Severity::Unsafe,
        only: semi_sync,
        why: "with AFTER_COMMIT others read, and a killed primary keeps, what no replica has",
    },
    Rule {
        dialect: MARIADB,
        name: "rpl_semi_sync_master_timeout",
        right: |value| value.parse::<u64>().is_ok_and(|timeout| timeout >= LONG),
        want: "rpl_semi_sync_master_timeout = 4294967295",
        severity: Severity::Unsafe,
        only: semi_sync,
        why: "after this time the primary acknowledges writes that no replica has, and tells nobody",
    },
    Rule {
        dialect: MYSQL,
        name: "rpl_semi_sync_source_timeout",
        right: |value| value.parse::<u64>().is_ok_and(|timeout| timeout >= LONG),
        want: "rpl_semi_sync_source_timeout = 4294967295",
        severity: Severity::Unsafe,
        only: semi_sync,
        why: "after this time the primary acknowledges writes that no replica has, and tells nobody",
    },
    Rule {
        dialect: MARIADB,
        name: "slave_net_timeout",
        right: |value| value.parse::<u64>().is_ok_and(|seconds| seconds <= 10),
        want: "slave_net_timeout = 4",
        severity: Severity::Advice,
        only: always,
        why: "a replica notices a dead connection only after this many seconds",
    },
    Rule {
        dialect: MYSQL,
        name: "replica_net_timeout",
        right: |value| value.parse::<u64>().is_ok_and(|seconds| seconds <= 10),
        want: "replica_net_timeout = 4",
        severity: Severity::Advice,
        only: always,
        why: "a replica notices a dead connection only after this many seconds",
    },
    Rule {
        dialect: MYSQL,
        name: "relay_log_recovery",
        right: on,
        want: "relay_log_recovery = ON",
        severity: Severity::Advice,
        only: always,
        why: "after a crash the relay log may be damaged",
    },
];

/// What should be set otherwise, by the values of [`SETTINGS`] as the server shows them.
#[must_use]
pub fn audit(dialect: Dialect, settings: &Settings, demands: &Demands) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in RULES {
        let applies = rule.dialect.is_none_or(|known| known == dialect) && (rule.only)(demands);
        if !applies {
            continue;
        }
        let what = match settings.value(rule.name) {
            Some(value) if (rule.right)(value) => continue,
            Some(value) => format!("{} is {value}", rule.name),
            // MySQL 9 has done away with some that can no longer be wrong; semi-synchronous replication is a plugin.
            None if !rule.name.starts_with("rpl_semi_sync") => continue,
            None => format!("there is no {}", rule.name),
        };
        let plugin = what.starts_with("there is no");
        findings.push(Finding {
            severity: rule.severity,
            what,
            why: rule.why,
            how: if plugin {
                "install the server's plugins for semi-synchronous replication, of source and replica".to_string()
            } else {
                format!("write `{}` into the server's configuration", rule.want)
            },
        });
    }
    if settings.value("server_id").is_none_or(|id| id == "0") {
        findings.push(Finding {
            severity: Severity::Unsafe,
            what: "server_id is not set".to_string(),
            why: "without one of its own a server cannot replicate",
            how:
                "write `server_id = …` into the server's configuration, another number on each node"
                    .to_string(),
        });
    }
    findings.extend(expiry::finding(settings, demands.backs_up));
    let address = demands.replication_address;
    findings.extend(address.and_then(|address| unreachable(settings, address)));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(changes: &[(&str, &str)]) -> Settings {
        let good = [
            ("log_bin", "ON"),
            ("gtid_strict_mode", "ON"),
            ("log_slave_updates", "ON"),
            ("log_replica_updates", "ON"),
            ("gtid_mode", "ON"),
            ("enforce_gtid_consistency", "ON"),
            ("binlog_format", "ROW"),
            ("sync_binlog", "1"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("rpl_semi_sync_master_wait_point", "AFTER_SYNC"),
            ("rpl_semi_sync_master_timeout", "4294967295"),
            ("slave_net_timeout", "4"),
            ("server_id", "1"),
        ];
        Settings::but_for(changes, &good)
    }

    const SEMI_SYNC: Demands = Demands {
        semi_sync: true,
        replication_address: None,
        backs_up: false,
    };

    #[test]
    fn a_good_server_has_no_findings() {
        assert_eq!(audit(Dialect::MariaDb, &settings(&[]), &SEMI_SYNC), []);
    }

    #[test]
    fn each_wrong_value_is_found_with_what_to_do() {
        for (name, wrong, severity) in [
            ("log_bin", "OFF", Severity::Unsafe),
            ("gtid_strict_mode", "OFF", Severity::Unsafe),
            ("log_slave_updates", "OFF", Severity::Unsafe),
            ("binlog_format", "MIXED", Severity::Advice),
            ("sync_binlog", "0", Severity::Advice),
            ("innodb_flush_log_at_trx_commit", "2", Severity::Advice),
            (
                "rpl_semi_sync_master_wait_point",
                "AFTER_COMMIT",
                Severity::Unsafe,
            ),
            ("rpl_semi_sync_master_timeout", "10000", Severity::Unsafe),
            ("slave_net_timeout", "60", Severity::Advice),
            ("server_id", "0", Severity::Unsafe),
        ] {
            let found = audit(Dialect::MariaDb, &settings(&[(name, wrong)]), &SEMI_SYNC);
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert_eq!(found[0].severity, severity, "{name}");
            let text = found[0].to_string();
            assert!(text.contains(name) && text.contains("write `"), "{text}");
        }
    }

    #[test]
    fn what_only_semi_synchronous_replication_needs_is_asked_of_it_alone() {
        let slow = settings(&[("rpl_semi_sync_master_timeout", "10000")]);
        assert_eq!(audit(Dialect::MariaDb, &slow, &Demands::default()), []);
        // MySQL without the plugin.
        let found = audit(Dialect::MySql, &settings(&[]), &SEMI_SYNC);
        assert!(
            found.iter().all(|finding| finding.how.contains("plugin")),
            "{found:?}"
        );
        assert_eq!(found.len(), 2);
    }
}
