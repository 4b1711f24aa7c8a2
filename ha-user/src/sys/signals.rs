//! The signal mask, which a process inherits from whoever starts it.

use std::{io, mem, ptr};

/// Unblocks every signal for the calling thread and for those that it starts from now on.
///
/// A mask survives `execve`: a parent that blocks SIGTERM would otherwise leave a daemon that nobody
/// can end in order.
///
/// # Errors
/// None that Linux documents for these arguments.
pub fn unblock_all() -> io::Result<()> {
    // SAFETY: a `sigset_t` is plain integers, for which all-zero bytes are valid.
    let mut none: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: `none` is valid for writes.
    unsafe { libc::sigemptyset(&raw mut none) };
    // SAFETY: `none` is initialised and only read; a null pointer asks for no old mask.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_blocked(signal: i32) -> bool {
        // SAFETY: a `sigset_t` is plain integers, for which all-zero bytes are valid.
        let mut mask: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: a null pointer changes nothing; `mask` is valid for writes, then initialised.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &raw mut mask);
            libc::sigismember(&raw const mask, signal) == 1
        }
    }

    #[test]
    fn an_inherited_mask_is_cleared() {
        // SAFETY: plain integers, initialised by `sigemptyset`; the pointers are valid for the calls.
        unsafe {
            let mut some: libc::sigset_t = mem::zeroed();
            libc::sigemptyset(&raw mut some);
            libc::sigaddset(&raw mut some, libc::SIGTERM);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const some, ptr::null_mut());
        }
        assert!(is_blocked(libc::SIGTERM));
        unblock_all().unwrap();
        assert!(!is_blocked(libc::SIGTERM));
    }
}
