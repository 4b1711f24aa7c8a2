//! What is known of a check at present.

use ha_core::check::{CheckStatus, Probed};

use crate::{
    config::Check,
    control::report::{CheckReport, ProbeReport},
    sys::clock,
};

/// A check, as its task sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    /// `None` before its task began.
    pub(super) status: Option<CheckStatus>,
    /// The last lines that its probe printed.
    pub(super) output: Vec<String>,
}

impl Watched {
    /// For `hactl checks`.
    pub(super) fn report(&self, config: &Check) -> CheckReport {
        let status = self.status.as_ref();
        let recent = status.map_or(&[][..], |status| &status.recent);
        CheckReport {
            name: config.name.clone(),
            kind: config.kind.name().to_owned(),
            state: status
                .map(|status| status.health)
                .unwrap_or_default()
                .name()
                .to_owned(),
            since: status.map(|status| clock::rfc3339(status.since)),
            since_ns: status.map_or(0, |status| status.since.0),
            why: status.map_or_else(String::new, |status| status.why.clone()),
            passed: status.map_or(0, |status| status.passed),
            failed: status.map_or(0, |status| status.failed),
            last_us: recent.last().map(|probed| probed.lasted.0 / 1_000),
            history: recent.iter().map(probe).collect(),
            output: self.output.clone(),
            tracked: None,
        }
    }
}

fn probe(probed: &Probed) -> ProbeReport {
    let (passed, text) = match &probed.result {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    ProbeReport {
        time: clock::rfc3339(probed.at),
        at_ns: probed.at.0,
        lasted_us: probed.lasted.0 / 1_000,
        passed,
        text: text.clone(),
    }
}
