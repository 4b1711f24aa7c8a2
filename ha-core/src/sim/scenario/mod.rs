//! What a seed stands for: nodes, their configuration, the network, and what goes wrong when.

mod leases;
mod roles;
pub(crate) mod tracking;

use core::net::{IpAddr, Ipv4Addr};
use std::{format, string::String, vec::Vec};

use ha_common::{Nanos, Priority, Vrid, gate::Epoch};

use self::leases::Trouble;
use super::{
    clock::Clock,
    data::{DataPlan, Trouble as DataTrouble},
    rng::Rng,
};
use crate::{AnnounceConfig, EngineConfig, GroupConfig, InstanceConfig, InstanceId, Version, vrrp};

/// What opens the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Adverts alone (case A of docs/architecture.md).
    Adverts,
    /// Leases granted by the peers (case B).
    Leases,
    /// Leases, and a replicated database that is promoted and demoted.
    Roles,
}

/// Which kinds of trouble a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// One node goes, nothing else.
    Calm,
    /// Adverts are lost, never three in a row at one node.
    BoundedLoss,
    /// Processes and nodes are held up, killed and started; no advert is lost.
    Stalls,
    /// Adverts are lost, delayed, duplicated, reordered; links are cut in one or both directions.
    Network,
    /// Operators, reloads, interfaces and addresses that come and go, restarts.
    Operations,
    /// Everything.
    All,
}

/// How adverts reach a node's engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reports {
    /// Changes only, and the kernel reports silence.
    Watched,
    /// Changes only; the engine has its own timer.
    Changes,
    /// Every advert.
    Every,
}

/// Something that goes wrong, or is put right.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The process does not run; the kernel does.
    Pause { node: usize, until: u64 },
    /// Nothing runs; the clock does.
    Freeze { node: usize, until: u64 },
    /// SIGKILL: the gate stays, by its deadline.
    Kill { node: usize },
    /// Power off: the next start finds fresh maps.
    PowerOff { node: usize },
    /// SIGTERM.
    Stop { node: usize },
    /// The daemon starts, if it does not run.
    Start { node: usize },
    /// Nothing runs; the clock does, and what arrives waits.
    Stall { node: usize, until: u64 },
    /// Whoever speaks for no instance is frozen.
    FreezeBackup { until: u64 },
    /// Nothing passes from one to the other on the LAN.
    Cut { from: usize, to: usize },
    /// Nothing passes from one to the other on a link; 0 is the LAN.
    CutLink { link: usize, from: usize, to: usize },
    /// Everything passes again.
    Heal,
    /// Every advert is lost with this probability.
    Loss { permille: u64 },
    /// An operator's switchover.
    Switchover { node: usize, instance: usize },
    /// The interface of an instance comes or goes.
    Link {
        node: usize,
        instance: usize,
        up: bool,
    },
    /// A reload with another priority or interval.
    Reload { node: usize, config: EngineConfig },
    /// The next additions of addresses fail.
    VipsFail { node: usize, times: u32 },
    /// Adverts cannot be sent.
    SendsFail { node: usize, until: u64 },
    /// Somebody deletes an address.
    VipLost { node: usize, instance: usize },
    /// Something is the matter with a node's database.
    Database { node: usize, trouble: DataTrouble },
    /// What a node tracks fails or recovers.
    Check { node: usize, check: usize, up: bool },
}

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) clock: Clock,
    pub(crate) reports: Reports,
    pub(crate) address: IpAddr,
    pub(crate) config: EngineConfig,
    pub(crate) starts_at: u64,
}

/// The network and the machines' speed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// One way, at least and at most.
    pub(crate) delay: (u64, u64),
    pub(crate) duplicate_permille: u64,
    /// Losses in a row that one node sees at most.
    pub(crate) longest_loss: Option<u32>,
    /// An action takes at most this.
    pub(crate) step_max: u64,
    /// How often a step takes up to `stall_max` instead.
    pub(crate) stall_permille: u64,
    pub(crate) stall_max: u64,
}

