//! Calls that may hang for ever, as on a file system that is gone: never more than one of them at a time.

use std::time::Duration;

use ha_common::MonoNs;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use crate::sys::clock;

/// How long an abandoned call may still take before the next one is refused.
const GRACE: Duration = Duration::from_millis(100);

/// A place for one call at a time. A call whose caller gave up goes on by itself, since nobody can end it; until it
/// has come back the place takes no other one.
pub(crate) struct Blocking<T> {
    under_way: Option<(JoinHandle<T>, MonoNs)>,
}

impl<T: Send + 'static> Blocking<T> {
    /// With nothing under way.
    pub(crate) const fn new() -> Self {
        Self { under_way: None }
    }

    /// What an abandoned call came back with, if there was one. `Err`: it is still out.
    pub(crate) async fn settle(&mut self, what: &str) -> Result<Option<T>, String> {
        let Some((handle, since)) = &mut self.under_way else {
            return Ok(None);
        };
        let Ok(result) = timeout(GRACE, handle).await else {
            let seconds = clock::now().since(*since).0 / 1_000_000_000;
            return Err(format!(
                "{what} has hung for {seconds} s: it waits for a file system or a process that does not answer"
            ));
        };
        self.under_way = None;
        Ok(result.ok())
    }

    /// Calls on a thread of its own. An earlier call that stays out is a failure, and what it comes back with is old
    /// and dropped; `what` says what it was to do, as in "the look at /run/web.pid".
    pub(crate) async fn call(
        &mut self,
        what: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        self.settle(what).await?;
        let (handle, _) = self.under_way.insert((spawn_blocking(work), clock::now()));
        let result = handle.await;
        self.under_way = None;
        result.map_err(|_| format!("{what} could not be done: the daemon ends"))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_that_hangs_is_the_only_one() {
        let mut blocking = Blocking::new();
        let calls = Arc::new(AtomicU32::new(0));
        let (release, held) = mpsc::channel::<()>();
        let first = Arc::clone(&calls);
        let hung = blocking.call("the look", move || {
            first.fetch_add(1, Ordering::SeqCst);
            // Ends when the sender is gone.
            let _ = held.recv();
        });
        timeout(Duration::from_millis(50), hung)
            .await
            .expect_err("it hangs");
        for _ in 0..3 {
            let again = Arc::clone(&calls);
            let refused = blocking
                .call("the look", move || {
                    again.fetch_add(1, Ordering::SeqCst);
                })
                .await
                .expect_err("one is out");
            assert!(
                refused.starts_with("the look has hung for 0 s"),
                "{refused}"
            );
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        drop(release);
        for attempt in 0.. {
            let again = Arc::clone(&calls);
            let answer = blocking
                .call("the look", move || {
                    again.fetch_add(1, Ordering::SeqCst);
                })
                .await;
            if answer.is_ok() {
                break;
            }
            assert!(attempt < 1_000, "{answer:?}");
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }
}
