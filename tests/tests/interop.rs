//! `had` and Debian's keepalived as each other's peers, as a matrix. `--nocapture` shows the table.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Kind, Lab, Node, Sniffer, VirtualRouter, eventually,
    lab::{VIP, VIP_LINK_LOCAL, VIP_V6},
    node::PATIENCE,
    now, scenario,
    scene::{Scene, VRID, WEB},
    wait::throughout,
};

/// How late a daemon may act on this busy machine.
const SLACK: Nanos = Nanos::from_millis(250);

/// A column: what happens between the two.
const COLUMNS: [&str; 8] = [
    "keepalived joins",
    "had stops",
    "had joins",
    "keepalived stops",
    "keepalived pre-empts",
    "had pre-empts",
    "keepalived's interval x3",
    "had's interval / 2",
];

/// A row: how the two talk.
#[derive(Clone, Copy)]
struct Row {
    version: u8,
    ipv6: bool,
    unicast: bool,
    checksum: &'static str,
    interval_ms: u32,
}

const fn v3(unicast: bool, checksum: &'static str) -> Row {
    Row {
        version: 3,
        ipv6: false,
        unicast,
        checksum,
        interval_ms: 200,
    }
}

const fn v2(unicast: bool) -> Row {
    Row {
        version: 2,
        ipv6: false,
        unicast,
        checksum: "auto",
        interval_ms: 1_000,
    }
}

/// Over IPv6 there is one way to make the checksum.
const fn over_v6(unicast: bool) -> Row {
    Row {
        ipv6: true,
        ..v3(unicast, "auto")
    }
}

const ROWS: [Row; 8] = [
    v3(false, "auto"),
    v3(true, "auto"),
    v3(false, "pseudo-header"),
    v3(true, "pseudo-header"),
    v2(false),
    v2(true),
    over_v6(false),
    over_v6(true),
];

impl Row {
    fn name(self) -> String {
        let cast = if self.unicast { "unicast" } else { "multicast" };
        let family = if self.ipv6 { " IPv6" } else { "" };
        format!("v{}{family} {cast} {}", self.version, self.checksum)
    }

    /// The address that tells who is Active.
    fn vip(self) -> IpAddr {
        if self.ipv6 { VIP_V6.into() } else { VIP.into() }
    }

    fn interval(self) -> Nanos {
        Nanos::from_millis(u64::from(self.interval_ms))
    }

    fn router(self, node: &Node, peer: &Node, priority: u8) -> VirtualRouter {
        let mut router = node
            .router()
            .interval_ms(self.interval_ms)
            .priority(priority);
        router.version = self.version;
        router.checksum = Some(self.checksum);
        let mut peers = [peer.address().into()];
        if self.ipv6 {
            router = router
                .only_v6(node.link_local())
                .vips_v6(&[VIP_LINK_LOCAL, VIP_V6]);
            peers = [peer.link_local().into()];
        }
        if self.unicast {
            router = router.peers::<IpAddr>(&peers);
        }
        if self.unicast && self.ipv6 {
            // By itself it would take the kernel's, 64, which RFC 9568 section 5.1.2.3 has discarded.
            router.keepalived_lines.push_str("  unicast_ttl 255\n");
        }
        router
    }
}

/// The two peers of one row.
struct Peers {
    row: Row,
    had: Node,
    keepalived: Node,
    had_heard: Sniffer,
    keepalived_heard: Sniffer,
}

impl Peers {
    fn new(lab: &Lab, row: Row) -> Result<Self> {
        let had = lab.node("n1")?;
        let mut keepalived = lab.node("n2")?;
        keepalived.spare_keepalived_realtime();
        if row.ipv6 {
            had.enable_v6()?;
            keepalived.enable_v6()?;
        }
        Ok(Self {
            row,
            had_heard: had.sniff(row.vip())?,
            keepalived_heard: keepalived.sniff(row.vip())?,
            had,
            keepalived,
        })
    }

    fn had_router(&self, priority: u8) -> VirtualRouter {
        self.row.router(&self.had, &self.keepalived, priority)
    }

    fn keepalived_router(&self, priority: u8) -> VirtualRouter {
        self.row.router(&self.keepalived, &self.had, priority)
    }

