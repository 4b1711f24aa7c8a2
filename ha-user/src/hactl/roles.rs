//! What `hactl roles`, `hactl mode` and `hactl switchover` of a group with roles look like.

use std::fmt::Write as _;

use super::render::Style;
use crate::control::report::{
    BootstrapReport, GroupPeerReport, GroupReport, ModeReport, PlanReport, PlannedReport,
    PreviewReport, RoleReport, RolesReport, StepReport,
};

/// `hactl mode`.
pub(super) fn mode(report: &ModeReport) -> String {
    format!("{}: {}\n", report.node, report.mode)
}

/// `hactl roles`.
pub(super) fn overview(report: &RolesReport, style: Style) -> String {
    let mut text = format!("{}: mode {}\n", report.node, report.mode);
    if report.groups.is_empty() {
        text.push_str("no group has roles\n");
    }
    for group in &report.groups {
        text.push('\n');
        text.push_str(&one(group, style));
    }
    text
}

fn one(group: &GroupReport, style: Style) -> String {
    let mut text = format!(
        "group {}: {}, epoch {}{}\n",
        group.group,
        stance(&group.stance, style),
        group.epoch,
        match group.in_sync {
            Some(true) => ", writes wait for a replica",
            Some(false) => ", writes do not wait for a replica",
            None => "",
        }
    );
    if let Some(why) = &group.not_eligible {
        let _ = writeln!(text, "  may not be elected: {why}");
    }
    for role in &group.roles {
        let _ = writeln!(
            text,
            "  role {} ({}): {}",
            role.name,
            role.kind,
            state(role)
        );
    }
    if let Some(plan) = &group.plan {
        text.push_str(&of_plan(plan));
    }
    for peer in &group.peers {
        text.push_str(&of_peer(peer, style));
    }
    text
}

fn stance(stance: &str, style: Style) -> String {
    match stance {
        "primary" => style.paint("1;32", stance),
        "unsettled" => style.paint("1;31", stance),
        "promoting" | "demoting" => style.paint("33", stance),
        _ => stance.to_owned(),
    }
}

fn state(role: &RoleReport) -> String {
    let mut words = vec![match role.promoted {
        Some(true) => "promoted".to_owned(),
        Some(false) => "not promoted".to_owned(),
        None => "not known".to_owned(),
    }];
    words.extend(role.position.as_ref().map(|at| format!("at {at}")));
    if let Some(source) = &role.follows {
        let receives = match role.receives {
            Some(false) => " but receives nothing",
            _ => "",
        };
        words.push(format!("follows {source}{receives}"));
    }
    words.extend(role.lag_ms.map(|lag| format!("{lag} ms behind")));
    words.extend(
        role.acknowledging
            .map(|count| format!("{count} replicas acknowledge")),
    );
    words.extend(role.unable.as_ref().map(|why| format!("unable: {why}")));
    words.extend(role.note.clone());
    words.extend(role.warning.as_ref().map(|what| format!("WARNING: {what}")));
    words.join(", ")
}

fn of_plan(plan: &PlanReport) -> String {
    let mut text = format!(
        "  {} plan: {}\n",
        if plan.under_way { "present" } else { "last" },
        plan.purpose
    );
    for one in &plan.steps {
        let _ = write!(text, "  {}", step(one));
    }
    text
}

/// A step, with the time that it took.
pub(super) fn step(step: &StepReport) -> String {
    let name = format!("{}: {}", step.role, step.step);
    match step.took_us {
        None => format!("  {name}: under way\n"),
        Some(took) => {
            let (millis, micros) = (took / 1_000, took % 1_000);
            let failed = if step.ok { "" } else { " FAILED" };
            let text = if step.text.is_empty() {
                String::new()
            } else {
                format!(": {}", step.text)
            };
            format!("  {name}{failed} ({millis}.{micros:03} ms){text}\n")
        }
    }
}

fn of_peer(peer: &GroupPeerReport, style: Style) -> String {
    let position = peer.position.as_ref();
    let position = position.map_or_else(String::new, |at| format!(", at {at}"));
    let unable = peer.not_eligible.as_ref();
    let unable = unable.map_or_else(String::new, |why| format!(", may not be elected: {why}"));
    format!(
        "  node {}: {}, epoch {}, mode {}{position}{unable} (heard {} ms ago)\n",
        peer.node,
        stance(&peer.stance, style),
        peer.epoch,
        peer.mode,
        peer.heard_ms_ago
    )
}

