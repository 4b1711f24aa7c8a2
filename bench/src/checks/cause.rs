//! What goes wrong on the Active node, and how each daemon is told to watch for it.

use std::{fmt, fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Lab, Node, guest, now,
    unit::{Unit, systemd_runs},
};

use super::service::{HTTP, HttpService, Idler, Manner, MariaDb};
use crate::pair::{Lines, Pair, System};

/// Between two probes of `had`.
const INTERVAL_MS: u64 = 20;
/// After which one of them has failed.
const TIMEOUT_MS: u64 = 200;
/// Both in a guest, where a probe may take hundreds of milliseconds: as often as keepalived's script.
const IN_GUEST_MS: u64 = 1_000;
/// How many must fail.
const FALL: u64 = 2;

/// A service that hangs must be noticed, and another node serve, after that.
const HANG_BOUND: Nanos = Nanos::from_millis(TIMEOUT_MS * FALL + 50);
/// The same of a process that ended and a carrier that is lost, median.
const DEATH_BOUND: Nanos = Nanos::from_millis(30);

/// The further interface that is tracked.
const TRACKED: &str = "eth2";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Cause {
    /// The VIP's interface loses its carrier
    Carrier,
    /// A tracked interface loses its carrier
    TrackedCarrier,
    /// kill -9 of mariadbd
    MariadbKilled,
    /// SIGSTOP of mariadbd
    MariadbHangs,
    /// An HTTP service answers 500
    HttpFails,
    /// An HTTP service accepts and never answers
    HttpHangs,
    /// A tracked process is killed
    ProcessKilled,
    /// The gateway does not answer
    Gateway,
    /// systemctl stop of a service, where systemd runs
    UnitStopped,
}

