//! Unmounting in time, with whoever holds it up ended. Every call here may hang.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use ha_common::{MonoNs, Nanos};
use rustix::{
    io::Errno,
    mount::{UnmountFlags, unmount as umount},
    process::Signal,
};

use super::{
    FileSystem,
    attach::{is_of, number_of, place_of},
    table::{self, Mount, Number},
    users::{self, User},
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
        let mounts = ours(system)?;
        if mounts.is_empty() {
            return Ok(report(system, &ended));
        }
        match all(&mounts) {
            Ok(()) | Err((_, Errno::BUSY)) => {}
            Err((place, error)) => {
                return Err(format!(
                    "{} cannot be unmounted: {}",
                    place.display(),
                    words::of_io(&error.into())
                ));
            }
        }
        let mounts = ours(system)?;
        if mounts.is_empty() {
            continue;
        }
        let devices: BTreeSet<Number> = mounts.iter().map(|mount| mount.device).collect();
        let in_the_way = users::of(&devices);
        let now = clock::now();
        if now >= end || given_up.load(Ordering::SeqCst) {
            return Err(busy(system, &in_the_way, &devices));
        }
        let signal = if now < half {
            Signal::TERM
        } else {
            Signal::KILL
        };
        for user in in_the_way {
            users::signal(&user, &devices, signal);
            ended.insert(user);
        }
        for _ in 0..TRIES {
            thread::sleep(AGAIN);
            if all(&mounts).is_ok() {
                break;
            }
        }
    }
}

/// All mounts of the device and all below them, the uppermost first.
fn ours(system: &FileSystem) -> Result<Vec<Mount>, String> {
    let mut mounts = table::read()?;
    mounts.reverse();
    let place = place_of(system).unwrap_or_else(|_| system.place.clone());
    let of_device: Vec<PathBuf> = match number_of(&system.device) {
        Ok(number) => mounts
            .iter()
            .filter(|mount| is_of(mount, number))
            .map(|mount| mount.place.clone())
            .collect(),
        // Without its device it is known by its place.
        Err(_) => mounts
            .iter()
            .filter(|mount| mount.place == place && mount.source == system.device.to_string_lossy())
            .map(|mount| mount.place.clone())
            .collect(),
    };
    mounts.retain(|mount| of_device.iter().any(|top| mount.place.starts_with(top)));
    Ok(mounts)
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

fn busy(system: &FileSystem, users: &BTreeSet<User>, devices: &BTreeSet<Number>) -> String {
    let place = system.place.display();
    if users::are_used_by_us(devices) {
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
