//! Mounting, and what is mounted. Every call here may hang.

use std::{
    ffi::CString,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{FileType, major, minor, stat},
    io::Errno,
    mount::{MountFlags, UnmountFlags, unmount},
};

use super::{
    FileSystem,
    table::{self, Mount, Number},
};
use crate::{
    checks::words, config::mount_flags, roles::found::Found, sys::in_first_mount_namespace,
};

/// Mounts it, unless it is mounted.
pub(super) fn mount(system: &FileSystem, given_up: &AtomicBool) -> Result<String, String> {
    let place = place_of(system)?;
    let number = number_of(&system.device)?;
    let mounts = table::read()?;
    let shown = place.display();
    if is_mounted(&mounts, &place, number)? {
        return Ok(format!("{shown} is mounted already"));
    }
    seen_by_others(&mounts, &place, in_first_mount_namespace())?;
    let below = mounts
        .iter()
        .find(|mount| mount.place != place && mount.place.starts_with(&place));
    if let Some(below) = below {
        return Err(format!(
            "{} is mounted below {shown}: it would be hidden: unmount it",
            below.place.display()
        ));
    }
    let (flags, data) = mount_flags(&system.options);
    let data = CString::new(data).map_err(|_| "the options have a NUL in them".to_owned())?;
    let done = rustix::mount::mount(
        &system.device,
        &place,
        system.kind.as_str(),
        flags,
        (!data.is_empty()).then_some(data.as_c_str()),
    );
    done.map_err(|error| failed(system, flags, error))?;
    if given_up.load(Ordering::SeqCst) {
        // Its time was over, and it counts as not done.
        let _ = unmount(&place, UnmountFlags::empty());
        return Err("it was given up before it was done".to_owned());
    }
    if !is_mounted(&table::read()?, &place, number)? {
        return Err(format!(
            "the kernel says that it has mounted {shown}, and it is not there"
        ));
    }
    Ok(format!("{} is mounted at {shown}", system.device.display()))
}

/// Whether it is mounted, and could be.
pub(super) fn look(system: &FileSystem) -> Found {
    let found = place_of(system).and_then(|place| {
        let mounts = table::read()?;
        // The device may be gone while it is mounted nowhere.
        match number_of(&system.device) {
            Ok(number) => {
                let mounted = is_mounted(&mounts, &place, number)?;
                let top = table::at(&mounts, &place);
                let failed = top.is_some_and(|top| top.read_only)
                    && !system.options.iter().any(|option| option == "ro");
                let able = if mounted && failed {
                    Err(format!(
                        "{} takes no writes any more, as after an error: see the kernel's log",
                        place.display()
                    ))
                } else if mounted {
                    Ok(())
                } else {
                    seen_by_others(&mounts, &place, in_first_mount_namespace())
                };
                Ok(Found {
                    promoted: Some(mounted),
                    able,
                })
            }
            Err(why) => Ok(Found {
                promoted: Some(false),
                able: Err(why),
            }),
        }
    });
    found.unwrap_or_else(|why| Found {
        promoted: Some(false),
        able: Err(why),
    })
}

/// In a mount namespace of the daemon's own only the daemon would have what it mounts: whoever is to use it would work
/// in the empty directory below.
pub(super) fn seen_by_others(mounts: &[Mount], place: &Path, is_first: bool) -> Result<(), String> {
    let is_shared = table::below(mounts, place).is_some_and(|mount| mount.is_shared);
    if is_first || is_shared {
        return Ok(());
    }
    Err(format!(
        "nobody else would see what had mounts at {}: it runs in a mount namespace of its own, as settings like ProtectSystem= of its unit make one: run: install -D packaging/roles.conf /etc/systemd/system/had.service.d/roles.conf; systemctl daemon-reload; systemctl restart had",
        place.display()
    ))
}

/// The directory, as the kernel names it.
pub(super) fn place_of(system: &FileSystem) -> Result<PathBuf, String> {
    let shown = system.place.display();
    let place = system
        .place
        .canonicalize()
        .map_err(|error| format!("{shown}: {}: run: mkdir -p {shown}", words::of_io(&error)))?;
    if !place.is_dir() {
        return Err(format!("{shown} is no directory"));
    }
    Ok(place)
}

/// The number of a block device.
pub(super) fn number_of(device: &Path) -> Result<Number, String> {
    let shown = device.display();
    let found =
        stat(device).map_err(|error| format!("{shown}: {}", words::of_io(&error.into())))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
        return Err(format!("{shown} is no block device"));
    }
    Ok((major(found.st_rdev), minor(found.st_rdev)))
}

/// `Err`: something else is mounted there.
fn is_mounted(mounts: &[Mount], place: &Path, number: Number) -> Result<bool, String> {
    match table::at(mounts, place) {
        Some(top) if is_of(top, number) => Ok(true),
        Some(top) => Err(format!(
            "something else is mounted at {}: {}",
            place.display(),
            words::clean(&top.source)
        )),
        None => Ok(false),
    }
}

/// Whether a mount is of a device. Some file systems (btrfs) have numbers of their own.
pub(super) fn is_of(mount: &Mount, number: Number) -> bool {
    mount.device == number || number_of(Path::new(&mount.source)) == Ok(number)
}

fn failed(system: &FileSystem, flags: MountFlags, error: Errno) -> String {
    let device = system.device.display();
    let hint = match error {
        Errno::MEDIUMTYPE => ": the DRBD device is Secondary here",
        Errno::ROFS | Errno::ACCESS if !flags.contains(MountFlags::RDONLY) => {
            ": the device takes no writes here"
        }
        Errno::NODEV => ": the kernel has no file system of this type",
        Errno::INVAL | Errno::UCLEAN => {
            ": it has no such file system, a damaged one, or one of its options is wrong: see the kernel's log"
        }
        Errno::BUSY => ": something else uses the device",
        _ => "",
    };
    format!(
        "{device} cannot be mounted: {}{hint}",
        words::of_io(&error.into())
    )
}
