//! Two nodes with one daemon, a client that probes, and observers on both cables.

use std::{
    iter,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos, lease::margin};
use ha_tests::{
    Client, Kind, Lab, Node, Prober, Probes, Sniffer, VirtualRouter, eventually,
    lab::{VIP, VIP_LINK_LOCAL, VIP_V6},
    node::PATIENCE,
    now,
    prober::Gap,
};

/// Between two adverts; keepalived's floor.
pub(crate) const INTERVAL: Nanos = Nanos::from_millis(10);

/// Of both nodes: nobody has the better skew, and nobody pre-empts.
pub(crate) const PRIORITY: u8 = 100;

/// Virtual Router Identifier.
pub(crate) const VRID: u8 = 51;

/// Name of the instance.
pub(crate) const INSTANCE: &str = "web";

/// RFC 9568 section 6.1: `((256 - Priority) × Active_Adver_Interval) / 256`.
pub(crate) const SKEW: Nanos = Nanos((256 - PRIORITY as u64) * INTERVAL.0 / 256);

/// RFC 9568 section 6.1: `3 × Active_Adver_Interval + Skew_Time`.
pub(crate) const ACTIVE_DOWN: Nanos = Nanos(3 * INTERVAL.0 + SKEW.0);

/// Between two heartbeats where leases are as short as they can be.
const LEAST_HEARTBEAT: Nanos = Nanos::from_millis(1);

/// Heartbeats that a node may miss before it counts as silent.
const HEARTBEATS: u64 = 3;

/// How long everything must have been quiet before a fault.
const QUIET: Nanos = Nanos::from_millis(150);

/// A daemon that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum System {
    /// Ours
    Had,
    /// Ours, with a virtual router of IPv6 alone
    HadV6,
    /// Ours, with addresses of both families
    HadDual,
    /// Ours, with leases on the LAN and on a cable of their own
    HadLease,
    /// Debian's keepalived
    Keepalived,
    /// The same without real-time priority
    KeepalivedNoRt,
}

impl System {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::HadV6 => "had-v6",
            Self::HadDual => "had-dual",
            Self::HadLease => "had-lease",
            Self::KeepalivedNoRt => "keepalived-no-rt",
            Self::Had | Self::Keepalived => self.kind().name(),
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Had | Self::HadV6 | Self::HadDual | Self::HadLease => Kind::Had,
            Self::Keepalived | Self::KeepalivedNoRt => Kind::Keepalived,
        }
    }

    pub(crate) const fn is_had(self) -> bool {
        matches!(self.kind(), Kind::Had)
    }

    /// Whether the client asks for an address of IPv6.
    pub(crate) const fn has_v6(self) -> bool {
        matches!(self, Self::HadV6 | Self::HadDual)
    }

    /// Whether the nodes grant each other leases.
    pub(crate) const fn has_leases(self) -> bool {
        matches!(self, Self::HadLease)
    }

    /// What the client asks for.
    fn vips(self) -> Vec<IpAddr> {
        match self {
            Self::Had | Self::HadLease | Self::Keepalived | Self::KeepalivedNoRt => {
                vec![VIP.into()]
            }
            Self::HadV6 => vec![VIP_V6.into()],
            Self::HadDual => vec![VIP.into(), VIP_V6.into()],
        }
    }

    /// Sets what its next configuration on a node needs.
    pub(crate) fn prepare(self, node: &mut Node) {
        if self == Self::KeepalivedNoRt {
            node.spare_keepalived_realtime();
        }
    }

    fn router(self, node: &Node, peer: &Node, timing: Timing, lines: &Lines) -> VirtualRouter {
        let mut router = timing.apply(node.router().priority(PRIORITY), self);
        router = router.had_lines(&lines.had);
        router.keepalived_lines.push_str(&lines.keepalived);
        router.keepalived_blocks.push_str(&lines.keepalived_blocks);
        let router = match self {
            Self::Had | Self::Keepalived | Self::KeepalivedNoRt => router.peers(&[peer.address()]),
            Self::HadLease => router.peers(&[peer.address()]).had_lines(&direct_channel(
                direct_address(node),
                direct_address(peer),
                timing.heartbeat_of(self).unwrap_or(LEAST_HEARTBEAT),
            )),
            Self::HadDual => router.peers(&[peer.address()]).vips_v6(&[VIP_V6]),
            Self::HadV6 => router
                .only_v6(node.link_local())
                .peers(&[peer.link_local()])
                .vips_v6(&[VIP_LINK_LOCAL, VIP_V6]),
        };
        router.had_lines(&lines.had_sections)
    }
}

