//! Exact actions for each step of an election.

use crate::driver::*;
use ha_common::{
    MonoNs, Nanos, Priority,
    gate::{ADVERT_SLOT, Epoch, Lease},
};
use ha_core::{Action, Cause, Input, State, Timer, Version};

fn send(priority: u8, round: MonoNs) -> Action {
    Action::SendAdvert {
        instance: ID,
        priority: Priority(priority),
        interval: INTERVAL,
        round,
    }
}

const fn epoch(epoch: u16) -> Action {
    Action::SetEpoch {
        instance: ID,
        epoch: Epoch(epoch),
    }
}

fn lease(epoch: u16, round: MonoNs) -> Action {
    Action::SetLease {
        instance: ID,
        slot: ADVERT_SLOT,
        lease: Lease::new(Epoch(epoch), round.after(INTERVAL.times(3))),
    }
}

/// Gates are kept in whole microseconds.
fn gate_of(round: MonoNs) -> MonoNs {
    Lease::new(Epoch(7), round.after(INTERVAL.times(3))).deadline()
}

const ADD: Action = Action::AddVips { instance: ID };
const REMOVE: Action = Action::RemoveVips { instance: ID };
const ANNOUNCE: Action = Action::Announce {
    instance: ID,
    first: 0,
    count: 1,
};

#[test]
fn the_start_raises_the_epoch_that_was_found_before_anything_else() {
    let mut driver = Driver::new(config(vec![instance(0)]));
    assert_eq!(
        driver.take(),
        [
            epoch(7),
            Action::SetRank {
                instance: ID,
                priority: Priority(100),
                position: 0,
            }
        ]
    );
    assert_eq!(driver.state(), State::Initialize);
    assert_eq!(driver.engine.poll_timeout(), None);
}

#[test]
fn silence_from_the_start_takes_over_after_the_own_down_interval() {
    let mut driver = Driver::backup(instance(0));
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((START.after(DOWN), Timer::ActiveDown))
    );
    let actions = driver.tick();
    let elected = driver.now;
    assert_eq!(
        transitions(&actions),
        [(
            State::Backup,
            State::Promoting,
            Cause::Silence { lasted: DOWN }
        )]
    );
    assert_eq!(deeds(actions), [epoch(8), send(100, elected), ADD]);

    driver.after(Nanos::from_micros(50));
    driver.input(Input::AdvertSent {
        instance: ID,
        round: elected,
        result: Ok(()),
    });
    assert_eq!(driver.take(), []);
    driver.after(Nanos::from_micros(200));
    driver.input(Input::VipsAdded {
        instance: ID,
        result: Ok(()),
    });
    let actions = driver.take();
    assert_eq!(
        transitions(&actions),
        [(State::Promoting, State::Active, Cause::Promoted)]
    );
    // The gate counts from the sample before the advert was sent, not from now.
    assert_eq!(deeds(actions), [lease(8, elected), ANNOUNCE]);
}

#[test]
fn an_active_round_renews_from_its_own_sample() {
    let mut driver = Driver::active(instance(0));
    let first = driver.now;
    assert_eq!(driver.tick(), [send(100, first.after(INTERVAL))]);
    let round = driver.now;
    driver.after(Nanos::from_millis(2));
    driver.input(Input::AdvertSent {
        instance: ID,
        round,
        result: Ok(()),
    });
    assert_eq!(driver.take(), [lease(8, round)]);
    // Absolute: the next one is due an interval after the last was due.
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((round.after(INTERVAL), Timer::Advert))
    );
}

#[test]
fn missed_ticks_are_skipped() {
    let mut driver = Driver::active(instance(0));
    let first = driver.now;
    driver.after(Nanos::from_millis(25));
    driver.engine.handle_timeout(driver.now);
    assert_eq!(driver.take(), [send(100, driver.now)]);
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((gate_of(first), Timer::Gate))
    );
    driver.input(Input::AdvertSent {
        instance: ID,
        round: driver.now,
        result: Ok(()),
    });
    driver.take();
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((first.after(INTERVAL.times(3)), Timer::Advert))
    );
}

#[test]
fn a_late_active_steps_down_before_it_sends_anything() {
    let mut driver = Driver::active(instance(0));
    let elected = driver.now;
    driver.after(Nanos::from_millis(30));
    driver.engine.handle_timeout(driver.now);
    let actions = driver.take();
    assert_eq!(
        transitions(&actions),
        [(
            State::Active,
            State::Backup,
            Cause::Late {
                by: driver.now.since(gate_of(elected))
            }
        )]
    );
    assert_eq!(deeds(actions), [epoch(9), REMOVE]);
}