/// A whole run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) class: Class,
    pub(crate) case: Case,
    /// Case B.
    pub(crate) trouble: Option<Trouble>,
    /// The LAN, and links beside it.
    pub(crate) links: usize,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) instances: usize,
    pub(crate) pace: Pace,
    pub(crate) faults: Vec<(u64, Fault)>,
    /// From here on nothing goes wrong.
    pub(crate) quiet_at: u64,
    /// By then somebody speaks for every instance that has a node to.
    pub(crate) served_by: u64,
    /// A pre-emption in between may leave nobody speaking for a round trip.
    pub(crate) hand_over: u64,
    /// How long a pre-emptor waits for a loser whose advert comes after its priority 0; with leases 0.
    pub(crate) contest: u64,
    /// By then nothing moves any more.
    pub(crate) settled_by: u64,
    pub(crate) end_at: u64,
    pub(crate) reloads: bool,
    /// How often addresses cannot be added.
    vips_fail: u32,
    /// The replicated database, if there is one.
    pub(crate) data: Option<DataPlan>,
}

const MS: u64 = 1_000_000;

impl Scenario {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let class = rng.pick(&[
            Class::Calm,
            Class::BoundedLoss,
            Class::Stalls,
            Class::Stalls,
            Class::Network,
            Class::Operations,
            Class::All,
            Class::All,
        ]);
        let count = rng.pick(&[2, 2, 2, 3, 3, 4, 5]);
        let instances = rng.pick(&[1, 1, 1, 2, 3]);
        let nodes = draw_nodes(rng, class, count, instances);
        let longest = longest_interval(&nodes);
        let pace = draw_pace(rng, class, &nodes);
        let down = longest_down(&nodes);
        let chaos = down.0 * rng.between(3, 8);
        let quiet_at = chaos + 2 * down.0;
        let mut scenario = Self {
            class,
            case: Case::Adverts,
            trouble: None,
            links: 1,
            nodes,
            instances,
            pace,
            faults: Vec::new(),
            quiet_at,
            served_by: 0,
            hand_over: 0,
            contest: 0,
            settled_by: 0,
            end_at: 0,
            reloads: false,
            vips_fail: 0,
            data: None,
        };
        scenario.draw_faults(rng, 2 * down.0, quiet_at, longest.0);
        scenario.set_deadlines();
        scenario.draw_tracking(rng);
        scenario
    }

    /// Whether every node has the same interval, and no reload changes one or a priority.
    pub(crate) fn is_uniform(&self) -> bool {
        let mut intervals = self
            .nodes
            .iter()
            .flat_map(|node| &node.config.instances)
            .map(|one| one.advert_interval);
        let first = intervals.next();
        !self.reloads && intervals.all(|interval| Some(interval) == first)
    }

    /// How much of a trace is told around a broken rule.
    pub(crate) fn window(&self) -> u64 {
        8 * longest_down(&self.nodes).0
    }

    /// When it has to be over, by the rules' own times.
    fn set_deadlines(&mut self) {
        let reloaded = self.faults.iter().filter_map(|(_, fault)| match fault {
            Fault::Reload { config, .. } => Some(config),
            _ => None,
        });
        let configs: Vec<&EngineConfig> = self
            .nodes
            .iter()
            .map(|node| &node.config)
            .chain(reloaded)
            .collect();
        let all = || configs.iter().flat_map(|config| &config.instances);
        let interval = all().map(|one| one.advert_interval.0).max().unwrap_or(0);
        let preempt = all().map(|one| one.preempt_delay.0).max().unwrap_or(0);
        let start = configs
            .iter()
            .map(|one| one.start_delay.0)
            .max()
            .unwrap_or(0);
        let down = all()
            .map(|one| vrrp::active_down_interval(one.version, one.priority, Nanos(interval)).0)
            .max()
            .unwrap_or(0);
        let gate = 3 * interval + 3 * interval / 100;
        let steps = 200 * self.pace.step_max + 4 * self.pace.delay.1;
        // A silence that is doubted costs an interval, a contested promotion the loser's gate.
        let served = down + interval + gate + steps;
        let held = self
            .faults
            .iter()
            .any(|(_, fault)| matches!(fault, Fault::VipsFail { .. } | Fault::SendsFail { .. }));
        // 1 s after the first failure, doubling.
        let hold = if held { 8_000 * MS } else { 0 };
        let started = start.saturating_sub(self.quiet_at);
        self.hand_over = steps;
        self.contest = gate;
        self.served_by = self.quiet_at + served + hold + started;
        self.settled_by = self.served_by + preempt + 2 * served;
        self.end_at = self.settled_by + 2 * down;
    }

    fn draw_faults(&mut self, rng: &mut Rng, from: u64, to: u64, interval: u64) {
        let amount = match self.class {
            Class::BoundedLoss => {
                self.faults.push((
                    0,
                    Fault::Loss {
                        permille: rng.pick(&[50, 200, 500]),
                    },
                ));
                0
            }
            Class::Calm => 1,
            _ => rng.between(2, 14),
        };
        for _ in 0..amount {
            let at = rng.between(from, to - interval);
            let node = rng.index(self.nodes.len());
            self.draw_fault(rng, at, node, to, interval);
        }
        self.faults.sort_by_key(|(at, _)| *at);
        self.put_right(rng, to);
    }

    fn draw_fault(&mut self, rng: &mut Rng, at: u64, node: usize, to: u64, interval: u64) {
        let instance = rng.index(self.instances);
        let kind = match self.class {
            Class::Calm => rng.pick(&[3, 4, 5]),
            Class::Stalls => rng.pick(&[0, 0, 0, 1, 1, 2, 3, 4, 5]),
            Class::Network => rng.pick(&[6, 6, 7, 8, 8, 9]),
            Class::Operations => rng.pick(&[2, 3, 4, 5, 10, 10, 11, 11, 12, 13, 14, 15]),
            Class::BoundedLoss | Class::All => rng.between(0, 15),
        };
        let until = (at + rng.between(interval, 8 * interval)).min(to);
        let fault = match kind {
            0 => Fault::Pause { node, until },
            1 => Fault::Freeze { node, until },
            2 => {
                // Held up again and again, with little in between.
                let mut next = at;
                for _ in 0..rng.between(2, 6) {
                    let until = (next + rng.between(interval / 2, 4 * interval)).min(to);
                    self.faults.push((next, Fault::Pause { node, until }));
                    next = (until + rng.between(0, interval / 4)).min(to);
                }
                return;
            }
            3..=5 => {
                let fault = match kind {
                    3 => Fault::Kill { node },
                    4 => Fault::PowerOff { node },
                    _ => Fault::Stop { node },
                };
                if self.class != Class::Calm || rng.chance(500) {
                    self.faults.push((until, Fault::Start { node }));
                }
                fault
            }
            6 => self.draw_cut(rng, at, node),
            7 => Fault::Heal,
            8 => Fault::Loss {
                permille: rng.pick(&[0, 20, 100, 300, 700]),
            },
            9 => {
                let other = (node + 1) % self.nodes.len();
                self.faults.push((
                    at,
                    Fault::Cut {
                        from: other,
                        to: node,
                    },
                ));
                Fault::Cut {
                    from: node,
                    to: other,
                }
            }
            10 => Fault::Switchover { node, instance },
            11 => {
                self.faults.push((
                    until,
                    Fault::Link {
                        node,
                        instance,
                        up: true,
                    },
                ));
                Fault::Link {
                    node,
                    instance,
                    up: false,
                }
            }
            12 => {
                self.reloads = true;
                Fault::Reload {
                    node,
                    config: self.reloaded(rng, node),
                }
            }
            13 if self.vips_fail < 2 => {
                self.vips_fail += 1;
                Fault::VipsFail { node, times: 1 }
            }
            14 => Fault::SendsFail { node, until },
            _ => Fault::VipLost { node, instance },
        };
        self.faults.push((at, fault));
    }

    fn draw_cut(&mut self, rng: &mut Rng, at: u64, node: usize) -> Fault {
        if rng.chance(300) {
            for other in 0..self.nodes.len() {
                if other != node && rng.chance(700) {
                    self.faults.push((
                        at,
                        Fault::Cut {
                            from: node,
                            to: other,
                        },
                    ));
                }
            }
        }
        Fault::Cut {
            from: node,
            to: (node + 1 + rng.index(self.nodes.len() - 1)) % self.nodes.len(),
        }
    }

    /// Priorities and intervals that differ from before, the same for every member of a group.
    fn reloaded(&self, rng: &mut Rng, node: usize) -> EngineConfig {
        let mut config = self.nodes[node].config.clone();
        let priority = Priority(rng.pick(&[1, 50, 100, 150, 200, 254]));
        let stretch = rng.pick(&[1, 1, 2]);
        for instance in &mut config.instances {
            instance.priority = priority;
            if instance.version == Version::V3 {
                instance.advert_interval = instance.advert_interval.times(stretch);
            }
        }
        config
    }

    /// From then on the network is whole and every process runs; what is dead may stay dead.
    fn put_right(&mut self, rng: &mut Rng, at: u64) {
        self.faults.push((at, Fault::Heal));
        if self.class != Class::BoundedLoss {
            self.faults.push((at, Fault::Loss { permille: 0 }));
        }
        for node in 0..self.nodes.len() {
            self.faults.push((at, Fault::VipsFail { node, times: 0 }));
            for instance in 0..self.instances {
                self.faults.push((
                    at,
                    Fault::Link {
                        node,
                        instance,
                        up: true,
                    },
                ));
            }
            if self.class != Class::Calm && rng.chance(700) {
                self.faults.push((at, Fault::Start { node }));
            }
        }
    }
}