/// What is written into a node's configuration besides.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    /// Keys of `had`'s instance.
    pub(crate) had: String,
    /// Sections of `had`.
    pub(crate) had_sections: String,
    /// Lines of keepalived's `vrrp_instance`.
    pub(crate) keepalived: String,
    /// Blocks of keepalived.
    pub(crate) keepalived_blocks: String,
}

/// How often the nodes of a pair are heard.
#[derive(Clone, Copy)]
pub(crate) struct Timing {
    /// Between two adverts: whole hundredths of a second.
    pub(crate) interval: Nanos,
    /// Between two heartbeats of `had`, where there are any.
    pub(crate) heartbeat: Option<Nanos>,
}

impl Timing {
    /// Adverts each 10 ms, without heartbeats.
    pub(crate) const ADVERTS: Self = Self {
        interval: INTERVAL,
        heartbeat: None,
    };

    /// In a guest, where a processor may be away for a hundred milliseconds.
    pub(crate) const IN_GUEST: Self = Self {
        interval: Nanos::from_millis(400),
        heartbeat: Some(Nanos::from_millis(100)),
    };

    /// How long a node must have been silent before a Backup takes over: with leases a promise outlasts them.
    pub(crate) fn detection(self, system: System) -> Nanos {
        let skew = Nanos(u64::from(256 - u16::from(PRIORITY)) * self.interval.0 / 256);
        match self.heartbeat_of(system) {
            Some(heartbeat) => {
                let lease = heartbeat.times(HEARTBEATS);
                lease.plus(margin(lease))
            }
            None => self.interval.times(3).plus(skew),
        }
    }

    /// How long a node may be held up at any time and be heard before it counts as silent: it was just about to
    /// say something.
    pub(crate) fn endures(self, system: System) -> Nanos {
        Nanos(
            self.detection(system)
                .0
                .saturating_sub(self.period(system).0),
        )
    }

    /// How long a node may be held up at any time and keep its gate open.
    pub(crate) fn keeps_open(self, system: System) -> Nanos {
        self.period(system).times(HEARTBEATS - 1)
    }

    /// Between two signs of life of the node that is Active.
    pub(crate) fn period(self, system: System) -> Nanos {
        self.heartbeat_of(system).unwrap_or(self.interval)
    }

    /// Between two heartbeats of a daemon that has them.
    pub(crate) fn heartbeat_of(self, system: System) -> Option<Nanos> {
        match system {
            System::HadLease => self.heartbeat.or(Some(LEAST_HEARTBEAT)),
            _ => self.heartbeat.filter(|_| system.is_had()),
        }
    }

    fn apply(self, router: VirtualRouter, system: System) -> VirtualRouter {
        let millis = self.interval.0 / 1_000_000;
        let router = router.interval_ms(u32::try_from(millis).unwrap_or(u32::MAX));
        match self.heartbeat_of(system) {
            Some(heartbeat) => router.had_lines(&heartbeat_line(heartbeat)),
            None => router,
        }
    }
}

/// The interface of the further cable between the nodes.
pub(crate) const DIRECT: &str = "eth1";

/// A node's address on it.
fn direct_address(node: &Node) -> Ipv4Addr {
    let [.., number] = node.address().octets();
    Ipv4Addr::new(10, 99, 0, number)
}

/// The further cable as a channel, with the LAN's heartbeat.
fn direct_channel(local: Ipv4Addr, peer: Ipv4Addr, heartbeat: Nanos) -> String {
    format!(
        "channels = [\"direct\"]\n\n\
         [[channel]]\nname = \"direct\"\nkind = \"lease\"\ninterface = \"{DIRECT}\"\n\
         local = \"{local}\"\npeer = \"{peer}\"\n\
         interval = \"{}\"\nmultiplier = {HEARTBEATS}",
        humantime::format_duration(Duration::from_nanos(heartbeat.0))
    )
}

/// The line of an instance's configuration for heartbeats.
pub(crate) fn heartbeat_line(interval: Nanos) -> String {
    format!(
        "heartbeat = {{ interval = \"{}\", multiplier = {HEARTBEATS} }}",
        humantime::format_duration(Duration::from_nanos(interval.0))
    )
}

/// A running pair.
pub(crate) struct Pair {
    pub(crate) system: System,
    timing: Timing,
    pub(crate) nodes: [Node; 2],
    pub(crate) sniffers: [Sniffer; 2],
    pub(crate) client: Client,
    pub(crate) prober: Prober,
    /// Asks for the address of the other family, where there is one.
    other: Option<Prober>,
    // Last: it goes when the nodes are gone.
    lab: Lab,
}

impl Pair {
    /// Builds the lab and starts both daemons, the first node's first.
    pub(crate) fn start(system: System) -> Result<Self> {
        Self::start_with(system, Timing::ADVERTS, "")
    }

