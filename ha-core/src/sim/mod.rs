//! The simulator: two to five engines on one virtual clock and network, faults from a seed, and checkers
//! for the invariants.
//!
//! Checked are invariant 1 for adverts alone (the overlap of two open gates), 2 (one node
//! speaks, in time, and stays), 4 (fewer than three lost adverts never cause a take-over) and 6 (every
//! state is explained). [`Mutations`] break a rule each: a checker that cannot fail proves nothing.

mod batch;
mod clock;
mod kernel;
mod ledger;
mod process;
mod rng;
mod scenario;
mod world;

pub use batch::{Finding, check_knobs, run_batch};
pub use ledger::Violation;

use std::{fmt::Write as _, string::String};

use self::world::{Choices, World};

/// Rules that are broken on purpose, to prove that the checkers notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutations {
    /// The gate's deadline is 20 % longer.
    pub gate_stretch: bool,
    /// The gate counts from a time taken after the advert was sent.
    pub stamp_after_send: bool,
    /// A node that is late does not step down.
    pub ignore_late: bool,
    /// A pre-emption opens without waiting for the loser to close.
    pub preempt_at_once: bool,
    /// The kernel heeds an outranking advert only while the gate is open, not just before.
    pub supersede_when_open: bool,
    /// The shell hands in outcomes without reading what arrived meanwhile.
    pub outcome_first: bool,
}

impl Mutations {
    /// Nothing is broken.
    pub const NONE: Self = Self {
        gate_stretch: false,
        stamp_after_send: false,
        ignore_late: false,
        preempt_at_once: false,
        supersede_when_open: false,
        outcome_first: false,
    };

    /// Every one with its name on the command line.
    pub const KNOBS: [(&'static str, Self); 6] = {
        let mut knobs = [
            ("gate-stretch", Self::NONE),
            ("stamp-after-send", Self::NONE),
            ("ignore-late", Self::NONE),
            ("preempt-at-once", Self::NONE),
            ("supersede-when-open", Self::NONE),
            ("outcome-first", Self::NONE),
        ];
        knobs[0].1.gate_stretch = true;
        knobs[1].1.stamp_after_send = true;
        knobs[2].1.ignore_late = true;
        knobs[3].1.preempt_at_once = true;
        knobs[4].1.supersede_when_open = true;
        knobs[5].1.outcome_first = true;
        knobs
    };
}

/// Runs one seed to its end or to the first broken rule.
#[must_use]
pub fn run_seed(seed: u64, mutations: Mutations) -> Option<Violation> {
    run(Choices::Seed(seed), mutations)
}

/// As [`run_seed`], with choices from `tape`, four bytes each, while it lasts: for a fuzzer.
#[must_use]
pub fn run_tape(tape: &[u8], mutations: Mutations) -> Option<Violation> {
    run(Choices::Tape(tape), mutations)
}

/// Runs one seed again and tells it: who did what, in true time, around the broken rule if there is one.
#[must_use]
pub fn tell_seed(seed: u64, mutations: Mutations) -> String {
    tell(Choices::Seed(seed), mutations)
}

/// As [`tell_seed`], for a tape.
#[must_use]
pub fn tell_tape(tape: &[u8], mutations: Mutations) -> String {
    tell(Choices::Tape(tape), mutations)
}

fn run(choices: Choices<'_>, mutations: Mutations) -> Option<Violation> {
    let mut world = World::new(choices, mutations, false);
    world.run();
    world.violation
}

fn tell(choices: Choices<'_>, mutations: Mutations) -> String {
    let mut world = World::new(choices, mutations, true);
    world.run();
    let mut text = String::new();
    world.introduce(choices, &mut text);
    let around = world.violation.as_ref().map(|violation| violation.at);
    let before = world.scenario.window();
    for (at, words) in world.trace.iter().flatten() {
        if around.is_none_or(|around| *at + before >= around && *at <= around + before) {
            let _ = writeln!(text, "{:>16} ms  {words}", ledger::millis(*at));
        }
    }
    match &world.violation {
        Some(violation) => {
            let _ = writeln!(
                text,
                "{choices}: at {} ms: {}",
                ledger::millis(violation.at),
                violation.what
            );
        }
        None => {
            let _ = writeln!(text, "{choices}: every rule was kept");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_hundred_seeds_keep_the_rules() {
        for seed in 0..300 {
            assert_eq!(run_seed(seed, Mutations::default()), None, "seed {seed}");
        }
    }

    #[test]
    fn a_tape_chooses_and_chance_goes_on() {
        for byte in 0..=u8::MAX {
            let tape = [byte; 64];
            assert_eq!(run_tape(&tape, Mutations::NONE), None, "64 times {byte}");
        }
        let [one, other] = [0, 1].map(|byte| tell_tape(&[byte; 64], Mutations::NONE));
        assert_ne!(one, other);
    }

    #[test]
    fn every_broken_rule_is_found() {
        for (name, finding) in check_knobs(0, 5_000, 4) {
            assert!(finding.is_some(), "{name}");
        }
    }

    #[test]
    fn a_seed_tells_the_same_story_twice() {
        let once = tell_seed(7, Mutations::default());
        assert_eq!(once, tell_seed(7, Mutations::default()));
        assert!(once.contains("GATE OPEN"), "{once}");
    }
}
