//! `had --relay`: what rsync runs to reach another node. The daemon, which has the key, is at the other end of a socket.

use std::{
    fs::File,
    io,
    net::Shutdown,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::Path,
    thread,
};

/// Carries bytes both ways until the daemon ends its one.
///
/// # Errors
/// As connect(2), read(2) and write(2).
pub fn run(socket: &Path) -> io::Result<()> {
    let daemon = UnixStream::connect(socket)?;
    let mut to_daemon = daemon.try_clone()?;
    // It ends with the process, should standard input stay open.
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut to_daemon);
        let _ = to_daemon.shutdown(Shutdown::Write);
    });
    // Standard output itself would keep what is no whole line.
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    io::copy(&mut &daemon, &mut output).map(drop)
}
