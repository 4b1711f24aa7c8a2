//! Removing labs whose owner cannot do it any more.
//!
//! Every trace of a lab carries the owner's process id: the directory `/tmp/had-lab-<pid>x<n>`, mounts
//! below it, and the namespaces `hl<pid>x<n>-<name>`; units of systemd are named after those.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use rustix::{
    mount::{UnmountFlags, unmount},
    process::Signal,
};

use crate::{daemon::signal, lab::root, netns, own_directory, unit};

const DIR_PREFIX: &str = "had-lab-";

/// Name of the file that says when the owner started, so that a reused process id is not taken for it.
const OWNER: &str = "owner";

/// The name of a lab's namespace.
#[must_use]
pub fn namespace(lab: &str, name: &str) -> String {
    format!("hl{lab}-{name}")
}

/// Makes a lab's directory.
pub fn make_dir(lab: &str) -> Result<PathBuf> {
    let dir = root().join(format!("{DIR_PREFIX}{lab}"));
    fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
    fs::write(
        dir.join(OWNER),
        start_time(std::process::id()).unwrap_or_default(),
    )?;
    Ok(dir)
}

/// Removes the labs whose owners are dead.
pub fn clean() -> Result<()> {
    for (lab, dir) in labs()? {
        let owner = lab.split('x').next().and_then(|pid| pid.parse().ok());
        let started = fs::read_to_string(dir.join(OWNER)).ok();
        let alive = owner
            .and_then(start_time)
            .is_some_and(|now| Some(now) == started);
        if !alive {
            remove(&lab, &dir)?;
        }
    }
    Ok(())
}

/// Removes the labs of this process, for when it ends without unwinding.
pub fn remove_own() -> Result<()> {
    let own = format!("{}x", std::process::id());
    for (lab, dir) in labs()? {
        if lab.starts_with(&own) {
            remove(&lab, &dir)?;
        }
    }
    Ok(())
}

fn labs() -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root())? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(lab) = name.to_str().and_then(|name| name.strip_prefix(DIR_PREFIX)) {
            found.push((lab.to_owned(), entry.path()));
        }
    }
    Ok(found)
}

fn remove(lab: &str, dir: &Path) -> Result<()> {
    let prefix = namespace(lab, "");
    unit::remove_all(&prefix);
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(&prefix)) else {
            continue;
        };
        let inside = netns::run(Command::new("ip").args(["netns", "pids", name]))?;
        for pid in String::from_utf8_lossy(&inside.stdout).split_whitespace() {
            signal(pid.parse()?, Signal::KILL)?;
        }
        netns::run(Command::new("ip").args(["netns", "del", name]))?;
    }
    own_directory::remove_all(&prefix)?;
    for mounted in mounts_below(dir)? {
        unmount(&mounted, UnmountFlags::DETACH)
            .with_context(|| format!("unmounting {}", mounted.display()))?;
    }
    fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))
}

fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mounts")?;
    Ok(table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from)
        .filter(|mounted| mounted.starts_with(dir))
        .collect())
}

/// When a process started, in ticks since boot; `None` when there is no such process.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The fields are counted behind the command's name, which may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_of_a_dead_owner_is_removed_and_of_a_live_one_kept() {
        let dead = make_dir("999999999x0").unwrap();
        let live = make_dir(&format!("{}x999", std::process::id())).unwrap();
        clean().unwrap();
        assert!(!dead.exists());
        assert!(live.exists());
        fs::remove_dir_all(live).unwrap();
    }
}
