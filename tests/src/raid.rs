//! A mirror of the kernel's software RAID (md(4)) on loop devices.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{loop_device::LoopDevice, netns};

/// So slow that nothing is ever rebuilt, in KiB a second.
const STANDSTILL: &str = "1";

/// As fast as the system's settings allow.
const SYSTEM: &str = "system";

/// RAID1 of two members, with a third disk at hand; stopped when dropped.
pub struct Mirror {
    name: &'static str,
    /// The first two are its members.
    pub disks: [LoopDevice; 3],
}

impl Mirror {
    /// The disks of an array `name`, as `md0`, which is not there yet.
    pub fn unassembled(name: &'static str, dir: &Path) -> Result<Self> {
        let disk = |number: u8| LoopDevice::new(&dir.join(format!("{name}-{number}")));
        Ok(Self {
            name,
            disks: [disk(0)?, disk(1)?, disk(2)?],
        })
    }

    /// Makes it, whole.
    pub fn create(&self) -> Result<()> {
        let [one, two, _] = self.disks.each_ref().map(LoopDevice::device);
        let options = ["--run", "--level=1", "--raid-devices=2", "--assume-clean"];
        self.mdadm("--create", &[&options[..], &[one, two]].concat())
    }

    /// The kernel is told that a member has failed.
    pub fn fail(&self, disk: &LoopDevice) -> Result<()> {
        self.mdadm("--manage", &["--fail", disk.device()])
    }

    /// Takes out a member that has failed.
    pub fn remove(&self, disk: &LoopDevice) -> Result<()> {
        self.mdadm("--manage", &["--remove", disk.device()])
    }

    /// Puts in a disk, onto which the kernel rebuilds at once what is missing.
    pub fn add(&self, disk: &LoopDevice) -> Result<()> {
        self.mdadm("--manage", &["--add", disk.device()])
    }

    /// Keeps the kernel from getting on with what it rebuilds, or lets it go on.
    pub fn hold_up(&self, hold: bool) -> Result<()> {
        let speed = if hold { STANDSTILL } else { SYSTEM };
        for limit in ["sync_speed_min", "sync_speed_max"] {
            let path = format!("/sys/block/{}/md/{limit}", self.name);
            fs::write(&path, speed).with_context(|| format!("writing {path}"))?;
        }
        Ok(())
    }

    /// Stops it: it is not there any more.
    pub fn stop(&self) -> Result<()> {
        self.mdadm("--stop", &[])
    }

    /// It is there again, with these members and no more.
    pub fn assemble(&self, disks: &[&LoopDevice]) -> Result<()> {
        let disks: Vec<&str> = disks.iter().map(|disk| disk.device()).collect();
        self.mdadm("--assemble", &[&["--run"], &disks[..]].concat())
    }

    fn mdadm(&self, mode: &str, arguments: &[&str]) -> Result<()> {
        let device = format!("/dev/{}", self.name);
        let mut command = Command::new("mdadm");
        netns::run(command.arg(mode).arg(device).args(arguments)).map(drop)
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // It may be stopped already; else it ends with the guest.
        let _ = self.stop();
    }
}
