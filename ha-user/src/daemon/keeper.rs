//! Keeps the node's mode on the disk, without anybody waiting for that who is needed elsewhere: a disk that hangs is to hold up
//! neither a take-over nor the end of the daemon.

use std::{collections::VecDeque, future::pending, path::PathBuf};

use ha_core::Mode;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::roles::{self, ModeReply};

/// A mode that was to be kept.
pub(super) struct Kept {
    pub(super) mode: Mode,
    /// Who waits for it.
    pub(super) reply: Option<ModeReply>,
    /// Why it is not on the disk.
    pub(super) saved: Result<(), String>,
}

/// One after the other, in the order in which they were set.
pub(super) struct Keeper {
    state_dir: PathBuf,
    under_way: Option<Writing>,
    waiting: VecDeque<(Mode, Option<ModeReply>)>,
}

struct Writing {
    mode: Mode,
    reply: Option<ModeReply>,
    task: JoinHandle<Result<(), String>>,
}

impl Keeper {
    /// In this directory.
    pub(super) const fn new(state_dir: PathBuf) -> Self {
        Self {
            state_dir,
            under_way: None,
            waiting: VecDeque::new(),
        }
    }

    /// Has it written, behind those before it.
    pub(super) fn keep(&mut self, mode: Mode, reply: Option<ModeReply>) {
        self.waiting.push_back((mode, reply));
        self.begin();
    }

    fn begin(&mut self) {
        if self.under_way.is_some() {
            return;
        }
        let Some((mode, reply)) = self.waiting.pop_front() else {
            return;
        };
        let state_dir = self.state_dir.clone();
        let task = spawn_blocking(move || {
            roles::mode::save(&state_dir, mode).map_err(|error| {
                format!(
                    "the mode cannot be written to {}: {error}",
                    state_dir.display()
                )
            })
        });
        self.under_way = Some(Writing { mode, reply, task });
    }

    /// What became of the next one; for ever, where there is none. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Kept {
        let Some(writing) = &mut self.under_way else {
            return pending().await;
        };
        let written = (&mut writing.task).await;
        let saved = written.unwrap_or_else(|_| Err("the daemon ends".to_owned()));
        let (mode, reply) = (writing.mode, writing.reply.take());
        self.under_way = None;
        self.begin();
        Kept { mode, reply, saved }
    }

    /// Whether all are on the disk.
    pub(super) const fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn the_mode_that_was_set_last_is_on_the_disk_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::new(dir.path().to_owned());
        let modes = [Mode::Maintenance, Mode::Standalone, Mode::Maintenance];
        for mode in modes {
            keeper.keep(mode, None);
        }
        for mode in modes {
            let kept = timeout(LONG, keeper.next()).await.expect("it is written");
            assert_eq!(kept.mode, mode);
            kept.saved.unwrap();
        }
        assert!(keeper.is_idle());
        assert_eq!(roles::mode::load(dir.path()).unwrap(), Mode::Maintenance);
        assert!(
            timeout(Duration::from_millis(1), keeper.next())
                .await
                .is_err()
        );
    }

    /// A named pipe is opened for writing once somebody reads: a disk that hangs.
    #[tokio::test]
    async fn nobody_waits_for_a_disk_that_hangs() {
        let dir = tempfile::tempdir().unwrap();
        let draft = dir.path().join("mode.new");
        let pipe = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mkfifoat(rustix::fs::CWD, &draft, pipe).unwrap();
        let mut keeper = Keeper::new(dir.path().to_owned());
        let (reply, mut told) = oneshot::channel();
        keeper.keep(Mode::Maintenance, Some(reply));
        assert!(
            timeout(Duration::from_millis(50), keeper.next())
                .await
                .is_err()
        );
        assert!(told.try_recv().is_err());
        // The disk goes on; a pipe cannot be flushed to it.
        let reader = spawn_blocking(move || fs::read_to_string(draft));
        let kept = timeout(LONG, keeper.next()).await.expect("an end");
        assert!(kept.saved.unwrap_err().contains("cannot be written"));
        assert!(kept.reply.is_some());
        reader.await.unwrap().unwrap();
    }
}
