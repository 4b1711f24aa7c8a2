//! `bench scale`: as many virtual routers as an interface can have, all advertising each 10 ms.
//!
//! What `had` does not manage is an error. What the other one does not manage is reported: how many of its
//! routers had settled, and what it used in that state.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Client, Frame, Lab, Node, Payload, VirtualRouter, capture::Capture, clock::sleep_until, now,
};
use serde_json::{Value, json};

use crate::{
    figures::{Figures, millis, verdict},
    pair::{PRIORITY, System},
    usage::{self, Thread},
    write_json,
};

/// Each VRID of an interface.
const ROUTERS: u8 = 255;

/// How long everything must have been quiet before a measurement.
const QUIET: Nanos = Nanos::from_secs(1);

/// How long they may be divided between the nodes.
const SPLIT: Nanos = Nanos::from_secs(3);

/// Measurements of what they use, of which the first without a move counts.
const ATTEMPTS: u32 = 3;

/// How long a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at nodes that settle: listing addresses holds the RTNL lock, which daemons need to put theirs
/// on.
const LOOK: Nanos = Nanos::from_millis(100);

/// Between two lines that say how many routers have settled.
const PROGRESS: Nanos = Nanos::from_secs(5);

/// Processor time of `had`'s Active node relative to keepalived's, and of its Backup.
const ACTIVE_RATIO: f64 = 0.5;
const BACKUP_RATIO: f64 = 0.1;

/// Time until all have moved, relative to a single one.
const MOVE_RATIO: f64 = 2.0;

/// What a node used.
struct Usage {
    threads: Vec<Thread>,
    /// Frames that left its interface: 100 in a second for each router of an Active node, if none is late.
    sent: u64,
    /// Resident memory in bytes.
    memory: u64,
}

impl Usage {
    fn cpu(&self) -> Nanos {
        self.threads
            .iter()
            .fold(Nanos::ZERO, |sum, thread| sum.plus(thread.cpu))
    }

    fn wakeups(&self) -> u64 {
        self.threads.iter().map(|thread| thread.wakeups).sum()
    }
}

/// What a node has used so far.
struct Look {
    threads: Vec<(u32, Thread)>,
    sent: u64,
}

/// What both nodes used in one measurement.
struct Span {
    active: Usage,
    backup: Usage,
    /// Measurements before it that are not counted, because routers moved.
    discarded: u32,
    /// In which state it was measured nevertheless, if that was not the wanted one.
    unsettled: Option<String>,
}

/// Times from a power-off until every VIP was announced by the other node.
struct Moves {
    times: Vec<Nanos>,
    /// Why there are no more.
    ended: Option<String>,
}

/// What one daemon showed.
struct Outcome {
    system: System,
    span: Span,
    all: Moves,
    /// The same with a single router.
    one: Moves,
}

/// Runs the measurement.
pub(crate) fn run(
    seconds: u32,
    trials: u32,
    systems: &[System],
    json_file: Option<&Path>,
    check: bool,
) -> Result<()> {
    ensure!(seconds > 0 && trials > 0, "nothing to measure");
    let mut outcomes = Vec::new();
    for system in systems {
        eprintln!("{}: one router, {trials} moves ...", system.name());
        let mut cluster = Cluster::start(*system, 1)?;
        let one = cluster.moves(trials)?;
        drop(cluster);
        eprintln!(
            "{}: {ROUTERS} routers, {seconds} s, {trials} moves ...",
            system.name()
        );
        let mut cluster = Cluster::start(*system, ROUTERS)?;
        // First the moves: the node that is measured then took over from another, as in life.
        let all = cluster.moves(trials)?;
        let mut span = None;
        if all.ended.is_none() {
            span = Some(cluster.use_of(seconds)?);
        }
        drop(cluster);
        outcomes.push(Outcome {
            system: *system,
            span: settled(span, *system, seconds)?,
            all,
            one,
        });
    }
    print!("{}", table(seconds, &outcomes));
    if let Some(file) = json_file {
        write_json(file, &report(seconds, &outcomes))?;
    }
    let misses = misses(&outcomes);
    verdict(&misses, check)
}

