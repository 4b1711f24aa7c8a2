//! Runs in which every node relies on leases.

use core::net::{IpAddr, Ipv4Addr};
use std::{format, string::String, vec::Vec};

use ha_common::{Nanos, Priority, Vrid, gate::Epoch};

use super::{Case, Class, Fault, MS, NodePlan, Pace, Reports, Scenario, draw_priority, drift};
use crate::{
    Alone, AnnounceConfig, EngineConfig, InstanceConfig, InstanceId, LeaseConfig, LeasePeer,
    PathConfig, PathId, Version,
    sim::{Mutations, clock::Clock, rng::Rng},
};

/// Which kinds of trouble a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// One node goes, nothing else.
    Calm,
    /// Processes and whole nodes are held up.
    Pauses,
    /// Daemons and nodes end and start, and nothing passes in one direction.
    Restarts,
    /// Nothing passes in one direction, on one path or on all.
    OneWay,
    /// The link beside the LAN is cut and healed, nothing else: nobody moves.
    Direct,
    /// The node that is Backup is held up whole, nothing else: nobody moves.
    BackupStalls,
    /// Packets are lost, never as many in a row as the multiplier says: nobody moves.
    BoundedLoss,
    /// Operators move the service, with pauses, cuts in one direction and losses.
    HandOver,
    /// The nodes' intervals differ, with pauses and cuts in one direction.
    Mismatch,
    /// Clocks differ in rate as much as they may, leases are long, and nothing passes in one direction.
    Drift,
    /// What one node sends is lost; then it is held up, and what is sent to it is lost.
    Turns,
    /// A node is without power for a moment while nothing from the other one reaches it.
    PowerCycle,
    /// Everything, also cuts of all paths in both directions.
    All,
}

const MULTIPLIERS: [u32; 8] = [3, 3, 3, 3, 2, 4, 5, 10];
const LONG_MULTIPLIER: u32 = 250;

impl Scenario {
    pub(crate) fn draw_leases(rng: &mut Rng, mutations: Mutations) -> Self {
        let trouble = rng.pick(&[
            Trouble::Calm,
            Trouble::Pauses,
            Trouble::Pauses,
            Trouble::Restarts,
            Trouble::Restarts,
            Trouble::OneWay,
            Trouble::OneWay,
            Trouble::Direct,
            Trouble::BackupStalls,
            Trouble::BoundedLoss,
            Trouble::HandOver,
            Trouble::HandOver,
            Trouble::Mismatch,
            Trouble::Drift,
            Trouble::PowerCycle,
            Trouble::Turns,
            Trouble::All,
            Trouble::All,
        ]);
        let count = if quiet(trouble) {
            2
        } else {
            rng.pick(&[2, 2, 2, 3])
        };
        let links = match trouble {
            Trouble::Direct => 2,
            _ => rng.pick(&[1, 2, 2]),
        };
        let instances = rng.pick(&[1, 1, 1, 2]);
        let mut nodes = draw_nodes(rng, trouble, count, instances, links);
        if mutations.lan_is_no_path && links > 1 {
            forget_lan(&mut nodes, links);
        }
        let shortest = nodes
            .iter()
            .flat_map(NodePlan::paths)
            .map(|path| path.interval.0)
            .min()
            .unwrap_or(MS);
        let pace = draw_pace(rng, trouble, shortest);
        let mut scenario = Self {
            class: Class::Calm,
            case: Case::Leases,
            trouble: Some(trouble),
            nodes,
            instances,
            links,
            pace,
            faults: Vec::new(),
            quiet_at: 0,
            served_by: 0,
            hand_over: 0,
            contest: 0,
            settled_by: 0,
            end_at: 0,
            reloads: false,
            vips_fail: 0,
            data: None,
        };
        let begin = scenario.settled_after_start();
        let lease = scenario.longest_lease();
        let chaos = match trouble {
            Trouble::Drift => lease * rng.between(6, 12),
            _ => lease * rng.between(10, 60),
        };
        scenario.quiet_at = begin + chaos;
        scenario.draw_lease_faults(rng, trouble, begin, shortest);
        scenario.faults.sort_by_key(|(at, _)| *at);
        let quiet_at = scenario.quiet_at;
        scenario.put_right(rng, quiet_at);
        if quiet(trouble) {
            scenario
                .faults
                .retain(|(_, fault)| !matches!(fault, Fault::Start { .. }));
        }
        scenario.set_lease_deadlines();
        scenario.draw_tracking(rng);
        scenario
    }

    /// When somebody speaks and everything is settled, if nothing goes wrong.
    pub(crate) fn settled_after_start(&self) -> u64 {
        let down = super::longest_down(&self.nodes).0;
        let starts = self.nodes.iter().map(|node| node.starts_at).max();
        // Pre-emption by a node that starts later takes as long again.
        starts.unwrap_or(0) + 3 * down + 16 * self.longest_lease() + 400 * self.pace.step_max
    }

