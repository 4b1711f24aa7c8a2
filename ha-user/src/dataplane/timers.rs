//! The silence timers' memory, taken before it is needed.
//!
//! Since Linux 6.18 a timer is given what its CPU has at hand, and otherwise nothing (`kmalloc_nolock`). Any ordinary
//! allocation of that size brings more, but on a CPU that only receives adverts none may come for seconds. So the
//! daemon takes the memory when it starts, and not the first packet.

use ha_common::abi::{MAX_WATCHES, TimerTask};
use rustix::{
    fd::OwnedFd,
    io,
    pipe::{PipeFlags, pipe_with},
};

use super::{DataplaneError, loader::Programs};

const ENOMEM: u32 = libc::ENOMEM.cast_unsigned();

/// How often more memory is brought for a timer; once was enough, wherever it was tried.
const ATTEMPTS: u32 = 16;

/// Takes the memory of every timer. Whether each has it.
///
/// # Errors
///
/// The program cannot be run.
pub(super) fn prepare(programs: &mut Programs) -> Result<bool, DataplaneError> {
    for index in 0..=MAX_WATCHES {
        let mut error = programs.timer(TimerTask::Prepare, index)?;
        for _ in 0..ATTEMPTS {
            if error != ENOMEM {
                break;
            }
            let brought = bring_memory();
            error = programs.timer(TimerTask::Prepare, index)?;
            drop(brought);
        }
        if error != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the kernel bring memory of a timer's size to this CPU: a pipe takes as much (192 bytes, counted as the
/// daemon's), and the kernel brings a page at a time.
fn bring_memory() -> [io::Result<(OwnedFd, OwnedFd)>; 4] {
    std::array::from_fn(|_| pipe_with(PipeFlags::CLOEXEC))
}