/// A measurement of routers that do their work, from a new start of both nodes if need be: what they use while they
/// take the VIPs from each other is no measure. Where there is none in several attempts, the last one.
fn settled(first: Option<Span>, system: System, seconds: u32) -> Result<Span> {
    let mut last = first;
    for _ in 0..ATTEMPTS {
        if last.as_ref().is_some_and(|span| span.unsettled.is_none()) {
            break;
        }
        let discarded = last.map_or(0, |span| span.discarded + 1);
        eprintln!("{}: both nodes begin anew ...", system.name());
        let mut span = Cluster::start(system, ROUTERS)?.use_of(seconds)?;
        span.discarded += discarded;
        last = Some(span);
    }
    last.context("it was measured at least once")
}

/// Two nodes with the same virtual routers.
struct Cluster {
    system: System,
    nodes: [Node; 2],
    vips: BTreeSet<Ipv4Addr>,
    announcements: Capture,
    _client: Client,
    // Last: it goes when the nodes are gone.
    lab: Lab,
}

impl Cluster {
    fn start(system: System, routers: u8) -> Result<Self> {
        let lab = Lab::new()?;
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let client = lab.client("c1")?;
        let announcements =
            Capture::start(client.ns(), "eth0", |frame| announced(frame).is_some())?;
        let mut cluster = Self {
            system,
            nodes,
            vips: (1..=routers).map(vip).collect(),
            announcements,
            _client: client,
            lab,
        };
        let addresses = [cluster.nodes[0].address(), cluster.nodes[1].address()];
        for index in 0..2 {
            let node = &mut cluster.nodes[index];
            system.prepare(node);
            node.prepare_keepalived_for_many();
            let peer = addresses[1 - index];
            let routers: Vec<VirtualRouter> = (1..=routers)
                .map(|vrid| {
                    let mut router = node
                        .router()
                        .priority(PRIORITY)
                        .interval_ms(10)
                        .peers(&[peer])
                        .sibling(&format!("vr{vrid}"), vrid, vip(vrid));
                    router.prefix_len = 32;
                    router
                })
                .collect();
            node.start(system.kind(), &routers)?;
            if index == 0 {
                let whole = cluster.wait(|cluster| Ok(cluster.held(0)? == cluster.vips.len()))?;
                cluster.manages(whole, "the first node has every VIP")?;
            }
        }
        Ok(cluster)
    }

    /// Waits for a condition, and tells meanwhile how many VIPs each node has. Whether it held in time.
    fn wait(&mut self, mut condition: impl FnMut(&mut Self) -> Result<bool>) -> Result<bool> {
        let begin = now();
        let mut told = begin;
        let patience = Nanos(PATIENCE.as_nanos().try_into()?);
        while !condition(self)? {
            if now().since(begin) > patience {
                return Ok(false);
            }
            if now().since(told) > PROGRESS {
                told = now();
                eprintln!(
                    "{}: {} s, {}",
                    self.system.name(),
                    told.since(begin).0 / 1_000_000_000,
                    self.in_words()?
                );
            }
            sleep_until(now().after(LOOK));
        }
        Ok(true)
    }

    /// How the VIPs are divided.
    fn in_words(&self) -> Result<String> {
        let all = self.vips.len();
        let [one, other] = [self.held(0)?, self.held(1)?];
        Ok(format!("{one} of {all} VIPs on n1, {other} on n2"))
    }

    /// An error if `had` did not manage something; the other one may.
    fn manages(&self, managed: bool, what: &str) -> Result<()> {
        ensure!(
            managed || !self.system.is_had(),
            "{}: not within {PATIENCE:?}: {what}; {}\n{}",
            self.system.name(),
            self.in_words()?,
            self.lab.log_tails()
        );
        Ok(())
    }

    /// How many of the VIPs a node has.
    fn held(&self, index: usize) -> Result<usize> {
        let addresses = self.nodes[index].addresses("eth0")?;
        let is_vip =
            |address: &&IpAddr| matches!(address, IpAddr::V4(it) if self.vips.contains(it));
        Ok(addresses.iter().filter(is_vip).count())
    }

