//! What came of it.

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result};
use ha_common::{MonoNs, Nanos};
use ha_tests::{clock::span, eventually, now};
use ha_user::control::{
    client::ask,
    protocol::Request,
    report::{GroupReport, RolesReport},
};

use super::control;
use crate::writes::{Stage, Trial, judge};

/// How long until somebody acknowledges writes again, and until both nodes are what they should be.
const LIMIT: Duration = Duration::from_secs(60);

/// A server that has ended is started again after so long, as systemd does, if nobody else has.
const RESTART: Duration = Duration::from_secs(2);
const LOOK: Nanos = Nanos::from_millis(200);

/// See the module.
pub(super) struct Outcome {
    /// Until writes were acknowledged again, and until the pair was in sync.
    served: Option<Nanos>,
    ready: Option<Nanos>,
    trial: Trial,
}

impl Outcome {
    pub(super) fn is_well(&self) -> bool {
        self.trial.is_settled() && self.trial.both_wrote == Nanos::ZERO
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span =
            |span: Option<Nanos>| span.map_or_else(|| "-".to_owned(), |span| span.to_string());
        let trial = &self.trial;
        write!(
            formatter,
            "served after {}, in sync after {}; of {} acknowledged {} lost, {} twice; both wrote {}{}",
            span(self.served),
            span(self.ready),
            trial.acknowledged,
            trial.findings.lost.len(),
            trial.findings.twice.len(),
            trial.both_wrote,
            if trial.is_settled() {
                ""
            } else {
                "; NOT EQUAL"
            },
        )
    }
}

/// What a node's daemon says of the group.
pub(super) fn group(stage: &Stage, index: usize) -> Result<GroupReport> {
    let report: RolesReport = ask(&control(stage, index), Request::Roles)?;
    let group = report.groups.into_iter().next();
    group.context("a group with roles")
}

/// The primary, once both daemons say that the other one may take over, and clients write.
pub(super) fn settle(stage: &Stage) -> Result<usize> {
    stage.settle()?;
    wait_ready(stage)
}

fn wait_ready(stage: &Stage) -> Result<usize> {
    let mut last = None;
    let mut primary = None;
    let mut looked = MonoNs::ZERO;
    let mut gone = [None; 2];
    let outcome = eventually(LIMIT, "the standby may be promoted", || {
        if looked.after(LOOK) <= now() {
            looked = now();
            restart(stage, &mut gone)?;
        }
        let groups = [group(stage, 0)?, group(stage, 1)?];
        primary = groups.iter().position(|group| group.stance == "primary");
        let ready = primary.is_some_and(|index| is_ready(&groups[index], &groups[1 - index]));
        last = Some(groups);
        Ok(ready)
    });
    outcome.inspect_err(|_| eprintln!("{last:#?}"))?;
    primary.context("the condition above")
}

fn is_ready(primary: &GroupReport, standby: &GroupReport) -> bool {
    let heard = primary.peers.first();
    primary.in_sync == Some(true)
        && standby.stance == "standby"
        && standby.not_eligible.is_none()
        && heard.is_some_and(|heard| heard.stance == "standby" && heard.not_eligible.is_none())
}

/// Starts what has ended for a while.
fn restart(stage: &Stage, gone: &mut [Option<MonoNs>; 2]) -> Result<()> {
    for (server, gone) in stage.servers.servers.iter().zip(gone) {
        if server.pid()?.is_some() {
            *gone = None;
        } else if gone.get_or_insert(now()).after(span(RESTART)) <= now() {
            *gone = None;
            server.launch(&[])?;
        }
    }
    Ok(())
}

/// Waits until all is as it should be, and looks at what is there.
pub(super) fn of(stage: &Stage, first: u64, fault: Option<MonoNs>) -> Result<Outcome> {
    let at = fault.unwrap_or_else(now);
    // What the daemons say at first may be from before the fault.
    wait_ready(stage)?;
    stage.wait_for_flow(at, LIMIT)?;
    let primary = wait_ready(stage)?;
    let ready = now();
    stage.wait_for_flow(ready, LIMIT)?;
    stage.writers.pause()?;
    for sampler in &stage.samplers {
        sampler.pause();
    }
    let served = stage.writers.ledger();
    let served = served.acknowledged().find(|write| write.sent > at);
    let served = served.map(|write| write.done.since(at));
    let ready = ready.since(at);
    let trial = judge(stage, first, at, primary, Some(ready), &[primary])?;
    Ok(Outcome {
        served: fault.and(served),
        ready: fault.map(|_| ready),
        trial,
    })
}
