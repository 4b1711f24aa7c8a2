//! Two sides of a DRBD device that are two resources of one kernel, each the other's peer. The kernel must have DRBD
//! 8.4, as Debian's has.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::{eventually, loop_device::LoopDevice, netns, node::PATIENCE};

/// Where everybody looks for it.
const DRBDSETUP: &str = "/usr/sbin/drbdsetup";

/// The program itself, and what stands in its place.
const ITSELF: &str = "/run/drbdsetup";
const DOOR: &str = "/run/drbdsetup-door";

/// Which program DRBD calls before a resync and the like, and obeys. Its own, drbdadm, knows resources by a
/// configuration file, which these have not.
const HELPER: &str = "/sys/module/drbd/parameters/usermode_helper";

/// `r0` and `r1`; dropped, they are gone.
pub struct Mirrored {
    sides: [Side; 2],
    _door: Door,
}

struct Side {
    resource: &'static str,
    /// Of /dev/drbd.
    minor: &'static str,
    disk: LoopDevice,
    /// Where it is reached, and where it looks for the other one.
    addresses: [&'static str; 2],
}

impl Mirrored {
    /// Both UpToDate, connected and Secondary, with disks below `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        const ADDRESSES: [&str; 2] = ["127.0.0.1:7788", "127.0.0.1:7789"];
        netns::run(Command::new("modprobe").arg("drbd"))?;
        fs::write(HELPER, "/bin/true").with_context(|| format!("writing {HELPER}"))?;
        let [one, other] = ADDRESSES;
        let side = |resource, minor, addresses| -> Result<Side> {
            Ok(Side {
                resource,
                minor,
                disk: LoopDevice::new(&dir.join(resource))?,
                addresses,
            })
        };
        let this = Self {
            sides: [
                side("r0", "0", [one, other])?,
                side("r1", "1", [other, one])?,
            ],
            _door: Door::open()?,
        };
        for index in [0, 1] {
            this.drbdmeta(index, "create-md")?;
            this.up(index)?;
        }
        for index in [0, 1] {
            this.wait_for(index, "connection:Connected")?;
        }
        // Nothing but zeroes on both: there is nothing to copy.
        drbdsetup(&["new-current-uuid", "--clear-bitmap", "0"])?;
        for index in [0, 1] {
            this.wait_for(index, " disk:UpToDate")?;
        }
        Ok(this)
    }

    /// The name of a side's resource.
    #[must_use]
    pub fn resource(&self, index: usize) -> &'static str {
        self.sides[index].resource
    }

    /// A side's resource is there, with its disk, and looks for the other one.
    pub fn up(&self, index: usize) -> Result<()> {
        let Side {
            resource, minor, ..
        } = self.sides[index];
        drbdsetup(&["new-resource", resource])?;
        drbdsetup(&["new-minor", resource, minor, "0"])?;
        self.attach(index)?;
        self.connect(index)
    }

    /// It is not there any more.
    pub fn down(&self, index: usize) -> Result<()> {
        drbdsetup(&["down", self.resource(index)])
    }

    /// A side becomes Primary.
    pub fn promote(&self, index: usize) -> Result<()> {
        drbdsetup(&["primary", self.sides[index].minor])
    }

    /// It becomes Secondary.
    pub fn demote(&self, index: usize) -> Result<()> {
        drbdsetup(&["secondary", self.sides[index].minor])
    }

    /// A side loses its disk, as after an I/O error.
    pub fn detach(&self, index: usize) -> Result<()> {
        drbdsetup(&["detach", self.sides[index].minor])
    }

    /// It has it back.
    pub fn attach(&self, index: usize) -> Result<()> {
        // As drbdadm does it: after a Primary without its disk the list of what it was writing is still there.
        self.drbdmeta(index, "apply-al")?;
        let Side { minor, disk, .. } = &self.sides[index];
        let device = disk.device();
        drbdsetup(&["attach", minor, device, device, "internal"])
    }

    /// A side gives up its connection: it is StandAlone.
    pub fn disconnect(&self, index: usize) -> Result<()> {
        let [own, peer] = self.sides[index].addresses;
        drbdsetup(&["disconnect", own, peer])
    }

    /// It looks for the other one.
    pub fn connect(&self, index: usize) -> Result<()> {
        let Side {
            resource,
            addresses: [own, peer],
            ..
        } = self.sides[index];
        drbdsetup(&["connect", resource, own, peer, "--protocol=C"])
    }

    fn drbdmeta(&self, index: usize, command: &str) -> Result<()> {
        let Side { minor, disk, .. } = &self.sides[index];
        let words = ["--force", minor, "v08", disk.device(), "internal", command];
        netns::run(Command::new("drbdmeta").args(words)).map(drop)
    }

    /// Waits until `drbdsetup events2 --now` prints this of a side.
    fn wait_for(&self, index: usize, words: &str) -> Result<()> {
        let resource = self.resource(index);
        let mut printed = String::new();
        eventually(PATIENCE, &format!("{resource}: {words}"), || {
            let output = netns::run(Command::new(DRBDSETUP).args(["events2", "--now", resource]))?;
            printed = String::from_utf8(output.stdout)?;
            Ok(printed.contains(words))
        })
        .with_context(|| printed.clone())
    }
}

impl Drop for Mirrored {
    fn drop(&mut self) {
        for index in [0, 1] {
            // It may be down already; else it ends with the guest.
            let _ = self.down(index);
        }
    }
}

fn drbdsetup(arguments: &[&str]) -> Result<()> {
    netns::run(Command::new(DRBDSETUP).args(arguments)).map(drop)
}

/// DRBD is there in the machine's first network namespace alone, and a lab's daemons live in others. So what they run
/// for drbdsetup is a script that goes there first; dropped, it is drbdsetup itself again.
struct Door;

impl Door {
    fn open() -> Result<Self> {
        if !Path::new(ITSELF).exists() {
            fs::copy(DRBDSETUP, ITSELF).with_context(|| format!("copying {DRBDSETUP}"))?;
        }
        let script = format!("#!/bin/sh\nexec nsenter --net=/proc/1/ns/net {ITSELF} \"$@\"\n");
        fs::write(DOOR, script)?;
        fs::set_permissions(DOOR, fs::Permissions::from_mode(0o755))?;
        mount_bind(DOOR, DRBDSETUP).with_context(|| format!("mounting over {DRBDSETUP}"))?;
        Ok(Self)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // It ends with the guest.
        let _ = unmount(DRBDSETUP, UnmountFlags::DETACH);
    }
}
