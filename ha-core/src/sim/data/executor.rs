//! What the steps of a database's plans do to the model.

use std::{string::String, vec::Vec};

use ha_common::Nanos;

use super::{Data, MS, World, slow::Slow};
use crate::{
    plan::{Done, Follows, Observation, Order, PlanInput, Replicas},
    sim::rng::Rng,
};

/// Behind by no more than that, a replica has caught up: what comes meanwhile it receives.
const NEAR: usize = 8;

/// How long a step takes at least.
pub(super) fn duration(step: &str, rng: &mut Rng) -> u64 {
    match step {
        "start-as-replica" => rng.between(100 * MS, 600 * MS),
        "become-primary" => rng.between(MS, 15 * MS),
        _ => rng.between(MS / 10, 8 * MS),
    }
}

/// What came of a step.
enum Progress {
    /// It has to go on.
    Waits,
    Done(Done),
    Failed(&'static str),
}

fn done() -> Progress {
    Progress::Done(Done::default())
}

fn done_if(ready: bool) -> Progress {
    if ready { done() } else { Progress::Waits }
}

impl World {
    /// What a node's executor finds.
    pub(super) fn observe(&self, data: &Data, node: usize) -> Observation {
        let server = &data.servers[node];
        if !server.runs(self.now) {
            let mut observation = Observation::unknown("its server does not answer");
            if !server.up {
                observation.runs = Some(false);
                observation.promoted = Some(false);
            }
            return observation;
        }
        Observation {
            began_at: self.clock(node),
            promoted: Some(server.writable),
            runs: Some(true),
            incarnation: Some(server.starts),
            unread: server.unread.is_some(),
            able: Ok(()),
            position: server.unread.is_none().then(|| server.position()),
            history: Some(server.history()),
            follows: match server.source {
                None => Follows::Nobody,
                Some(source) => Follows::Source {
                    source: super::name(source),
                    receives: server.connected,
                    acknowledges: server.acknowledges,
                    lag: server.connected.then_some(Nanos::ZERO),
                },
            },
            replicas: server.writable.then(|| Replicas {
                acknowledging: u32::from(!server.solo),
                waiting: u32::try_from(server.waiting.len()).unwrap_or(u32::MAX),
                solo: server.solo,
            }),
            note: None,
            warning: None,
        }
    }

    /// Goes on with the step under way; its outcome.
    pub(super) fn try_step(
        &mut self,
        data: &mut Data,
        node: usize,
        slow: &mut Slow,
    ) -> Option<PlanInput> {
        let (order, _) = slow.step.as_ref().filter(|(_, at)| *at <= self.now)?;
        let serial = order.serial;
        let progress = self.step(data, node, &order.clone());
        let outcome = match progress {
            Progress::Waits => return None,
            Progress::Done(mut done) => {
                done.incarnation = Some(data.servers[node].starts);
                PlanInput::StepDone { serial, done }
            }
            Progress::Failed(why) => {
                let why = String::from(why);
                PlanInput::StepFailed { serial, why }
            }
        };
        slow.step = None;
        data.servers[node].closing = false;
        Some(outcome)
    }

    fn step(&mut self, data: &mut Data, node: usize, order: &Order) -> Progress {
        let server = &mut data.servers[node];
        match order.step {
            "kill-server" => {
                server.crash();
                return done();
            }
            "start-as-replica" => {
                if !server.up {
                    server.start();
                }
                return done();
            }
            _ if !server.up => return Progress::Failed("its server does not run"),
            _ if !server.runs(self.now) => return Progress::Waits,
            _ => {}
        }
        match order.step {
            "stop-receiving" => {
                server.receives = false;
                done()
            }
            "inspect" | "salvage" => {
                server.salvage();
                done()
            }
            "drain" => done_if(server.relay.is_empty()),
            "prove" => {
                let target = order.context.target.as_ref();
                let target: Option<usize> = target.and_then(|target| target.parse().ok());
                if target.is_some_and(|target| server.log.len() < target) {
                    return Progress::Failed("it lacks what the node before wrote");
                }
                done()
            }
            "detach" => {
                server.source = None;
                server.acknowledges = false;
                server.relay.clear();
                server.unread = None;
                done()
            }
            "become-primary" => {
                let incarnation = order.context.incarnation;
                if incarnation.is_some_and(|it| it != server.starts) {
                    return Progress::Failed("its server was started again");
                }
                server.epoch = order.epoch;
                server.writable = true;
                let committed = if order.context.solo {
                    self.go_solo(data, node)
                } else {
                    Vec::new()
                };
                self.acknowledge(data, node, &committed);
                done()
            }
            "forbid-writes" => {
                server.closing = true;
                if !server.waiting.is_empty() {
                    return Progress::Waits;
                }
                server.writable = false;
                done()
            }
            "settle" | "restore" => {
                if order.step == "restore" {
                    server.solo = false;
                }
                Progress::Done(Done {
                    position: Some(server.position()),
                    ..Done::default()
                })
            }
            "degrade" => {
                let committed = self.go_solo(data, node);
                self.acknowledge(data, node, &committed);
                done()
            }
            "compare" | "follow" | "catch-up" => self.follow(data, node, order),
            "join-sync" => {
                server.acknowledges = true;
                done()
            }
            // Sessions and marks are not modelled.
            _ => done(),
        }
    }

    /// Writes are acknowledged by this server alone; those that waited are committed.
    fn go_solo(&self, data: &mut Data, node: usize) -> Vec<u64> {
        let server = &mut data.servers[node];
        server.solo = true;
        let all = server.log.len() + server.waiting.len();
        let committed = server.acknowledged(all);
        server.flush();
        committed
    }

    fn follow(&self, data: &mut Data, node: usize, order: &Order) -> Progress {
        let named = |at: &usize| Some(super::name(*at)) == order.context.source;
        let Some(source) = (0..data.servers.len()).find(named) else {
            return Progress::Failed("it is not known whom to follow");
        };
        let reached = self.passes(0, node, source)
            && self.passes(0, source, node)
            && data.servers[source].runs(self.now);
        if !reached {
            return Progress::Waits;
        }
        match order.step {
            "compare" => {
                if data.servers[node].is_part_of(&data.servers[source]) {
                    done()
                } else {
                    Progress::Failed("its data is of another history")
                }
            }
            "follow" => {
                let server = &mut data.servers[node];
                server.relay.clear();
                server.unread = None;
                server.source = Some(source);
                server.receives = true;
                server.acknowledges = false;
                done()
            }
            _ => {
                let ends = data.servers[source].log.len();
                done_if(data.servers[node].log.len() + NEAR >= ends)
            }
        }
    }
}
