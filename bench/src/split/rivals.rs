//! A pair whose cables lose frames on command, and a client that asks both nodes for the VIP.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Heartbeat, LossyPort, Node, RollCall, clock::sleep_until, eventually, lab::VIP, loss::Count,
    node::PATIENCE, now, roll_call::Overlap,
};

use super::case::{Case, Way};
use crate::{
    hang::End,
    pair::{DIRECT, INTERVAL, Pair, System, Timing},
};

/// How long a fault lasts: several times what a take-over by adverts takes.
const LASTING: Nanos = Nanos::from_millis(200);

/// Several heartbeats of a node that lives are sent within this time.
const SOON: Duration = Duration::from_millis(200);

/// How long one node must have answered alone before a round is over.
const ALONE: Nanos = Nanos::from_millis(100);

/// Two nodes.
pub(super) struct Rivals {
    // Before the pair, as its client's and switch's namespaces go with that.
    roll_call: RollCall,
    /// By node: of the LAN, and of the cable between them if there is one.
    ports: [Vec<LossyPort>; 2],
    pub(super) pair: Pair,
    /// Between two heartbeats on every path.
    heartbeat: Nanos,
    kind: Heartbeat,
}

/// What a round showed.
pub(super) struct Round {
    pub(super) case: Case,
    pub(super) system: System,
    /// The times during which both nodes answered.
    pub(super) overlaps: Vec<Overlap>,
    /// Adverts: how long before the last one that was sent the last one that the peer received was.
    pub(super) unheard: Nanos,
    /// Whether the other node answered in the end.
    pub(super) moved: bool,
    /// The longest time between two questions.
    pub(super) pause: Nanos,
    /// Attempts before that the client could not follow.
    pub(super) discarded: u32,
}

impl Round {
    /// For how long in all both nodes answered.
    pub(super) fn overlap(&self) -> Nanos {
        let lengths = self.overlaps.iter().map(Overlap::length);
        lengths.fold(Nanos::ZERO, Nanos::plus)
    }
}

impl Rivals {
    pub(super) fn start(system: System, heartbeat: Nanos) -> Result<Self> {
        let timing = Timing {
            heartbeat: system.has_leases().then_some(heartbeat),
            ..Timing::ADVERTS
        };
        let pair = Pair::start_with(system, timing, "")?;
        let macs = pair.nodes.each_ref().map(Node::mac);
        let roll_call = RollCall::start(&pair.client, VIP, macs)?;
        roll_call.pause();
        let ports = |node: &Node, other: &Node| -> Result<Vec<LossyPort>> {
            let direct = system.has_leases().then_some(DIRECT);
            let cables = ["eth0"].into_iter().chain(direct);
            cables.map(|cable| node.lossy(cable, other)).collect()
        };
        let [first, second] = &pair.nodes;
        let ports = [ports(first, second)?, ports(second, first)?];
        Ok(Self {
            roll_call,
            ports,
            pair,
            heartbeat: timing.heartbeat_of(system).unwrap_or(INTERVAL),
            kind: if system.has_leases() {
                Heartbeat::Echo
            } else {
                Heartbeat::Advert
            },
        })
    }

    /// One fault; `number` spreads them over the phase of the heartbeats. `None`: the Active node was held up, and
    /// let go before.
    pub(super) fn round(&mut self, case: Case, number: u32) -> Result<Option<Round>> {
        let active = self.settle()?;
        let from = now();
        let unheard = match case {
            Case::End { how, lost } => self.end(active, how, lost, number)?,
            Case::Cut { lan, direct } => Some(self.cut(active, [lan, direct])?),
        };
        let Some(unheard) = unheard else {
            return Ok(None);
        };
        eventually(PATIENCE, "one node alone answers", || {
            Ok(self.roll_call.sole(now().before(ALONE)).is_some())
        })?;
        let to = now();
        self.roll_call.pause();
        let [first, second] = self.roll_call.answers(from, to);
        let lost = self.roll_call.lost();
        ensure!(lost == 0, "the client missed {lost} frames");
        let moved = !if active == 0 { second } else { first }.is_empty();
        if let Case::End { .. } = case {
            ensure!(moved, "nobody took over");
        }
        Ok(Some(Round {
            case,
            system: self.pair.system,
            overlaps: self.roll_call.overlaps(from, to),
            unheard,
            moved,
            pause: self.roll_call.longest_pause(from, to),
            discarded: 0,
        }))
    }