impl Cause {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Carrier => "carrier",
            Self::TrackedCarrier => "tracked-carrier",
            Self::MariadbKilled => "mariadb-killed",
            Self::MariadbHangs => "mariadb-hangs",
            Self::HttpFails => "http-fails",
            Self::HttpHangs => "http-hangs",
            Self::ProcessKilled => "process-killed",
            Self::Gateway => "gateway",
            Self::UnitStopped => "unit-stopped",
        }
    }

    /// `Err`: why it cannot be measured here, and how it can.
    pub(super) fn possible(self) -> Result<(), &'static str> {
        if self == Self::UnitStopped && !systemd_runs() {
            return Err(
                "systemd does not run here; it does in the guest: cargo build --release, then \
                 cargo xtask vm-run -- target/release/bench checks --causes unit-stopped",
            );
        }
        Ok(())
    }

    /// How long the median of `had` may be, and each trial, on processors that are not emulated.
    pub(super) const fn bounds(self) -> (Option<Nanos>, Option<Nanos>) {
        match self {
            Self::Carrier
            | Self::TrackedCarrier
            | Self::MariadbKilled
            | Self::ProcessKilled
            | Self::UnitStopped => (Some(DEATH_BOUND), None),
            Self::MariadbHangs | Self::HttpFails | Self::HttpHangs | Self::Gateway => {
                (None, Some(HANG_BOUND))
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is watched on the nodes of a pair.
pub(super) enum Watched {
    /// Interfaces alone.
    Links,
    Http([HttpService; 2]),
    Process(Box<[Idler; 2]>),
    Database(Box<[MariaDb; 2]>),
    Gateway(Box<Node>),
    Units([Unit; 2]),
}

/// Starts what is watched, and says how.
pub(super) fn prepare(
    cause: Cause,
    system: System,
    lab: &Lab,
    nodes: &[Node; 2],
) -> Result<(Watched, [Lines; 2])> {
    let both = |lines: Lines| [lines.clone(), lines];
    Ok(match cause {
        Cause::Carrier => (Watched::Links, both(Lines::default())),
        Cause::TrackedCarrier => {
            for node in nodes {
                node.plug(TRACKED)?;
                // The other LAN is the same switch here: Linux answers for eth0's address there as well. `had` sees
                // to that itself.
                if !system.is_had() {
                    let key = format!("net/ipv4/conf/{TRACKED}/arp_ignore");
                    node.ns().sysctl(&key, "1")?;
                }
            }
            let lines = Lines {
                had: format!("track = [{{ interface = \"{TRACKED}\" }}]"),
                had_sections: format!("[[interface]]\nname = \"{TRACKED}\"\ndamping = \"0s\""),
                keepalived: format!("  track_interface {{\n    {TRACKED}\n  }}\n"),
                ..Lines::default()
            };
            (Watched::Links, both(lines))
        }
        Cause::MariadbKilled | Cause::MariadbHangs => {
            let databases = [MariaDb::start(&nodes[0])?, MariaDb::start(&nodes[1])?];
            let mut lines = both(Lines::default());
            for ((lines, database), node) in lines.iter_mut().zip(&databases).zip(nodes) {
                let socket = database.socket();
                let socket = socket.display();
                *lines = watched(
                    &format!("kind = \"mysql\"\nsocket = \"{socket}\""),
                    &script(node, &format!("mysqladmin --socket={socket} ping"))?,
                );
            }
            (Watched::Database(Box::new(databases)), lines)
        }
        Cause::HttpFails | Cause::HttpHangs => {
            let services = [
                HttpService::start(&nodes[0])?,
                HttpService::start(&nodes[1])?,
            ];
            let probe = format!("curl --fail --silent --max-time 1 http://{HTTP}/");
            let mut lines = both(Lines::default());
            for (lines, node) in lines.iter_mut().zip(nodes) {
                let kind = format!("kind = \"http\"\nurl = \"http://{HTTP}/\"");
                *lines = watched(&kind, &script(node, &probe)?);
            }
            (Watched::Http(services), lines)
        }
        Cause::ProcessKilled => {
            let idlers = [Idler::start(&nodes[0])?, Idler::start(&nodes[1])?];
            let mut lines = both(Lines::default());
            for ((lines, idler), node) in lines.iter_mut().zip(&idlers).zip(nodes) {
                let name = idler.name();
                *lines = watched(
                    &format!("kind = \"process\"\nprocess = \"{name}\""),
                    // Its `track_process` hears of processes in the machine's own network namespace only.
                    &script(node, &format!("pgrep -x {name}"))?,
                );
            }
            (Watched::Process(Box::new(idlers)), lines)
        }
        Cause::Gateway => {
            let gateway = lab.node("gw")?;
            let address = gateway.address();
            let mut lines = both(Lines::default());
            for (lines, node) in lines.iter_mut().zip(nodes) {
                *lines = watched(
                    &format!("kind = \"ping\"\ntargets = [\"{address}\"]"),
                    &script(node, &format!("ping -c 1 -W 1 {address}"))?,
                );
            }
            (Watched::Gateway(Box::new(gateway)), lines)
        }
        Cause::UnitStopped => {
            let unit = |node: &Node| Unit::start(node.ns().name(), "");
            let units = [unit(&nodes[0])?, unit(&nodes[1])?];
            let mut lines = both(Lines::default());
            for ((lines, unit), node) in lines.iter_mut().zip(&units).zip(nodes) {
                let name = unit.name();
                *lines = watched(
                    &format!("kind = \"unit\"\nunit = \"{name}\""),
                    &script(node, &format!("systemctl is-active --quiet {name}"))?,
                );
            }
            (Watched::Units(units), lines)
        }
    })
}

/// A check with a veto, and keepalived's block beside it.
fn watched(kind: &str, block: &str) -> Lines {
    let (interval, timeout) = if guest::is_here() {
        (IN_GUEST_MS, IN_GUEST_MS)
    } else {
        (INTERVAL_MS, TIMEOUT_MS)
    };
    Lines {
        had: "track = [{ check = \"watched\" }]".to_owned(),
        had_sections: format!(
            "[[check]]\nname = \"watched\"\n{kind}\ninterval = \"{interval}ms\"\n\
             timeout = \"{timeout}ms\"\nfall = {FALL}\nrise = 1\ndamping = \"0s\""
        ),
        keepalived: "  track_script {\n    watched\n  }\n".to_owned(),
        keepalived_blocks: block.to_owned(),
    }
}

/// A script as keepalived's users write it, each second.
fn script(node: &Node, command: &str) -> Result<String> {
    let path = node.dir().join("watched.sh");
    let text = format!("#!/bin/sh\nexec {command} > /dev/null 2>&1\n");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(format!(
        "vrrp_script watched {{\n  script \"{}\"\n  interval 1\n  timeout 1\n  user root\n}}\n",
        path.display()
    ))
}

impl Watched {
    /// Lets it happen; returns when.
    pub(super) fn inject(&mut self, cause: Cause, pair: &Pair, old: usize) -> Result<MonoNs> {
        let node = &pair.nodes[old];
        let at = now();
        match self {
            Self::Links if cause == Cause::Carrier => node.power_off()?,
            Self::Links => node.set_cable(TRACKED, false)?,
            Self::Http(services) if cause == Cause::HttpFails => {
                services[old].behave(Manner::Fails);
            }
            Self::Http(services) => services[old].behave(Manner::Hangs),
            Self::Process(idlers) => idlers[old].kill()?,
            Self::Database(databases) if cause == Cause::MariadbKilled => databases[old].kill()?,
            Self::Database(databases) => databases[old].stop()?,
            Self::Gateway(gateway) => pair.lab().cut_one_way(gateway, node)?,
            // From the command on.
            Self::Units(units) => units[old].tell("stop")?,
        }
        Ok(at)
    }

    /// Undoes it.
    pub(super) fn heal(&mut self, cause: Cause, pair: &Pair, old: usize) -> Result<()> {
        let node = &pair.nodes[old];
        match self {
            Self::Links if cause == Cause::Carrier => node.power_on(),
            Self::Links => node.set_cable(TRACKED, true),
            Self::Http(services) => {
                services[old].behave(Manner::Serves);
                Ok(())
            }
            Self::Process(idlers) => idlers[old].restart(),
            Self::Database(databases) if cause == Cause::MariadbKilled => {
                databases[old].restart(node)
            }
            Self::Database(databases) => databases[old].go_on(),
            Self::Gateway(_) => pair.lab().heal(),
            Self::Units(units) => units[old].tell("start"),
        }
    }
}
