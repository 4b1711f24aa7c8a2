//! The engine thread alone hangs: its gate has closed, its node is fenced, and the other one may take over.

use ha_common::{MonoNs, Nanos};
use ha_core::plan::{Observation, Stance};

use crate::node::{Node, pair, primary, replica};

const GATE: Nanos = Nanos::from_millis(30);
const LONG: Nanos = Nanos::from_secs(60);

/// The engine thread runs, since then.
fn runs(node: &mut Node, since: MonoNs) {
    node.conductor.set_engine(since, node.now.after(GATE));
}

/// Time passes, and the engine thread runs all the while.
fn pass(node: &mut Node, span: Nanos, since: MonoNs) {
    let end = node.now.after(span);
    while node.now < end {
        runs(node, since);
        node.pass(Nanos(GATE.0 / 2));
    }
    runs(node, since);
}

fn opened(node: &Node) -> usize {
    let opens = |step: &&String| step.contains("become-primary") || step.contains("degrade");
    node.steps.iter().filter(opens).count()
}

#[test]
fn what_the_fence_closed_stays_closed_while_nothing_is_heard_of_the_engine() {
    let (mut one, _two) = pair();
    runs(&mut one, MonoNs::ZERO);
    let before = opened(&one);
    one.pass(GATE);
    for _ in 0..20 {
        let closed = Observation {
            promoted: Some(false),
            ..primary(100, false)
        };
        one.observe(0, closed);
        one.pass(Nanos::from_millis(100));
    }
    assert_eq!(opened(&one), before, "{:?}", one.steps);
    // It goes on, and is given the time to say that it has lost.
    let back = one.now;
    pass(&mut one, Nanos::from_millis(150), back);
    assert_eq!(opened(&one), before, "{:?}", one.steps);
    pass(&mut one, Nanos::from_millis(200), back);
    assert_eq!(opened(&one), before + 1, "{:?}", one.steps);
}

#[test]
fn nobody_goes_solo_while_nothing_is_heard_of_the_engine() {
    let (mut one, _two) = pair();
    runs(&mut one, MonoNs::ZERO);
    let before = opened(&one);
    // Its replica is gone for longer than the sync lease.
    one.pass(LONG);
    one.observe(0, primary(100, false));
    assert_eq!(opened(&one), before, "{:?}", one.steps);
    let back = one.now;
    pass(&mut one, Nanos::from_secs(1), back);
    assert_eq!(opened(&one), before + 1, "{:?}", one.steps);
}

/// Of a node that is able to be promoted, and nobody else is there.
fn promoting() -> Node {
    let (_, mut two) = pair();
    two.observe(0, replica(100, false));
    runs(&mut two, MonoNs::ZERO);
    // It had run until just now.
    two.now = two.now.after(GATE);
    two.promote(true);
    two
}

#[test]
fn a_promotion_waits_for_the_engine_before_it_opens_anything() {
    let mut two = promoting();
    assert_eq!(opened(&two), 0, "{:?}", two.steps);
    assert_eq!(two.stance(), Stance::Promoting);
    two.pass(Nanos::from_millis(300));
    assert_eq!(opened(&two), 0, "{:?}", two.steps);
    runs(&mut two, MonoNs::ZERO);
    two.observe(0, replica(100, false));
    assert_eq!(opened(&two), 1, "{:?}", two.steps);
    assert_eq!(two.promoted, [Ok(())]);
}

#[test]
fn a_promotion_is_taken_back_where_the_engine_stays_silent() {
    let mut two = promoting();
    two.pass(LONG);
    assert_eq!(opened(&two), 0, "{:?}", two.steps);
    assert!(two.abandoned.is_empty(), "it was never ordered");
    let why = two.promoted[0].clone().expect_err("it is silent");
    assert!(why.contains("nothing was heard of the engine"), "{why}");
    assert_eq!(two.stance(), Stance::Standby);
}
