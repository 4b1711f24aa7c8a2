//! What daemons use: processor time and wake-ups of each thread, memory of each process.

use std::fs;

use anyhow::{Context as _, Result};
use ha_common::Nanos;

/// One thread's share.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    pub(crate) name: String,
    pub(crate) engine: bool,
    /// Voluntary and involuntary context switches.
    pub(crate) wakeups: u64,
    pub(crate) cpu: Nanos,
}

/// The threads of some processes, by number; `engine` is the one of `had`'s engine.
pub(crate) fn threads(processes: &[u32], engine: Option<u64>) -> Result<Vec<(u32, Thread)>> {
    let mut found = Vec::new();
    for pid in processes {
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = entry?.path();
            let id = task
                .file_name()
                .and_then(|name| name.to_str()?.parse::<u32>().ok())
                .context("a task has a number")?;
            let status = fs::read_to_string(task.join("status"))?;
            // Time on a CPU in nanoseconds, time waiting for one, time slices.
            let schedule = fs::read_to_string(task.join("schedstat"))?;
            let cpu = schedule
                .split(' ')
                .next()
                .and_then(|text| text.parse().ok());
            let thread = Thread {
                name: field(&status, "Name:")?.to_owned(),
                engine: engine == Some(u64::from(id)),
                wakeups: field(&status, "voluntary_ctxt_switches:")?.parse::<u64>()?
                    + field(&status, "nonvoluntary_ctxt_switches:")?.parse::<u64>()?,
                cpu: Nanos(cpu.context("schedstat starts with a number")?),
            };
            found.push((id, thread));
        }
    }
    Ok(found)
}

fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
        .with_context(|| format!("a task's status has no {name}"))
}

/// What each thread used between two looks.
pub(crate) fn difference(before: &[(u32, Thread)], after: &[(u32, Thread)]) -> Vec<Thread> {
    after
        .iter()
        .map(|(id, thread)| {
            let earlier = before.iter().find(|(other, _)| other == id);
            let (wakeups, cpu) = earlier.map_or((0, Nanos::ZERO), |(_, t)| (t.wakeups, t.cpu));
            Thread {
                name: thread.name.clone(),
                engine: thread.engine,
                wakeups: thread.wakeups - wakeups,
                cpu: Nanos(thread.cpu.0 - cpu.0),
            }
        })
        .collect()
}

/// Resident memory of some processes together, in bytes.
pub(crate) fn resident(processes: &[u32]) -> Result<u64> {
    let mut bytes = 0;
    for pid in processes {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kibibytes = field(&status, "VmRSS:")?.trim_end_matches(" kB");
        bytes += kibibytes.parse::<u64>()? * 1024;
    }
    Ok(bytes)
}