fn draw_nodes(rng: &mut Rng, class: Class, count: usize, instances: usize) -> Vec<NodePlan> {
    let version = rng.pick(&[Version::V3, Version::V3, Version::V3, Version::V2]);
    let interval = match version {
        Version::V2 => Nanos::from_secs(1),
        Version::V3 => Nanos::from_millis(rng.pick(&[10, 10, 10, 20, 50, 100, 1_000])),
    };
    let grouped = instances > 1 && rng.chance(500);
    let mixed = version == Version::V3 && class != Class::BoundedLoss && rng.chance(200);
    let together = rng.chance(500);
    let mut hosts: Vec<u8> = (10..=50).collect();
    (0..count)
        .map(|_| {
            let host = hosts.swap_remove(rng.index(hosts.len()));
            let interval = if mixed {
                interval.times(rng.pick(&[1, 2, 5]))
            } else {
                interval
            };
            let config = draw_config(rng, class, count, instances, version, interval, grouped);
            let reports = rng.pick(&[
                Reports::Watched,
                Reports::Watched,
                Reports::Changes,
                Reports::Every,
            ]);
            NodePlan {
                clock: Clock::new(rng.between(1_000 * MS, 100_000 * MS), drift(rng)),
                reports,
                address: IpAddr::V4(Ipv4Addr::new(192, 168, 33, host)),
                config: EngineConfig {
                    tracked: Vec::new(),
                    kernel_watch: reports == Reports::Watched,
                    ..config
                },
                starts_at: if together {
                    0
                } else {
                    rng.between(0, 3 * interval.0)
                },
            }
        })
        .collect()
}