    /// Waits until one node is Active and alone has answered for a while, which a stall of the machine may change
    /// again. Returns the Active one's index.
    fn settle(&mut self) -> Result<usize> {
        let mut active = None;
        eventually(PATIENCE, "the Active node alone answers", || {
            active = Some(self.pair.settle()?);
            self.pair.pause();
            self.roll_call.clear();
            self.roll_call.resume();
            sleep_until(now().after(ALONE));
            Ok(self.roll_call.sole(now().before(ALONE)) == active)
        })?;
        active.context("the condition above")
    }

    /// Ends the Active node's daemon when its last heartbeats have been lost, and brings it back.
    fn end(&mut self, active: usize, how: End, lost: u64, number: u32) -> Result<Option<Nanos>> {
        // Golden-ratio steps spread the faults evenly over nine tenths of the phase: the next heartbeat is
        // not to be lost, too.
        let steps = u64::from(number) * 618_034 % 1_000_000;
        let phase = Nanos(steps * (self.heartbeat.0 / 10 * 9) / 1_000_000);
        let mut last = now();
        if lost > 0 {
            let before = self.counts(active, self.kind)?;
            self.lose(active, &[true, true])?;
            for (port, before) in self.ports[active].iter().zip(before) {
                match port.wait_lost(self.kind, before, lost, SOON)? {
                    Some(at) => last = last.max(at),
                    None => {
                        self.lose(active, &[false, false])?;
                        return Ok(None);
                    }
                }
            }
        }
        sleep_until(last.after(phase));
        let daemon = self.pair.nodes[active].daemon()?;
        match how {
            End::Stop => daemon.freeze()?,
            End::Kill => daemon.strike()?,
        }
        self.lose(active, &[false, false])?;
        let ended = now();
        sleep_until(ended.after(LASTING));
        let unheard = self.unheard(active)?;
        match how {
            End::Stop => self.pair.nodes[active].daemon()?.thaw()?,
            End::Kill => {
                let kind = self.pair.system.kind();
                self.pair.nodes[active].restart(kind)?;
            }
        }
        Ok(Some(unheard))
    }

    /// Cuts one direction of each cable for a while.
    fn cut(&mut self, active: usize, ways: [Option<Way>; 2]) -> Result<Nanos> {
        let cut_by = |way| ways.map(|cable| cable == Some(way));
        self.lose(active, &cut_by(Way::FromActive))?;
        self.lose(1 - active, &cut_by(Way::ToActive))?;
        sleep_until(now().after(LASTING));
        let unheard = self.unheard(active)?;
        for node in 0..2 {
            self.lose(node, &[false, false])?;
        }
        Ok(unheard)
    }

    /// On which of the cables what a node sends to the other one is lost.
    fn lose(&mut self, node: usize, cables: &[bool]) -> Result<()> {
        let mut ports = self.ports[node].iter_mut().zip(cables);
        ports.try_for_each(|(port, lost)| port.lose(*lost))
    }

    fn counts(&self, node: usize, kind: Heartbeat) -> Result<Vec<Count>> {
        let ports = self.ports[node].iter();
        ports.map(|port| port.count(kind)).collect()
    }

    /// Case A's bound (docs/architecture.md, "The gate"): the time from the last advert of a node that its
    /// peer received to the last one that it sent.
    fn unheard(&self, node: usize) -> Result<Nanos> {
        let lan = self.ports[node].first().context("every node has a LAN")?;
        let adverts = lan.count(Heartbeat::Advert)?;
        ensure!(adverts.passed > 0, "no advert was ever seen");
        Ok(adverts.lost_at.since(adverts.passed_at))
    }

    /// Keeps what there is to analyse: both logs, the events, and when each node answered.
    pub(super) fn keep_evidence(&self, round: &Round, dir: &Path, number: u32) -> Result<()> {
        let name = |what: &str| dir.join(format!("split-{}-{number}-{what}", round.system.name()));
        let mut text = format!("{}\n", round.case);
        for overlap in &round.overlaps {
            text.push_str(&format!("{overlap:?}\n"));
        }
        for (node, answers) in self
            .pair
            .nodes
            .iter()
            .zip(self.roll_call.answers(MonoNs::ZERO, now()))
        {
            text.push_str(&format!("{}: {:?}\n", node.name(), answers));
            fs::write(name(&format!("{}.log", node.name())), node.log())?;
            if round.system.is_had() {
                let events = node.hactl(&["events"])?;
                fs::write(
                    name(&format!("{}.json", node.name())),
                    format!("{events:#}"),
                )?;
            }
        }
        fs::write(name("answers.txt"), text)?;
        Ok(())
    }
}