/// `hactl switchover --dry-run`.
pub(super) fn preview(report: &PreviewReport, style: Style) -> String {
    let mut text = String::new();
    for obstacle in &report.obstacles {
        let _ = writeln!(text, "{} {obstacle}", style.paint("1;31", "in the way:"));
    }
    let planned = |text: &mut String, steps: &[PlannedReport]| {
        for step in steps {
            let _ = writeln!(
                text,
                "  {}: {} (at most {} ms)",
                step.role, step.step, step.limit_ms
            );
        }
    };
    let _ = writeln!(
        text,
        "{} on this node, after its gate is closed and its addresses are taken off:",
        report.group
    );
    planned(&mut text, &report.demote);
    let to = report.to.as_deref().unwrap_or("the node that takes over");
    let _ = writeln!(text, "then on {to}, before its addresses are there:");
    planned(&mut text, &report.promote);
    text
}

/// `hactl db bootstrap`.
pub(super) fn bootstrap(report: &BootstrapReport, style: Style) -> String {
    let mut text = format!("this node: its data ends at {}\n", report.position);
    for other in &report.others {
        let _ = writeln!(text, "{}: {}", other.node, other.text);
    }
    for obstacle in &report.obstacles {
        let _ = writeln!(text, "{} {obstacle}", style.paint("1;31", "in the way:"));
    }
    for done in &report.done {
        let _ = writeln!(text, "{done}");
    }
    text
}

/// `hactl switchover --accept-loss`.
pub(super) fn accepted(report: &GroupReport) -> String {
    format!(
        "{} may be promoted on this node, whatever data another one has; `hactl roles` shows what comes of it\n",
        report.group
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false };

    fn group() -> GroupReport {
        let step = |role: &str, step: &str, took_us, ok, text: &str| StepReport {
            role: role.to_owned(),
            step: step.to_owned(),
            began_ns: 1,
            took_us,
            ok,
            text: text.to_owned(),
        };
        GroupReport {
            group: "db".to_owned(),
            stance: "demoting".to_owned(),
            epoch: 7,
            not_eligible: Some("its roles are being demoted".to_owned()),
            in_sync: Some(true),
            roles: vec![
                RoleReport {
                    name: "mariadb".to_owned(),
                    kind: "mysql".to_owned(),
                    promoted: Some(true),
                    position: Some("0-1-42".to_owned()),
                    acknowledging: Some(1),
                    ..RoleReport::default()
                },
                RoleReport {
                    name: "jobs".to_owned(),
                    kind: "cron".to_owned(),
                    unable: Some("no such file".to_owned()),
                    follows: Some("10.0.0.2:3306".to_owned()),
                    receives: Some(false),
                    lag_ms: Some(12),
                    ..RoleReport::default()
                },
            ],
            plan: Some(PlanReport {
                purpose: "hand over".to_owned(),
                under_way: true,
                steps: vec![
                    step("jobs", "deactivate", Some(1_234), true, ""),
                    step(
                        "mariadb",
                        "forbid-writes",
                        Some(2_000_010),
                        false,
                        "it hangs",
                    ),
                    step("mariadb", "kill", None, true, ""),
                ],
            }),
            peers: vec![GroupPeerReport {
                node: "n2".to_owned(),
                heard_ms_ago: 12,
                stance: "standby".to_owned(),
                epoch: 7,
                mode: "active-standby".to_owned(),
                not_eligible: Some("it lags".to_owned()),
                position: Some("0-1-40".to_owned()),
            }],
        }
    }

    #[test]
    fn groups_for_people() {
        let report = RolesReport {
            node: "n1".to_owned(),
            mode: "active-standby".to_owned(),
            groups: vec![group()],
        };
        insta::assert_snapshot!(overview(&report, PLAIN));
    }

    #[test]
    fn a_hand_over_beforehand() {
        let planned = |role: &str, step: &str| PlannedReport {
            role: role.to_owned(),
            step: step.to_owned(),
            limit_ms: 2_000,
        };
        let report = PreviewReport {
            group: "db".to_owned(),
            to: Some("n2".to_owned()),
            obstacles: vec!["n2 could not take over: it lags".to_owned()],
            demote: vec![
                planned("jobs", "deactivate"),
                planned("mariadb", "forbid-writes"),
            ],
            promote: vec![planned("mariadb", "drain"), planned("jobs", "activate")],
        };
        insta::assert_snapshot!(preview(&report, PLAIN));
    }
}