/// Up to 1000 ppm either way, the extremes often.
fn drift(rng: &mut Rng) -> i64 {
    let size = i64::try_from(rng.between(0, 1_000)).unwrap_or(0);
    rng.pick(&[0, 1_000, -1_000, size, -size])
}

fn draw_config(
    rng: &mut Rng,
    class: Class,
    nodes: usize,
    instances: usize,
    version: Version,
    interval: Nanos,
    grouped: bool,
) -> EngineConfig {
    let mut priority = draw_priority(rng);
    let mut preempt = rng.chance(600);
    let delay = match class {
        Class::BoundedLoss => Nanos::ZERO,
        _ => interval.times(rng.pick(&[0, 0, 0, 5])),
    };
    let instances = (0..instances)
        .map(|index| {
            if !grouped {
                priority = draw_priority(rng);
                preempt = rng.chance(600);
            }
            let number = u32::try_from(index).unwrap_or(0);
            InstanceConfig {
                id: InstanceId(number),
                name: format!("vr{index}"),
                group: grouped.then_some(0),
                version,
                vrid: Vrid::new(51 + u8::try_from(index).unwrap_or(0))
                    .unwrap_or(Vrid(core::num::NonZeroU8::MIN)),
                priority,
                preempt,
                preempt_delay: delay,
                advert_interval: interval,
                sole_peer: nodes == 2 && rng.chance(700),
                vips: 1,
                announce: AnnounceConfig {
                    count: 2,
                    interval: Nanos(rng.pick(&[0, MS])),
                    repeat_after: interval.times(rng.pick(&[0, 5])),
                    refresh: interval.times(rng.pick(&[0, 10])),
                },
                channels: Vec::new(),
                lease: None,
                track: Vec::new(),
                link_delays: crate::LinkDelays::default(),
                adopted_epoch: Epoch::NONE,
            }
        })
        .collect();
    EngineConfig {
        start_delay: interval.times(rng.pick(&[0, 0, 0, 4])),
        instances,
        groups: Vec::from([GroupConfig {
            name: String::from("group"),
            track: Vec::new(),
            roles: None,
        }]),
        tracked: Vec::new(),
        mode: crate::Mode::default(),
        kernel_watch: false,
    }
}

