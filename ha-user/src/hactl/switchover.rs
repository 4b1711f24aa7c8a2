//! `hactl switchover` of a group with roles, step by step.

use std::{io::Write, path::Path, thread, time::Duration};

use ha_common::{MonoNs, Nanos};

use super::{Failure, roles};
use crate::{
    control::{
        client::ask,
        protocol::Request,
        report::{GroupPeerReport, GroupReport, PreviewReport, RolesReport},
    },
    sys::clock,
};

/// How often it is looked at what is being done.
const STEP: Duration = Duration::from_millis(20);
/// Who is not heard for so long tells nothing of what it does.
const SILENT_MS: u64 = 5_000;
/// Beside the steps: to begin, to write and to tell.
const BESIDE: Nanos = Nanos::from_secs(10);

/// A hand-over that is about to begin.
pub(super) struct Before {
    group: String,
    at: MonoNs,
    limit: Nanos,
}

/// What is to be known beforehand; `None`: the target has no roles.
pub(super) fn begin(socket: &Path, target: &str) -> Result<Option<Before>, Failure> {
    let roles: RolesReport = ask(socket, Request::Roles)?;
    if roles.groups.is_empty() {
        return Ok(None);
    }
    let request = Request::Preview {
        target: target.to_owned(),
        to: None,
    };
    // A group or an instance without roles is none of its business.
    let Ok(preview) = ask::<PreviewReport>(socket, request) else {
        return Ok(None);
    };
    let steps = preview.demote.iter().chain(&preview.promote);
    let limit = steps.map(|step| step.limit_ms).sum::<u64>();
    Ok(Some(Before {
        group: preview.group,
        at: clock::now(),
        limit: Nanos::from_millis(limit).plus(BESIDE),
    }))
}

/// Shows each step as it ends, until this node has let go, or has taken everything back.
pub(super) fn follow(
    socket: &Path,
    before: &Before,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let deadline = before.at.after(before.limit);
    let mut shown = 0;
    let mut begun = false;
    while clock::now() < deadline {
        let report: RolesReport = ask(socket, Request::Roles)?;
        let mut groups = report.groups.into_iter();
        let Some(group) = groups.find(|group| group.group == before.group) else {
            return Ok(());
        };
        let is_ours = |group: &GroupReport| {
            let first = group.plan.as_ref().and_then(|plan| plan.steps.first());
            first.is_some_and(|step| step.began_ns >= before.at.0)
        };
        begun |= is_ours(&group) || group.stance != "primary";
        if let Some(plan) = group.plan.as_ref().filter(|_| is_ours(&group)) {
            // A plan that follows another one begins anew.
            shown = shown.min(plan.steps.len());
            let ended = plan.steps.iter().skip(shown);
            for step in ended.take_while(|step| step.took_us.is_some()) {
                shown += 1;
                if !json {
                    write!(out, "{}", roles::step(step))?;
                    out.flush()?;
                }
            }
        }
        let under_way = group.plan.as_ref().is_some_and(|plan| plan.under_way);
        if begun && !under_way {
            return match group.stance.as_str() {
                "standby" => Ok(()),
                "primary" => Err(Failure::NobodyTookOver(format!(
                    "{} was not handed over, and is served by this node as before: `hactl events` says why",
                    before.group
                ))),
                other => Err(Failure::NobodyTookOver(format!(
                    "{} is {other} on this node: `hactl roles {}` says why",
                    before.group, before.group
                ))),
            };
        }
        thread::sleep(STEP);
    }
    Err(Failure::NobodyTookOver(format!(
        "{} was not let go of within {}: `hactl roles {}` shows what it waits for",
        before.group, before.limit, before.group
    )))
}

/// Waits until another node's roles are promoted: it advertises before they are. Without a link nobody tells.
pub(super) fn watch_promotion(socket: &Path, before: &Before) -> Result<(), Failure> {
    let deadline = before.at.after(before.limit);
    while clock::now() < deadline {
        let report: RolesReport = ask(socket, Request::Roles)?;
        let mut groups = report.groups.into_iter();
        let Some(group) = groups.find(|group| group.group == before.group) else {
            return Ok(());
        };
        let is_promoted = group.peers.iter().any(|peer| peer.stance == "primary");
        if is_promoted || group.peers.is_empty() {
            return Ok(());
        }
        let silent = |peer: &GroupPeerReport| peer.heard_ms_ago >= SILENT_MS;
        if group.stance == "standby" && group.peers.iter().all(silent) {
            return Err(Failure::NobodyTookOver(format!(
                "{0} was let go of, and nothing was heard of the other nodes since: whether one of them serves is not known. `hactl roles {0}` shows what this node waits for",
                before.group
            )));
        }
        if group.stance != "standby" {
            return Err(Failure::NobodyTookOver(format!(
                "no other node took {0} over, and this one does so again. There, `hactl roles {0}` and `hactl events` say why",
                before.group
            )));
        }
        thread::sleep(STEP);
    }
    Err(Failure::NobodyTookOver(format!(
        "{0} was let go of, but no other node's roles were promoted within {1}: there, `hactl roles {0}` shows what it waits for",
        before.group, before.limit
    )))
}
