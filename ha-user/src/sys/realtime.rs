//! Real-time scheduling and locked memory, so that the engine thread runs when it is due.

use std::io;

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{Resource, geteuid, getrlimit},
    thread::{CpuSet, sched_setaffinity},
};

/// The greatest number of a CPU that [`pin`] takes.
pub const MAX_CPU: u32 = 1_023;

const _: () = assert!(MAX_CPU as usize == CpuSet::MAX_CPU - 1);

/// Lets the calling thread run on these CPUs only.
///
/// # Errors
/// EINVAL if it may use none of them.
pub fn pin(cpus: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(usize::try_from(*cpu).map_err(io::Error::other)?);
    }
    sched_setaffinity(None, &set)?;
    Ok(())
}

/// Runs the calling thread under SCHED_FIFO. Children do not inherit it.
///
/// # Errors
/// EPERM without CAP_SYS_NICE and a sufficient RLIMIT_RTPRIO.
pub fn schedule_fifo(priority: u32) -> io::Result<()> {
    let priority = libc::c_int::try_from(priority).map_err(io::Error::other)?;
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: 0 names the calling thread, and `parameters` is an initialised `sched_param` that the
    // kernel only reads during the call.
    let result = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameters)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Locks the process' memory, present and future.
///
/// With a finite RLIMIT_MEMLOCK and no privilege only what is mapped at present: later mappings would
/// fail instead of merely being unlocked.
///
/// # Errors
/// EPERM or ENOMEM beyond RLIMIT_MEMLOCK.
pub fn lock_memory() -> io::Result<()> {
    let unlimited = geteuid().is_root() || getrlimit(Resource::Memlock).current.is_none();
    let flags = if unlimited {
        MlockAllFlags::CURRENT | MlockAllFlags::FUTURE
    } else {
        MlockAllFlags::CURRENT
    };
    mlockall(flags)?;
    Ok(())
}
