//! The thread: follows the interfaces, guards them, and tells what it could not do.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use tracing::{info, warn};

use super::{
    Plan, State,
    choice::{Choice, choose},
    sysctls::{Key, Sysctls},
};
use crate::{
    dataplane::Guards,
    net::links::{Links, Table},
};

/// How long until what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Between two looks at interfaces that change all the time.
const CALM: Duration = Duration::from_millis(20);

pub(super) struct Worker {
    plan: Plan,
    has_gate: bool,
    guards: Option<Guards>,
    sysctls: Sysctls,
    links: Links,
    state: Arc<Mutex<State>>,
    ending: Arc<AtomicBool>,
    /// Whether what an earlier daemon left was taken off.
    is_clean: bool,
}

impl Worker {
    pub(super) fn open(
        plan: Plan,
        has_gate: bool,
        guards: Option<Guards>,
        record: PathBuf,
        state: Arc<Mutex<State>>,
        ending: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        Ok(Self {
            plan,
            has_gate,
            guards,
            sysctls: Sysctls::load(record),
            links: Links::open()?,
            state,
            ending,
            is_clean: false,
        })
    }

    /// Until it is told to end.
    pub(super) fn run(mut self, plans: &Receiver<Plan>, wake: &OwnedFd) -> Self {
        while !self.ending.load(Ordering::Relaxed) {
            let failed = self.look();
            if !self.wait(wake, failed) {
                // Without a way to wait it would look all the time; what it did stays.
                std::thread::sleep(RETRY);
            }
            if let Some(plan) = plans.try_iter().last() {
                self.plan = plan;
            }
            if let Err(error) = self.links.update() {
                warn!("the other interfaces cannot be watched: {error}");
            }
        }
        self
    }

    /// Waits until something changed, or something that failed is to be tried again. False: it cannot.
    fn wait(&self, wake: &OwnedFd, failed: bool) -> bool {
        let retry = Timespec {
            tv_sec: i64::try_from(RETRY.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: 0,
        };
        let mut descriptors = [
            PollFd::from_borrowed_fd(self.links.as_fd(), PollFlags::IN),
            PollFd::new(wake, PollFlags::IN),
        ];
        match poll(&mut descriptors, failed.then_some(&retry)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return false,
        }
        if descriptors[1].revents().is_empty() {
            std::thread::sleep(CALM);
        } else {
            let mut counter = [0_u8; 8];
            let _ = rustix::io::read(wake, &mut counter);
        }
        true
    }

    /// Does what is to be done by now. Whether something failed.
    fn look(&mut self) -> bool {
        let table = self.links.table();
        let (choices, too_many) = choose(table, &self.plan, self.has_gate);
        let mut warnings = Vec::new();
        if too_many > 0 {
            warnings.push(format!(
                "{too_many} interfaces are not guarded: there are too many. Linux answers there for every address of \
                 the host"
            ));
        }
        let mut guarded = Vec::new();
        match &mut self.guards {
            Some(guards) => {
                warnings.extend(guard(guards, &choices, table, &self.ending));
                if self.ending.load(Ordering::Relaxed) {
                    return false;
                }
                let present: Vec<u32> = guards.guarded().collect();
                let is_guarded = |choice: &&Choice| present.contains(&choice.ifindex);
                guarded.extend(
                    choices
                        .iter()
                        .filter(is_guarded)
                        .map(|one| one.name.clone()),
                );
                if !self.is_clean {
                    let others = table
                        .links()
                        .filter(|link| !present.contains(&link.ifindex));
                    let forgotten = guards.forget_leftovers(others.map(|link| link.name.as_str()));
                    self.is_clean = forgotten.is_ok();
                    warnings.extend(forgotten.err().map(|error| {
                        format!("what an earlier daemon left on other interfaces stays: {error}")
                    }));
                }
            }
            None if self.has_gate && choices.iter().any(|choice| choice.guard) => {
                warnings.push(
                    "interfaces that no instance names are not guarded, since nothing can be pinned: Linux answers \
                     there for every address of the host"
                        .to_owned(),
                );
            }
            None => {}
        }
        let is_guarded = |choice: &Choice| guarded.contains(&choice.name);
        let wanted: Vec<(u32, &str, Key)> = choices
            .iter()
            .flat_map(|choice| {
                let ignore = choice.ignore || (choice.guard && !is_guarded(choice));
                let needed = [
                    (choice.announce, Key::ArpAnnounce),
                    (choice.announce && ignore, Key::ArpIgnore),
                ];
                needed
                    .into_iter()
                    .filter(|(needed, _)| *needed)
                    .map(|(_, key)| (choice.ifindex, choice.name.as_str(), key))
            })
            .collect();
        warnings.extend(self.sysctls.apply(&wanted, table));
        self.tell(State { guarded, warnings })
    }

    /// Whether there is something to warn of.
    fn tell(&self, present: State) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = |warning: &&String| !state.warnings.contains(warning);
        for warning in present.warnings.iter().filter(is_news) {
            warn!("{warning}");
        }
        if state.guarded != present.guarded {
            info!(
                "other interfaces that are guarded: {}",
                in_words(&present.guarded)
            );
        }
        let failed = !present.warnings.is_empty();
        *state = present;
        failed
    }

    /// The sysctls first: to take the guards off may take long.
    pub(super) fn undo(self) {
        match Table::read() {
            Ok(table) => {
                for failure in self.sysctls.restore(&table) {
                    warn!("{failure}");
                }
            }
            Err(error) => warn!("the sysctls of the interfaces stay changed: {error}"),
        }
        if let Some(guards) = self.guards
            && let Err(error) = guards.release()
        {
            warn!("other interfaces stay guarded: {error}");
        }
    }
}

/// Guards what is to be guarded, and nothing else. What could not be done.
fn guard(
    guards: &mut Guards,
    choices: &[Choice],
    table: &Table,
    ending: &AtomicBool,
) -> Vec<String> {
    let mut failures = Vec::new();
    for choice in choices.iter().filter(|choice| choice.guard) {
        // Each takes a while.
        if ending.load(Ordering::Relaxed) {
            return failures;
        }
        if let Err(error) = guards.guard(&choice.name, choice.ifindex) {
            failures.push(format!(
                "{} cannot be guarded, and Linux answers there for every address of the host: {error}",
                choice.name
            ));
        }
    }
    let is_wanted = |ifindex| {
        let mut wanted = choices.iter().filter(|choice| choice.guard);
        wanted.any(|choice| choice.ifindex == ifindex)
    };
    let unneeded: Vec<u32> = guards.guarded().filter(|one| !is_wanted(*one)).collect();
    for ifindex in unneeded {
        if ending.load(Ordering::Relaxed) {
            return failures;
        }
        if let Err(error) = guards.unguard(ifindex)
            && let Some(link) = table.by_index(ifindex)
        {
            failures.push(format!("{} stays guarded: {error}", link.name));
        }
    }
    failures
}

fn in_words(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}
