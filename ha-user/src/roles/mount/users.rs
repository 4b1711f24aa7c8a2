//! Which processes use a file system. No file of it is looked at, for that may hang.

use std::{collections::BTreeSet, fs, path::Path, process};

use rustix::{
    fs::{AtFlags, CWD, StatxFlags, statx},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::table::Number;
use crate::checks::{files, words};

/// Bytes of a process's mappings that are read.
const LONGEST: u64 = 16 << 20;
/// Bytes of a process's name.
const NAME: u64 = 64;

/// A process that uses one of the file systems.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct User {
    pub(super) pid: i32,
    pub(super) name: String,
}

impl User {
    /// For a sentence.
    pub(super) fn shown(&self) -> String {
        format!("{} ({})", words::clean(&self.name), self.pid)
    }
}

/// All that use one of these devices' file systems, but this process and the first one.
pub(super) fn of(devices: &BTreeSet<Number>) -> BTreeSet<User> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != 1 && u32::try_from(*pid) != Ok(process::id()))
        .filter(|pid| uses(*pid, devices))
        .map(|pid| User {
            pid,
            name: name(pid),
        })
        .collect()
}

/// Whether this process uses one of them: a check that reads a file there, say.
pub(super) fn are_used_by_us(devices: &BTreeSet<Number>) -> bool {
    i32::try_from(process::id()).is_ok_and(|pid| uses(pid, devices))
}

/// Sends a signal to one that still uses a device: its number may be another process's by now.
pub(super) fn signal(user: &User, devices: &BTreeSet<Number>, signal: Signal) {
    let handle = Pid::from_raw(user.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(handle) = handle
        && uses(user.pid, devices)
    {
        // It may have ended.
        let _ = pidfd_send_signal(&handle, signal);
    }
}

fn uses(pid: i32, devices: &BTreeSet<Number>) -> bool {
    let proc = format!("/proc/{pid}");
    let links = ["cwd", "root", "exe"].map(|link| format!("{proc}/{link}"));
    if links.iter().any(|link| leads_to(Path::new(link), devices)) {
        return true;
    }
    let open = fs::read_dir(format!("{proc}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    for entry in open {
        if leads_to(&entry.path(), devices) {
            return true;
        }
    }
    let maps = files::read(Path::new(&format!("{proc}/maps")), LONGEST).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    maps.lines()
        .filter_map(mapped)
        .any(|device| devices.contains(&device))
}

/// Where a link of /proc leads, as the kernel remembers it.
fn leads_to(link: &Path, devices: &BTreeSet<Number>) -> bool {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    statx(CWD, link, flags, StatxFlags::TYPE)
        .is_ok_and(|found| devices.contains(&(found.stx_dev_major, found.stx_dev_minor)))
}

/// `7f2c-7f2d r-xp 00000000 93:00 12 /srv/data/lib.so`
fn mapped(line: &str) -> Option<Number> {
    let (major, minor) = line.split_ascii_whitespace().nth(3)?.split_once(':')?;
    let hex = |digits| u32::from_str_radix(digits, 16).ok();
    Some((hex(major)?, hex(minor)?))
}

fn name(pid: i32) -> String {
    let name = files::read(Path::new(&format!("/proc/{pid}/comm")), NAME).unwrap_or_default();
    String::from_utf8_lossy(&name).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_have_the_number_of_their_device() {
        let line = "7f2c3000-7f2c5000 r-xp 00000000 93:0a 12  /srv/data/lib.so";
        assert_eq!(mapped(line), Some((0x93, 10)));
        assert_eq!(mapped("7ffd-7ffe rw-p 0 00:00 0 [stack]"), Some((0, 0)));
    }
}
