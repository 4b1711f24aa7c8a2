//! Whether a node is set up so that as little as possible is lost, and noticed soon.

use alloc::{
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use ha_common::Nanos;

use super::timing::{option, period};
use crate::data::{Finding, Settings, Severity};

/// What of it depends on the role's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// `bootstrap = "alone"`: clients wait for as long as the cluster takes to notice.
    pub alone: bool,
}

/// The server's variables that are looked at.
pub const SETTINGS: &[&str] = &[
    "binlog_format",
    "innodb_autoinc_lock_mode",
    "innodb_flush_log_at_trx_commit",
    "wsrep_on",
    "wsrep_provider_options",
];

/// Variables: name, value, severity, why it must be so.
const VARIABLES: &[(&str, &str, Severity, &str)] = &[
    (
        "wsrep_on",
        "ON",
        Severity::Unsafe,
        "without it what is written here is on no other node",
    ),
    (
        "binlog_format",
        "ROW",
        Severity::Unsafe,
        "the other nodes apply rows, and nothing else is certain to have the same effect there",
    ),
    (
        "innodb_autoinc_lock_mode",
        "2",
        Severity::Advice,
        "with another one appliers wait for each other without end",
    ),
    (
        "innodb_flush_log_at_trx_commit",
        "1",
        Severity::Advice,
        "where all nodes fail together writes that were acknowledged may be missing",
    ),
];

/// Options of the provider that must not be on.
const FORBIDDEN: &[(&str, &str)] = &[
    (
        "pc.ignore_sb",
        "nodes that do not see each other all go on, and there are two clusters, which do not merge",
    ),
    (
        "pc.ignore_quorum",
        "nodes go on without a quorum, and there may be two clusters, which do not merge",
    ),
];

/// Times: the option, and the most that it may be.
const TIMES: &[(&str, Nanos)] = &[
    ("evs.keepalive_period", Nanos::from_millis(500)),
    ("evs.inactive_check_period", Nanos::from_millis(250)),
    ("evs.suspect_timeout", Nanos::from_millis(1_500)),
];

/// How long nodes wait for each other while they agree on who is left.
const INSTALL: &str = "evs.install_timeout";
/// The default is 7.5 s; with 1 s three nodes on a busy host were left without a quorum.
const SHORTEST_INSTALL: Nanos = Nanos::from_secs(2);
const HASTY: &str = "a node that is slow for a moment, when another one has died, is given up as well, and none of them has a quorum";

/// What should be set otherwise, by the values of [`SETTINGS`] as the server shows them.
#[must_use]
pub fn audit(settings: &Settings, demands: &Demands) -> Vec<Finding> {
    let mut findings = Vec::new();
    for &(name, want, severity, why) in VARIABLES {
        let found = settings.value(name).unwrap_or("not there");
        if !found.eq_ignore_ascii_case(want) {
            findings.push(Finding {
                severity,
                what: format!("{name} is {found}"),
                why,
                how: format!("write `{name} = {want}` into the server's configuration"),
            });
        }
    }
    let options = settings.value("wsrep_provider_options").unwrap_or_default();
    for &(name, why) in FORBIDDEN {
        if option(options, name).is_some_and(|on| matches!(on, "true" | "1" | "yes" | "on")) {
            findings.push(Finding {
                severity: Severity::Unsafe,
                what: format!("{name} is on"),
                why,
                how: format!("take it out of `wsrep_provider_options`, and run SET GLOBAL wsrep_provider_options = '{name}=false'"),
            });
        }
    }
    if let Some(slow) = slow(options) {
        findings.push(Finding {
            severity: Severity::Advice,
            what: slow,
            why: if demands.alone {
                "a node that died is noticed late, and until then nobody is served"
            } else {
                "a node that died is noticed late, and until then writes wait"
            },
            how: format!(
                "write `wsrep_provider_options = \"{}\"` into the server's configuration, on all nodes",
                super::RECOMMENDED
            ),
        });
    }
    let install = option(options, INSTALL).and_then(period);
    if install.is_some_and(|install| install < SHORTEST_INSTALL) {
        findings.push(Finding {
            severity: Severity::Advice,
            what: format!(
                "{INSTALL} is {}",
                option(options, INSTALL).unwrap_or_default()
            ),
            why: HASTY,
            how: "take it out of `wsrep_provider_options`, and evs.inactive_timeout, on all nodes"
                .to_string(),
        });
    }
    findings
}

/// The times that are too long, in words.
fn slow(options: &str) -> Option<String> {
    let slow = TIMES.iter().filter_map(|&(name, most)| {
        let text = option(options, name)?;
        let long = period(text).is_some_and(|time| time > most);
        long.then(|| format!("{name} is {text}"))
    });
    let slow: Vec<String> = slow.collect();
    (!slow.is_empty()).then(|| slow.join(", ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(changes: &[(&str, &str)]) -> Settings {
        let good = [
            ("wsrep_on", "ON"),
            ("binlog_format", "ROW"),
            ("innodb_autoinc_lock_mode", "2"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("wsrep_provider_options", super::super::RECOMMENDED),
        ];
        Settings::but_for(changes, &good)
    }

    #[test]
    fn what_is_recommended_has_no_findings() {
        assert_eq!(audit(&settings(&[]), &Demands::default()), []);
    }

    #[test]
    fn each_wrong_value_is_found_with_what_to_do() {
        let default =
            "evs.keepalive_period = PT1S; evs.suspect_timeout = PT5S; pc.ignore_sb = false; ";
        for (name, wrong, severity, words) in [
            ("wsrep_on", "OFF", Severity::Unsafe, "no other node"),
            ("binlog_format", "MIXED", Severity::Unsafe, "rows"),
            ("innodb_autoinc_lock_mode", "1", Severity::Advice, "write `"),
            (
                "innodb_flush_log_at_trx_commit",
                "0",
                Severity::Advice,
                "all nodes fail together",
            ),
            (
                "wsrep_provider_options",
                default,
                Severity::Advice,
                "evs.suspect_timeout is PT5S",
            ),
            (
                "wsrep_provider_options",
                "evs.install_timeout = PT1S; ",
                Severity::Advice,
                "given up as well",
            ),
            (
                "wsrep_provider_options",
                "pc.ignore_sb = true; ",
                Severity::Unsafe,
                "two clusters",
            ),
            (
                "wsrep_provider_options",
                "pc.ignore_quorum=1",
                Severity::Unsafe,
                "two clusters",
            ),
        ] {
            let found = audit(&settings(&[(name, wrong)]), &Demands { alone: true });
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            assert_eq!(found[0].severity, severity, "{name}");
            assert!(found[0].to_string().contains(words), "{}", found[0]);
        }
    }
}
