//! The simulator: two to five engines on one virtual clock and network, faults from a seed, and checkers
//! for the invariants.
//!
//! Checked are invariant 1 (the overlap of two open gates: none with leases, a bounded one with adverts alone), 2 (one node
//! speaks, in time, and stays), 3 (no acknowledged write is lost; `data`), 4 (fewer than three lost adverts never cause a take-over) and 6 (every
//! state is explained). [`Mutations`] break a rule each: a checker that cannot fail proves nothing.

mod batch;
mod clock;
mod data;
mod grants;
mod kernel;
mod leases;
mod ledger;
mod process;
mod rng;
mod scenario;
mod world;

pub use batch::{Finding, check_knobs, run_batch};
pub use ledger::Violation;
pub use scenario::Case;

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
    /// Leases: a kernel grants although its node acts.
    pub no_acting: bool,
    /// Leases: a grant counts whatever epoch it was asked for.
    pub any_epoch: bool,
    /// Leases: a promise lasts as long as this node's own leases, not as the echo says.
    pub own_duration: bool,
    /// Leases: a lease counts from when its grant came home.
    pub from_arrival: bool,
    /// Leases: a candidate announces nothing before it opens.
    pub unannounced: bool,
    /// Leases: who is alone renews its lease from now, not from its last echo.
    pub alone_from_now: bool,
    /// Leases: a lease that was renewed alone is not closed by a candidate.
    pub alone_is_granted: bool,
    /// Leases: a silence that a node slept through counts.
    pub own_stall: bool,
    /// Leases: where there is another path, the LAN is none.
    pub lan_is_no_path: bool,
    /// Leases: a daemon that starts has promised nothing.
    pub no_promise_at_attach: bool,
    /// Leases: a promise lasts no longer than the lease.
    pub no_margin: bool,
    /// Leases: who goes on alone after it was held up has not listened before.
    pub resume_unlistened: bool,
    /// An arbitrator is asked once, and its answer may be lost.
    pub ask_once: bool,
    /// Roles: the addresses do not wait for them.
    pub open_unpromoted: bool,
    /// Roles: a node that its peers have left goes first all the same.
    pub left_goes_first: bool,
    /// Roles: a database that acknowledges alone does so before that is durable.
    pub lazy_commit: bool,
    /// Roles: a conductor's rules.
    pub plan: crate::plan::Mutations,
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
        no_acting: false,
        any_epoch: false,
        own_duration: false,
        from_arrival: false,
        unannounced: false,
        alone_from_now: false,
        alone_is_granted: false,
        own_stall: false,
        lan_is_no_path: false,
        no_promise_at_attach: false,
        no_margin: false,
        resume_unlistened: false,
        ask_once: false,
        open_unpromoted: false,
        left_goes_first: false,
        lazy_commit: false,
        plan: crate::plan::Mutations {
            no_drain: false,
            ignore_epochs: false,
            eternal_membership: false,
            ignore_later: false,
            any_incarnation: false,
            blind_consent: false,
            solo_at_once: false,
        },
    };

    /// Every one with its name on the command line, and the case in which it matters.
    pub const KNOBS: [(&'static str, Case, Self); 28] = {
        let mut knobs = [
            ("gate-stretch", Case::Adverts, Self::NONE),
            ("stamp-after-send", Case::Adverts, Self::NONE),
            ("ignore-late", Case::Adverts, Self::NONE),
            ("preempt-at-once", Case::Adverts, Self::NONE),
            ("supersede-when-open", Case::Adverts, Self::NONE),
            ("outcome-first", Case::Adverts, Self::NONE),
            ("no-acting", Case::Leases, Self::NONE),
            ("any-epoch", Case::Leases, Self::NONE),
            ("own-duration", Case::Leases, Self::NONE),
            ("from-arrival", Case::Leases, Self::NONE),
            ("unannounced", Case::Leases, Self::NONE),
            ("alone-from-now", Case::Leases, Self::NONE),
            ("alone-is-granted", Case::Leases, Self::NONE),
            ("own-stall", Case::Leases, Self::NONE),
            ("lan-is-no-path", Case::Leases, Self::NONE),
            ("no-promise-at-attach", Case::Leases, Self::NONE),
            ("no-margin", Case::Leases, Self::NONE),
            ("resume-unlistened", Case::Leases, Self::NONE),
            ("ask-once", Case::Leases, Self::NONE),
            ("open-unpromoted", Case::Roles, Self::NONE),
            ("left-goes-first", Case::Roles, Self::NONE),
            ("no-drain", Case::Roles, Self::NONE),
            ("ignore-epochs", Case::Roles, Self::NONE),
            ("eternal-membership", Case::Roles, Self::NONE),
            ("lazy-commit", Case::Roles, Self::NONE),
            ("any-incarnation", Case::Roles, Self::NONE),
            ("blind-consent", Case::Roles, Self::NONE),
            ("solo-at-once", Case::Roles, Self::NONE),
        ];
        knobs[0].2.gate_stretch = true;
        knobs[1].2.stamp_after_send = true;
        knobs[2].2.ignore_late = true;
        knobs[3].2.preempt_at_once = true;
        knobs[4].2.supersede_when_open = true;
        knobs[5].2.outcome_first = true;
        knobs[6].2.no_acting = true;
        knobs[7].2.any_epoch = true;
        knobs[8].2.own_duration = true;
        knobs[9].2.from_arrival = true;
        knobs[10].2.unannounced = true;
        knobs[11].2.alone_from_now = true;
        knobs[12].2.alone_is_granted = true;
        knobs[13].2.own_stall = true;
        knobs[14].2.lan_is_no_path = true;
        knobs[15].2.no_promise_at_attach = true;
        knobs[16].2.no_margin = true;
        knobs[17].2.resume_unlistened = true;
        knobs[18].2.ask_once = true;
        knobs[19].2.open_unpromoted = true;
        knobs[20].2.left_goes_first = true;
        knobs[20].2.plan.ignore_later = true;
        knobs[21].2.plan.no_drain = true;
        knobs[22].2.plan.ignore_epochs = true;
        knobs[23].2.plan.eternal_membership = true;
        knobs[24].2.lazy_commit = true;
        knobs[25].2.plan.any_incarnation = true;
        knobs[26].2.plan.blind_consent = true;
        knobs[27].2.plan.solo_at_once = true;
        knobs
    };
}

