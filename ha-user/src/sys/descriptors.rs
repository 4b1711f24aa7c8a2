//! Descriptors that must not come to other programs.

use std::io;

/// The first one behind stdin, stdout and stderr.
const FIRST: libc::c_uint = 3;

/// Has the kernel close all descriptors but the first three in every program that this process starts. Those that it
/// opened itself are closed there anyway; whoever started it may have left others open.
///
/// # Errors
/// ENOSYS or EINVAL before Linux 5.11.
pub fn keep_from_programs() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: it takes integers only. A flag of a descriptor changes, which says nothing to whoever uses it here.
    let result = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, flags) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