    /// Longer than any Active_Down_Interval of the row.
    fn longer_than_down(&self) -> Duration {
        Duration::from_nanos(self.row.interval().times(5).0)
    }

    fn had_is_active(&self) -> Result<bool> {
        Ok(self.had.state(WEB)? == "active" && !self.keepalived.has(self.row.vip())?)
    }

    fn keepalived_is_active(&self) -> Result<bool> {
        Ok(self.had.state(WEB)? == "backup"
            && !self.had.has(self.row.vip())?
            && self.keepalived.has(self.row.vip())?)
    }

    /// From the priority 0 of one to the other's first advert.
    fn released_to_taken(&self, from: MonoNs, leaver: &Sniffer, taker: &Sniffer) -> Result<Nanos> {
        let mut released = None;
        eventually(PATIENCE, "priority 0 is sent", || {
            released = leaver
                .adverts(VRID, from, now())
                .into_iter()
                .find(|(_, priority)| *priority == 0);
            Ok(released.is_some())
        })?;
        let released = released.context("no priority 0 was sent")?.0;
        let taken = first_advert(taker, released)?;
        let waited = taken.since(released);
        // Skew_Time is below one interval in version 3, below one second in version 2.
        ensure!(
            waited < self.row.interval().plus(SLACK),
            "it waited {waited}"
        );
        Ok(waited)
    }

    fn keepalived_joins(&mut self) -> Result<String> {
        let router = self.had_router(150);
        self.had.start(Kind::Had, &[router])?;
        self.had.wait_for(WEB, "active")?;
        let router = self.keepalived_router(100);
        self.keepalived.start(Kind::Keepalived, &[router])?;
        self.keepalived_says("Entering BACKUP STATE")?;
        throughout(self.longer_than_down(), "keepalived stays Backup", || {
            self.had_is_active()
        })?;
        let log = self.keepalived.log();
        ensure!(!log.contains("nvalid"), "keepalived refuses adverts: {log}");
        Ok("quiet".to_owned())
    }

    fn had_stops(&mut self) -> Result<String> {
        let from = now();
        self.had.stop()?;
        self.keepalived.wait_for_vip(self.row.vip(), true)?;
        let waited = self.released_to_taken(from, &self.had_heard, &self.keepalived_heard)?;
        Ok(waited.to_string())
    }

    fn had_joins(&mut self) -> Result<String> {
        let router = self.had_router(150);
        self.had.start(Kind::Had, &[router])?;
        self.had.wait_for(WEB, "backup")?;
        throughout(self.longer_than_down(), "had stays Backup", || {
            self.keepalived_is_active()
        })?;
        Ok("quiet".to_owned())
    }

    fn keepalived_stops(&mut self) -> Result<String> {
        let from = now();
        self.keepalived.stop()?;
        self.had.wait_for(WEB, "active")?;
        let waited = self.released_to_taken(from, &self.keepalived_heard, &self.had_heard)?;
        Ok(waited.to_string())
    }

    fn keepalived_preempts(&mut self) -> Result<String> {
        let started = now();
        let router = self.keepalived_router(200).preempt(true);
        self.keepalived.start(Kind::Keepalived, &[router])?;
        self.keepalived.wait_for_vip(self.row.vip(), true)?;
        self.had.wait_for(WEB, "backup")?;
        self.had.wait_for_vip(self.row.vip(), false)?;
        let taken = first_advert(&self.keepalived_heard, started)?;
        // `had` lets go by itself, with priority 0, and says nothing for the VIP any more.
        let mut last = None;
        eventually(PATIENCE, "had's last advert has priority 0", || {
            last = self.had_heard.last_advert(VRID);
            Ok(last.is_some_and(|(_, priority)| priority == 0))
        })?;
        let (released, _) = last.context("had never advertised")?;
        let late = self
            .had_heard
            .spoken(released.max(taken).after(SLACK), now());
        ensure!(late.is_empty(), "had still speaks: {:?}", late.first());
        throughout(self.longer_than_down(), "keepalived stays Active", || {
            self.keepalived_is_active()
        })?;
        Ok(format!("had gone in {}", released.since(taken)))
    }

