//! One thread of a process that stands still, while the others go on: in a control group of threads of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::eventually;

/// Where control groups of version 2 may be.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const LIMIT: Duration = Duration::from_secs(20);

/// It goes on once this is dropped.
pub struct StillThread {
    root: PathBuf,
    /// Of the process.
    group: PathBuf,
    process: u32,
}

impl StillThread {
    /// Has the thread stand still that is called `name`.
    pub fn hold(process: u32, name: &str) -> Result<Self> {
        let thread = thread(process, name)?;
        let is_root = |root: &&str| Path::new(root).join("cgroup.controllers").exists();
        let root = ROOTS.into_iter().find(is_root);
        let root = PathBuf::from(root.context("no control groups of version 2")?);
        let this = Self {
            group: root.join(format!("hl-still-{process}")),
            root,
            process,
        };
        let alone = this.alone();
        fs::create_dir(&this.group)?;
        this.write(&this.group, "cgroup.procs", process)?;
        fs::create_dir(&alone)?;
        fs::write(alone.join("cgroup.type"), "threaded").context("a group of threads")?;
        this.write(&alone, "cgroup.threads", thread)?;
        this.write(&alone, "cgroup.freeze", 1)?;
        eventually(LIMIT, "the thread stands still", || {
            let events = fs::read_to_string(alone.join("cgroup.events"))?;
            Ok(events.lines().any(|line| line == "frozen 1"))
        })?;
        Ok(this)
    }

    fn alone(&self) -> PathBuf {
        self.group.join("alone")
    }

    fn write(&self, group: &Path, file: &str, number: u32) -> Result<()> {
        fs::write(group.join(file), number.to_string())
            .with_context(|| format!("{file} of {}", group.display()))
    }
}

impl Drop for StillThread {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = self.write(&self.alone(), "cgroup.freeze", 0);
        let _ = self.write(&self.root, "cgroup.procs", self.process);
        let _ = eventually(LIMIT, "the groups are empty", || {
            let _ = fs::remove_dir(self.alone());
            let _ = fs::remove_dir(&self.group);
            Ok(!self.group.exists())
        });
    }
}

fn thread(process: u32, name: &str) -> Result<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task"))?.flatten();
    let mut named = threads.filter(|thread| {
        let comm = fs::read_to_string(thread.path().join("comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    });
    let thread = named.next();
    let thread = thread.with_context(|| format!("no thread of {process} is called {name}"))?;
    let number = thread.file_name();
    Ok(number.to_string_lossy().parse()?)
}