#[test]
fn an_outcome_that_comes_too_late_renews_nothing() {
    let mut driver = Driver::active(instance(0));
    driver.tick();
    let round = driver.now;
    driver.after(Nanos::from_millis(21));
    driver.input(Input::AdvertSent {
        instance: ID,
        round,
        result: Ok(()),
    });
    assert_eq!(deeds(driver.take()), [epoch(9), REMOVE]);
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn adverts_that_cannot_be_sent_end_it_at_the_deadline() {
    let mut driver = Driver::active(instance(0));
    for _ in 0..2 {
        driver.tick();
        driver.input(Input::AdvertSent {
            instance: ID,
            round: driver.now,
            result: Err(String::from("no buffer space")),
        });
    }
    driver.take();
    let actions = driver.tick();
    assert_eq!(
        transitions(&actions),
        [(
            State::Active,
            State::Backup,
            Cause::SendFailed {
                why: String::from("no buffer space")
            }
        )]
    );
    assert_eq!(deeds(actions), [epoch(9), REMOVE]);
}

#[test]
fn outranked_closes_then_says_so() {
    for (sender, priority, by_address) in [(1, 101, false), (102, 100, true)] {
        let mut driver = Driver::active(instance(0));
        driver.hear(sender, priority);
        let actions = driver.take();
        assert_eq!(
            transitions(&actions),
            [(
                State::Active,
                State::Backup,
                Cause::Outranked {
                    by: address(sender),
                    priority: Priority(priority),
                    by_address,
                }
            )]
        );
        assert_eq!(deeds(actions), [epoch(9), send(0, driver.now), REMOVE]);
    }
}

#[test]
fn a_lower_one_is_answered_at_once_but_not_for_each_advert() {
    let mut driver = Driver::active(instance(0));
    driver.after(Nanos::from_millis(1));
    driver.hear(99, 100);
    assert_eq!(driver.take(), [send(100, driver.now)]);
    driver.after(Nanos::from_millis(1));
    driver.hear(102, 99);
    assert_eq!(driver.take(), []);
    driver.after(Nanos::from_millis(5));
    driver.hear(102, 0);
    assert_eq!(driver.take(), [send(100, driver.now)]);
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn the_received_interval_decides_and_equal_priority_is_not_compared_in_backup() {
    let mut driver = Driver::backup(instance(0));
    let mut slow = advert(1, 100);
    slow.interval = Nanos::from_millis(100);
    driver.after(Nanos::from_millis(5));
    driver.hear_advert(ID, slow);
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((driver.now.after(Nanos(360_937_500)), Timer::ActiveDown))
    );
}

#[test]
fn version_2_waits_in_seconds() {
    let mut two = instance(0);
    two.version = Version::V2;
    two.advert_interval = Nanos::from_secs(1);
    let driver = Driver::backup(two);
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((START.after(Nanos(3_609_375_000)), Timer::ActiveDown))
    );
}

#[test]
fn priority_0_shortens_the_wait_to_skew_time_if_it_is_the_active_router_s() {
    let mut driver = Driver::backup(instance(0));
    for _ in 0..4 {
        driver.after(INTERVAL);
        driver.hear(102, 200);
    }
    let heard = driver.now;
    driver.after(Nanos::from_millis(3));
    driver.hear(103, 0);
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((heard.after(DOWN), Timer::ActiveDown))
    );
    driver.hear(102, 0);
    let due = driver.now.after(Nanos(6_093_750));
    assert_eq!(driver.engine.poll_timeout(), Some((due, Timer::ActiveDown)));
    assert_eq!(
        transitions(&driver.tick()),
        [(
            State::Backup,
            State::Promoting,
            Cause::Released { by: address(102) }
        )]
    );
}

#[test]
fn priority_0_shortens_nothing_before_this_node_knows_who_else_speaks() {
    let mut driver = Driver::backup(instance(0));
    driver.after(Nanos::from_millis(5));
    driver.hear(102, 200);
    driver.hear(102, 0);
    // An Active router heard before the start may speak for three intervals.
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((START.after(INTERVAL.times(3)), Timer::ActiveDown))
    );
}

#[test]
fn a_candidate_that_lets_go_does_not_hide_the_active_router() {
    let mut driver = Driver::backup(instance(0));
    for _ in 0..4 {
        driver.after(INTERVAL);
        driver.hear(102, 200);
    }
    driver.after(Nanos::from_millis(1));
    driver.hear(103, 150);
    let candidate = driver.now;
    driver.after(Nanos::from_millis(1));
    driver.hear(103, 0);
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((
            candidate.after(Nanos(30_000_000 + 30_000_000 / 256)),
            Timer::ActiveDown
        ))
    );
}

