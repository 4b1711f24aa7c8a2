//! Waiting for a condition with a deadline, instead of sleeping and hoping.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ha_common::Nanos;

use crate::{
    clock::{now, sleep_until, span},
    guest,
};

/// Between two looks at a condition.
const POLL: Nanos = Nanos::from_millis(2);

/// Waits until `condition` holds, and fails with `what` when it does not by `deadline`, which is later in a
/// [`guest`].
///
/// An error of the condition counts as "not yet"; the last one is part of the failure.
pub fn eventually(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = guest::patience(deadline);
    let end = now().after(span(deadline));
    loop {
        let outcome = condition();
        if matches!(outcome, Ok(true)) {
            return Ok(());
        }
        if now() >= end {
            return match outcome {
                Err(error) => {
                    Err(error).with_context(|| format!("not within {deadline:?}: {what}"))
                }
                Ok(_) => bail!("not within {deadline:?}: {what}"),
            };
        }
        sleep_until(now().after(POLL));
    }
}

/// Checks that `condition` holds all the time for `span_of_time`.
pub fn throughout(
    span_of_time: Duration,
    what: &str,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let end = now().after(span(span_of_time));
    while now() < end {
        if !condition()? {
            bail!("did not hold for {span_of_time:?}: {what}");
        }
        sleep_until(now().after(POLL));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_fails_by_its_deadline() {
        let error = eventually(Duration::from_millis(20), "pigs fly", || Ok(false)).unwrap_err();
        assert!(error.to_string().contains("pigs fly"));
    }

    #[test]
    fn a_condition_that_holds_later_is_waited_for() {
        let mut looks = 0;
        eventually(Duration::from_secs(5), "third look", || {
            looks += 1;
            Ok(looks == 3)
        })
        .unwrap();
        assert_eq!(looks, 3);
    }
}
