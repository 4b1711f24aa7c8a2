//! Which processes use a file system. No file of it is looked at, for that may hang.

use std::{collections::BTreeSet, fs, path::Path, process};

use rustix::{
    fs::{AtFlags, CWD, StatxFlags, statx},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::table::{self, Mount, Number};
use crate::checks::{files, words};

/// Bytes of a process's mappings, and of its table of mounts, that are read.
const LONGEST: u64 = 16 << 20;
/// Bytes of a process's name.
const NAME: u64 = 64;

/// What is to be left.
///
/// What is mounted below a file system may be mounted elsewhere as well: `/dev` of a chroot is that of everybody. So who
/// uses it is in the way only if he does so by one of these mounts.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Devices of the file system itself, which is in use by whatever mount.
    pub(super) own: BTreeSet<Number>,
    /// Its mounts, and those below them.
    pub(super) mounts: Vec<Mount>,
}

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

/// All that are in the way, but this process and the first one.
pub(super) fn of(leaving: &Leaving) -> BTreeSet<User> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != 1 && u32::try_from(*pid) != Ok(process::id()))
        .filter(|pid| uses(*pid, leaving))
        .map(|pid| User {
            pid,
            name: name(pid),
        })
        .collect()
}

/// Whether this process is: with a check that reads a file there, say.
pub(super) fn are_we(leaving: &Leaving) -> bool {
    i32::try_from(process::id()).is_ok_and(|pid| uses(pid, leaving))
}

/// Sends a signal to one that still is in the way: its number may be another process's by now.
pub(super) fn signal(user: &User, leaving: &Leaving, signal: Signal) {
    let handle = Pid::from_raw(user.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(handle) = handle
        && uses(user.pid, leaving)
    {
        // It may have ended.
        let _ = pidfd_send_signal(&handle, signal);
    }
}

fn uses(pid: i32, leaving: &Leaving) -> bool {
    let proc = format!("/proc/{pid}");
    let mounts = as_seen_by(&proc, &leaving.mounts);
    let leads_there = |link: &Path| leads_to(link, &leaving.own, &mounts);
    let links = ["cwd", "root", "exe"].map(|link| format!("{proc}/{link}"));
    if links.iter().any(|link| leads_there(Path::new(link))) {
        return true;
    }
    let open = fs::read_dir(format!("{proc}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    for entry in open {
        if leads_there(&entry.path()) {
            return true;
        }
    }
    let devices: BTreeSet<Number> = leaving.mounts.iter().map(|mount| mount.device).collect();
    let maps = files::read(Path::new(&format!("{proc}/maps")), LONGEST).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    maps.lines()
        .filter_map(mapped)
        .filter(|mapped| devices.contains(&mapped.device))
        .any(|mapped| {
            let link = format!("{proc}/map_files/{}", mapped.file);
            leaving.own.contains(&mapped.device) || leads_there(Path::new(&link))
        })
}

/// The numbers of these mounts, and of their copies in a process's mount namespace, if that is another one.
fn as_seen_by(proc: &str, mounts: &[Mount]) -> BTreeSet<u64> {
    let mut numbers: BTreeSet<u64> = mounts.iter().map(|mount| mount.id).collect();
    let theirs = fs::read_link(format!("{proc}/ns/mnt"));
    let ours = fs::read_link("/proc/self/ns/mnt");
    if matches!((theirs, ours), (Ok(theirs), Ok(ours)) if theirs != ours) {
        let table = files::read(Path::new(&format!("{proc}/mountinfo")), LONGEST);
        let table = table::of(&String::from_utf8_lossy(&table.unwrap_or_default()));
        let is_copy = |theirs: &Mount| {
            mounts
                .iter()
                .any(|ours| (ours.device, &ours.place) == (theirs.device, &theirs.place))
        };
        numbers.extend(
            table
                .iter()
                .filter(|mount| is_copy(mount))
                .map(|copy| copy.id),
        );
    }
    numbers
}

/// Whether a link of /proc leads to a device, or goes by a mount, as the kernel remembers it.
fn leads_to(link: &Path, devices: &BTreeSet<Number>, mounts: &BTreeSet<u64>) -> bool {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::TYPE | StatxFlags::MNT_ID;
    statx(CWD, link, flags, wanted).is_ok_and(|found| {
        // Kernels before 5.8 do not say by which mount.
        let tells_mount = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        devices.contains(&(found.stx_dev_major, found.stx_dev_minor))
            || (tells_mount && mounts.contains(&found.stx_mnt_id))
    })
}

/// A file that is mapped.
#[derive(Debug, PartialEq, Eq)]
struct Mapped {
    device: Number,
    /// Its name in `map_files`.
    file: String,
}

/// `7f2c-7f2d r-xp 00000000 93:00 12 /srv/data/lib.so`
fn mapped(line: &str) -> Option<Mapped> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let (major, minor) = words.nth(2)?.split_once(':')?;
    let number = |digits| u32::from_str_radix(digits, 16).ok();
    let address = |digits| u64::from_str_radix(digits, 16).ok();
    Some(Mapped {
        device: (number(major)?, number(minor)?),
        // There without leading zeros.
        file: format!("{:x}-{:x}", address(from)?, address(to)?),
    })
}

fn name(pid: i32) -> String {
    let name = files::read(Path::new(&format!("/proc/{pid}/comm")), NAME).unwrap_or_default();
    String::from_utf8_lossy(&name).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_have_the_number_of_their_device_and_the_name_of_their_link() {
        let line = "00403000-7f2c5000 r-xp 00000000 93:0a 12  /srv/data/lib.so";
        let file = mapped(line).unwrap();
        assert_eq!(file.device, (0x93, 10));
        assert_eq!(file.file, "403000-7f2c5000");
        let stack = mapped("7ffd-7ffe rw-p 0 00:00 0 [stack]").unwrap();
        assert_eq!(stack.device, (0, 0));
        assert_eq!(mapped(""), None);
    }
}