    pub(crate) fn longest_lease(&self) -> u64 {
        let leases = self.nodes.iter().map(|node| node.slowest_lease().0);
        leases.max().unwrap_or(0)
    }

    /// Whether the trouble must not move anything.
    pub(crate) fn nobody_moves(&self) -> bool {
        self.trouble.is_some_and(quiet)
    }

    fn draw_lease_faults(&mut self, rng: &mut Rng, trouble: Trouble, begin: u64, interval: u64) {
        let end = self.quiet_at;
        if trouble == Trouble::BoundedLoss {
            let permille = rng.pick(&[50, 200]);
            self.faults.push((begin, Fault::Loss { permille }));
            return;
        }
        let losses = match trouble {
            Trouble::HandOver => rng.pick(&[0, 20]),
            Trouble::All => rng.pick(&[0, 0, 20, 100, 400]),
            _ => 0,
        };
        if losses > 0 {
            self.faults.push((begin, Fault::Loss { permille: losses }));
        }
        let amount = match trouble {
            Trouble::Calm => 1,
            _ => rng.between(2, 10),
        };
        // Cuts follow each other, so that only some runs cut everything.
        let mut at = begin;
        for _ in 0..amount {
            at += rng.between(0, 2 * (end - begin) / (amount + 1));
            if at + interval >= end {
                break;
            }
            let longest = match trouble {
                Trouble::Drift => 2 * self.longest_lease(),
                _ => 12 * interval,
            };
            let until = (at + rng.between(interval, longest)).min(end);
            at = self.draw_lease_fault(rng, trouble, at, until);
        }
    }

    fn draw_lease_fault(&mut self, rng: &mut Rng, trouble: Trouble, at: u64, until: u64) -> u64 {
        let node = rng.index(self.nodes.len());
        let other = (node + 1 + rng.index(self.nodes.len() - 1)) % self.nodes.len();
        let kinds: &[u8] = match trouble {
            Trouble::Calm => &[0, 1, 2],
            Trouble::Pauses => &[3, 3, 4],
            Trouble::Restarts => &[0, 1, 2, 5, 5, 6],
            Trouble::OneWay => &[5, 5, 6],
            Trouble::Drift => &[5],
            Trouble::PowerCycle => &[13],
            Trouble::Turns => &[14],
            Trouble::Direct => &[7],
            Trouble::BackupStalls => &[8],
            Trouble::HandOver => &[9, 9, 3, 4, 5],
            Trouble::Mismatch => &[3, 4, 5, 5, 6],
            Trouble::BoundedLoss | Trouble::All => {
                &[0, 1, 2, 3, 3, 4, 5, 5, 6, 7, 9, 10, 11, 12, 14]
            }
        };
        let fault = match rng.pick(kinds) {
            kind @ 0..=2 => {
                if trouble != Trouble::Calm || rng.chance(500) {
                    self.faults.push((until, Fault::Start { node }));
                }
                match kind {
                    0 => Fault::Kill { node },
                    1 => Fault::PowerOff { node },
                    _ => Fault::Stop { node },
                }
            }
            3 => Fault::Pause { node, until },
            4 if rng.chance(500) => Fault::Stall { node, until },
            4 => Fault::Freeze { node, until },
            // One direction, on every path.
            5 => {
                for link in 1..self.links {
                    let fault = Fault::CutLink {
                        link,
                        from: node,
                        to: other,
                    };
                    self.faults.push((at, fault));
                }
                self.faults.push((until, Fault::Heal));
                self.faults.push((
                    at,
                    Fault::Cut {
                        from: node,
                        to: other,
                    },
                ));
                return until;
            }
            6 => {
                let link = rng.index(self.links);
                self.faults.push((until, Fault::Heal));
                self.faults.push((
                    at,
                    Fault::CutLink {
                        link,
                        from: node,
                        to: other,
                    },
                ));
                return until;
            }
            // A link other than the LAN, in both directions.
            7 if self.links > 1 => {
                for (from, to) in [(node, other), (other, node)] {
                    let fault = Fault::CutLink { link: 1, from, to };
                    self.faults.push((at, fault));
                }
                let until = until.max(at + 2 * self.longest_lease()).min(self.quiet_at);
                self.faults.push((until, Fault::Heal));
                return until;
            }
            8 => Fault::FreezeBackup { until },
            9 => Fault::Switchover {
                node,
                instance: rng.index(self.instances),
            },
            10 => {
                for link in 0..self.links {
                    for (from, to) in [(node, other), (other, node)] {
                        let fault = Fault::CutLink { link, from, to };
                        self.faults.push((at, fault));
                    }
                }
                self.faults.push((until, Fault::Heal));
                return until;
            }
            13 => {
                let lease = self.longest_lease();
                let off = at + rng.between(0, lease / 16);
                let on = off + rng.between(0, lease / 16);
                for link in 0..self.links {
                    let fault = Fault::CutLink {
                        link,
                        from: other,
                        to: node,
                    };
                    self.faults.push((at, fault));
                }
                self.faults.push((off, Fault::PowerOff { node }));
                self.faults.push((on, Fault::Start { node }));
                let until = (at + 2 * lease).min(self.quiet_at);
                self.faults.push((until, Fault::Heal));
                return until;
            }
            14 => {
                let lease = self.longest_lease();
                let turns = (at + rng.between(0, lease)).min(self.quiet_at);
                let held_up = (at + rng.between(0, lease / 2 * 3)).min(self.quiet_at);
                let until = (held_up + 3 * lease).min(self.quiet_at);
                self.faults.push((held_up, Fault::Pause { node, until }));
                self.faults.push((turns, Fault::Heal));
                for link in 0..self.links {
                    let cut = |from, to| Fault::CutLink { link, from, to };
                    self.faults.push((at, cut(node, other)));
                    self.faults.push((turns, cut(other, node)));
                }
                let until = (at + 5 * lease).min(self.quiet_at);
                self.faults.push((until, Fault::Heal));
                return until + 5 * lease;
            }
            11 if self.vips_fail < 2 => {
                self.vips_fail += 1;
                Fault::VipsFail { node, times: 1 }
            }
            _ => Fault::SendsFail { node, until },
        };
        self.faults.push((at, fault));
        if trouble == Trouble::BackupStalls {
            return until + 4 * self.longest_lease();
        }
        at
    }

