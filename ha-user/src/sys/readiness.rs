//! Descriptors that tokio waits for.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// A non-blocking descriptor, to wait until there is something to read, or to wait for priority. Must be called
/// within tokio's runtime.
///
/// # Errors
/// As epoll_ctl(2): a descriptor that cannot be waited for.
pub fn of(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and always the same descriptor until it is dropped, which is after the `AsyncFd`
    // has let go of it.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    registered.map_err(|error| error.into_parts().1)
}