#[test]
fn a_release_that_was_read_late_is_not_followed_at_once() {
    let mut pair = instance(0);
    pair.sole_peer = true;
    let mut driver = Driver::backup(pair);
    driver.hear(102, 200);
    let received_at = driver.now;
    driver.after(Nanos::from_millis(50));
    driver.input(Input::Advert {
        instance: ID,
        advert: advert(102, 0),
        received_at,
    });
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn a_sole_peer_that_is_had_is_followed_at_once() {
    let mut pair = instance(0);
    pair.sole_peer = true;
    let mut driver = Driver::backup(pair.clone());
    driver.hear(102, 200);
    driver.hear(102, 0);
    assert_eq!(deeds(driver.take()), [epoch(8), send(100, driver.now), ADD]);

    let mut driver = Driver::backup(pair);
    driver.hear_advert(ID, foreign(102, 200));
    driver.hear_advert(ID, foreign(102, 0));
    assert_eq!(driver.state(), State::Backup);
}

#[test]
fn pre_emption_opens_when_the_loser_says_that_it_closed() {
    let mut driver = Driver::backup(instance(0));
    driver.hear(102, 50);
    // Active_Down_Timer keeps running: it counts from before the lower one's advert.
    for at in [10, 20, 30] {
        driver.now = START.after(Nanos::from_millis(at));
        driver.hear(102, 50);
    }
    assert_eq!(
        driver.engine.poll_timeout(),
        Some((START.after(DOWN), Timer::Preempt))
    );
    let actions = driver.tick();
    assert_eq!(
        transitions(&actions),
        [(
            State::Backup,
            State::Promoting,
            Cause::Preempting {
                active: address(102),
                priority: Priority(50)
            }
        )]
    );
    let elected = driver.now;
    driver.input(Input::AdvertSent {
        instance: ID,
        round: elected,
        result: Ok(()),
    });
    driver.input(Input::VipsAdded {
        instance: ID,
        result: Ok(()),
    });
    assert_eq!(deeds(driver.take()), []);
    driver.after(Nanos::from_micros(100));
    driver.hear(103, 0);
    assert_eq!(deeds(driver.take()), []);
    driver.hear(102, 0);
    assert_eq!(deeds(driver.take()), [lease(8, elected), ANNOUNCE]);
}

#[test]
fn pre_emption_opens_without_the_loser_s_word_when_its_gate_must_be_closed() {
    let mut driver = Driver::backup(instance(0));
    driver.after(Nanos::from_millis(30));
    driver.hear(102, 50);
    let heard = driver.now;
    while driver.state() != State::Active {
        driver.tick_and_settle();
    }
    // And 1/256 more, for clocks that differ in rate.
    assert_eq!(
        driver.now,
        heard.after(Nanos(30_000_000 + 30_000_000 / 256))
    );
}

#[test]
fn a_foreign_loser_is_not_waited_for() {
    let mut driver = Driver::backup(instance(0));
    driver.after(Nanos::from_millis(30));
    driver.hear_advert(ID, foreign(102, 50));
    driver.silence();
    driver.settle();
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn the_owner_is_active_as_soon_as_its_interface_is_ready() {
    let mut owner = instance(0);
    owner.priority = Priority::OWNER;
    let mut driver = Driver::new(config(vec![owner]));
    driver.ready(ID);
    driver.settle();
    assert_eq!(driver.state(), State::Active);
}

#[test]
fn the_owner_takes_its_addresses_back_also_without_preempt() {
    let mut owner = instance(0);
    owner.priority = Priority::OWNER;
    owner.preempt = false;
    let mut driver = Driver::new(config(vec![owner]));
    driver.ready(ID);
    driver.settle();
    assert_eq!(driver.state(), State::Active);
    // Held up, so that another one took over.
    driver.after(Nanos::from_millis(60));
    driver.engine.handle_timeout(driver.now);
    driver.settle();
    assert_eq!(driver.state(), State::Backup);
    for _ in 0..20 {
        driver.after(Nanos::from_millis(10));
        driver.hear(102, 100);
        driver.engine.handle_timeout(driver.now);
        driver.settle();
        if driver.state() != State::Backup {
            return;
        }
    }
    panic!(
        "the owner stays Backup: {:?}",
        driver.status_of(ID).explanation
    );
}
