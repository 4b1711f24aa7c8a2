//! The processes of this node's bricks.

use std::{
    collections::HashMap,
    fs,
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    task::{Context, Poll},
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};

use super::{answer::Brick, volume::Volume};
use crate::sys::readiness;

/// Those whose end is heard, by their brick's path.
#[derive(Default)]
pub(super) struct Processes {
    followed: HashMap<String, Process>,
}

struct Process {
    pid: i32,
    fd: AsyncFd<OwnedFd>,
}

impl Processes {
    /// From now on, those of a node's bricks.
    pub(super) fn follow(
        &mut self,
        volume: &Volume,
        online: &HashMap<Brick, Option<i32>>,
        node: &str,
    ) {
        let mut before = std::mem::take(&mut self.followed);
        for brick in volume.of_node(node) {
            let Some(Some(pid)) = online.get(brick).copied() else {
                continue;
            };
            let path = &brick.1;
            let known = before.remove(path).filter(|process| process.pid == pid);
            if let Some(process) = known.or_else(|| Process::open(pid, path).ok()) {
                self.followed.insert(path.clone(), process);
            }
        }
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
    /// That of a brick: the process may have got the number of one that has ended, or be in another container.
    fn open(pid: i32, path: &str) -> io::Result<Self> {
        let number = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = pidfd_open(number, PidfdFlags::NONBLOCK)?;
        let fd = readiness::of(fd, Interest::READABLE)?;
        let command = fs::read(format!("/proc/{pid}/cmdline"))?;
        let mut arguments = command.split(|byte| *byte == 0);
        if arguments.any(|argument| argument == path.as_bytes()) {
            Ok(Self { pid, fd })
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn has_ended(&self, context: &mut Context<'_>) -> bool {
        self.fd.poll_read_ready(context).is_ready()
    }
}
