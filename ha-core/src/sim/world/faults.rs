//! What goes wrong, and how it is told.

use std::{
    format,
    string::{String, ToString},
};

use super::super::{
    leases::{Cut, Span},
    ledger::millis,
    scenario::{Fault, tracking},
};
use super::{Event, Word, World, echo::PathWords, id, kernel};
use crate::Input;

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        self.say(|| describe(&fault));
        match fault {
            Fault::Pause { node, until } => {
                let machine = &mut self.nodes[node];
                machine.paused_until = machine.paused_until.max(until);
                self.hold_up(node, until);
            }
            Fault::Freeze { node, until } => self.freeze(node, until, false),
            Fault::Stall { node, until } => self.freeze(node, until, true),
            Fault::FreezeBackup { until } => {
                for node in 0..self.nodes.len() {
                    let now = self.clock(node);
                    let kernels = &self.nodes[node].kernels;
                    if !kernels.iter().any(|kernel| kernel.is_open(now)) {
                        self.freeze(node, until, false);
                    }
                }
            }
            Fault::Kill { node } => self.kill(node),
            Fault::PowerOff { node } => self.power_off(node),
            Fault::Stop { node } => self.tell(node, Word::Input(Input::Shutdown)),
            Fault::Start { node } => self.boot(node),
            Fault::Cut { from, to } => self.cut(0, from, to, true),
            Fault::CutLink { link, from, to } => self.cut(link, from, to, true),
            Fault::Heal => {
                for link in 0..self.cuts.len() {
                    for from in 0..self.nodes.len() {
                        for to in 0..self.nodes.len() {
                            self.cut(link, from, to, false);
                        }
                    }
                }
            }
            Fault::Loss { permille } => self.loss_permille = permille,
            Fault::Switchover { node, instance } => {
                let target = crate::Target::Instance(id(instance));
                self.tell(node, Word::Input(Input::Switchover(target)));
            }
            Fault::Link { node, instance, up } => {
                if self.nodes[node].up[instance] != up {
                    self.nodes[node].up[instance] = up;
                    let input = self.interface(node, instance);
                    self.tell(node, Word::Input(input));
                }
            }
            Fault::Reload { node, config } => {
                self.nodes[node].plan.config = config.clone();
                self.tell(node, Word::Input(Input::Reconfigure(config)));
            }
            Fault::VipsFail { node, times } => self.nodes[node].vips_fail = times,
            Fault::SendsFail { node, until } => self.nodes[node].sends_fail_until = until,
            Fault::VipLost { node, instance } => {
                let instance = id(instance);
                self.tell(node, Word::Input(Input::VipLost { instance }));
            }
            Fault::Database { node, trouble } => self.trouble(node, trouble),
            Fault::Check { node, check, up } => self.check_is(node, check, up),
        }
    }

    fn cut(&mut self, link: usize, from: usize, to: usize, cut: bool) {
        if core::mem::replace(&mut self.cuts[link][from][to], cut) != cut {
            self.cut_history.push(Cut {
                link,
                from,
                to,
                at: self.now,
                cut,
            });
        }
    }

    fn freeze(&mut self, node: usize, until: u64, keeps_packets: bool) {
        for instance in 0..self.scenario.instances {
            self.look(node, instance);
            self.shut(node, instance);
        }
        let machine = &mut self.nodes[node];
        machine.frozen_until = machine.frozen_until.max(until);
        machine.paused_until = machine.paused_until.max(until);
        machine.keeps_packets = keeps_packets;
        let until = machine.frozen_until;
        self.hold_up(node, until);
        if !keeps_packets {
            self.outages.push(Span {
                node,
                from: self.now,
                until,
            });
        }
        self.at(until, Event::Thaw(node));
    }

    /// What arrived meanwhile comes before anything else that the node does.
    pub(super) fn thaw(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        if self.now < machine.frozen_until {
            return;
        }
        for echo in core::mem::take(&mut machine.waiting) {
            self.deliver_echo(echo);
        }
        for instance in 0..self.scenario.instances {
            self.look(node, instance);
        }
    }

    fn power_off(&mut self, node: usize) {
        let mutations = self.mutations;
        self.kill(node);
        self.nodes[node].powered = false;
        for instance in 0..self.scenario.instances {
            self.look(node, instance);
            self.shut(node, instance);
            let machine = &mut self.nodes[node];
            machine.stays[instance] = None;
            let timer = machine.kernels[instance].lease_timer();
            machine.kernels[instance] = kernel(&machine.plan, instance, mutations);
            if let Some(grants) = &mut machine.kernels[instance].grants {
                // What was armed before the power went fires for nobody.
                grants.timer = timer + 1;
            }
        }
        self.power_off_data(node);
        self.nodes[node].attached = false;
        self.nodes[node].paths.fill(PathWords::default());
    }
}

fn describe(fault: &Fault) -> String {
    match fault {
        Fault::Pause { node, until } => {
            format!(
                "node{node} its process is held up until {} ms",
                millis(*until)
            )
        }
        Fault::Freeze { node, until } => {
            format!("node{node} is frozen until {} ms", millis(*until))
        }
        Fault::Stall { node, until } => format!(
            "node{node} stands still until {} ms, and keeps what arrives",
            millis(*until)
        ),
        Fault::FreezeBackup { until } => {
            format!("the Backup is frozen until {} ms", millis(*until))
        }
        Fault::Kill { node } => format!("node{node} its daemon is killed"),
        Fault::PowerOff { node } => format!("node{node} loses power"),
        Fault::Stop { node } => format!("node{node} its daemon is told to end"),
        Fault::Start { node } => format!("node{node} its daemon is started if it does not run"),
        Fault::Cut { from, to } => format!("network: cut from node{from} to node{to}"),
        Fault::CutLink { link, from, to } => {
            format!("network: link{link} cut from node{from} to node{to}")
        }
        Fault::Heal => "network: whole".to_string(),
        Fault::Loss { permille } => format!("network: {permille} of 1000 adverts are lost"),
        Fault::Switchover { node, instance } => {
            format!("node{node} vr{instance} switchover")
        }
        Fault::Link { node, instance, up } => {
            let how = if *up { "up" } else { "down" };
            format!("node{node} vr{instance} interface {how}")
        }
        Fault::Reload { node, .. } => format!("node{node} reloads its configuration"),
        Fault::VipsFail { node, times } => {
            format!("node{node} cannot add addresses {times} times")
        }
        Fault::SendsFail { node, until } => {
            format!("node{node} cannot send until {} ms", millis(*until))
        }
        Fault::VipLost { node, instance } => {
            format!("node{node} vr{instance} loses an address")
        }
        Fault::Database { node, trouble } => format!("node{node} its database: {trouble:?}"),
        Fault::Check { node, check, up } => {
            let how = if *up { "passes" } else { "fails" };
            format!("node{node} {} {how}", tracking::describe(*check))
        }
    }
}
