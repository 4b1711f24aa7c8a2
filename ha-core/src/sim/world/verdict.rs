//! What is judged over the whole run: service and needless elections.

use std::{format, string::String, vec::Vec};

use super::super::{
    leases::Network,
    ledger::{Violation, millis},
    scenario::{NodePlan, Scenario},
};
use super::World;
use crate::Cause;

impl World {
    /// By instance: who speaks.
    pub(super) fn speakers(&self) -> Vec<Vec<usize>> {
        (0..self.scenario.instances)
            .map(|instance| {
                (0..self.nodes.len())
                    .filter(|node| self.nodes[*node].kernels[instance].is_open(self.clock(*node)))
                    .collect()
            })
            .collect()
    }

    /// What the network did, for the judge of leases.
    pub(super) fn network(&self) -> Network<'_> {
        let patience = self.scenario.nodes.iter().map(NodePlan::patience).min();
        let interval = self.scenario.nodes.iter().map(NodePlan::interval).max();
        let lease = self.scenario.longest_lease();
        Network {
            traffic: &self.traffic,
            cuts: &self.cut_history,
            outages: &self.outages,
            hold_ups: &self.hold_ups,
            links: self.scenario.links,
            patience: patience.unwrap_or(0),
            interval: interval.unwrap_or(0),
            grace: lease,
        }
    }

    /// Where the trouble is none that may move anything, nobody is elected after the start.
    pub(super) fn judge_moves(&self) -> Option<Violation> {
        if !self.scenario.nobody_moves() {
            return None;
        }
        let settled = self.scenario.settled_after_start();
        let moved = self
            .stays
            .iter()
            .find(|stay| stay.open.first().is_some_and(|open| open.from > settled))?;
        Some(Violation {
            at: moved.open[0].from,
            what: format!(
                "node{} took vr{} over although nothing was wrong with the other node: {}",
                moved.node, moved.instance, moved.cause
            ),
        })
    }

    /// Invariant 2: exactly one eligible node, in time, and it stays.
    pub(super) fn judge_service(&self, speakers: &[Vec<usize>]) -> Option<Violation> {
        let eligible = self.nodes.iter().any(|node| node.process.is_some());
        let Scenario {
            served_by,
            settled_by,
            hand_over,
            contest,
            ..
        } = self.scenario;
        for (instance, speaking) in speakers.iter().enumerate() {
            let fault = |at: u64, what: String| {
                Some(Violation {
                    at,
                    what: format!("invariant 2: vr{instance}: {what}"),
                })
            };
            if speaking.len() != usize::from(eligible) {
                return fault(
                    self.scenario.end_at,
                    format!("{} nodes speak at the end: {speaking:?}", speaking.len()),
                );
            }
            if !eligible {
                continue;
            }
            if self.moved_at[instance] > settled_by {
                return fault(
                    self.moved_at[instance],
                    String::from("a transition long after everything was put right"),
                );
            }
            // A pre-emptor hears of a loser that is there after all, and waits until its gate is closed.
            let contested_until = self.overtaken[instance]
                .iter()
                .filter(|at| contest > 0 && **at <= served_by + hand_over)
                .map(|at| at + contest)
                .max();
            let spoken_by = served_by.max(contested_until.unwrap_or(0)) + hand_over;
            let served = self.stays.iter().any(|stay| {
                stay.instance == instance
                    && stay
                        .open
                        .iter()
                        .any(|open| open.from <= spoken_by && served_by < open.until)
            });
            if !served {
                return fault(
                    served_by,
                    format!(
                        "nobody speaks {} ms after everything was put right",
                        millis(served_by - self.scenario.quiet_at)
                    ),
                );
            }
        }
        None
    }

    /// Invariant 4, where losses are bounded: silence that was proven is not due to them.
    pub(crate) fn judge_election(&mut self, node: usize, instance: usize, cause: &Cause) {
        let bounded = self.scenario.pace.longest_loss.is_some();
        let heard = self.nodes[node]
            .process
            .as_ref()
            .is_some_and(|process| process.had_heard(instance));
        if bounded && heard && matches!(cause, Cause::Silence { .. }) {
            self.break_rule(format!(
                "invariant 4: node{node} took vr{instance} over although never three adverts in a row \
                 were lost: {cause}"
            ));
        }
    }
}
