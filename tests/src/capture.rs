//! Everything that an interface receives, parsed, with the kernel's time stamps.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use ha_common::MonoNs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Frame, NetNs, clock, sys};

/// How long the reader sleeps at most before it looks whether it is to end.
const TURN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// How long is waited at most for a reader to take in what has arrived: longer, and it has ended.
const BEHIND: Duration = Duration::from_secs(5);

/// A thread that reads an interface until it is dropped.
pub struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    kept: Mutex<Kept>,
    has_read: Condvar,
    stop: AtomicBool,
    lost: AtomicU64,
}

#[derive(Default)]
struct Kept {
    frames: Vec<(MonoNs, Frame)>,
    /// Everything that arrived before has been read.
    until: MonoNs,
}

impl Capture {
    /// Starts to read. Of the frames that parse, those are kept for which `keep` holds.
    pub fn start(
        namespace: &NetNs,
        interface: &str,
        keep: impl Fn(&Frame) -> bool + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let socket = namespace
            .enter(|| sys::packet_socket(interface))?
            .with_context(|| format!("opening a packet socket on {interface}"))?;
        socket.set_nonblocking(true)?;
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 256];
            while !for_thread.stop.load(Ordering::Relaxed) {
                let looked_at = clock::now();
                match sys::receive_stamped(&socket, &mut buffer) {
                    Ok((length, stamp)) => {
                        let at = stamp.map_or_else(clock::now, clock::from_realtime);
                        let bytes = buffer.get(..length).unwrap_or(&buffer);
                        let frame = Frame::parse(bytes).filter(|frame| keep(frame));
                        let mut kept = lock(&for_thread.kept);
                        kept.frames.extend(frame.map(|frame| (at, frame)));
                        kept.until = kept.until.max(at);
                    }
                    Err(error)
                        if matches!(
                            error.kind(),
                            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                        ) =>
                    {
                        let lost = u64::from(sys::lost_frames(&socket)?);
                        for_thread.lost.fetch_add(lost, Ordering::Relaxed);
                        let mut kept = lock(&for_thread.kept);
                        kept.until = kept.until.max(looked_at);
                        drop(kept);
                        for_thread.has_read.notify_all();
                        // An interruption, or an error, is one more look.
                        let _ = poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&TURN));
                    }
                    // The interface went down: it may come up again.
                    Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                    Err(error) => return Err(error).context("reading frames"),
                }
            }
            let lost = u64::from(sys::lost_frames(&socket)?);
            for_thread.lost.fetch_add(lost, Ordering::Relaxed);
            Ok(())
        });
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// What was kept from `from` (inclusive) to `to` (exclusive), in order of arrival.
    #[must_use]
    pub fn between(&self, from: MonoNs, to: MonoNs) -> Vec<(MonoNs, Frame)> {
        self.up_to(to)
            .frames
            .iter()
            .filter(|(at, _)| (from..to).contains(at))
            .copied()
            .collect()
    }

    /// The last frame for which `wanted` holds.
    #[must_use]
    pub fn last(&self, wanted: impl Fn(&Frame) -> bool) -> Option<(MonoNs, Frame)> {
        self.up_to(MonoNs(u64::MAX))
            .frames
            .iter()
            .rfind(|(_, frame)| wanted(frame))
            .copied()
    }

    /// Forgets what was kept.
    pub fn clear(&self) {
        self.up_to(MonoNs(u64::MAX)).frames.clear();
    }

    /// What was kept, once everything was read that arrived before `to`, or before now.
    fn up_to(&self, to: MonoNs) -> MutexGuard<'_, Kept> {
        let to = to.min(clock::now());
        let kept = lock(&self.shared.kept);
        let waited = self
            .shared
            .has_read
            .wait_timeout_while(kept, BEHIND, |kept| kept.until < to);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Frames that did not fit into the socket's buffer: with any of them, counts are too low.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A reader that failed has already lost its frames; whoever looks for them fails.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
