//! `kind = "mount"`: a file system that is mounted on the group's Active node.
//!
//! What touches a file system may hang for ever, so that is done on a thread of its own: when a step's time is over,
//! the thread is left alone, takes back what it still did, and until it has come back no other step begins.

mod attach;
mod detach;
mod fsck;
mod table;
#[cfg(test)]
mod tests;
mod users;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ha_common::MonoNs;
use ha_core::plan::{Done, Observation, Order};
use tokio::time::timeout;

use super::{
    Pending, Role,
    found::{Found, done, end_of},
    time::{left, within},
};
use crate::{
    checks::{blocking::Blocking, tool::Tool},
    config::MountRole as FileSystem,
};

/// From one look to the next.
const EVERY: Duration = Duration::from_millis(500);
/// For a look while nothing else is under way.
const LOOK: Duration = Duration::from_secs(2);

/// Where the mount of this number is.
pub(super) fn mount_of(number: u64) -> Result<PathBuf, String> {
    let mounts = table::read()?;
    let mount = mounts.iter().find(|mount| mount.id == number);
    let place = mount.map(|mount| mount.place.clone());
    place.ok_or_else(|| "it has been unmounted".to_owned())
}

/// What is mounted somewhere below a directory, if anything is.
pub(super) fn mounted_in(directory: &Path) -> Result<Option<PathBuf>, String> {
    let mounts = table::read()?;
    let below = |place: &Path| place != directory && place.starts_with(directory);
    let mut places = mounts.into_iter().map(|mount| mount.place);
    Ok(places.find(|place| below(place)))
}

/// See [`crate::config::MountRole`].
pub(super) struct Mount {
    system: FileSystem,
    fsck: Tool,
    work: Blocking<Result<String, String>>,
    look: Blocking<Found>,
}

/// Says that nobody waits for an outcome any more.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Mount {
    /// Of this file system.
    pub(super) fn new(system: &FileSystem) -> Self {
        Self {
            system: system.clone(),
            fsck: Tool::new("fsck"),
            work: Blocking::new(),
            look: Blocking::new(),
        }
    }

    /// Carries out a step, by its name. In words what was done, or why it was not.
    async fn step(&mut self, step: &str, deadline: MonoNs) -> Result<String, String> {
        let place = self.system.place.display();
        match step {
            "fsck" => self.check(deadline).await,
            "mount" => {
                let what = format!("mounting {place}");
                self.on_a_thread(&what, deadline, |system, _, given_up| {
                    attach::mount(&system, given_up)
                })
                .await
            }
            "unmount" => {
                let what = format!("unmounting {place}");
                self.on_a_thread(&what, deadline, |system, deadline, given_up| {
                    detach::unmount(&system, deadline, given_up)
                })
                .await
            }
            other => Err(format!("a role of kind mount has no step {other}")),
        }
    }

    /// What it finds now.
    async fn look(&mut self) -> Found {
        let what = format!("the look at {}", self.system.place.display());
        let system = self.system.clone();
        let look = self.look.call(&what, move || attach::look(&system));
        match timeout(LOOK, look).await {
            Ok(Ok(found)) => found,
            Ok(Err(why)) => Found::unknown(why),
            Err(_) => Found::unknown(format!("{what} takes too long")),
        }
    }

    async fn on_a_thread(
        &mut self,
        what: &str,
        deadline: MonoNs,
        work: impl FnOnce(FileSystem, MonoNs, &AtomicBool) -> Result<String, String> + Send + 'static,
    ) -> Result<String, String> {
        let given_up = Arc::new(AtomicBool::new(false));
        let _abandon = Abandon(Arc::clone(&given_up));
        let system = self.system.clone();
        let call = self
            .work
            .call(what, move || work(system, deadline, &given_up));
        within(deadline, what, call).await??
    }

    async fn check(&mut self, deadline: MonoNs) -> Result<String, String> {
        if !self.system.fsck {
            return Ok("not configured".to_owned());
        }
        let found = timeout(left(deadline), self.look()).await;
        if found.is_ok_and(|found| found.promoted == Some(true)) {
            return Ok("mounted already".to_owned());
        }
        fsck::check(&mut self.fsck, &self.system, deadline).await
    }
}

impl Role for Mount {
    fn run<'a>(&'a mut self, order: &'a Order) -> Pending<'a, Result<Done, String>> {
        Box::pin(async { self.step(order.step, end_of(order)).await.map(done) })
    }

    fn observe(&mut self) -> Pending<'_, Observation> {
        Box::pin(async { self.look().await.observation() })
    }

    fn every(&self) -> Duration {
        EVERY
    }

    fn look_limit(&self) -> Duration {
        LOOK + EVERY
    }
}
