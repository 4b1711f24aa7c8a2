//! A place on a bpffs for programs, links and maps, so that the gate stays when the daemon is killed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::statfs,
    mount::{MountFlags, UnmountFlags, mount, unmount},
};

use crate::sys;

/// `BPF_FS_MAGIC` (linux/magic.h).
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

/// The directory on the bpffs at [`own_mount`].
const OWN_PINS: &str = "had";

/// Where this daemon mounts a bpffs if there is none.
fn own_mount(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("bpf")
}

/// Where to pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinDir {
    /// The directory, on a bpffs.
    pub path: PathBuf,
    /// Whether the mount may end with this process: it was made in a mount namespace that is not that of
    /// process 1 (as under `ip netns exec`), and goes with the last process in it.
    pub fragile: bool,
    /// Where this process mounted a bpffs.
    pub mounted: Option<PathBuf>,
}

/// Finds or makes a directory on a bpffs: `pin_dir` where that is one (or its parent is), else
/// `<runtime_dir>/bpf`, mounted unless it is there from an earlier run.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENODEV in a kernel without bpffs.
pub fn prepare(pin_dir: &Path, runtime_dir: &Path) -> io::Result<PinDir> {
    let on_bpffs = [Some(pin_dir), pin_dir.parent()]
        .into_iter()
        .flatten()
        .any(is_bpffs);
    if on_bpffs {
        fs::create_dir_all(pin_dir)?;
        return Ok(PinDir {
            path: pin_dir.to_owned(),
            fragile: false,
            mounted: None,
        });
    }
    let own = own_mount(runtime_dir);
    fs::create_dir_all(&own)?;
    let mounted = !is_bpffs(&own);
    if mounted {
        mount("bpf", &own, "bpf", MountFlags::empty(), None)?;
    }
    let path = own.join(OWN_PINS);
    fs::create_dir_all(&path)?;
    Ok(PinDir {
        path,
        fragile: mounted && !sys::in_first_mount_namespace(),
        mounted: mounted.then_some(own),
    })
}

/// The directories where an earlier daemon with these settings may have pinned.
#[must_use]
pub fn find(pin_dir: &Path, runtime_dir: &Path) -> Vec<PathBuf> {
    [pin_dir.to_owned(), own_mount(runtime_dir).join(OWN_PINS)]
        .into_iter()
        .filter(|path| is_bpffs(path))
        .collect()
}

/// Unmounts what [`prepare`] mounted, when nothing is pinned any more.
///
/// # Errors
/// As umount(2).
pub fn release(pins: &PinDir) -> io::Result<()> {
    match &pins.mounted {
        Some(mounted) => Ok(unmount(mounted, UnmountFlags::DETACH)?),
        None => Ok(()),
    }
}

fn is_bpffs(path: &Path) -> bool {
    // `f_type` has another width on other architectures; the magic number has 32 bits on all.
    statfs(path)
        .is_ok_and(|found| u32::try_from(found.f_type).is_ok_and(|kind| kind == BPF_FS_MAGIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_directory_is_no_bpffs() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_bpffs(dir.path()));
        assert!(!is_bpffs(Path::new("/nowhere/at/all")));
    }
}
