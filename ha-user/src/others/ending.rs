//! A thread that ends in two steps: it stops, and undoes what it did only when it is told to.

use std::{
    io,
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use super::Unfinished;

/// The thread. Dropped, it undoes nothing.
pub(super) struct Thread {
    undo: Sender<()>,
    undone: oneshot::Receiver<()>,
}

impl Thread {
    /// Starts it. What `run` leaves is for `undo`.
    pub(super) fn spawn<W>(
        name: &str,
        run: impl FnOnce() -> W + Send + 'static,
        undo: impl FnOnce(W) + Send + 'static,
    ) -> io::Result<Self> {
        let (tell, told) = channel();
        let (sender, undone) = oneshot::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let left = run();
                if told.recv().is_ok() {
                    undo(left);
                    // Nobody waits that long.
                    let _ = sender.send(());
                }
            })?;
        Ok(Self { undo: tell, undone })
    }

    /// Has it undo what it did, once it has stopped. It may hang in the kernel, and is left behind then.
    pub(super) async fn undo(self, limit: Duration) -> Result<(), Unfinished> {
        self.undo.send(()).map_err(|_| Unfinished)?;
        match timeout(limit, self.undone).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unfinished),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    /// A thread that runs until its sender is dropped, and adds 7 when it undoes that.
    fn begin(sum: &Arc<AtomicU32>) -> (Thread, Sender<()>) {
        let (release, held) = channel::<()>();
        let sum = Arc::clone(sum);
        let run = move || {
            let _ = held.recv();
            7
        };
        let undo = move |left| {
            sum.fetch_add(left, Ordering::SeqCst);
        };
        (Thread::spawn("had-test", run, undo).unwrap(), release)
    }

    #[tokio::test]
    async fn what_was_done_is_undone() {
        let sum = Arc::default();
        let (thread, release) = begin(&sum);
        drop(release);
        assert_eq!(thread.undo(LONG).await, Ok(()));
        assert_eq!(sum.load(Ordering::SeqCst), 7);
    }

    #[tokio::test]
    async fn a_thread_that_hangs_is_left_behind() {
        let sum = Arc::default();
        let (thread, release) = begin(&sum);
        let late = thread.undo(Duration::from_millis(20)).await;
        assert_eq!(late, Err(Unfinished));
        assert_eq!(sum.load(Ordering::SeqCst), 0);
        drop(release);
    }

    #[test]
    fn a_thread_that_is_told_nothing_undoes_nothing() {
        let sum = Arc::default();
        let (thread, release) = begin(&sum);
        drop((thread, release));
        // It has its own handle until it ends.
        for attempt in 0.. {
            if Arc::strong_count(&sum) == 1 {
                break;
            }
            assert!(attempt < 2_000);
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(sum.load(Ordering::SeqCst), 0);
    }
}
