//! Threads of the highest priority, one on each CPU, that only sleep and wake: where one is late, so is everybody.

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
use ha_tests::{clock::sleep_until, hog, now};
use ha_user::sys::realtime;
use hdrhistogram::Histogram;

/// Of SCHED_FIFO, the highest (sched(7)).
const PRIORITY: u32 = 99;

/// Between two wake-ups.
pub(super) const PERIOD: Nanos = Nanos::from_micros(500);

/// Gaps of this length are kept with their times.
const STALL: Nanos = PERIOD.times(2);

/// As many are kept of each CPU; a take-over in one beyond counts as nobody's but the daemon's.
const KEPT: usize = 100_000;

/// The longest gap that the histogram tells from longer ones.
const LONGEST: Nanos = Nanos::from_secs(60);

/// Significant decimal digits of the histogram.
const DIGITS: u8 = 3;

/// A time in which a CPU ran nobody: from one wake-up to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stall {
    pub(super) cpu: usize,
    pub(super) from: MonoNs,
    pub(super) to: MonoNs,
}

impl Stall {
    pub(super) fn length(self) -> Nanos {
        self.to.since(self.from)
    }
}

/// What the threads saw.
pub(super) struct Record {
    /// Nanoseconds between one wake-up and the next one.
    pub(super) gaps: Histogram<u64>,
    /// The gaps that are worth a time; those of a CPU in their order.
    pub(super) stalls: Vec<Stall>,
}

impl Record {
    fn new() -> Result<Self> {
        Ok(Self {
            gaps: Histogram::new_with_max(LONGEST.0, DIGITS)?,
            // Room for all: the thread allocates nothing.
            stalls: Vec::with_capacity(KEPT),
        })
    }
}

/// The running threads.
pub(super) struct Reference {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Record>>,
}

impl Reference {
    /// Starts them, and locks this process' memory for them.
    pub(super) fn start() -> Result<Self> {
        realtime::lock_memory().context("locking memory")?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for cpu in hog::cpus()? {
            let record = Record::new()?;
            let stopped = Arc::clone(&stop);
            let (ready, is_ready) = mpsc::channel();
            threads.push(
                std::thread::Builder::new()
                    .name(format!("reference {cpu}"))
                    .spawn(move || {
                        let pinned = hog::pin(cpu);
                        let scheduled = realtime::schedule_fifo(PRIORITY);
                        // Nobody waits for the answer when this program ends at once.
                        let _ = ready.send(pinned.and(scheduled));
                        watch(cpu, &stopped, record)
                    })?,
            );
            is_ready
                .recv()?
                .with_context(|| format!("a thread of real-time priority on CPU {cpu}"))?;
        }
        Ok(Self { stop, threads })
    }

    /// Ends them.
    pub(super) fn end(self) -> Result<Record> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Record::new()?;
        for thread in self.threads {
            let one = thread
                .join()
                .map_err(|_| anyhow!("a reference thread panicked"))?;
            all.gaps.add(one.gaps)?;
            all.stalls.extend(one.stalls);
        }
        Ok(all)
    }
}

fn watch(cpu: usize, stop: &AtomicBool, mut record: Record) -> Record {
    let mut last = now();
    while !stop.load(Ordering::Relaxed) {
        sleep_until(last.after(PERIOD));
        let gap = Stall {
            cpu,
            from: last,
            to: now(),
        };
        last = gap.to;
        record.gaps.saturating_record(gap.length().0);
        if gap.length() >= STALL && record.stalls.len() < record.stalls.capacity() {
            record.stalls.push(gap);
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gap_of_a_thread_is_recorded_and_long_ones_with_their_time() {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let record = Record::new().unwrap();
        let cpu = hog::last_cpu().unwrap();
        let (started, has_started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            hog::pin(cpu).unwrap();
            started.send(()).unwrap();
            watch(cpu, &stopped, record)
        });
        has_started.recv().unwrap();
        let from = now();
        let span = PERIOD.times(20);
        // Of higher priority than the thread, which stands still meanwhile.
        hog::take(cpu, span).unwrap();
        sleep_until(now().after(PERIOD.times(2)));
        stop.store(true, Ordering::Relaxed);
        let record = thread.join().unwrap();
        assert!(record.gaps.len() >= record.stalls.len() as u64);
        let longest = record.stalls.iter().max_by_key(|stall| stall.length());
        let longest = longest.expect("it stood still");
        assert_eq!(longest.cpu, cpu);
        assert!(longest.length() >= span && longest.to > from.after(span));
    }
}
