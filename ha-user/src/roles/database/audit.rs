//! The audit of a server: made anew now and then, and told when it finds something else.

use ha_core::data::{Finding, Severity};

/// Looks between two audits.
const EACH: u32 = 300;

/// See the module.
pub(in crate::roles) struct Audit {
    role: String,
    /// `None`: there was none yet.
    findings: Option<Vec<Finding>>,
    looks: u32,
}

impl Audit {
    /// Of the server of a role.
    pub(in crate::roles) fn new(role: &str) -> Self {
        Self {
            role: role.to_owned(),
            findings: None,
            looks: 0,
        }
    }

    /// Whether the look that begins now audits as well.
    pub(in crate::roles) fn is_due(&mut self) -> bool {
        let due = self.findings.is_none() || self.looks.is_multiple_of(EACH);
        self.looks = self.looks.wrapping_add(1);
        due
    }

    /// What a look found, if it audited. What should be set otherwise is told when it is found for the first time.
    pub(in crate::roles) fn take(&mut self, findings: Option<Vec<Finding>>) {
        if findings.is_none() || self.findings == findings {
            return;
        }
        self.findings = findings;
        for finding in self.findings.iter().flatten() {
            tracing::warn!("role {}: {finding}", self.role);
        }
    }

    /// Whether nothing is set so that the server must not be promoted, or what is.
    pub(in crate::roles) fn allows(&self) -> Result<(), String> {
        let mut findings = self.findings.iter().flatten();
        match findings.find(|finding| finding.severity == Severity::Unsafe) {
            Some(finding) => Err(format!("the server is not set up for this: {finding}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity) -> Finding {
        Finding {
            severity,
            what: "log_bin is OFF".to_owned(),
            why: "nothing can be replicated",
            how: "switch it on".to_owned(),
        }
    }

    #[test]
    fn it_is_made_until_it_succeeds_and_then_now_and_then() {
        let mut audit = Audit::new("db");
        assert!(audit.is_due());
        audit.take(None);
        assert!(audit.is_due(), "the look that was to audit failed");
        audit.take(Some(Vec::new()));
        let due = (0..2 * EACH).filter(|_| audit.is_due()).count();
        assert_eq!(due, 2);
    }

    #[test]
    fn only_what_is_unsafe_keeps_a_server_from_being_promoted() {
        let mut audit = Audit::new("db");
        assert_eq!(audit.allows(), Ok(()));
        audit.take(Some(vec![finding(Severity::Advice)]));
        assert_eq!(audit.allows(), Ok(()));
        audit.take(Some(vec![
            finding(Severity::Advice),
            finding(Severity::Unsafe),
        ]));
        audit.take(None);
        assert!(audit.allows().unwrap_err().contains("log_bin is OFF"));
        audit.take(Some(Vec::new()));
        assert_eq!(audit.allows(), Ok(()));
    }
}