    /// As [`Self::start`], with another timing and further lines for keepalived.
    pub(crate) fn start_with(
        system: System,
        timing: Timing,
        keepalived_lines: &str,
    ) -> Result<Self> {
        Self::start_prepared(system, timing, |_, _| {
            let lines = Lines {
                keepalived: keepalived_lines.to_owned(),
                ..Lines::default()
            };
            Ok([lines.clone(), lines])
        })
    }

    /// The same, where `prepare` starts what runs beside the daemons, and says what they are to know of it.
    pub(crate) fn start_prepared(
        system: System,
        timing: Timing,
        prepare: impl FnOnce(&Lab, &[Node; 2]) -> Result<[Lines; 2]>,
    ) -> Result<Self> {
        let lab = Lab::new()?;
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        let lines = prepare(&lab, &nodes)?;
        let client = lab.client("c1")?;
        if system.has_v6() {
            client.enable_v6()?;
            for node in &nodes {
                node.enable_v6()?;
            }
        }
        if system.has_leases() {
            for node in &nodes {
                node.plug(DIRECT)?;
                let address = format!("{}/24", direct_address(node));
                node.ns().ip(&["addr", "add", &address, "dev", DIRECT])?;
            }
        }
        let vips = system.vips();
        let sniffers = [nodes[0].sniff(vips[0])?, nodes[1].sniff(vips[0])?];
        let prober = Prober::start(&client, vips[0], Probes::Echo)?;
        let other = vips.get(1).copied();
        let other = other.map(|vip| Prober::start(&client, vip, Probes::Echo));
        let routers = [
            system.router(&nodes[0], &nodes[1], timing, &lines[0]),
            system.router(&nodes[1], &nodes[0], timing, &lines[1]),
        ];
        for (index, (node, router)) in nodes.iter_mut().zip(routers).enumerate() {
            system.prepare(node);
            node.start(system.kind(), &[router])?;
            if index == 0 {
                let sniffer = &sniffers[0];
                eventually(PATIENCE, "the first node advertises", || {
                    Ok(sniffer.last_advert(VRID).is_some())
                })
                .with_context(|| lab.log_tails())?;
            }
        }
        Ok(Self {
            system,
            timing,
            nodes,
            sniffers,
            client,
            prober,
            other: other.transpose()?,
            lab,
        })
    }

    /// Waits until one node is Active and answers, and the other one has been listening to it for a
    /// while. Returns the Active one's index, and forgets what was observed so far.
    pub(crate) fn settle(&mut self) -> Result<usize> {
        self.probers().for_each(Prober::resume);
        let deadline = PATIENCE.saturating_add(Duration::from_secs(5));
        let mut active = None;
        let mut since = now();
        let outcome = eventually(deadline, "one node is Active and the other Backup", || {
            let seen = self.active()?;
            if seen.is_none() || seen != active {
                active = seen;
                since = now();
            }
            Ok(active.is_some() && now().since(since) > QUIET)
        });
        outcome.with_context(|| format!("{}\n{}", self.system.name(), self.lab.log_tails()))?;
        self.forget();
        active.context("the condition above")
    }

    /// Lets the client ask nothing until the pair is to settle again.
    pub(crate) fn pause(&self) {
        self.probers().for_each(Prober::pause);
    }

    /// What the client asks with.
    fn probers(&self) -> impl Iterator<Item = &Prober> {
        iter::once(&self.prober).chain(&self.other)
    }

    /// The longest gap between two answers, of the address of either family.
    pub(crate) fn longest_gap(&self, from: MonoNs, to: MonoNs) -> Result<Gap> {
        let mut longest = self.prober.longest_gap(from, to)?;
        if let Some(other) = &self.other {
            let gap = other.longest_gap(from, to)?;
            if gap.length() > longest.length() {
                longest = gap;
            }
        }
        Ok(longest)
    }

    /// The Active node, if the other one is Backup and the client is served.
    fn active(&mut self) -> Result<Option<usize>> {
        let lately = now().before(self.timing.interval.times(3));
        let speaks = |sniffer: &Sniffer| {
            sniffer
                .last_live_advert(VRID)
                .is_some_and(|(at, _)| at > lately)
        };
        let active = match self.sniffers.each_ref().map(speaks) {
            [true, false] => 0,
            [false, true] => 1,
            _ => return Ok(None),
        };
        let mac = Some(self.nodes[active].mac());
        let served = self
            .probers()
            .all(|prober| prober.answered_within(INTERVAL.times(3)) == mac);
        let settled = served && self.is_backup(1 - active)? && self.has_leases(active)?;
        Ok(settled.then_some(active))
    }