fn draw_priority(rng: &mut Rng) -> Priority {
    let any = u8::try_from(rng.between(1, 254)).unwrap_or(100);
    Priority(rng.pick(&[any, any, 254, 253, 100, 1]))
}

fn draw_pace(rng: &mut Rng, class: Class, nodes: &[NodePlan]) -> Pace {
    let all = || nodes.iter().flat_map(|node| &node.config.instances);
    let shortest = all().map(|one| one.advert_interval.0).min().unwrap_or(MS);
    if class == Class::BoundedLoss {
        // What varies has to vary by less than the shortest Skew_Time.
        let skew = all()
            .map(|one| vrrp::skew_time(one.version, one.priority, one.advert_interval).0)
            .min()
            .unwrap_or(0);
        // Skew_Time also pays for clocks that differ by 0.2 % over three intervals.
        let spare = skew.saturating_sub(shortest / 150) / 64;
        return Pace {
            delay: rng.pick(&[
                (0, 0),
                (50_000, 50_000 + spare),
                (shortest / 4, shortest / 4),
            ]),
            duplicate_permille: rng.pick(&[0, 50]),
            longest_loss: Some(2),
            step_max: spare.min(5_000),
            stall_permille: 0,
            stall_max: 0,
        };
    }
    let stalls = matches!(class, Class::Stalls | Class::All);
    Pace {
        delay: rng.pick(&[
            (0, 0),
            (0, 0),
            (100_000, 100_000),
            (20_000, 300_000),
            (shortest / 10, shortest / 2),
        ]),
        duplicate_permille: rng.pick(&[0, 20]),
        longest_loss: None,
        step_max: rng.pick(&[0, 20_000, 200_000]),
        stall_permille: if stalls { rng.pick(&[0, 5, 20, 60]) } else { 0 },
        stall_max: shortest * 4,
    }
}

fn longest_interval(nodes: &[NodePlan]) -> Nanos {
    nodes
        .iter()
        .flat_map(|node| &node.config.instances)
        .map(|one| one.advert_interval)
        .max()
        .unwrap_or(Nanos::ZERO)
}

fn longest_down(nodes: &[NodePlan]) -> Nanos {
    let longest = longest_interval(nodes);
    nodes
        .iter()
        .flat_map(|node| &node.config.instances)
        .map(|one| vrrp::active_down_interval(one.version, one.priority, longest))
        .max()
        .unwrap_or(Nanos::ZERO)
}