/// Runs one seed to its end or to the first broken rule.
#[must_use]
pub fn run_seed(case: Case, seed: u64, mutations: Mutations) -> Option<Violation> {
    run(case, Choices::Seed(seed), mutations)
}

/// As [`run_seed`], with choices from `tape`, four bytes each, while it lasts: for a fuzzer.
#[must_use]
pub fn run_tape(case: Case, tape: &[u8], mutations: Mutations) -> Option<Violation> {
    run(case, Choices::Tape(tape), mutations)
}

/// Runs one seed again and tells it: who did what, in true time, around the broken rule if there is one.
#[must_use]
pub fn tell_seed(case: Case, seed: u64, mutations: Mutations) -> String {
    tell(case, Choices::Seed(seed), mutations)
}

/// As [`tell_seed`], for a tape.
#[must_use]
pub fn tell_tape(case: Case, tape: &[u8], mutations: Mutations) -> String {
    tell(case, Choices::Tape(tape), mutations)
}

fn run(case: Case, choices: Choices<'_>, mutations: Mutations) -> Option<Violation> {
    let mut world = World::new(case, choices, mutations, false);
    world.run();
    world.violation
}

fn tell(case: Case, choices: Choices<'_>, mutations: Mutations) -> String {
    let mut world = World::new(case, choices, mutations, true);
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

    const CASES: [Case; 3] = [Case::Adverts, Case::Leases, Case::Roles];
    const SEEDS: u64 = 300;

    #[test]
    fn the_first_seeds_keep_the_rules() {
        for case in CASES {
            for seed in 0..SEEDS {
                let broken = run_seed(case, seed, Mutations::default());
                assert_eq!(broken, None, "{case:?} seed {seed}");
            }
        }
    }

    #[test]
    fn a_tape_chooses_and_chance_goes_on() {
        for case in CASES {
            for byte in 0..=u8::MAX {
                let broken = run_tape(case, &[byte; 64], Mutations::NONE);
                assert_eq!(broken, None, "{case:?} 64 times {byte}");
            }
            let [one, other] = [0, 1].map(|byte| tell_tape(case, &[byte; 64], Mutations::NONE));
            assert_ne!(one, other);
        }
    }

    #[test]
    fn every_broken_rule_is_found() {
        for (name, finding) in check_knobs(0, 5_000, 4) {
            assert!(finding.is_some(), "{name}");
        }
    }

    #[test]
    fn a_seed_tells_the_same_story_twice() {
        for case in CASES {
            let once = tell_seed(case, 7, Mutations::default());
            assert_eq!(once, tell_seed(case, 7, Mutations::default()));
            assert!(once.contains("GATE OPEN"), "{once}");
        }
    }
}