    /// Whether a node takes part with every router, as far as can be seen: its link is up, and `had` says so.
    fn listens(&self, index: usize) -> Result<bool> {
        let node = &self.nodes[index];
        let text = node.ns().ip(&["-j", "link", "show", "eth0"])?;
        let links: Value = serde_json::from_str(&text)?;
        if links[0]["operstate"] != "UP" {
            return Ok(false);
        }
        if !self.system.is_had() {
            return Ok(true);
        }
        // It may not listen on its socket yet.
        let Ok(status) = node.hactl(&["status"]) else {
            return Ok(false);
        };
        let instances = status["instances"].as_array();
        let taking_part =
            |instance: &Value| instance["state"] == "backup" || instance["state"] == "active";
        Ok(instances.is_some_and(|instances| {
            instances.len() == self.vips.len() && instances.iter().all(taking_part)
        }))
    }

    /// Waits until one node has had every VIP for a while, and the other one none. Returns the former; `None`: it did
    /// not come to that.
    ///
    /// Routers do not pre-empt, so that one that moved by itself stays where it is: the node with fewer of
    /// them begins anew then.
    fn settle(&mut self) -> Result<Option<usize>> {
        let kind = self.system.kind();
        let all = self.vips.len();
        let mut last = None;
        let mut since = now();
        let mut active = None;
        let settled = self.wait(|cluster| {
            let held = [cluster.held(0)?, cluster.held(1)?];
            if last.replace(held) != Some(held) {
                since = now();
            }
            active = held.iter().position(|count| *count == all);
            let whole = active.is_some() && held.contains(&0);
            // Else a power-off would meet a Backup that is not there yet: a daemon that starts, or a link whose
            // return the kernel tells of up to a second later.
            if whole && !(cluster.listens(0)? && cluster.listens(1)?) {
                since = now();
            }
            let quiet = now().since(since);
            if !whole && quiet > SPLIT {
                let fewer = usize::from(held[1] < held[0]);
                cluster.nodes[fewer].restart(kind)?;
                since = now();
            }
            Ok(whole && quiet > QUIET)
        })?;
        self.manages(settled, "one node has every VIP, the other none")?;
        Ok(active.filter(|_| settled))
    }

    /// What the Active node and the Backup use while nothing happens. A measurement in which a node lost routers, or
    /// took some over, is discarded: that is another amount of work. If there is none without, the last one counts for
    /// the other daemon, and says so.
    fn use_of(&mut self, seconds: u32) -> Result<Span> {
        let mut discarded = 0;
        loop {
            let settled = self.settle()?;
            let active = match settled {
                Some(active) => active,
                None => usize::from(self.held(1)? > self.held(0)?),
            };
            let held = self.in_words()?;
            self.announcements.clear();
            let from = now();
            let before = [self.look(0)?, self.look(1)?];
            sleep_until(from.after(Nanos::from_secs(u64::from(seconds))));
            let after = [self.look(0)?, self.look(1)?];
            let moved = self.moved(active, from)?;
            let unsettled = match (settled, moved) {
                (Some(_), 0) => None,
                (Some(_), _) => Some(format!("{moved} routers moved by themselves meanwhile")),
                (None, _) => Some(format!(
                    "it did not settle within {PATIENCE:?}: {held}; {moved} routers moved meanwhile"
                )),
            };
            let again = unsettled.is_some() && settled.is_some() && discarded + 1 < ATTEMPTS;
            if let Some(why) = &unsettled {
                eprintln!("{}: {why}", self.system.name());
            }
            if again {
                discarded += 1;
                continue;
            }
            ensure!(
                unsettled.is_none() || !self.system.is_had(),
                "{}: routers moved by themselves in each of {ATTEMPTS} measurements of {seconds} s, so that there \
                 is nothing to compare: is the machine too busy?",
                self.system.name()
            );
            let usage = |node: &mut Node, index: usize| {
                let (before, after) = (&before[index], &after[index]);
                anyhow::Ok(Usage {
                    threads: usage::difference(&before.threads, &after.threads),
                    sent: after.sent - before.sent,
                    memory: usage::resident(&node.daemon()?.processes())?,
                })
            };
            let backup = 1 - active;
            return Ok(Span {
                active: usage(&mut self.nodes[active], active)?,
                backup: usage(&mut self.nodes[backup], backup)?,
                discarded,
                unsettled,
            });
        }
    }

