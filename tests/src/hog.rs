//! A thread that takes a CPU away from everybody else.

use std::{
    io,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use ha_common::Nanos;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{now, sys};

/// Above every real-time thread of a test.
const PRIORITY: i32 = 99;

/// The kernel's own limit for real-time threads is 950 ms of a second.
const LONGEST: Nanos = Nanos::from_millis(900);

/// The CPUs that this process may use.
pub fn cpus() -> io::Result<Vec<usize>> {
    let cpus = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| cpus.is_set(*cpu))
        .collect())
}

/// The last CPU that this process may use.
pub fn last_cpu() -> Result<usize> {
    cpus()?.pop().context("this process may use no CPU")
}

/// Lets the calling thread run on one CPU only.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Spins on a CPU for `span`, and comes back afterwards.
pub fn take(cpu: usize, span: Nanos) -> Result<()> {
    ensure!(span <= LONGEST, "longer than the kernel lets it");
    let thread: JoinHandle<io::Result<()>> = thread::spawn(move || {
        pin(cpu)?;
        sys::run_in_real_time(PRIORITY)?;
        let end = now().after(span);
        while now() < end {
            std::hint::spin_loop();
        }
        Ok(())
    });
    let outcome = thread.join().map_err(|_| anyhow!("it panicked"))?;
    outcome.with_context(|| format!("taking CPU {cpu}"))
}
