//! The processes of this node's bricks.

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    path::Path,
    task::{Context, Poll},
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};

use super::{answer::Brick, volume::Volume};
use crate::{
    checks::{blocking::Blocking, files},
    sys::readiness,
};

/// Bytes of a command line that are compared; glusterd gives a brick some thousand.
const LONGEST_COMMAND: u64 = 64 * 1024;

/// Those whose end is heard, by their brick's path.
pub(super) struct Processes {
    followed: HashMap<String, Process>,
    looking: Blocking<Vec<Found>>,
}

/// A process of a brick.
struct Found {
    path: String,
    pid: i32,
    handle: OwnedFd,
}

struct Process {
    pid: i32,
    fd: AsyncFd<OwnedFd>,
}

impl Processes {
    pub(super) fn new() -> Self {
        Self {
            followed: HashMap::new(),
            looking: Blocking::new(),
        }
    }

    /// From now on, those of a node's bricks.
    pub(super) async fn follow(
        &mut self,
        volume: &Volume,
        online: &HashMap<Brick, Option<i32>>,
        node: &str,
    ) -> Result<(), String> {
        let wanted: HashMap<String, i32> = volume
            .of_node(node)
            .filter_map(|brick| Some((brick.1.clone(), (*online.get(brick)?)?)))
            .collect();
        self.followed
            .retain(|path, process| wanted.get(path) == Some(&process.pid));
        let others: Vec<(String, i32)> = wanted
            .into_iter()
            .filter(|(path, _)| !self.followed.contains_key(path))
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let look = move || {
            let found = others.into_iter().filter_map(|(path, pid)| {
                let handle = open(pid, &path).ok()?;
                Some(Found { path, pid, handle })
            });
            found.collect()
        };
        let found = self
            .looking
            .call("the look at the bricks' processes", look)
            .await?;
        for Found { path, pid, handle } in found {
            if let Ok(fd) = readiness::of(handle, Interest::READABLE) {
                self.followed.insert(path, Process { pid, fd });
            }
        }
        Ok(())
    }

    /// Waits until one ends, and says whose it was.
    pub(super) async fn ended(&mut self) -> String {
        let path = poll_fn(|context| {
            let mut processes = self.followed.iter();
            let ended = processes.find(|(_, process)| process.has_ended(context));
            ended.map_or(Poll::Pending, |(path, _)| Poll::Ready(path.clone()))
        })
        .await;
        self.followed.remove(&path);
        path
    }
}

impl Process {
    fn has_ended(&self, context: &mut Context<'_>) -> bool {
        self.fd.poll_read_ready(context).is_ready()
    }
}

/// That of a brick: the process may have got the number of one that has ended, or be in another container.
fn open(pid: i32, path: &str) -> io::Result<OwnedFd> {
    // glusterd names -1 where there is none, of which rustix makes no error.
    let number = Pid::from_raw(pid.max(0)).ok_or(io::ErrorKind::InvalidInput)?;
    let handle = pidfd_open(number, PidfdFlags::NONBLOCK)?;
    let file = format!("/proc/{pid}/cmdline");
    let command = files::read(Path::new(&file), LONGEST_COMMAND)?;
    let mut arguments = command.split(|byte| *byte == 0);
    if arguments.any(|argument| argument == path.as_bytes()) {
        Ok(handle)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command},
        thread,
        time::Duration,
    };

    use super::*;

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn only_the_process_of_the_brick_is_followed() {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id().cast_signed();
        let child = Killed(child);
        // For a moment it is a copy of this one.
        for attempt in 0.. {
            if open(pid, "1000").is_ok() {
                break;
            }
            assert!(attempt < 1_000);
            thread::sleep(Duration::from_millis(5));
        }
        assert!(open(pid, "100").is_err());
        drop(child);
        assert!(open(pid, "1000").is_err());
        assert!(open(-1, "1000").is_err());
    }
}
