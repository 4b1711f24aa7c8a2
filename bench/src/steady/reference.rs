//! A thread of the highest priority that only sleeps and wakes: when it is late, so is everybody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, anyhow};
use ha_common::{MonoNs, Nanos};
use ha_tests::{clock::sleep_until, now};
use ha_user::sys::realtime;
use hdrhistogram::Histogram;

/// Of SCHED_FIFO, the highest (sched(7)).
const PRIORITY: u32 = 99;

/// Between two wake-ups.
pub(super) const PERIOD: Nanos = Nanos::from_micros(500);

/// The longest gap that the histogram tells from longer ones.
const LONGEST: Nanos = Nanos::from_secs(60);

/// Significant decimal digits of the histogram.
const DIGITS: u8 = 3;

/// A time in which the machine ran nobody: from one wake-up to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stall {
    pub(super) from: MonoNs,
    pub(super) to: MonoNs,
}

impl Stall {
    pub(super) fn length(self) -> Nanos {
        self.to.since(self.from)
    }
}

/// What the thread saw.
pub(super) struct Record {
    /// Nanoseconds between one wake-up and the next one.
    pub(super) gaps: Histogram<u64>,
    /// The gaps that are worth a time, in their order.
    pub(super) stalls: Vec<Stall>,
}

/// The running thread.
pub(super) struct Reference {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Record>,
}

impl Reference {
    /// Starts it for at most `span`, and locks this process' memory for it. Gaps from `stall` on are kept
    /// with their times.
    pub(super) fn start(span: Nanos, stall: Nanos) -> Result<Self> {
        realtime::lock_memory().context("locking memory")?;
        let gaps = Histogram::new_with_max(LONGEST.0, DIGITS)?;
        // Room for as many as fit the time: the thread allocates nothing.
        let room = usize::try_from(span.0 / stall.0.max(PERIOD.0))?;
        let stalls = Vec::with_capacity(room.saturating_add(1));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("reference".to_owned())
            .spawn(move || {
                // Nobody waits for the answer when this program ends at once.
                let _ = ready.send(realtime::schedule_fifo(PRIORITY));
                watch(&stopped, stall, Record { gaps, stalls })
            })?;
        is_ready
            .recv()?
            .context("real-time priority for the reference thread")?;
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub(super) fn end(self) -> Result<Record> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the reference thread panicked"))
    }
}

fn watch(stop: &AtomicBool, stall: Nanos, mut record: Record) -> Record {
    let mut last = now();
    while !stop.load(Ordering::Relaxed) {
        sleep_until(last.after(PERIOD));
        let gap = Stall {
            from: last,
            to: now(),
        };
        last = gap.to;
        record.gaps.saturating_record(gap.length().0);
        if gap.length() >= stall && record.stalls.len() < record.stalls.capacity() {
            record.stalls.push(gap);
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gap_of_the_thread_is_recorded_and_long_ones_with_their_time() {
        let gaps = Histogram::new_with_max(LONGEST.0, DIGITS).unwrap();
        let stalls = Vec::with_capacity(4);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let from = now();
        // A gap is never shorter than the period, so that each of the first four is a stall here.
        let thread = std::thread::spawn(move || watch(&stopped, PERIOD, Record { gaps, stalls }));
        sleep_until(from.after(PERIOD.times(20)));
        stop.store(true, Ordering::Relaxed);
        let record = thread.join().unwrap();
        assert!(!record.stalls.is_empty() && record.stalls.len() <= 4);
        assert!(record.gaps.len() >= record.stalls.len() as u64);
        assert!(record.stalls[0].from >= from && record.stalls[0].length() >= PERIOD);
        for pair in record.stalls.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
        }
    }
}
