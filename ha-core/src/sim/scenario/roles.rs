//! Runs in which two nodes have a replicated database, and clients write to it.

use std::vec::Vec;

use ha_common::Nanos;

use super::{
    Case, Class, Fault, MS, Pace, Scenario,
    leases::{Trouble, draw_nodes},
    tracking::{check, track},
};
use crate::{
    RolesConfig,
    plan::AfterFailover,
    sim::{
        data::{DataPlan, Trouble as DataTrouble},
        rng::Rng,
    },
    tracking::{Effect, Track},
};

/// How long the roles may take: more than all steps together.
const LIMITS: RolesConfig = RolesConfig {
    promote_limit: Nanos::from_secs(15),
    demote_limit: Nanos::from_secs(5),
    forced_limit: Nanos::from_secs(5),
};

/// The LAN, by which data is replicated as well, and a direct link.
const LINKS: usize = 2;

impl Scenario {
    pub(crate) fn draw_roles(rng: &mut Rng) -> Self {
        let trouble = Trouble::All;
        let mut nodes = draw_nodes(rng, trouble, 2, 1, LINKS);
        let interval = Nanos::from_millis(rng.pick(&[20, 30, 50]));
        let tracks = [Track {
            source: check(0),
            effect: Effect::Veto,
        }];
        for node in &mut nodes {
            for instance in &mut node.config.instances {
                instance.group = Some(0);
                instance.preempt = false;
                instance.advert_interval = Nanos::from_millis(200);
                let peers = instance.lease.iter_mut().flat_map(|lease| &mut lease.peers);
                for path in peers.flat_map(|peer| &mut peer.paths) {
                    path.interval = interval;
                    path.multiplier = 3;
                }
            }
            track(&mut node.config, &tracks);
            for group in &mut node.config.groups {
                group.roles = Some(LIMITS);
            }
        }
        let step_max = rng.pick(&[0, 2_000, 100_000]);
        let mut scenario = Self {
            class: Class::Calm,
            case: Case::Roles,
            trouble: Some(trouble),
            links: LINKS,
            nodes,
            instances: 1,
            pace: Pace {
                delay: (20_000, rng.pick(&[20_000, 500_000])),
                duplicate_permille: 0,
                longest_loss: None,
                step_max,
                stall_permille: 0,
                stall_max: 0,
            },
            faults: Vec::new(),
            quiet_at: 0,
            served_by: 0,
            hand_over: 0,
            contest: 0,
            settled_by: 0,
            end_at: 0,
            reloads: false,
            vips_fail: 0,
            data: Some(DataPlan {
                sync_lease: Nanos::from_millis(rng.pick(&[300, 1_000])),
                after_failover: rng.pick(&[
                    AfterFailover::Rejoin,
                    AfterFailover::Rejoin,
                    AfterFailover::Rejoin,
                    AfterFailover::Maintenance,
                ]),
            }),
        };
        // Until both are in sync.
        let begin = scenario.settled_after_start() + 2_000 * MS;
        scenario.quiet_at = begin + rng.between(2_000 * MS, 10_000 * MS);
        if rng.chance(150) {
            scenario.draw_full_cuts(rng, begin);
        } else {
            scenario.draw_role_faults(rng, begin);
        }
        scenario.faults.sort_by_key(|(at, _)| *at);
        let quiet_at = scenario.quiet_at;
        scenario.put_right(rng, quiet_at);
        for node in 0..scenario.nodes.len() {
            if rng.chance(900) {
                scenario.faults.push((quiet_at, Fault::Start { node }));
            }
        }
        scenario.end_at = quiet_at + 5_000 * MS;
        scenario.served_by = scenario.end_at;
        scenario.settled_by = scenario.end_at;
        scenario
    }

    /// The nodes hear nothing of each other for less than the sync lease, and nothing else happens: then the one that
    /// was primary has acknowledged nothing that its replica lacks, and must let the other one go first.
    fn draw_full_cuts(&mut self, rng: &mut Rng, begin: u64) {
        let lease = self.data.map_or(0, |data| data.sync_lease.0);
        let mut at = begin;
        loop {
            at += rng.between(0, 1_500 * MS);
            let until = at + rng.between(MS, lease / 10 * 9);
            if until >= self.quiet_at {
                return;
            }
            for link in 0..LINKS {
                for (from, to) in [(0, 1), (1, 0)] {
                    self.faults.push((at, Fault::CutLink { link, from, to }));
                }
            }
            self.faults.push((until, Fault::Heal));
            // Until both are in sync again.
            at = until + 2_000 * MS;
        }
    }

    fn draw_role_faults(&mut self, rng: &mut Rng, begin: u64) {
        let mut at = begin;
        let mut healed_at = begin;
        loop {
            let pause = rng.pick(&[50 * MS, 1_500 * MS]);
            at += rng.between(0, pause);
            if at >= self.quiet_at {
                return;
            }
            let node = rng.index(self.nodes.len());
            let other = 1 - node;
            let lasts = rng.pick(&[30, 100, 300, 1_000, 3_000]) * MS;
            let until = (at + rng.between(MS, lasts)).min(self.quiet_at);
            let again = (at + rng.between(MS, 2_000 * MS)).min(self.quiet_at);
            let fault = match rng.between(0, 17) {
                kind @ 0..=2 => {
                    if rng.chance(900) {
                        self.faults.push((again, Fault::Start { node }));
                    }
                    match kind {
                        0 => Fault::Kill { node },
                        1 => Fault::PowerOff { node },
                        _ => Fault::Stop { node },
                    }
                }
                3 => Fault::Pause { node, until },
                4 => Fault::Freeze { node, until },
                5 => Fault::Stall { node, until },
                6..=8 => Fault::Switchover { node, instance: 0 },
                9 | 10 => {
                    let until = at + rng.between(20 * MS, 2_000 * MS);
                    let trouble = DataTrouble::Killed { until };
                    Fault::Database { node, trouble }
                }
                // Both, and perhaps back before anybody has looked.
                16 | 17 => {
                    for node in [node, other] {
                        let until = at + rng.between(20 * MS, 2_000 * MS);
                        let trouble = DataTrouble::Killed { until };
                        self.faults.push((at, Fault::Database { node, trouble }));
                    }
                    continue;
                }
                11 => {
                    let trouble = DataTrouble::Stopped { until };
                    Fault::Database { node, trouble }
                }
                12 | 13 => {
                    let trouble = DataTrouble::Lags { until };
                    Fault::Database { node, trouble }
                }
                // One link in both directions, or all links in one: not everything.
                kind @ 14..=15 if at >= healed_at => {
                    healed_at = until;
                    let lan = [(0, node, other), (0, other, node)];
                    let one_way = [(0, node, other), (1, node, other)];
                    let cuts = if kind == 14 { lan } else { one_way };
                    for (link, from, to) in cuts {
                        self.faults.push((at, Fault::CutLink { link, from, to }));
                    }
                    self.faults.push((until, Fault::Heal));
                    continue;
                }
                _ => continue,
            };
            self.faults.push((at, fault));
        }
    }
}
