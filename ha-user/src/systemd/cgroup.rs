//! The control groups of units.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{io::Errno, process::Pid};

/// Where systemd's hierarchy may be: of version 2, beside version 1, and of version 1.
const ROOTS: [&str; 3] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/systemd",
];

/// Where a group is, by the path that systemd tells of it.
pub(super) fn place(path: &str) -> PathBuf {
    let is_root = |root: &&str| Path::new(root).join("cgroup.procs").exists();
    let root = ROOTS.into_iter().find(is_root).unwrap_or(ROOTS[0]);
    Path::new(root).join(path.trim_start_matches('/'))
}

/// The processes of a group and of all below it; none where it is not there.
pub(super) fn processes(group: PathBuf) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    let mut groups = vec![group];
    while let Some(group) = groups.pop() {
        match fs::read_to_string(group.join("cgroup.procs")) {
            Ok(text) => found.extend(text.lines().filter_map(pid)),
            Err(error) if is_gone(&error) => continue,
            // One of threads: their processes are in the one above.
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        match fs::read_dir(&group) {
            Ok(entries) => {
                let entries = entries.flatten();
                let below = entries.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()));
                groups.extend(below.map(|entry| entry.path()));
            }
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// It may go while it is read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

fn pid(line: &str) -> Option<Pid> {
    Pid::from_raw(line.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_below_are_read_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("db.service/below");
        fs::create_dir_all(&below).unwrap();
        fs::write(dir.path().join("db.service/cgroup.procs"), "").unwrap();
        fs::write(below.join("cgroup.procs"), "71\n72\n").unwrap();
        let found = processes(dir.path().join("db.service")).unwrap();
        let found: Vec<i32> = found.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
        assert_eq!(found, [71, 72]);
        assert!(processes(dir.path().join("none")).unwrap().is_empty());
    }
}
