//! Many seeds on many threads.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    vec::Vec,
};

use super::{Case, Mutations, Violation, run_seed};

/// A seed that broke a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The seed.
    pub seed: u64,
    /// Which rule, and how.
    pub violation: Violation,
}

/// Runs the seeds from `first` to `first + count - 1`; with `stop` only until one is found that breaks
/// a rule. Findings in the order of their seeds.
#[must_use]
pub fn run_batch(
    case: Case,
    first: u64,
    count: u64,
    threads: usize,
    mutations: Mutations,
    stop: bool,
) -> Vec<Finding> {
    let end = first.saturating_add(count);
    let next = AtomicU64::new(first);
    let work = || {
        let mut findings = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return findings;
            }
            if let Some(violation) = run_seed(case, seed, mutations) {
                findings.push(Finding { seed, violation });
                if stop {
                    next.store(end, Ordering::Relaxed);
                }
            }
        }
    };
    let mut findings: Vec<Finding> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().ok())
            .flatten()
            .collect()
    });
    findings.sort_by_key(|finding| finding.seed);
    findings
}

/// For each knob, the first finding among at most `count` seeds.
#[must_use]
pub fn check_knobs(first: u64, count: u64, threads: usize) -> Vec<(&'static str, Option<Finding>)> {
    Mutations::KNOBS
        .into_iter()
        .map(|(name, case, mutations)| {
            let found = run_batch(case, first, count, threads, mutations, true);
            (name, found.into_iter().next())
        })
        .collect()
}
