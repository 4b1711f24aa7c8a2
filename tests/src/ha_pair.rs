//! `had` on both guests, with the resource between them, its file system and a unit on that as roles of a group.

use std::{fmt::Write as _, time::Duration};

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

/// Between two adverts: emulated processors may be away for hundreds of milliseconds.
const INTERVAL: &str = "400ms";

/// The unit. It works in the file system, and leaves there who it was.
pub const UNIT: &str = "had-pair.service";

/// The daemon's.
const DAEMON: &str = "had-daemon.service";

/// For a take-over with everything that has to be noticed and promoted before.
const TAKE_OVER: Duration = Duration::from_secs(30);

/// Where a daemon's files are, on either machine.
const DIR: &str = "/run/had-pair";

/// Both daemons and what they promote.
pub struct HaPair {
    /// The machines.
    pub machines: MirroredPair,
    had: String,
    hactl: String,
}

impl HaPair {
    /// A file system is there, no daemon runs.
    pub fn new() -> Result<Self> {
        let mut machines = MirroredPair::new()?;
        machines.format(0)?;
        let path = |name| -> Result<String> { Ok(program(name)?.display().to_string()) };
        let mut this = Self {
            machines,
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
        let config = config(side);
        let unit = format!(
            "[Service]\nWorkingDirectory={PLACE}\nExecStart=/bin/sh -c 'hostname >>{PLACE}/served; sync; exec sleep infinity'\n"
        );
        let daemon = format!(
            "[Service]\nExecStart={} --config {DIR}/had.toml\nTimeoutStopSec=120\nLimitMEMLOCK=infinity\n\
             StandardOutput=append:{DIR}/log\nStandardError=append:{DIR}/log\n",
            self.had
        );
        let script = format!(
            "set -e\nmkdir -p {DIR}/state {DIR}/run\n\
             printf '%064d' 7 >{DIR}/link.key; chmod 600 {DIR}/link.key\n\
             cat >{DIR}/had.toml <<'END'\n{config}END\n\
             cat >/run/systemd/system/{UNIT} <<'END'\n{unit}END\n\
             cat >/run/systemd/system/{DAEMON} <<'END'\n{daemon}END\n\
             systemctl daemon-reload"
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

    /// What `hactl` prints there.
    pub fn hactl(&mut self, side: usize, arguments: &str) -> Result<String> {
        let hactl = &self.hactl;
        let script = format!("{hactl} --control {DIR}/run/control.sock {arguments} 2>&1");
        self.machines.on(side, &script)
    }

    /// The instance's state there.
    pub fn state(&mut self, side: usize) -> Result<String> {
        let status: Value = serde_json::from_str(&self.hactl(side, "--json status")?)?;
        let instance = &status["instances"][0];
        let state = instance["state"].as_str().context("a state")?.to_owned();
        let open = instance["gate_open"].as_bool().context("a gate")?;
        ensure!(open == (state == "active"), "{state} with gate_open {open}");
        Ok(state)
    }

    /// Waits for that state.
    pub fn wait_for(&mut self, side: usize, state: &str) -> Result<()> {
        let mut last = String::new();
        let outcome = eventually(TAKE_OVER, &format!("side {side} is {state}"), || {
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

    /// Waits until everything of the group is there: Primary, mounted, running, with the address.
    pub fn wait_served_by(&mut self, side: usize) -> Result<()> {
        self.wait_for(side, "active")?;
        let script = format!(
            "drbdsetup events2 --now {RESOURCE} | grep -q 'resource.*role:Primary' && grep -q '{PLACE}.*{DEVICE}' /proc/self/mountinfo && \
             systemctl is-active --quiet {UNIT} && ip addr show dev {CABLE} | grep -q {VIP}/"
        );
        let whole = self.machines.on(side, &script);
        whole.with_context(|| format!("side {side} is not whole: {}", self.said(side)))?;
        Ok(())
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
            "systemctl stop {UNIT}; rm -rf {DIR} /run/systemd/system/{UNIT} /run/systemd/system/{DAEMON}; systemctl daemon-reload"
        ));
    }
}

fn config(side: usize) -> String {
    let (own, peer) = (ADDRESSES[side], ADDRESSES[1 - side]);
    let priority = [100, 90][side];
    format!(
        r#"[node]
name = "side{side}"
state_dir = "{DIR}/state"
runtime_dir = "{DIR}/run"
[dataplane]
mode = "generic"
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
advert_interval = "{INTERVAL}"
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
promote_limit = "30s"
demote_limit = "20s"
[[role]]
name = "data"
kind = "mount"
device = "{DEVICE}"
where = "{PLACE}"
type = "ext4"
options = "noatime"
promote_limit = "30s"
demote_limit = "20s"
[[role]]
name = "service"
kind = "unit"
unit = "{UNIT}"
start_limit = "30s"
stop_limit = "20s"
"#
    )
}