    fn had_preempts(&mut self) -> Result<String> {
        let from = now();
        let router = self.had_router(250).preempt(true);
        self.had.reload(&[router])?;
        self.had.wait_for(WEB, "active")?;
        self.keepalived.wait_for_vip(self.row.vip(), false)?;
        let taken = first_advert(&self.had_heard, from)?;
        let gone = self.keepalived_heard.last_advert(VRID);
        let (gone, _) = gone.context("keepalived never advertised")?;
        throughout(self.longer_than_down(), "had stays Active", || {
            self.had_is_active()
        })?;
        Ok(format!("keepalived gone in {}", gone.since(taken)))
    }

    /// In version 3 the Backup follows the Active router's interval; in version 2 a different one is an
    /// error (RFC 3768 section 7.1), so that both are changed.
    fn keepalived_slows_down(&mut self) -> Result<String> {
        self.had.stop()?;
        self.keepalived.wait_for_vip(self.row.vip(), true)?;
        let mut mine = self.had_router(100);
        let mut its = self.keepalived_router(200);
        its.interval_ms *= 3;
        if self.row.version == 2 {
            mine.interval_ms = its.interval_ms;
        }
        let slow = Nanos::from_millis(u64::from(its.interval_ms));
        if self.row.version == 2 {
            self.keepalived.reload(&[its])?;
            self.had.start(Kind::Had, &[mine])?;
            self.had.wait_for(WEB, "backup")?;
        } else {
            self.had.start(Kind::Had, &[mine])?;
            self.had.wait_for(WEB, "backup")?;
            self.keepalived.reload(&[its])?;
        }
        let heard = &self.keepalived_heard;
        let from = now();
        eventually(PATIENCE, "keepalived advertises more slowly", || {
            let adverts = heard.adverts(VRID, from, now());
            let pairs = adverts.windows(2);
            Ok(pairs
                .last()
                .is_some_and(|pair| pair[1].0.since(pair[0].0).times(10) > slow.times(9)))
        })?;
        throughout(
            Duration::from_nanos(slow.times(4).0),
            "had stays Backup",
            || self.keepalived_is_active(),
        )?;
        self.keepalived.kill()?;
        let (last, _) = self
            .keepalived_heard
            .last_advert(VRID)
            .context("no advert")?;
        self.had.wait_for(WEB, "active")?;
        let taken = first_advert(&self.had_heard, last)?;
        let waited = taken.since(last);
        ensure!(waited > slow.times(3), "had waited only {waited}");
        ensure!(waited < slow.times(4).plus(SLACK), "had waited {waited}");
        Ok(format!("down after {waited}"))
    }

    fn had_speeds_up(&mut self) -> Result<String> {
        let router = self.keepalived_router(90);
        let mut mine = self.had_router(100);
        if self.row.version == 2 {
            // From the three seconds of the step before to one, which takes a restart.
            self.had.stop()?;
            self.had.start(Kind::Had, &[mine.clone()])?;
            self.had.wait_for(WEB, "active")?;
        }
        self.keepalived.start(Kind::Keepalived, &[router])?;
        self.keepalived_says("Entering BACKUP STATE")?;
        if self.row.version == 3 {
            mine.interval_ms /= 2;
            self.had.reload(&[mine.clone()])?;
        }
        let fast = Nanos::from_millis(u64::from(mine.interval_ms));
        let heard = &self.had_heard;
        let from = now();
        eventually(PATIENCE, "had advertises faster", || {
            let adverts = heard.adverts(VRID, from, now());
            let pairs = adverts.windows(2);
            Ok(pairs
                .last()
                .is_some_and(|pair| pair[1].0.since(pair[0].0).times(2) < fast.times(3)))
        })?;
        throughout(self.longer_than_down(), "keepalived stays Backup", || {
            self.had_is_active()
        })?;
        Ok("quiet".to_owned())
    }

    fn keepalived_says(&self, words: &str) -> Result<()> {
        let from = self
            .keepalived
            .log()
            .rfind("Starting Keepalived")
            .unwrap_or(0);
        eventually(PATIENCE, words, || {
            Ok(self.keepalived.log()[from..].contains(words))
        })
    }

