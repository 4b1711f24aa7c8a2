//! `had` on both guests, with the resource between them, its file system and a unit on that as roles of a group.

mod doors;

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    daemon::program,
    eventually,
    mirrored_pair::{ADDRESSES, CABLE, DEVICE, MirroredPair, PLACE, RESOURCE},
    node::PATIENCE,
};

/// The instance, and its virtual address.
pub const WEB: &str = "web";
/// See [`WEB`].
pub const VIP: &str = "10.77.0.100";

/// The unit. It works in the file system, and leaves there who it was.
pub const UNIT: &str = "had-pair.service";

/// Where its file is: the mask that maintenance puts on it lies above that.
const UNITS: &str = "/run/guest/packaged";

/// The daemon's: the packaged one, with what roles need beside it.
const DAEMON: &str = "had-daemon.service";

/// The unit's service: it leaves who it was, and goes on writing.
const SERVE: &str = "\
hostname >>/srv/pair/served; sync
while :; do echo >/srv/pair/beat; sync -f /srv/pair/beat; sleep 1; done
";

/// For a take-over with everything that has to be noticed and promoted before.
const TAKE_OVER: Duration = Duration::from_secs(30);

/// Where a daemon's files are, on either machine.
pub const DIR: &str = "/run/had-pair";

/// How the daemons are to be.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `dataplane.mode`.
    pub dataplane: &'static str,
    /// Between two adverts: emulated processors may be away for hundreds of milliseconds.
    pub advert_interval_ms: u32,
    /// How long a promotion's steps may take, in seconds.
    pub promote_limit_secs: u32,
    /// And a demotion's.
    pub demote_limit_secs: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dataplane: "generic",
            advert_interval_ms: 400,
            promote_limit_secs: 30,
            demote_limit_secs: 20,
        }
    }
}

/// Both daemons and what they promote.
pub struct HaPair {
    /// The machines.
    pub machines: MirroredPair,
    settings: Settings,
    had: String,
    hactl: String,
}

impl HaPair {
    /// A file system is there, no daemon runs.
    pub fn new(settings: Settings) -> Result<Self> {
        let mut machines = MirroredPair::new()?;
        machines.format(0)?;
        let path = |name| -> Result<String> { Ok(program(name)?.display().to_string()) };
        let mut this = Self {
            machines,
            settings,
            had: path("had")?,
            hactl: path("hactl")?,
        };
        for side in [0, 1] {
            this.prepare(side)?;
        }
        Ok(this)
    }

    /// Writes down what `had` and systemd read. After a machine lost its power this is gone.
    pub fn prepare(&mut self, side: usize) -> Result<()> {
        let config = config(side, self.settings);
        let unit = format!(
            "[Service]\nWorkingDirectory={PLACE}\nExecStartPre=/bin/sh {DIR}/door start\n\
             ExecStart=/bin/sh {DIR}/serve\nExecStop=/bin/sh {DIR}/door stop\n"
        );
        let [daemon, roles] = [packaged("had.service")?, packaged("roles.conf")?];
        let own = format!(
            "[Service]\nExecStart=\nExecStart={} --config {DIR}/had.toml\nRestart=no\n\
             # Emulated processors may be away for longer.\nWatchdogSec=0\n\
             StandardOutput=append:{DIR}/log\nStandardError=append:{DIR}/log\n",
            self.had
        );
        let script = format!(
            "set -e\nmkdir -p {DIR}/state {DIR}/run {UNITS}\n\
             cat >{DIR}/serve <<'END'\n{SERVE}END\n\
             cat >{DIR}/door <<'END'\n{}END\n\
             printf '%064d' 7 >{DIR}/link.key; chmod 600 {DIR}/link.key\n\
             cat >{DIR}/had.toml <<'END'\n{config}END\n\
             cat >{UNITS}/{UNIT} <<'END'\n{unit}END\n\
             mkdir -p /run/systemd/system/{DAEMON}.d\n\
             cat >/run/systemd/system/{DAEMON} <<'END'\n{daemon}END\n\
             cat >/run/systemd/system/{DAEMON}.d/roles.conf <<'END'\n{roles}END\n\
             cat >/run/systemd/system/{DAEMON}.d/test.conf <<'END'\n{own}END\n\
             systemctl daemon-reload",
            doors::of_unit()
        );
        self.machines.on(side, &script).map(drop)
    }

