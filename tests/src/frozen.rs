//! A file system that can be made to hang: ext4 in a file. The kernel must have ext4 and loop devices.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::netns::run;

/// Enough for ext4.
const BYTES: u64 = 16 << 20;

/// Mounted until it is dropped.
pub struct Disk {
    mounted: PathBuf,
}

impl Disk {
    /// Makes the file system in a file beside `at`, and mounts it there: a directory in which everybody may write.
    pub fn mount(at: &Path) -> Result<Self> {
        // Without udev nothing else does that before the first use.
        run(Command::new("modprobe").arg("loop"))?;
        let image = at.with_extension("image");
        let file = fs::File::create(&image)?;
        file.set_len(BYTES)?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        fs::create_dir(at).with_context(|| format!("making {}", at.display()))?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(at))?;
        let this = Self {
            mounted: at.to_owned(),
        };
        run(Command::new("chmod").arg("1777").arg(at))?;
        Ok(this)
    }

    /// From now on whoever writes there waits, and cannot be killed.
    pub fn freeze(&self) -> Result<()> {
        self.fsfreeze("--freeze")
    }

    /// Until now.
    pub fn thaw(&self) -> Result<()> {
        self.fsfreeze("--unfreeze")
    }

    fn fsfreeze(&self, what: &str) -> Result<()> {
        run(Command::new("fsfreeze").arg(what).arg(&self.mounted)).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It need not be frozen; and what is still in use goes when it is not any more.
        let _ = self.thaw();
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.mounted));
    }
}