    /// Runs all steps; those after a failed one are left out, for they build on it.
    fn walk(&mut self) -> Vec<Result<String>> {
        let steps: [fn(&mut Self) -> Result<String>; COLUMNS.len()] = [
            Self::keepalived_joins,
            Self::had_stops,
            Self::had_joins,
            Self::keepalived_stops,
            Self::keepalived_preempts,
            Self::had_preempts,
            Self::keepalived_slows_down,
            Self::had_speeds_up,
        ];
        let mut results = Vec::new();
        for step in steps {
            let result = step(self);
            let failed = result.is_err();
            results.push(result);
            if failed {
                break;
            }
        }
        results
    }
}

/// When a node first advertised after `from`. The observer reads the frames some time after they pass.
fn first_advert(sniffer: &Sniffer, from: MonoNs) -> Result<MonoNs> {
    let mut first = None;
    eventually(PATIENCE, "the node advertises", || {
        first = sniffer.adverts(VRID, from, now()).first().copied();
        Ok(first.is_some())
    })?;
    Ok(first.context("the node does not advertise")?.0)
}

#[test]
fn the_keepalived_matrix() -> Result<()> {
    let rows = thread::scope(|scope| {
        let rows = ROWS.map(|row| {
            scope.spawn(move || -> Result<_> {
                let lab = Lab::new()?;
                let results = Peers::new(&lab, row)?.walk();
                Ok((row, results, lab.log_tails()))
            })
        });
        rows.map(|row| row.join().map_err(|_| anyhow::anyhow!("a row panicked"))?)
            .into_iter()
            .collect::<Result<Vec<_>>>()
    })?;
    let mut table = format!("{:<26}", "");
    let mut failures = String::new();
    for column in COLUMNS {
        let _ = write!(table, "| {column:<26} ");
    }
    table.push('\n');
    for (row, results, logs) in rows {
        let _ = write!(table, "{:<26}", row.name());
        for (index, column) in COLUMNS.iter().enumerate() {
            let cell = match results.get(index) {
                Some(Ok(text)) => format!("ok, {text}"),
                Some(Err(error)) => {
                    let _ = writeln!(failures, "{}, {column}: {error:#}\n{logs}", row.name());
                    "FAILED".to_owned()
                }
                None => "-".to_owned(),
            };
            let _ = write!(table, "| {cell:<26} ");
        }
        table.push('\n');
    }
    println!("{table}");
    ensure!(failures.is_empty(), "{failures}");
    Ok(())
}

/// keepalived 2.2.7 knows only the checksum with a pseudo-header for version 3 over IPv4; what RFC 9568
/// section 5.2.8 says it refuses. `had` takes both.
#[test]
fn keepalived_refuses_the_checksum_of_rfc_9568_and_had_takes_both() -> Result<()> {
    for unicast in [false, true] {
        let lab = Lab::new()?;
        let mut peers = Peers::new(&lab, v3(unicast, "rfc9568"))?;
        let router = peers.keepalived_router(100);
        peers.keepalived.start(Kind::Keepalived, &[router])?;
        peers.keepalived.wait_for_vip(VIP, true)?;
        let joined = peers.had_joins().and_then(|_| {
            let from = peers.keepalived.log().len();
            let router = peers.had_router(200).preempt(true);
            peers.had.reload(&[router])?;
            peers.had.wait_for(WEB, "active")?;
            eventually(PATIENCE, "keepalived refuses the checksum", || {
                Ok(peers.keepalived.log()[from..].contains("Invalid VRRPv3 checksum"))
            })
        });
        joined.with_context(|| lab.log_tails())?;
    }
    Ok(())
}

#[test]
fn had_understands_had_in_either_dialect() {
    scenario(|lab| {
        let scene = Scene::new(lab, |mut router| {
            let first = router.source == Ipv4Addr::new(10, 77, 0, 1);
            router.checksum = Some(if first { "rfc9568" } else { "pseudo-header" });
            router
        })?;
        scene.stays(0, Duration::from_secs(1))?;
        scene.nodes[0].power_off()?;
        scene.wait_served_by(1)?;
        scene.nodes[0].power_on()?;
        scene.stays(1, Duration::from_secs(1))
    });
}
