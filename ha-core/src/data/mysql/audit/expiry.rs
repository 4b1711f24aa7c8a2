//! Whether a server removes binary logs by itself that are needed still.

use alloc::{format, string::ToString as _};

use crate::data::{Finding, Settings, Severity};

/// A replica that was away for less comes back by itself.
const WEEK_S: f64 = 604_800.0;
const DAY_S: f64 = 86_400.0;

/// `backed_up`: a role of kind `binlog` purges them.
pub(super) fn finding(settings: &Settings, backed_up: bool) -> Option<Finding> {
    let seconds = |name, unit: f64| {
        let value = settings.value(name)?;
        let number: f64 = value.parse().ok()?;
        Some((name, value, number * unit))
    };
    // MariaDB before 10.6 has days alone; in later ones the two say the same.
    let known = seconds("binlog_expire_logs_seconds", 1.0);
    let (name, value, after_s) = known.or_else(|| seconds("expire_logs_days", DAY_S))?;
    if after_s <= 0.0 || (!backed_up && after_s >= WEEK_S) {
        return None;
    }
    Some(Finding {
        severity: Severity::Advice,
        what: format!("{name} is {value}"),
        why: if backed_up {
            "the server removes binary logs of which there is no backup yet"
        } else {
            "a node that was away for longer does not find the binary logs any more that it lacks, and has to be copied anew"
        },
        how: if backed_up {
            format!(
                "write `{name} = 0` into the server's configuration: the role of kind \"binlog\" purges them"
            )
        } else {
            "give the binary logs a week at least, or 0 and a role of kind \"binlog\"".to_string()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_that_the_server_removes_too_early_are_told() {
        let found = |name, value, backed_up| {
            finding(&Settings::but_for(&[(name, value)], &[]), backed_up).map(|one| one.to_string())
        };
        assert_eq!(found("binlog_expire_logs_seconds", "0", true), None);
        assert_eq!(found("binlog_expire_logs_seconds", "864000", false), None);
        assert_eq!(found("expire_logs_days", "10.000000", false), None);
        assert_eq!(finding(&Settings::default(), true), None);
        let text = found("binlog_expire_logs_seconds", "864000", true).expect("a finding");
        assert!(text.contains("`binlog_expire_logs_seconds = 0`"), "{text}");
        let text = found("expire_logs_days", "2", false).expect("a finding");
        assert!(text.contains("a week"), "{text}");
    }
}
