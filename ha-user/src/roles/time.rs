//! The time that a step has.

use std::{future::Future, time::Duration};

use ha_common::{MonoNs, Nanos};
use tokio::time::{sleep, timeout};

use crate::sys::clock;

/// What a step needs at its end to say how it was.
pub(super) const TO_SAY: Nanos = Nanos::from_millis(20);

/// Between two tries of what may pass.
const AGAIN: Duration = Duration::from_millis(50);

/// What is left until a deadline.
pub(super) fn left(deadline: MonoNs) -> Duration {
    Duration::from_nanos(deadline.since(clock::now()).0)
}

/// Until the deadline; `Err`: the time is over, and this is what took it.
pub(super) async fn within<T>(
    deadline: MonoNs,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, String> {
    let result = timeout(left(deadline), work).await;
    result.map_err(|_| format!("{what} has not ended in time"))
}

/// A pause before the next try; `false`: there is no time for another one.
pub(super) async fn again(deadline: MonoNs) -> bool {
    if left(deadline) <= AGAIN {
        return false;
    }
    sleep(AGAIN).await;
    true
}
