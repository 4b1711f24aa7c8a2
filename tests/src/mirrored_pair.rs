//! A DRBD resource between the two guests: the first one's side is here.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    eventually, netns,
    node::PATIENCE,
    second::{Second, modules},
};

/// The resource, and its device on either side.
pub const RESOURCE: &str = "r0";
/// See [`RESOURCE`].
pub const DEVICE: &str = "/dev/drbd0";

/// Where its file system is mounted.
pub const PLACE: &str = "/srv/pair";

/// The guests' addresses on their cable.
pub const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

/// The cable's interface on either side.
pub const CABLE: &str = "eth0";

/// As people write it who want a dead peer to be noticed soon.
const CONFIG: &str = "\
global { usage-count no; }
resource r0 {
  protocol C;
  net { ping-int 1; ping-timeout 20; connect-int 1; timeout 9; }
  disk { c-plan-ahead 0; resync-rate 100M; }
  device /dev/drbd0; disk /dev/vda; meta-disk internal;
  on guest { address 10.77.0.1:7788; }
  on second { address 10.77.0.2:7788; }
}
";

/// Both sides are there and look for each other.
pub struct MirroredPair {
    /// The other machine.
    pub second: Second,
}

impl MirroredPair {
    /// Both new, connected, Secondary and equal: what is on the first one's disk was copied to the second's.
    pub fn new() -> Result<Self> {
        modules()?;
        let mut this = Self {
            second: Second::boot()?,
        };
        let create = "drbdadm create-md --force r0 >/dev/null 2>&1\n";
        let (first, second) = (Self::up(0), Self::up(1));
        this.first(&format!("{}{create}drbdadm up r0", first))?;
        this.second
            .run(&format!("{}{create}drbdadm up r0", second))?;
        this.wait_for(0, &["connection:Connected"])?;
        this.first("drbdadm primary --force r0")?;
        for side in [0, 1] {
            this.wait_for(side, &[" disk:UpToDate", "replication:Established"])?;
        }
        this.first("drbdadm secondary r0")?;
        Ok(this)
    }

    /// The second one is switched on again, its side of the resource is up.
    pub fn return_second(&mut self) -> Result<()> {
        self.second.start()?;
        let up = Self::up(1);
        self.second.run(&format!("{up}drbdadm up r0")).map(drop)
    }

    /// What makes a guest a node: its network, DRBD's configuration and module.
    fn up(side: usize) -> String {
        let address = ADDRESSES[side];
        format!(
            "set -e\nmodprobe virtio_net; modprobe virtio_blk; modprobe drbd\n\
             ip link set {CABLE} up\nip addr replace {address}/24 dev {CABLE}\nmkdir -p {PLACE}\n\
             cat >/etc/drbd.conf <<'END'\n{CONFIG}END\n"
        )
    }

    /// Runs a script on the first machine, this one.
    pub fn first(&self, script: &str) -> Result<String> {
        let output = netns::run(Command::new("sh").args(["-c", script]))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it on one of them.
    pub fn on(&mut self, side: usize, script: &str) -> Result<String> {
        match side {
            0 => self.first(script),
            _ => self.second.run(script),
        }
    }

    /// What `drbdsetup events2 --now` prints there.
    pub fn events(&mut self, side: usize) -> Result<String> {
        self.on(side, "drbdsetup events2 --now r0")
    }

    /// Waits until that has all of these words.
    pub fn wait_for(&mut self, side: usize, words: &[&str]) -> Result<()> {
        let mut printed = String::new();
        eventually(PATIENCE, &format!("side {side}: {words:?}"), || {
            printed = self.events(side)?;
            Ok(words.iter().all(|word| printed.contains(word)))
        })
        .with_context(|| printed.clone())
    }

    /// Makes a file system on the device, on one of them, which becomes Primary for that.
    pub fn format(&mut self, side: usize) -> Result<()> {
        self.on(
            side,
            &format!("set -e; drbdadm primary {RESOURCE}; mkfs.ext4 -q {DEVICE}; drbdadm secondary {RESOURCE}"),
        )
        .map(drop)
    }

    /// A file of the file system that is mounted here.
    pub fn read(&self, name: &str) -> Result<String> {
        let path = Path::new(PLACE).join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

impl Drop for MirroredPair {
    fn drop(&mut self) {
        // Both end with the guests, if not now; the next test wants them new.
        let _ = self.first("umount /srv/pair 2>/dev/null; drbdadm secondary r0; drbdadm down r0");
    }
}
