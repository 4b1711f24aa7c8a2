//! The silence timers' memory, taken before it is needed.
//!
//! Since Linux 6.18 a timer is given what its CPU has at hand, and otherwise nothing (`kmalloc_nolock`). An
//! ordinary allocation replenishes that, but on a CPU that only receives adverts none may come for seconds. So the
//! daemon takes the memory here, on another CPU if need be, and not the first packet.

use std::{collections::BTreeSet, io, thread, time::Duration};

use ha_common::abi::{MAX_WATCHES, TimerTask};
use rustix::{
    process::getpid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use super::{DataplaneError, loader::Programs};

/// How often each CPU is tried.
const ROUNDS: u32 = 20;

/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(1);

/// What is known of the timers.
pub(super) struct Timers {
    work: bool,
    /// Those that have their memory.
    prepared: BTreeSet<(TimerTask, u32)>,
}

impl Timers {
    /// Starts one that serves for nothing else.
    pub(super) fn try_one(programs: &mut Programs) -> Result<Self, DataplaneError> {
        let error = memory(programs, TimerTask::PrepareWatch, MAX_WATCHES)?;
        let work = error == 0 && programs.timer(TimerTask::ArmWatch, MAX_WATCHES)? == 0;
        Ok(Self {
            work,
            prepared: BTreeSet::new(),
        })
    }

    /// Whether that one started.
    pub(super) fn work(&self) -> bool {
        self.work
    }

    /// Takes the memory of a timer, unless it has some.
    pub(super) fn prepare(
        &mut self,
        programs: &mut Programs,
        task: TimerTask,
        index: u32,
    ) -> Result<(), DataplaneError> {
        if !self.work || self.prepared.contains(&(task, index)) {
            return Ok(());
        }
        match memory(programs, task, index)? {
            0 => {
                self.prepared.insert((task, index));
                Ok(())
            }
            error => Err(DataplaneError::kernel(
                "memory for a silence timer",
                io::Error::from_raw_os_error(error.cast_signed()),
            )),
        }
    }
}

/// Takes the memory of a timer. Returns 0, or the error number.
fn memory(programs: &mut Programs, task: TimerTask, index: u32) -> Result<u32, DataplaneError> {
    let error = programs.timer(task, index)?;
    if error.cast_signed() != libc::ENOMEM {
        return Ok(error);
    }
    // A thread of its own may go to any CPU, the engine's may not.
    thread::scope(|scope| {
        thread::Builder::new()
            .name("had-timers".to_owned())
            .spawn_scoped(scope, || anywhere(programs, task, index))
            .map_or(Ok(error), |thread| thread.join().unwrap_or(Ok(error)))
    })
}

fn anywhere(programs: &mut Programs, task: TimerTask, index: u32) -> Result<u32, DataplaneError> {
    let refused = |errno: rustix::io::Errno| DataplaneError::kernel("changing CPUs", errno);
    // Of the first thread, which may be on any.
    let allowed = sched_getaffinity(Some(getpid())).map_err(refused)?;
    let mut error = 0;
    for _ in 0..ROUNDS {
        for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)) {
            let mut one = CpuSet::new();
            one.set(cpu);
            sched_setaffinity(None, &one).map_err(refused)?;
            error = programs.timer(task, index)?;
            if error.cast_signed() != libc::ENOMEM {
                return Ok(error);
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(error)
}
