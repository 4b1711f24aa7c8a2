//! Disks that are files. The kernel must have loop devices.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::netns;

/// Bytes of a disk: enough for whatever writes superblocks and bitmaps to it.
const SIZE: u64 = 16 << 20;

/// A loop device with a file of its own; gone when dropped, unless somebody still uses it.
#[derive(Debug)]
pub struct LoopDevice {
    device: String,
    file: PathBuf,
}

impl LoopDevice {
    /// Makes a disk of zeroes, which is `file`.
    pub fn new(file: &Path) -> Result<Self> {
        // Without it there is nothing that would have the kernel load it.
        netns::run(Command::new("modprobe").arg("loop"))?;
        let zeroes = File::create(file).with_context(|| format!("making {}", file.display()))?;
        zeroes.set_len(SIZE)?;
        let made = netns::run(Command::new("losetup").args(["--find", "--show"]).arg(file))?;
        Ok(Self {
            device: String::from_utf8(made.stdout)?.trim().to_owned(),
            file: file.to_owned(),
        })
    }

    /// As `/dev/loop0`.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// As `loop0`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.device.strip_prefix("/dev/").unwrap_or(&self.device)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; it ends with the guest.
        let _ = Command::new("losetup")
            .args(["--detach", &self.device])
            .output();
        let _ = fs::remove_file(&self.file);
    }
}
