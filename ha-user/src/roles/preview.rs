//! What a hand-over of a group would do, and whether it would be refused.

use std::net::IpAddr;

use ha_core::plan::{Purpose, sequence};

use super::{Groups, Spec};
use crate::control::report::{GroupPeerReport, GroupReport, PlannedReport, PreviewReport};

/// What was heard longer ago says nothing of how a node is now.
const FRESH_MS: u64 = 2_000;

impl Groups {
    /// What a hand-over of the group would do that is called so, or has such an instance. `None`: it has no roles.
    #[must_use]
    pub fn preview(&self, target: &str, to: Option<&str>) -> Option<PreviewReport> {
        let (spec, report) = self.find(target)?;
        let has_data = spec.roles.iter().any(|role| role.kind.has_data());
        let (to, obstacles) = judge(&report, to, has_data);
        Some(PreviewReport {
            to,
            obstacles,
            demote: steps(&spec, Purpose::HandOver),
            promote: steps(&spec, Purpose::Promote),
            group: report.group,
        })
    }
}

fn steps(spec: &Spec, purpose: Purpose) -> Vec<PlannedReport> {
    let roles = &spec.conductor.roles;
    sequence::plan(roles, purpose)
        .into_iter()
        .filter_map(|(role, step)| {
            Some(PlannedReport {
                role: roles.get(role)?.name.clone(),
                step: step.name.to_owned(),
                limit_ms: step.limit.0 / 1_000_000,
            })
        })
        .collect()
}

/// Who would take over, and what is in the way.
fn judge(report: &GroupReport, to: Option<&str>, has_data: bool) -> (Option<String>, Vec<String>) {
    let group = &report.group;
    let mut obstacles = Vec::new();
    if report.stance != "primary" {
        let elsewhere = report.peers.iter().find(|peer| peer.stance == "primary");
        obstacles.push(match elsewhere {
            Some(peer) => format!(
                "the roles of {group} are promoted on {}: run `hactl switchover {group}` there",
                peer.node
            ),
            None => format!(
                "the roles of {group} are not promoted on this node, which is {}",
                report.stance
            ),
        });
        return (None, obstacles);
    }
    let heard: Vec<&GroupPeerReport> = report
        .peers
        .iter()
        .filter(|peer| peer.heard_ms_ago <= FRESH_MS)
        .collect();
    if heard.is_empty() && has_data {
        obstacles.push(
            "no other node is heard over the link: nobody is known to have the data".to_owned(),
        );
    }
    let able: Vec<&GroupPeerReport> = heard
        .iter()
        .filter(|peer| peer.not_eligible.is_none())
        .copied()
        .collect();
    if able.is_empty() {
        let unable = heard.iter().filter_map(|peer| {
            let why = peer.not_eligible.as_ref()?;
            Some(format!("{} could not take over: {why}", peer.node))
        });
        obstacles.extend(unable);
    }
    let chosen = match to {
        None => able.first().copied(),
        Some(name) => {
            let named = heard.iter().find(|peer| peer.node == name);
            if let (Some(peer), Some(why)) =
                (named, named.and_then(|peer| peer.not_eligible.as_ref()))
                && !able.is_empty()
            {
                obstacles.push(format!("{} could not take over: {why}", peer.node));
            }
            if named.is_some() && able.iter().any(|peer| peer.node != name) {
                obstacles.push(format!(
                    "another node could take over as well as {name}: the one with the newest data does, then the one with the highest priority"
                ));
            }
            // An address is not known here: the engine does.
            if named.is_none() && name.parse::<IpAddr>().is_err() {
                obstacles.push(format!("no node \"{name}\" is heard over the link"));
            }
            named.copied()
        }
    };
    (chosen.map(|peer| peer.node.clone()), obstacles)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(node: &str, not_eligible: Option<&str>) -> GroupPeerReport {
        GroupPeerReport {
            node: node.to_owned(),
            stance: "standby".to_owned(),
            not_eligible: not_eligible.map(str::to_owned),
            ..GroupPeerReport::default()
        }
    }

    fn group(stance: &str, peers: Vec<GroupPeerReport>) -> GroupReport {
        GroupReport {
            group: "db".to_owned(),
            stance: stance.to_owned(),
            peers,
            ..GroupReport::default()
        }
    }

    #[test]
    fn a_hand_over_needs_somebody_who_can_take_over() {
        let clear = (Some("n2".to_owned()), Vec::new());
        let able = group("primary", vec![peer("n2", None)]);
        assert_eq!(judge(&able, None, true), clear);
        assert_eq!(judge(&able, Some("n2"), true), clear);
        assert_eq!(judge(&able, Some("10.0.0.2"), true).1.len(), 0);
        let (to, obstacles) = judge(&able, Some("n4"), true);
        assert!(to.is_none() && obstacles[0].contains("\"n4\""));
        let nobody = group("primary", Vec::new());
        assert_eq!(judge(&nobody, None, false), (None, Vec::new()));
        assert_eq!(judge(&nobody, None, true).1.len(), 1);
        let mut silent = able.clone();
        silent.peers[0].heard_ms_ago = FRESH_MS + 1;
        assert_eq!(judge(&silent, None, true).1.len(), 1);
        let unable = group("primary", vec![peer("n2", Some("it lags"))]);
        let (_, obstacles) = judge(&unable, None, true);
        assert_eq!(obstacles, ["n2 could not take over: it lags"]);
        let two = group(
            "primary",
            vec![peer("n2", Some("it lags")), peer("n3", None)],
        );
        assert_eq!(judge(&two, None, true), (Some("n3".to_owned()), Vec::new()));
        assert_eq!(judge(&two, Some("n3"), true).1.len(), 0);
        assert_eq!(judge(&two, Some("n2"), true).1.len(), 2);
    }

    #[test]
    fn it_is_asked_of_the_primary() {
        let mut primary = peer("n2", None);
        primary.stance = "primary".to_owned();
        let (_, obstacles) = judge(&group("standby", vec![primary]), None, true);
        assert!(obstacles[0].contains("run `hactl switchover db` there"));
        let (_, obstacles) = judge(&group("promoting", Vec::new()), None, true);
        assert!(obstacles[0].contains("promoting"), "{obstacles:?}");
    }
}
