//! Unmounting in time, with whoever holds it up ended. Every call here may hang.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use ha_common::{MonoNs, Nanos};
use rustix::{
    io::Errno,
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount as umount},
    process::Signal,
};

use super::{
    FileSystem,
    attach::{is_of, number_of, place_of},
    table::{self, Mount},
    users::{self, Leaving, User},
};
use crate::{checks::words, sys::clock};

/// Between two tries after a signal: whoever restarts what was killed must not be quicker.
const AGAIN: Duration = Duration::from_millis(5);
/// Tries between two looks for users.
const TRIES: u32 = 10;

/// Unmounts it wherever it is mounted, with what is mounted below it. A plain try comes first; for half of the time
/// its users are asked to end, and then they are killed. It is never only hidden (`umount -l`): the device would stay
/// in use, and be written.
pub(super) fn unmount(
    system: &FileSystem,
    deadline: MonoNs,
    given_up: &AtomicBool,
) -> Result<String, String> {
    let begun = clock::now();
    let time = deadline.since(begun).0;
    let half = begun.after(Nanos(time / 2));
    // A last look takes its time, too, and whoever waits is to hear what came of it.
    let end = begun.after(Nanos(time - time / 8));
    let mut ended = BTreeSet::new();
    loop {
        let leaving = ours(system)?;
        if leaving.mounts.is_empty() {
            return Ok(report(system, &ended));
        }
        part(&leaving.mounts)?;
        match all(&leaving.mounts) {
            Ok(()) | Err((_, Errno::BUSY)) => {}
            Err((place, error)) => return Err(failed(&place, error)),
        }
        let leaving = ours(system)?;
        if leaving.mounts.is_empty() {
            continue;
        }
        let in_the_way = users::of(&leaving);
        let now = clock::now();
        if now >= end || given_up.load(Ordering::SeqCst) {
            return Err(busy(system, &in_the_way, &leaving));
        }
        let signal = if now < half {
            Signal::TERM
        } else {
            Signal::KILL
        };
        for user in in_the_way {
            users::signal(&user, &leaving, signal);
            ended.insert(user);
        }
        for _ in 0..TRIES {
            thread::sleep(AGAIN);
            if all(&leaving.mounts).is_ok() {
                break;
            }
        }
    }
}

/// All mounts of the device and all below them, the uppermost first.
fn ours(system: &FileSystem) -> Result<Leaving, String> {
    let mut mounts = table::read()?;
    mounts.reverse();
    let place = place_of(system).unwrap_or_else(|_| system.place.clone());
    let number = number_of(&system.device);
    let is_own = |mount: &Mount| match number {
        Ok(number) => is_of(mount, number),
        // Without its device it is known by its place.
        Err(_) => mount.place == place && mount.source == system.device.to_string_lossy(),
    };
    let own: Vec<Mount> = mounts
        .iter()
        .filter(|mount| is_own(mount))
        .cloned()
        .collect();
    mounts.retain(|mount| own.iter().any(|top| mount.place.starts_with(&top.place)));
    Ok(Leaving {
        own: own.iter().map(|mount| mount.device).collect(),
        mounts,
    })
}

/// What is bound here from elsewhere with all below it (`mount --rbind /dev`) shares with that: without this the system's
/// `/dev/pts` would be unmounted with that below.
fn part(mounts: &[Mount]) -> Result<(), String> {
    let shared: BTreeSet<u64> = table::read()?
        .iter()
        .filter(|other| mounts.iter().all(|mount| mount.id != other.id))
        .filter_map(|other| other.peers)
        .collect();
    for mount in mounts {
        if mount.peers.is_some_and(|peers| shared.contains(&peers)) {
            mount_change(&mount.place, MountPropagationFlags::DOWNSTREAM)
                .map_err(|error| failed(&mount.place, error))?;
        }
    }
    Ok(())
}

fn failed(place: &Path, error: Errno) -> String {
    format!(
        "{} cannot be unmounted: {}",
        place.display(),
        words::of_io(&error.into())
    )
}

fn all(mounts: &[Mount]) -> Result<(), (PathBuf, Errno)> {
    for mount in mounts {
        match umount(&mount.place, UnmountFlags::NOFOLLOW) {
            // Somebody else has unmounted it.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err((mount.place.clone(), error)),
        }
    }
    Ok(())
}

fn report(system: &FileSystem, ended: &BTreeSet<User>) -> String {
    let place = system.place.display();
    if ended.is_empty() {
        return format!("{place} is not mounted");
    }
    format!("{place} is not mounted; {} had to end", listed(ended))
}

fn busy(system: &FileSystem, users: &BTreeSet<User>, leaving: &Leaving) -> String {
    let place = system.place.display();
    if users::are_we(leaving) {
        return format!("{place} is in use by had itself, as by a check that reads a file there");
    }
    if users.is_empty() {
        return format!(
            "{place} is in use, but by no process: by a loop device, a swap file, an NFS export or another mount namespace"
        );
    }
    format!("{place} is in use by {}", listed(users))
}

fn listed(users: &BTreeSet<User>) -> String {
    let shown: Vec<String> = users.iter().map(User::shown).collect();
    shown.join(", ")
}
