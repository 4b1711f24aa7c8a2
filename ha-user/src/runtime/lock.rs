//! One daemon for each `runtime_dir` and each pin directory.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock},
    io::Errno,
};

/// In the directory that is locked.
const FILE: &str = "had.lock";

/// A lock that ends with the process, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error("another had{} uses {}: stop it, or give this one another {key}", holder(*.pid), path.display())]
    Taken {
        /// What is locked.
        path: PathBuf,
        /// The other daemon, if it left its process ID.
        pid: Option<u32>,
        /// The key of the configuration.
        key: &'static str,
    },
    /// The system refused.
    #[error("{} cannot be locked: {source}", path.display())]
    System {
        /// What was to be locked.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Locks `runtime_dir`.
///
/// # Errors
/// See [`LockError`].
pub fn runtime_dir(dir: &Path) -> Result<Lock, LockError> {
    let path = dir.join(FILE);
    let system = |source: io::Error| LockError::System {
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(system)?;
    if let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if errno != Errno::WOULDBLOCK {
            return Err(system(errno.into()));
        }
        let mut text = String::new();
        // Only for the message: the holder may be writing it just now.
        let _ = file.read_to_string(&mut text);
        return Err(LockError::Taken {
            path: dir.to_owned(),
            pid: text.trim().parse().ok(),
            key: "node.runtime_dir",
        });
    }
    file.set_len(0).map_err(system)?;
    file.rewind().map_err(system)?;
    writeln!(file, "{}", std::process::id()).map_err(system)?;
    Ok(Lock { _file: file })
}

/// The daemon that has locked `runtime_dir`, or had; if it is known.
#[must_use]
pub fn holder_of(dir: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(dir.join(FILE)).ok()?;
    text.trim().parse().ok()
}

/// Locks the pin directory itself: two daemons with different `runtime_dir` must not share it.
///
/// # Errors
/// See [`LockError`].
pub fn pin_dir(dir: &Path) -> Result<Lock, LockError> {
    let system = |errno: Errno| LockError::System {
        path: dir.to_owned(),
        source: errno.into(),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let file = rustix::fs::open(dir, flags, Mode::empty()).map_err(system)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: file.into() }),
        Err(Errno::WOULDBLOCK) => Err(LockError::Taken {
            path: dir.to_owned(),
            pid: None,
            key: "dataplane.pin_dir",
        }),
        Err(errno) => Err(system(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = runtime_dir(dir.path()).unwrap();
        match runtime_dir(dir.path()).unwrap_err() {
            LockError::Taken { pid, .. } => assert_eq!(pid, Some(std::process::id())),
            error => panic!("{error}"),
        }
        drop(first);
        runtime_dir(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_is_locked_itself() {
        let dir = tempfile::tempdir().unwrap();
        let first = pin_dir(dir.path()).unwrap();
        assert!(matches!(
            pin_dir(dir.path()),
            Err(LockError::Taken { pid: None, .. })
        ));
        drop(first);
        pin_dir(dir.path()).unwrap();
    }
}