    fn set_lease_deadlines(&mut self) {
        let down = super::longest_down(&self.nodes).0;
        let lease = self.longest_lease();
        let steps = 400 * self.pace.step_max + 8 * self.pace.delay.1;
        let held = if self.vips_fail > 0
            || self
                .faults
                .iter()
                .any(|(_, fault)| matches!(fault, Fault::SendsFail { .. }))
        {
            8_000 * MS
        } else {
            0
        };
        // A promise at a start, the silence of adverts, a candidate that gives up, and again.
        let served = 2 * (down + 12 * lease) + steps;
        self.hand_over = steps + 4 * lease;
        self.served_by = self.quiet_at + served + held;
        self.settled_by = self.served_by + 2 * served;
        self.end_at = self.settled_by + 2 * down + 4 * lease;
    }
}

const fn quiet(trouble: Trouble) -> bool {
    matches!(
        trouble,
        Trouble::Direct | Trouble::BackupStalls | Trouble::BoundedLoss
    )
}

impl NodePlan {
    fn paths(&self) -> impl Iterator<Item = &PathConfig> {
        self.config
            .instances
            .iter()
            .filter_map(|instance| instance.lease.as_ref())
            .flat_map(|lease| &lease.peers)
            .flat_map(|peer| &peer.paths)
    }

    /// How long the leases last that this node asks for on a link, if it uses it.
    pub(crate) fn lease_of(&self, link: usize, links: usize) -> Option<Nanos> {
        let of_link = |path: &&PathConfig| path.id.0 as usize % links == link;
        self.paths().find(of_link).map(PathConfig::lease)
    }

    /// The longest of them.
    pub(crate) fn slowest_lease(&self) -> Nanos {
        self.paths()
            .map(PathConfig::lease)
            .max()
            .unwrap_or_default()
    }

    /// The shortest interval of its paths.
    pub(crate) fn interval(&self) -> u64 {
        let intervals = self.paths().map(|path| path.interval.0);
        intervals.min().unwrap_or_default()
    }

    /// The shortest of its leases, less its interval.
    pub(crate) fn patience(&self) -> u64 {
        self.paths()
            .map(|path| path.lease().0 - path.interval.0)
            .min()
            .unwrap_or_default()
    }
}

