//! The engine thread: everything that must happen on time happens here.
//!
//! One thread, SCHED_FIFO, memory locked. It waits in one epoll for the dataplane's ring buffer (or, in
//! mode `off`, the receiving sockets), a timerfd with absolute CLOCK_MONOTONIC times, netlink, and an
//! eventfd by which the rest of the daemon (tokio) announces a [`Command`].
//!
//! Each turn takes in everything that was received, then looks at the clock (never at the timer's
//! event), and only then lets [`ha_core::Engine`] serve its timers: nothing is believed silent because
//! this thread was late. Each action is carried out here, at once and in order, and its outcome handed
//! back before the next one.
//!
//! Nothing here waits for anybody: sockets do not block, events and log lines leave by a bounded channel
//! (what does not fit is counted and dropped), answers to commands by one-shot channels. What can take
//! long is attaching to an interface that appears later than the daemon: a native attach may reset the
//! interface's rings. The engine notices that it was late, as always.

mod addresses;
mod advert;
mod channels;
mod chores;
mod contact;
mod debts;
mod difference;
mod driver;
mod outbox;
mod paths;
mod plan;
mod seat;
mod shell;
mod solicit;
mod status;
mod tracking;
mod warnings;

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError},
    },
};

use ha_common::{MonoNs, Nanos};
use ha_core::{Mode, Prospect, check::Health};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

pub use self::{
    driver::{Parts, spawn},
    outbox::{Level, Message},
    plan::{Plan, SeatPlan},
};
use crate::{
    control::report::{
        Counters, ExplainReport, ReloadReport, StatusReport, SwitchoverReport, TrackedReport,
    },
    runtime::memory::Vip,
};

/// Commands that may wait for the engine thread; more are refused.
const COMMANDS: usize = 64;

/// What the rest of the daemon asks of the engine thread. An answer nobody waits for is dropped.
#[derive(Debug)]
pub enum Command {
    /// The present status.
    Status(oneshot::Sender<StatusReport>),
    /// Why an instance is in its state.
    Explain {
        /// Its name.
        instance: String,
        /// The answer, or why there is none.
        reply: oneshot::Sender<Result<ExplainReport, String>>,
    },
    /// Another node is to become Active.
    Switchover {
        /// A group or an instance.
        target: String,
        /// The node that is to take over.
        to: Option<String>,
        /// What was handed over, or why nothing was.
        reply: oneshot::Sender<Result<SwitchoverReport, String>>,
    },
    /// What a check found that was to be looked at at once ([`Message::Confirm`]).
    Confirmed {
        /// The check's name.
        check: String,
        /// As it was asked for.
        round: MonoNs,
        /// What is wrong, if anything is.
        result: Result<(), String>,
    },
    /// Everything tracked, and what it does to which instance.
    Tracked(oneshot::Sender<Vec<TrackedReport>>),
    /// Lets a check count for nothing, or count again.
    Mute {
        /// The check's name.
        check: String,
        /// For how long; `None`: until it is to count again.
        lasts: Option<Nanos>,
        /// Whether it is to count again, at once.
        end: bool,
        /// Why not.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// The dataplane's verdicts by reason.
    Counters(oneshot::Sender<Result<Counters, String>>),
    /// A new configuration.
    Reload {
        /// Validated.
        plan: Plan,
        /// What came of it.
        reply: oneshot::Sender<Reloaded>,
    },
    /// What is believed of a watched service changed.
    Checked {
        /// The check's name.
        check: String,
        /// What is believed now.
        health: Health,
        /// What its last probe that passed counted.
        count: i32,
        /// Why.
        why: String,
    },
    /// What came of [`Message::PromoteRoles`].
    RolesPromoted {
        /// The group's name.
        group: String,
        /// As it was asked for.
        round: MonoNs,
        /// The error in words; none of them is promoted then.
        result: Result<(), String>,
    },
    /// What came of [`Message::DemoteRoles`].
    RolesDemoted {
        /// The group's name.
        group: String,
        /// As it was asked for.
        round: MonoNs,
        /// The error in words: see [`ha_core::Input::RolesDemoted`].
        result: Result<(), String>,
    },
    /// What a promotion of a group's roles would meet with now.
    Prospect {
        /// The group's name.
        group: String,
        /// What.
        prospect: Prospect,
    },
    /// What is being done with a group's roles, for people.
    RolesProgress {
        /// The group's name.
        group: String,
        /// In words.
        text: String,
    },
    /// The node's mode.
    Mode(Mode),
    /// Answered after a full turn: the thread lives.
    Ping(oneshot::Sender<()>),
    /// Hand everything over, and end.
    Shutdown,
}

/// What came of a reload.
#[derive(Debug)]
pub struct Reloaded {
    /// What changed.
    pub report: ReloadReport,
    /// Addresses that could not be taken off.
    pub left: Vec<Vip>,
}

/// How the rest of the daemon reaches the engine thread.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: SyncSender<Command>,
    wake: Arc<OwnedFd>,
}

/// The engine thread cannot take the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It has ended.
    #[error("the engine thread has ended")]
    Ended,
    /// It has not taken up the earlier ones.
    #[error("the engine thread does not take up commands: it is stopped or starved")]
    Busy,
}

impl Handle {
    /// With the place where commands arrive, which no engine thread reads.
    #[cfg(test)]
    pub(crate) fn unread() -> (Self, std::sync::mpsc::Receiver<Command>) {
        let (commands, receiver) = std::sync::mpsc::sync_channel(COMMANDS);
        let wake = Arc::new(wake_fd().expect("an eventfd"));
        (Self { commands, wake }, receiver)
    }

    /// Hands a command over, without waiting.
    ///
    /// # Errors
    /// See [`Unreachable`].
    pub fn send(&self, command: Command) -> Result<(), Unreachable> {
        self.offer(command).map_err(|refused| refused.0)
    }

    /// The same, and a command that cannot be taken is given back.
    pub(crate) fn offer(&self, command: Command) -> Result<(), Box<(Unreachable, Command)>> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                TrySendError::Full(command) => Box::new((Unreachable::Busy, command)),
                TrySendError::Disconnected(command) => Box::new((Unreachable::Ended, command)),
            })?;
        // The counter of an eventfd overflows only after 2^64 unread commands.
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        Ok(())
    }

    /// Hands a command over and waits for its answer.
    ///
    /// # Errors
    /// See [`Unreachable`].
    pub async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Unreachable> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        answer.await.map_err(|_| Unreachable::Ended)
    }
}

fn wake_fd() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}
