//! What a node's kernel does by itself: the silence timer and the gate, and the record of both.

use std::{format, string::String, vec::Vec};

use ha_common::{MonoNs, Nanos, gate::Epoch};

use super::super::ledger::{Open, Stay, millis};
use super::{Event, Word, World};
use crate::Cause;

impl World {
    /// Starts the silence timer for what is left of the watched time.
    pub(crate) fn arm(&mut self, node: usize, instance: usize, from: MonoNs) {
        let late = self.rng.between(0, self.scenario.pace.step_max / 4);
        let machine = &mut self.nodes[node];
        let kernel = &mut machine.kernels[instance];
        kernel.armed = kernel.watch;
        kernel.timer += 1;
        let timer = kernel.timer;
        let due = machine
            .plan
            .clock
            .when(from.after(kernel.watch))
            .max(self.now);
        self.at(
            due + late,
            Event::Silence {
                node,
                instance,
                timer,
            },
        );
    }

    pub(super) fn silence(&mut self, node: usize, instance: usize, timer: u64) {
        let machine = &self.nodes[node];
        if self.now < machine.frozen_until {
            let again = machine.frozen_until;
            self.at(
                again,
                Event::Silence {
                    node,
                    instance,
                    timer,
                },
            );
            return;
        }
        let now = self.clock(node);
        let kernel = &mut self.nodes[node].kernels[instance];
        if kernel.timer != timer {
            return;
        }
        kernel.armed = Nanos::ZERO;
        let Some((last, _)) = kernel.last else {
            return;
        };
        if kernel.watch == Nanos::ZERO {
            return;
        }
        if now.since(last) < kernel.watch {
            self.arm(node, instance, last);
            return;
        }
        self.say(|| format!("node{node} vr{instance} kernel reports silence"));
        self.tell(node, Word::Silence { instance, last });
    }

    /// Brings the record of a gate up to this moment.
    pub(crate) fn look(&mut self, node: usize, instance: usize) {
        let now = self.clock(node);
        let machine = &self.nodes[node];
        let open = machine.kernels[instance].is_open(now) && self.now >= machine.frozen_until;
        match (machine.open_since[instance], open) {
            (None, true) => {
                self.nodes[node].open_since[instance] = Some((self.now, self.traffic.len()));
                if self.nodes[node].stays[instance].is_none() {
                    // Nobody elected it: that is for the judge.
                    self.begin_stay(node, instance, Cause::Promoted);
                }
                self.say(|| format!("node{node} vr{instance} GATE OPEN"));
                self.judge_opening(node);
            }
            (Some(_), false) => self.shut(node, instance),
            _ => {}
        }
    }

    /// Ends the record of an open gate: at its deadline if that has passed, else here.
    pub(crate) fn shut(&mut self, node: usize, instance: usize) {
        let machine = &mut self.nodes[node];
        let Some((from, recorded)) = machine.open_since[instance].take() else {
            return;
        };
        let deadline = machine
            .plan
            .clock
            .when(machine.kernels[instance].deadline());
        let until = deadline.min(self.now);
        if let Some(stay) = machine.stays[instance] {
            let stay = &mut self.stays[stay];
            stay.open.push(Open {
                from,
                until,
                recorded,
            });
        }
        let ran_out = deadline <= self.now;
        self.say(|| {
            format!(
                "node{node} vr{instance} gate closed{}",
                if ran_out {
                    format!(" since {} ms", millis(deadline))
                } else {
                    String::new()
                }
            )
        });
    }

    /// A new epoch: what was open is over.
    pub(crate) fn set_epoch(&mut self, node: usize, instance: usize, epoch: Epoch) {
        self.look(node, instance);
        self.shut(node, instance);
        let machine = &mut self.nodes[node];
        let before = core::mem::replace(&mut machine.kernels[instance].epoch, epoch);
        machine.stays[instance] = None;
        if before.raised() != epoch {
            self.break_rule(format!(
                "node{node} vr{instance}: epoch {} follows {}",
                epoch.0, before.0
            ));
        }
    }

    /// The first advert of an election.
    pub(crate) fn begin_stay(&mut self, node: usize, instance: usize, cause: Cause) {
        let count = self.nodes.len();
        let machine = &mut self.nodes[node];
        machine.stays[instance] = Some(self.stays.len());
        self.stays.push(Stay {
            node,
            instance,
            cause,
            sends: Vec::new(),
            lost_to: std::vec![false; count],
            told: None,
            open: Vec::new(),
            outranked_at: None,
        });
    }
}