pub(super) fn draw_nodes(
    rng: &mut Rng,
    trouble: Trouble,
    count: usize,
    instances: usize,
    links: usize,
) -> Vec<NodePlan> {
    let interval = Nanos::from_millis(match trouble {
        Trouble::Drift => 1,
        // Leases that last longer than the Active_Down_Interval; the other node's, below, than this one's.
        Trouble::PowerCycle => 15,
        _ => rng.pick(&[1, 1, 3, 10]),
    });
    let advert = Nanos::from_millis(match trouble {
        Trouble::PowerCycle => 10,
        _ => rng.pick(&[10, 10, 10, 100]),
    });
    let multiplier = match trouble {
        Trouble::Drift => LONG_MULTIPLIER,
        _ => rng.pick(&MULTIPLIERS),
    };
    let same = matches!(trouble, Trouble::Drift | Trouble::PowerCycle);
    let differ = links > 1 && rng.chance(300) && !same;
    let mut hosts: Vec<u8> = (10..=50).collect();
    let hosts: Vec<u8> = (0..count)
        .map(|_| hosts.swap_remove(rng.index(hosts.len())))
        .collect();
    let address = |node: usize| IpAddr::V4(Ipv4Addr::new(192, 168, 33, hosts[node]));
    let preempts = !quiet(trouble) && rng.chance(400);
    (0..count)
        .map(|node| {
            let interval = match trouble {
                Trouble::Mismatch if node == 0 => Nanos(interval.0 / 2 * rng.pick(&[3, 4])),
                Trouble::PowerCycle if node == 0 => Nanos::from_millis(50),
                _ => interval,
            };
            let peers = (0..count)
                .filter(|peer| *peer != node)
                .enumerate()
                .map(|(slot, peer)| LeasePeer {
                    address: address(peer),
                    paths: (0..links)
                        .map(|link| PathConfig {
                            id: PathId(u32::try_from(slot * links + link).unwrap_or(0)),
                            interval: if differ && link == 0 {
                                interval.times(3)
                            } else {
                                interval
                            },
                            multiplier,
                        })
                        .collect(),
                });
            let lease = LeaseConfig {
                peers: peers.collect(),
                alone: Alone::Serve,
            };
            NodePlan {
                clock: Clock::new(
                    rng.between(1_000 * MS, 100_000 * MS),
                    match trouble {
                        Trouble::Drift if node == 0 => 1_000,
                        Trouble::Drift => -1_000,
                        _ => drift(rng),
                    },
                ),
                reports: Reports::Watched,
                address: address(node),
                config: config(rng, instances, advert, &lease, preempts, count == 2),
                starts_at: rng.between(0, 3 * advert.0),
            }
        })
        .collect()
}

fn config(
    rng: &mut Rng,
    instances: usize,
    advert: Nanos,
    lease: &LeaseConfig,
    preempts: bool,
    two: bool,
) -> EngineConfig {
    let instance = |index: usize, priority: Priority| InstanceConfig {
        id: InstanceId(u32::try_from(index).unwrap_or(0)),
        name: format!("vr{index}"),
        group: None,
        version: Version::V3,
        vrid: Vrid::new(51 + u8::try_from(index).unwrap_or(0))
            .unwrap_or(Vrid(core::num::NonZeroU8::MIN)),
        priority,
        preempt: preempts,
        preempt_delay: Nanos::ZERO,
        advert_interval: advert,
        sole_peer: two,
        vips: 1,
        announce: AnnounceConfig {
            count: 1,
            interval: Nanos::ZERO,
            repeat_after: Nanos::ZERO,
            refresh: Nanos::ZERO,
        },
        channels: Vec::new(),
        lease: Some(lease.clone()),
        track: Vec::new(),
        link_delays: crate::LinkDelays::default(),
        adopted_epoch: Epoch::NONE,
    };
    EngineConfig {
        start_delay: Nanos::ZERO,
        instances: (0..instances)
            .map(|index| instance(index, draw_priority(rng)))
            .collect(),
        groups: Vec::from([crate::GroupConfig {
            name: String::from("group"),
            track: Vec::new(),
            roles: None,
        }]),
        tracked: Vec::new(),
        mode: crate::Mode::default(),
        kernel_watch: true,
    }
}

/// The rule that the LAN is always a path, broken: where there is another link, only that one.
fn forget_lan(nodes: &mut [NodePlan], links: usize) {
    for node in nodes {
        for instance in &mut node.config.instances {
            for peer in instance.lease.iter_mut().flat_map(|lease| &mut lease.peers) {
                peer.paths
                    .retain(|path| !(path.id.0 as usize).is_multiple_of(links));
            }
        }
    }
}

fn draw_pace(rng: &mut Rng, trouble: Trouble, interval: u64) -> Pace {
    let bounded = trouble == Trouble::BoundedLoss;
    Pace {
        delay: rng.pick(&[
            (0, 0),
            (0, 0),
            (20_000, 20_000),
            (10_000, interval / 20),
            (interval / 16, interval / 8),
        ]),
        duplicate_permille: rng.pick(&[0, 20]),
        // An echo and its answer may both be lost.
        longest_loss: bounded.then_some(0),
        step_max: rng.pick(&[0, 2_000, interval / 100]),
        stall_permille: if matches!(trouble, Trouble::Pauses | Trouble::All) {
            rng.pick(&[0, 0, 2])
        } else {
            0
        },
        stall_max: interval * 4,
    }
}