    /// Starts a daemon.
    pub fn start(&mut self, side: usize) -> Result<()> {
        let script = format!("systemctl start {DAEMON}");
        self.machines.on(side, &script).map(drop)
    }

    /// Ends it as an operator does, and waits until it has ended.
    pub fn stop(&mut self, side: usize) -> Result<()> {
        let script = format!("systemctl stop {DAEMON}");
        self.machines.on(side, &script).map(drop)
    }

    /// Kills a daemon (SIGKILL).
    pub fn kill(&mut self, side: usize) -> Result<()> {
        let script = format!("systemctl kill --signal=KILL --kill-who=main {DAEMON}");
        self.machines.on(side, &script).map(drop)
    }

    /// Starts one that was killed, when nothing of it is left.
    pub fn start_again(&mut self, side: usize) -> Result<()> {
        let script = format!("! systemctl is-active {DAEMON} | grep -v -e failed -e ^inactive");
        eventually(PATIENCE, "nothing of the daemon is left", || {
            self.machines.on(side, &script).map(|_| true)
        })?;
        self.start(side)
    }

    /// What `hactl` prints there.
    pub fn hactl(&mut self, side: usize, arguments: &str) -> Result<String> {
        let hactl = &self.hactl;
        let script = format!("{hactl} --control {DIR}/run/control.sock {arguments} 2>&1");
        self.machines.on(side, &script)
    }

    /// Has `hactl` do something that takes its time, and does not wait for it. It is asked for as soon as it would be
    /// done, and again where it failed, until [`Self::ask_no_more`]: a look at a slow machine may fail.
    pub fn ask_beside(&mut self, side: usize, arguments: &str, dry_run: &str) -> Result<()> {
        let hactl = format!("{} --control {DIR}/run/control.sock", self.hactl);
        let script = format!(
            "touch {DIR}/asking\n\
             (for i in $(seq 60); do [ -e {DIR}/asking ] || break\n\
             {hactl} {arguments} {dry_run} && {hactl} {arguments} && break; sleep 1; done) \
             >/dev/null 2>&1 </dev/null &"
        );
        self.machines.on(side, &script).map(drop)
    }

    /// See [`Self::ask_beside`].
    pub fn ask_no_more(&mut self, side: usize) -> Result<()> {
        let script = format!("rm -f {DIR}/asking");
        self.machines.on(side, &script).map(drop)
    }

    /// The instance's state there.
    pub fn state(&mut self, side: usize) -> Result<String> {
        let status: Value = serde_json::from_str(&self.hactl(side, "--json status")?)?;
        let instance = &status["instances"][0];
        let state = instance["state"].as_str().context("a state")?.to_owned();
        // With sockets alone there is none.
        if let Some(open) = instance["gate_open"].as_bool() {
            ensure!(open == (state == "active"), "{state} with gate_open {open}");
        }
        Ok(state)
    }

    /// Waits for that state.
    pub fn wait_for(&mut self, side: usize, state: &str) -> Result<()> {
        let mut last = String::new();
        let outcome = eventually(TAKE_OVER, &format!("side {side} is {state}"), || {
            // To ask all the time holds up, on an emulated processor, what is waited for.
            self.machines.first("sleep 0.5")?;
            last = self.state(side)?;
            Ok(last == state)
        });
        outcome.with_context(|| format!("the last: {last}; {}", self.said(side)))
    }

