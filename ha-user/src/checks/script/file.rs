//! Whether a script may be run: it is there, it can be executed, and nobody could have put it there who may not run
//! programs as its user.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use crate::{checks::words, sys::accounts::User};

/// Write permission of group and others.
const OTHERS_WRITE: u32 = 0o022;
/// In such a directory only the owner of a file removes or renames it.
const STICKY: u32 = 0o1000;

/// `Err`: what is wrong, and what to do.
pub(super) fn judge(path: &Path, user: &User) -> Result<(), String> {
    let unusable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ => format!("{}: {}", path.display(), words::of_io(&error)),
    };
    let target = fs::canonicalize(path).map_err(unusable)?;
    let file = fs::metadata(&target).map_err(unusable)?;
    let shown = target.display();
    if !file.is_file() {
        return Err(format!("{shown} is no file"));
    }
    if !is_executable(&file, user) {
        return Err(format!(
            "{shown} is not executable for {}: run chmod +x {shown}",
            user.name
        ));
    }
    guarded(&target, &file, user)?;
    // Where a link leads is decided in the directory of the link.
    for directory in target.ancestors().chain(path.ancestors()).skip(1) {
        let metadata = fs::metadata(directory).map_err(unusable)?;
        if metadata.is_dir() {
            guarded(directory, &metadata, user)?;
        }
    }
    Ok(())
}

/// By its permissions alone; what else forbids it is found when it is run.
fn is_executable(file: &Metadata, user: &User) -> bool {
    let mode = file.mode();
    let bits = match () {
        () if user.uid == 0 => 0o111,
        () if user.uid == file.uid() => 0o100,
        () if user.gid == file.gid() => 0o010,
        () => 0o001,
    };
    mode & bits != 0
}

/// Whether root and the user alone may change it.
fn guarded(path: &Path, metadata: &Metadata, user: &User) -> Result<(), String> {
    let (mode, owner, shown) = (metadata.mode(), metadata.uid(), path.display());
    if owner != 0 && owner != user.uid {
        return Err(format!(
            "{shown} belongs to user {owner}, who could have {} run anything: run chown root {shown}",
            user.name
        ));
    }
    let sticky = metadata.is_dir() && mode & STICKY != 0;
    if mode & OTHERS_WRITE != 0 && !sticky {
        return Err(format!(
            "{shown} may be changed by others (mode {:o}), who could have {} run anything: run chmod go-w {shown}",
            mode & 0o7777,
            user.name
        ));
    }
    Ok(())
}
