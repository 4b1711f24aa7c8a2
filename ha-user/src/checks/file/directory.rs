//! What happens in a directory, by inotify.

use std::{
    ffi::{OsStr, OsString},
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch},
    io::Errno,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::sys::readiness;

/// What changes a file as others see it. Not what is still being written.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What ends the watch, or may have been about any file.
const OF_ALL: ReadFlags = ReadFlags::DELETE_SELF
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::UNMOUNT)
    .union(ReadFlags::QUEUE_OVERFLOW);

/// Bytes of events that are read at one go.
const BUFFER: usize = 4 * 1024;

/// The directory of one file.
pub(super) struct Directory {
    path: PathBuf,
    file: OsString,
    events: AsyncFd<OwnedFd>,
    /// The watch of the directory that has that name at present.
    watch: Option<i32>,
}

impl Directory {
    /// Of the file's path. Watches nothing yet. Must be called within tokio's runtime.
    pub(super) fn of(file: &Path) -> io::Result<Self> {
        let events = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            path: file.parent().unwrap_or(Path::new("/")).to_owned(),
            file: file.file_name().unwrap_or_default().to_owned(),
            events: readiness::of(events, Interest::READABLE)?,
            watch: None,
        })
    }

    /// What begins to watch the directory that has the name now; it may hang, as every use of a path.
    pub(super) fn watch(&self) -> io::Result<impl FnOnce() -> io::Result<i32> + Send + use<>> {
        let events = self.events.get_ref().try_clone()?;
        let path = self.path.clone();
        Ok(move || Ok(add_watch(events, &path, CHANGES)?))
    }

    /// The watch that this has made. One of another directory that had the name before is given up.
    pub(super) fn watched(&mut self, watch: Option<i32>) {
        if let Some(before) = self.watch
            && watch != Some(before)
        {
            // Gone where that directory is gone.
            let _ = remove_watch(self.events.get_ref(), before);
        }
        self.watch = watch;
    }

    /// Waits until something happens to the file. For ever where nothing is watched.
    pub(super) async fn change(&self) {
        loop {
            let Ok(mut ready) = self.events.readable().await else {
                return std::future::pending().await;
            };
            match self.read() {
                Ok(true) => return,
                Ok(false) => ready.clear_ready(),
                Err(_) => return std::future::pending().await,
            }
        }
    }

    /// Reads all events up to one about the file. `false`: there is none.
    fn read(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(self.events.get_ref(), &mut buffer);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let named = event
                .file_name()
                .is_some_and(|name| OsStr::from_bytes(name.to_bytes()) == self.file);
            let present = self.watch == Some(event.wd());
            if named && present || event.events().intersects(OF_ALL) {
                return Ok(true);
            }
        }
    }
}