    /// What can be read about it there, for a failure.
    pub fn said(&mut self, side: usize) -> String {
        let mut text = String::new();
        for command in ["roles", &format!("explain {WEB}"), "events"] {
            let said = self.hactl(side, command);
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "\n{command}: {}",
                said.unwrap_or_else(|error| error.to_string())
            );
        }
        let log = self.machines.on(side, &format!("tail -n 30 {DIR}/log"));
        let _ = write!(text, "\nlog: {}", log.unwrap_or_default());
        text
    }

    /// Waits until everything of the group is there.
    pub fn wait_served_by(&mut self, side: usize) -> Result<()> {
        self.wait_for(side, "active")?;
        let whole = self.ensure_whole(side);
        whole.with_context(|| format!("side {side} is not whole: {}", self.said(side)))
    }

    /// Everything of the group is there: Primary, mounted, running, with the address.
    pub fn ensure_whole(&mut self, side: usize) -> Result<()> {
        let script = format!(
            "drbdsetup events2 --now {RESOURCE} | grep -q 'resource.*role:Primary' && grep -q '{PLACE}.*{DEVICE}' /proc/self/mountinfo && \
             systemctl is-active --quiet {UNIT} && ip addr show dev {CABLE} | grep -q {VIP}/"
        );
        self.machines.on(side, &script).map(drop)
    }

    /// Nothing of the group is there.
    pub fn ensure_demoted(&mut self, side: usize) -> Result<()> {
        let script = format!(
            "drbdsetup events2 --now {RESOURCE} | grep -q 'resource.*role:Primary' && echo primary\n\
             grep {PLACE} /proc/self/mountinfo\nsystemctl is-active {UNIT} | grep -v -e inactive -e failed\n\
             ip addr show dev {CABLE} | grep {VIP}/\ntrue"
        );
        let found = self.machines.on(side, &script)?;
        ensure!(found.trim().is_empty(), "side {side} still has: {found}");
        Ok(())
    }

    /// Asks a side for the address from the other one: somebody answers.
    pub fn ask_from(&mut self, side: usize) -> Result<()> {
        let script = format!("/run/busybox ping -c 1 -W 2 {VIP} >/dev/null");
        eventually(PATIENCE, &format!("{VIP} answers side {side}"), || {
            self.machines.on(side, &script).map(|_| true)
        })
    }
}

impl Drop for HaPair {
    fn drop(&mut self) {
        // The second machine ends with its switch.
        let _ = self.stop(0);
        let _ = self.machines.first(&format!(
            "{}systemctl stop {UNIT}; rm -rf {DIR} {UNITS}/{UNIT} /run/systemd/system/{DAEMON}*; systemctl daemon-reload",
            doors::removal()
        ));
    }
}

/// A file as it is packaged.
fn packaged(name: &str) -> Result<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    fs::read_to_string(directory.join(name)).with_context(|| format!("reading {name}"))
}

fn config(side: usize, settings: Settings) -> String {
    let Settings {
        dataplane,
        advert_interval_ms: interval,
        promote_limit_secs: promote,
        demote_limit_secs: demote,
    } = settings;
    let (own, peer) = (ADDRESSES[side], ADDRESSES[1 - side]);
    let priority = [100, 90][side];
    format!(
        r#"[node]
name = "side{side}"
state_dir = "{DIR}/state"
runtime_dir = "{DIR}/run"
[dataplane]
mode = "{dataplane}"
[api]
listen = ""
control = "{DIR}/run/control.sock"
[link]
key_file = "{DIR}/link.key"
[[instance]]
name = "{WEB}"
interface = "{CABLE}"
vrid = 51
priority = {priority}
preempt = false
advert_interval = "{interval}ms"
source = "{own}"
peers = ["{peer}"]
vips = ["{VIP}/24"]
group = "db"
[[group]]
name = "db"
roles = ["disk", "data", "service"]
[[role]]
name = "disk"
kind = "drbd"
resource = "{RESOURCE}"
promote_limit = "{promote}s"
demote_limit = "{demote}s"
[[role]]
name = "data"
kind = "mount"
device = "{DEVICE}"
where = "{PLACE}"
type = "ext4"
options = "noatime"
fsck = "preen"
fsck_limit = "{promote}s"
promote_limit = "{promote}s"
demote_limit = "{demote}s"
[[role]]
name = "service"
kind = "unit"
unit = "{UNIT}"
start_limit = "{promote}s"
stop_limit = "{demote}s"
"#
    )
}