    /// How many routers moved since `from`, though nothing happened to the Active node; also those that
    /// have come back.
    fn moved(&self, active: usize, from: MonoNs) -> Result<usize> {
        let announced =
            first_announcements(&self.announcements, from, self.nodes[1 - active].mac());
        ensure!(self.announcements.lost() == 0, "the observer missed frames");
        let gone = self.vips.len() - self.held(active)?;
        Ok(gone.max(announced.len()))
    }

    fn look(&mut self, index: usize) -> Result<Look> {
        let node = &mut self.nodes[index];
        let statistics = node.ns().ip(&["-j", "-s", "link", "show", "eth0"])?;
        let statistics: Value = serde_json::from_str(&statistics)?;
        let sent = statistics[0]["stats64"]["tx"]["packets"].as_u64();
        Ok(Look {
            threads: usage::threads(&node.daemon()?.processes(), None)?,
            sent: sent.context("a link counts its packets")?,
        })
    }

    /// Power-offs of the Active node: how long each time until the other one had announced every VIP.
    fn moves(&mut self, trials: u32) -> Result<Moves> {
        let mut times = Vec::new();
        for round in 0..trials {
            let time = self
                .one_move(round)
                .with_context(|| format!("{}: move {}", self.system.name(), round + 1))?;
            let Some(time) = time else {
                let ended = format!(
                    "none of the moves after the first {round}: not settled within {PATIENCE:?}, {}",
                    self.in_words()?
                );
                eprintln!("{}: {ended}", self.system.name());
                return Ok(Moves {
                    times,
                    ended: Some(ended),
                });
            };
            times.push(time);
        }
        Ok(Moves { times, ended: None })
    }

    /// `None`: the nodes did not settle before it, or it did not come to its end.
    fn one_move(&mut self, round: u32) -> Result<Option<Nanos>> {
        let Some(old) = self.settle()? else {
            return Ok(None);
        };
        let new = self.nodes[1 - old].mac();
        self.announcements.clear();
        // Golden-ratio steps spread the faults evenly over the phase of the adverts.
        let phase = Nanos(u64::from(round) * 6_180_340 % 10_000_000);
        sleep_until(now().after(phase));
        let from = now();
        self.nodes[old].power_off()?;
        let mut moved = BTreeMap::new();
        let all_moved = self.wait(|cluster| {
            moved = first_announcements(&cluster.announcements, from, new);
            Ok(moved.len() == cluster.vips.len())
        })?;
        self.manages(all_moved, "every VIP is announced by the other node")?;
        ensure!(self.announcements.lost() == 0, "the observer missed frames");
        self.nodes[old].power_on()?;
        let last = moved.values().max().filter(|_| all_moved);
        Ok(last.map(|last| last.since(from)))
    }
}

/// The VIP of a router: routed to the lab's network.
fn vip(vrid: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, vrid)
}

/// The address that a frame announces by gratuitous ARP.
fn announced(frame: &Frame) -> Option<Ipv4Addr> {
    match frame.payload {
        Payload::ArpRequest { sender, target } | Payload::ArpReply { sender, target }
            if sender == target =>
        {
            Some(sender)
        }
        _ => None,
    }
}

/// When a station first announced each address since `from`.
fn first_announcements(
    capture: &Capture,
    from: MonoNs,
    station: ha_tests::Mac,
) -> BTreeMap<Ipv4Addr, MonoNs> {
    let mut first = BTreeMap::new();
    for (at, frame) in capture.between(from, MonoNs(u64::MAX)) {
        if let Some(address) = announced(&frame).filter(|_| frame.source == station) {
            first.entry(address).or_insert(at);
        }
    }
    first
}

