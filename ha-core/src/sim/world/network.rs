//! The wire between the nodes: delay, loss, duplicates, cuts.

use std::format;

use ha_common::{MonoNs, Priority};

use super::super::{kernel::Origin, ledger::Sent, scenario::Reports};
use super::{Event, Word, World};
use crate::{Advert, Cause, vrrp};

impl World {
    /// Sends an advert to every other node.
    pub(crate) fn transmit(&mut self, from: usize, instance: usize, advert: Advert, round: MonoNs) {
        let stay =
            self.nodes[from].stays[instance].filter(|_| advert.priority != Priority::RELEASE);
        if let Some(stay) = stay {
            let clock = self.nodes[from].plan.clock;
            self.stays[stay].sends.push(Sent {
                at: self.now,
                round: clock.when(round),
                until: clock.when(round.after(vrrp::gate_time(advert.interval))),
            });
        }
        self.say(|| format!("node{from} vr{instance} sends priority {}", advert.priority));
        let origin = Origin {
            node: from,
            stay,
            sent_at: self.now,
        };
        for to in 0..self.nodes.len() {
            if to == from {
                continue;
            }
            if self.is_lost(from, to, instance, advert.priority == Priority::RELEASE) {
                if let Some(stay) = stay {
                    self.stays[stay].lost_to[to] = true;
                }
                self.say(|| format!("node{from} vr{instance} -> node{to}: lost"));
                continue;
            }
            let copies = 1 + u64::from(self.rng.chance(self.scenario.pace.duplicate_permille));
            for _ in 0..copies {
                let (low, high) = self.scenario.pace.delay;
                let arrives = self.now + self.rng.between(low, high);
                self.at(
                    arrives,
                    Event::Deliver {
                        to,
                        instance,
                        advert,
                        origin,
                    },
                );
            }
        }
    }

    fn is_lost(&mut self, from: usize, to: usize, instance: usize, release: bool) -> bool {
        let cut = self.cuts[0][from][to];
        let in_a_row = &mut self.lost_in_a_row[to][instance];
        let spared = self
            .scenario
            .pace
            .longest_loss
            .is_some_and(|longest| *in_a_row >= longest);
        let lost = cut || (self.rng.chance(self.loss_permille) && !spared);
        if !release {
            *in_a_row = if lost { *in_a_row + 1 } else { 0 };
        }
        lost
    }

    /// Whether a node was elected by pre-emption and has not opened yet.
    fn preempts(&self, node: usize, instance: usize) -> bool {
        let machine = &self.nodes[node];
        let stay = machine.stays[instance].map(|stay| &self.stays[stay]);
        machine.open_since[instance].is_none()
            && stay.is_some_and(|stay| {
                stay.open.is_empty() && matches!(stay.cause, Cause::Preempting { .. })
            })
    }

    pub(super) fn deliver(&mut self, to: usize, instance: usize, advert: Advert, origin: Origin) {
        let node = &self.nodes[to];
        if !node.powered || !node.up[instance] || self.now < node.frozen_until {
            // A machine that does not run, or an interface that is down, loses what arrives.
            if let Some(stay) = origin.stay {
                self.stays[stay].lost_to[to] = true;
            }
            return;
        }
        let preempts = self.preempts(to, instance);
        let let_go = &mut self.nodes[to].let_go[instance][origin.node];
        if advert.priority == Priority::RELEASE {
            *let_go = origin.sent_at.max(*let_go);
        } else if origin.sent_at < *let_go && preempts {
            let plans = &self.nodes[to].plan.config.instances;
            let group = plans[instance].group;
            for (index, plan) in plans.iter().enumerate() {
                if index == instance || group.is_some() && plan.group == group {
                    self.overtaken[index].push(self.now);
                }
            }
        }
        let clock = self.clock(to);
        self.look(to, instance);
        let receipt =
            self.nodes[to].kernels[instance].receive(advert, origin, clock, self.mutations);
        self.look(to, instance);
        self.say(|| {
            format!(
                "node{to} vr{instance} receives priority {} from node{}{}",
                advert.priority,
                origin.node,
                if receipt.outranks {
                    ", which outranks it"
                } else {
                    ""
                }
            )
        });
        if receipt.outranks
            && let Some(stay) = self.nodes[to].stays[instance]
        {
            let stay = &mut self.stays[stay];
            stay.outranked_at = stay.outranked_at.or(Some(self.now));
        }
        if receipt.arm {
            self.arm(to, instance, clock);
        }
        if receipt.event || self.nodes[to].plan.reports == Reports::Every {
            self.tell(
                to,
                Word::Advert {
                    instance,
                    advert,
                    received_at: clock,
                    origin,
                },
            );
        }
    }
}
