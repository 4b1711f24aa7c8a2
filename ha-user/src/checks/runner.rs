//! The tasks of the checks: started, kept over a reload where nothing changed, and ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ha_common::MonoNs;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    asks::Asks,
    probe::Role,
    report::Watched,
    task::{Runner, tell},
};
use crate::{
    config::{Check, Config},
    control::report::CheckReport,
    engine::{Command, Handle, Message},
};

/// Those who ask for a probe at once and wait at the same time: an instance each.
const ASKS: usize = 256;

/// All checks of this node. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct Checks {
    running: Arc<Mutex<Vec<Running>>>,
    engine: Handle,
    messages: mpsc::Sender<Message>,
}

/// One check and its task.
#[derive(Debug)]
struct Running {
    config: Check,
    role: watch::Sender<Role>,
    asks: mpsc::Sender<MonoNs>,
    watched: Arc<Mutex<Watched>>,
    task: JoinHandle<()>,
}

impl Checks {
    /// None so far.
    #[must_use]
    pub fn new(engine: Handle, messages: mpsc::Sender<Message>) -> Self {
        Self {
            running: Arc::default(),
            engine,
            messages,
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins, ends and replaces tasks until they are those of a configuration. A check that stayed as it was
    /// goes on.
    pub fn configure(&self, config: &Config) {
        let mut running = self.running();
        let before = std::mem::take(&mut *running);
        let (mut kept, gone): (Vec<Running>, Vec<Running>) = before
            .into_iter()
            .partition(|running| config.checks.contains(&running.config));
        drop(gone);
        for check in &config.checks {
            let one = match kept.iter().position(|running| running.config == *check) {
                Some(index) => kept.swap_remove(index),
                None => self.start(check),
            };
            running.push(one);
        }
    }

    fn start(&self, check: &Check) -> Running {
        let (role, roles) = watch::channel(Role::default());
        let (asks, asked) = mpsc::channel(ASKS);
        let watched = Arc::new(Mutex::new(Watched::default()));
        let name: Arc<str> = check.name.as_str().into();
        let runner = Runner {
            asks: Asks::new(&name, asked, self.engine.clone(), self.messages.clone()),
            name,
            watched: Arc::clone(&watched),
            engine: self.engine.clone(),
            messages: self.messages.clone(),
        };
        Running {
            task: tokio::spawn(runner.run(check.clone(), roles)),
            config: check.clone(),
            role,
            asks,
            watched,
        }
    }

    /// Tells a check what this node is for the instances that track it.
    pub fn set_role(&self, check: &str, role: Role) {
        let all = self.running();
        if let Some(running) = all.iter().find(|running| running.config.name == check) {
            running.role.send_if_modified(|known| {
                let changed = *known != role;
                *known = role;
                changed
            });
        }
    }

    /// Lets a check be looked at now, and the engine thread be told what it found. One that is not there any more
    /// is not reached.
    pub fn ask(&self, check: &str, round: MonoNs) {
        let all = self.running();
        let running = all.iter().find(|running| running.config.name == check);
        let asked = running.is_some_and(|running| running.asks.try_send(round).is_ok());
        if !asked {
            let engine = self.engine.clone();
            let check = check.to_owned();
            tokio::spawn(async move {
                tell(&engine, || Command::Confirmed {
                    check: check.clone(),
                    round,
                    result: Err("it cannot be looked at at present".to_owned()),
                })
                .await;
            });
        }
    }

    /// Every check with what is known of it.
    #[must_use]
    pub fn report(&self) -> Vec<CheckReport> {
        let all = self.running();
        all.iter()
            .map(|running| {
                let watched = running.watched.lock();
                let watched = watched.unwrap_or_else(PoisonError::into_inner);
                watched.report(&running.config)
            })
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