fn table(seconds: u32, outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{ROUTERS} virtual routers on one interface, adverts each 10 ms, unicast; over {seconds} s\n\
         {:<10} {:<8} {:>12} {:>14} {:>10} {:>10}\n",
        "daemon", "node", "CPU s/min", "wake-ups/s", "frames/s", "RSS MiB"
    );
    for outcome in outcomes {
        let span = &outcome.span;
        for (node, usage) in [("Active", &span.active), ("Backup", &span.backup)] {
            text.push_str(&format!(
                "{:<10} {node:<8} {:>12.3} {:>14} {:>10} {:>10}\n",
                outcome.system.name(),
                millis(usage.cpu()) * 0.06 / f64::from(seconds),
                usage.wakeups() / u64::from(seconds),
                usage.sent / u64::from(seconds),
                usage.memory >> 20,
            ));
        }
        if span.discarded > 0 {
            text.push_str(&format!(
                "{:<10} discarded before this measurement, because routers moved by themselves: {}\n",
                outcome.system.name(),
                span.discarded
            ));
        }
        if let Some(why) = &span.unsettled {
            text.push_str(&format!("{:<10} {why}\n", outcome.system.name()));
        }
    }
    text.push_str("power-off of the Active node until the last VIP was announced, in ms\n");
    for outcome in outcomes {
        for (what, moves) in [("one router", &outcome.one), ("all", &outcome.all)] {
            if let Some(figures) = Figures::of(&moves.times) {
                text.push_str(&format!(
                    "{:<10} {what:<11} median {:>8.3}, max {:>8.3} of {}\n",
                    outcome.system.name(),
                    millis(figures.median),
                    millis(figures.max),
                    figures.count
                ));
            }
            if let Some(why) = &moves.ended {
                text.push_str(&format!("{:<10} {what:<11} {why}\n", outcome.system.name()));
            }
        }
    }
    text
}

fn report(seconds: u32, outcomes: &[Outcome]) -> Value {
    let usage = |usage: &Usage| {
        json!({
            "cpu_ms": millis(usage.cpu()),
            "wakeups": usage.wakeups(),
            "frames": usage.sent,
            "resident_bytes": usage.memory,
        })
    };
    let systems: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            json!({
                "system": outcome.system.name(),
                "active": usage(&outcome.span.active),
                "backup": usage(&outcome.span.backup),
                "discarded": outcome.span.discarded,
                "unsettled": outcome.span.unsettled,
                "one_moved": Figures::of(&outcome.one.times).map(Figures::to_json),
                "all_moved": Figures::of(&outcome.all.times).map(Figures::to_json),
                "moves_ended": outcome.all.ended,
            })
        })
        .collect();
    json!({ "seconds": seconds, "routers": ROUTERS, "systems": systems })
}

/// A sentence for each bound that does not hold.
fn misses(outcomes: &[Outcome]) -> Vec<String> {
    let of = |system| outcomes.iter().find(|outcome| outcome.system == system);
    let mut misses = Vec::new();
    let Some(had) = of(System::Had) else {
        return misses;
    };
    if let Some(other) = of(System::Keepalived) {
        for (node, ours, theirs, bound) in [
            (
                "Active node",
                &had.span.active,
                &other.span.active,
                ACTIVE_RATIO,
            ),
            ("Backup", &had.span.backup, &other.span.backup, BACKUP_RATIO),
        ] {
            let ratio = millis(ours.cpu()) / millis(theirs.cpu());
            println!("CPU of the {node}: {ratio:.3} of keepalived's");
            if ratio > bound {
                misses.push(format!(
                    "the {node}'s CPU time is {ratio:.3} of keepalived's, more than {bound}"
                ));
            }
        }
    }
    if let (Some(all), Some(one)) = (Figures::of(&had.all.times), Figures::of(&had.one.times)) {
        let ratio = millis(all.median) / millis(one.median);
        println!("had moves all in {ratio:.3} of the time for one");
        if ratio > MOVE_RATIO {
            misses.push(format!(
                "all have moved after {ratio:.3} of the time for one, more than {MOVE_RATIO}"
            ));
        }
    }
    misses
}
