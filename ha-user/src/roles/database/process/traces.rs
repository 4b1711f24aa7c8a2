//! What a server leaves in the file system and in /proc.

use std::{
    fs,
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::config::ServerProcess;

/// As what servers run.
const NAMES: [&str; 2] = ["mariadbd", "mysqld"];

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Traces {
    /// The server.
    Running(Pid),
    /// A process that may be it.
    Unclear(String),
    /// Nothing, where everything was seen.
    None,
}

/// What is known of one process.
enum Judged {
    Server,
    Other,
    Unclear(String),
}

/// Looks for the process. Blocks, as /proc does where a process holds its memory.
pub(super) fn look(config: &ServerProcess) -> Traces {
    let place = config.data_dir.as_deref().map(Place::of);
    let mut unclear = None;
    match config.pid_file.as_deref().map(written) {
        Some(Ok(Some(pid))) => match judge(pid, place.as_ref()) {
            Judged::Server => return Traces::Running(pid),
            Judged::Unclear(why) => unclear = Some(why),
            Judged::Other => {}
        },
        // One that has just been started has written none yet.
        Some(Ok(None)) | None => {}
        Some(Err(why)) => unclear = Some(why),
    }
    let scanned = match place {
        Some(place) => scan(|pid| {
            if is_server(pid) {
                judge(pid, Some(&place))
            } else {
                Judged::Other
            }
        }),
        // Only systemd can tell which one it is.
        None if config.unit.is_some() => Traces::None,
        None => scan(|pid| match judge(pid, None) {
            Judged::Server => Judged::Unclear(format!(
                "process {pid} is a server, and whether it is this one cannot be told: write where its data is (`data_dir`)"
            )),
            other => other,
        }),
    };
    match (scanned, unclear) {
        (Traces::None, Some(why)) => Traces::Unclear(why),
        (scanned, _) => scanned,
    }
}

/// Of a unit's processes: whether it is the server.
pub(super) fn of_unit(pid: Pid, data_dir: Option<&Path>) -> bool {
    let place = data_dir.map(Place::of);
    match judge(pid, place.as_ref()) {
        Judged::Server => true,
        Judged::Other => false,
        Judged::Unclear(_) => is_server(pid),
    }
}

/// Where a server's data is.
enum Place {
    /// The device and the number of its directory.
    Directory(u64, u64),
    /// It is not there, as a file system is not that is mounted on the other node.
    Absent(PathBuf),
}

impl Place {
    fn of(data_dir: &Path) -> Self {
        match fs::metadata(data_dir) {
            Ok(found) => Self::Directory(found.dev(), found.ino()),
            Err(_) => Self::Absent(data_dir.to_owned()),
        }
    }

    /// Whether a process works there.
    fn is_of(&self, pid: Pid) -> io::Result<bool> {
        match self {
            Self::Directory(device, number) => {
                let found = of_a_thread(pid, fs::metadata)?;
                Ok((found.dev(), found.ino()) == (*device, *number))
            }
            Self::Absent(path) => Ok(of_a_thread(pid, fs::read_link)? == *path),
        }
    }
}

/// Asks for the directory in which a process works; of another thread where the first one has ended, as of a process
/// that was killed and waits for a disk.
fn of_a_thread<T>(pid: Pid, ask: impl Fn(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let of_process = Path::new("/proc").join(pid.to_string());
    let first = ask(of_process.join("cwd"));
    if !matches!(&first, Err(error) if error.kind() == ErrorKind::NotFound) {
        return first;
    }
    let threads = fs::read_dir(of_process.join("task"))?.flatten();
    let others = threads.filter_map(|thread| ask(thread.path().join("cwd")).ok());
    others.into_iter().next().map_or(first, Ok)
}

/// A server works in the directory of its data.
fn judge(pid: Pid, place: Option<&Place>) -> Judged {
    let Some(place) = place else {
        return if is_server(pid) && is_alive(pid) {
            Judged::Server
        } else {
            Judged::Other
        };
    };
    match place.is_of(pid) {
        Ok(true) => Judged::Server,
        Ok(false) => Judged::Other,
        Err(_) if !is_alive(pid) => Judged::Other,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Judged::Unclear(format!("process {pid} has not ended yet"))
        }
        Err(_) if !is_server(pid) => Judged::Other,
        Err(error) => Judged::Unclear(format!(
            "process {pid} is a server, and whether it is this one may not be seen ({error}): had lacks CAP_SYS_PTRACE, see packaging/roles.conf"
        )),
    }
}

/// What the server wrote; `None`: nothing that is a process.
fn written(file: &Path) -> Result<Option<Pid>, String> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().parse().ok().and_then(Pid::from_raw)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", file.display())),
    }
}

/// The first server among all processes, else the first that may be it.
fn scan(judge: impl Fn(Pid) -> Judged) -> Traces {
    // Where those of others are hidden, none is to be seen.
    if let Err(error) = fs::read("/proc/1/comm") {
        return Traces::Unclear(format!(
            "the processes of others are hidden (/proc/1: {error}; see `hidepid` of /proc)"
        ));
    }
    let entries = match fs::read_dir("/proc") {
        Ok(entries) => entries,
        Err(error) => return Traces::Unclear(format!("/proc cannot be read: {error}")),
    };
    let numbers = entries.flatten().filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(number)
    });
    let mut unclear = None;
    for pid in numbers {
        match judge(pid) {
            Judged::Server => return Traces::Running(pid),
            Judged::Unclear(why) => unclear = Some(why),
            Judged::Other => {}
        }
    }
    unclear.map_or(Traces::None, Traces::Unclear)
}

fn is_server(pid: Pid) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    name.is_ok_and(|name| NAMES.contains(&name.trim()))
}

/// Whether a thread of it is left: what was killed, and waits for a disk, still writes.
fn is_alive(pid: Pid) -> bool {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => !has_ended(&fd),
        Err(error) => error != Errno::SRCH,
    }
}

/// Whether all threads of a process have ended, though nobody may have taken note yet.
pub(super) fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}