    /// Whether a node's daemon says that it is Backup.
    pub(crate) fn is_backup(&self, index: usize) -> Result<bool> {
        let node = &self.nodes[index];
        match self.system {
            system if system.is_had() => Ok(node.state(INSTANCE)? == "backup"),
            _ => {
                let log = node.log();
                let last = log.rfind(") Entering ").map(|at| &log[at..]);
                Ok(last.is_some_and(|line| line.starts_with(") Entering BACKUP STATE")))
            }
        }
    }

    /// Waits until the client gets its answers from a node.
    pub(crate) fn wait_served_by(&self, index: usize) -> Result<()> {
        let mac = self.nodes[index].mac();
        let what = format!("the client is served by {}", self.nodes[index].name());
        eventually(PATIENCE, &what, || {
            Ok(self
                .probers()
                .all(|prober| prober.answered_within(INTERVAL) == Some(mac)))
        })
        .with_context(|| format!("{}\n{}", self.system.name(), self.lab.log_tails()))
    }

    /// A node loses its power: the switch loses each of its ports. The LAN's is the last, or else the node, which
    /// sees that it has no carrier, would still let go on the other cable. Returns when that was.
    pub(crate) fn power_off(&self, index: usize) -> Result<MonoNs> {
        self.power_further_cable(index, false)?;
        let cut = now();
        self.nodes[index].power_off()?;
        Ok(cut)
    }

    /// It has power again.
    pub(crate) fn power_on(&self, index: usize) -> Result<()> {
        self.nodes[index].power_on()?;
        self.power_further_cable(index, true)
    }

    fn power_further_cable(&self, index: usize, on: bool) -> Result<()> {
        if self.system.has_leases() {
            self.nodes[index].set_port(DIRECT, on)?;
        }
        Ok(())
    }

    /// Whether the Backup's leases, that the Active node needs, are there.
    fn has_leases(&self, active: usize) -> Result<bool> {
        if !self.system.has_leases() {
            return Ok(true);
        }
        let mut all = true;
        for (index, node) in self.nodes.iter().enumerate() {
            let status = node.hactl(&["status"])?;
            let paths = status["paths"].as_array().context("status has paths")?;
            let up = paths.iter().filter(|path| path["up"] == true).count();
            let lease = &status["instances"][0]["leases"][0];
            all &= up == 2 && (index != active || lease["self_renewed"] == false);
        }
        Ok(all)
    }

    /// Fails when an observer missed frames, for then its counts are worth nothing.
    pub(crate) fn check_observers(&self) -> Result<()> {
        let lost = self.probers().map(Prober::lost).sum::<u64>()
            + self.sniffers[0].lost()
            + self.sniffers[1].lost();
        ensure!(
            lost == 0,
            "the observers missed {lost} frames: the machine is too busy to measure"
        );
        Ok(())
    }

    /// Forgets what was observed.
    pub(crate) fn forget(&self) {
        self.probers().for_each(Prober::clear);
        for sniffer in &self.sniffers {
            sniffer.clear();
        }
    }

    /// The network.
    pub(crate) const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The end of the logs.
    pub(crate) fn log_tails(&self) -> String {
        self.lab.log_tails()
    }
}

/// An event of `had`, as `hactl events` shows it.
pub(crate) struct Event {
    pub(crate) at: MonoNs,
    pub(crate) kind: String,
    pub(crate) sentence: String,
}

/// The events of a node since `from`.
pub(crate) fn events(node: &Node, from: MonoNs) -> Result<Vec<Event>> {
    let events = node.hactl(&["events"])?;
    let events = events.as_array().context("hactl events prints a list")?;
    Ok(events
        .iter()
        .filter(|event| event["instance"] == INSTANCE)
        .filter_map(|event| {
            Some(Event {
                at: MonoNs(event["at_ns"].as_u64()?),
                kind: event["kind"].as_str()?.to_owned(),
                sentence: event["sentence"].as_str()?.to_owned(),
            })
        })
        .filter(|event| event.at >= from)
        .collect())
}

/// The same, once a take-over is among them: on a busy machine they are told a while after they happened.
pub(crate) fn take_over(node: &Node, from: MonoNs) -> Result<Vec<Event>> {
    let mut all = Vec::new();
    let what = format!("{}: the events of a take-over", node.name());
    eventually(PATIENCE, &what, || {
        all = events(node, from)?;
        Ok(all.iter().any(|event| event.kind == "announced"))
    })?;
    Ok(all)
}

/// When `had` proved the silence that made it take over: the first event of the take-over since `from`,
/// which is the kernel timer's report or, without that, the change of state.
pub(crate) fn silence_proven(node: &Node, from: MonoNs) -> Result<MonoNs> {
    let events = take_over(node, from)?;
    let first = events
        .iter()
        .find(|event| event.kind == "silence" || event.kind == "transition");
    Ok(first
        .with_context(|| format!("{}: no event of a take-over", node.name()))?
        .at)
}
