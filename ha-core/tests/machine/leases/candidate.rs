//! A candidate, until it has won or gives up.

use ha_common::{Nanos, lease::Standing};
use ha_core::{Action, Alone, Cause, Input, InstanceConfig, State};

use super::{LEASE, PATH, PEER, node::Node, with_leases};
use crate::driver::*;

#[test]
fn a_candidate_that_hears_nothing_opens_after_three_announcements_and_a_round_trip() {
    let mut node = Node::bereaved();
    node.done.clear();
    node.silence();
    let began = node.now();
    assert_eq!(node.driver.state(), State::Promoting);
    while node.driver.state() == State::Promoting {
        assert_eq!(node.adverts(), 0, "no advert before it has won");
        node.tick();
    }
    assert_eq!(node.driver.state(), State::Active);
    assert!(node.echoes() >= 3);
    let took = node.now().since(began);
    assert!(took >= Nanos(2 * PATH.interval.0 / 8), "{took}");
    assert!(took < PATH.interval, "{took}");
    assert!(node.view.self_renewed);
    assert!(node.view.deadline <= node.now().after(LEASE));
}

#[test]
fn a_candidate_opens_after_the_lease_of_an_echo_that_was_lost_after_the_last_one() {
    let mut node = Node::bereaved();
    let lost = node.now().after(PATH.interval);
    node.silence();
    while node.driver.state() == State::Promoting {
        node.tick();
    }
    assert_eq!(node.driver.state(), State::Active);
    assert!(node.now() >= lost.after(LEASE), "{:?}", node.now());
}

#[test]
fn a_peer_that_was_heard_shortly_before_is_not_silent_yet() {
    let mut node = Node::bereaved();
    // Its kernel answered a hello, though it was not heard asking.
    let heard_at = node.view.promised_until.before(Nanos::from_millis(1));
    node.view.heard_at = heard_at;
    node.silence();
    let silent_from = heard_at.after(Nanos(LEASE.0 - PATH.interval.0 / 2 * 3));
    node.run_for(silent_from.before(Nanos(1)).since(node.now()));
    assert_eq!(node.driver.state(), State::Promoting);
    node.run_for(PATH.interval);
    assert_eq!(node.driver.state(), State::Active);
}

#[test]
fn one_long_round_trip_delays_a_candidate_by_a_lease_at_most() {
    let mut node = Node::bereaved();
    node.input(Input::PathHeard {
        path: PATH.id,
        heard_at: node.now(),
        round_trip: Some(LEASE.times(20)),
    });
    node.silence();
    let began = node.now();
    while node.driver.state() == State::Promoting {
        node.tick();
    }
    assert_eq!(node.driver.state(), State::Active);
    let took = node.now().since(began);
    assert!(took >= LEASE, "{took}");
    assert!(took < LEASE.plus(PATH.interval), "{took}");
}

#[test]
fn a_candidate_that_was_held_up_announces_itself_anew() {
    let mut node = Node::bereaved();
    node.silence();
    node.tick();
    node.tick();
    node.driver.now = node.now().after(LEASE.times(2));
    node.done.clear();
    node.tick();
    assert_eq!(
        node.driver.state(),
        State::Promoting,
        "one echo is not enough"
    );
    while node.driver.state() == State::Promoting {
        node.tick();
    }
    assert!(node.echoes() >= 3);
}

#[test]
fn a_candidate_that_is_refused_gives_up_without_a_word_on_the_lan() {
    let mut node = Node::bereaved();
    node.done.clear();
    node.silence();
    for _ in 0..200 {
        if node.driver.state() != State::Promoting {
            break;
        }
        // A refusal is heard.
        node.view.heard_at = node.now();
        node.tick();
    }
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.cause(), Cause::NotGranted { by: address(PEER) });
    assert_eq!(node.adverts(), 0);
    let stands: Vec<Standing> = node
        .done
        .iter()
        .filter_map(|action| match action {
            Action::Stand { standing, .. } => Some(*standing),
            _ => None,
        })
        .collect();
    assert_eq!(stands, [Standing::Candidate, Standing::Bystander]);
    assert!(node.done.contains(&Action::LetGo { instance: ID }));
}

#[test]
fn a_pre_emptor_whose_loser_asks_after_all_waits_for_its_promise_only() {
    let mut node = Node::with(InstanceConfig {
        preempt: true,
        ..with_leases(Alone::Serve, &[PATH])
    });
    // A promise from before this daemon's start, and a peer that advertises without asking.
    node.view.promised_until = node.now().after(LEASE.times(10));
    while node.now() < node.view.promised_until.after(LEASE) {
        node.driver.now = node.now().after(PATH.interval);
        node.driver.hear(PEER, 50);
        node.read();
        let now = node.now();
        node.driver.engine.handle_timeout(now);
        node.carry_out();
    }
    assert_eq!(node.driver.state(), State::Promoting);
    node.asked();
    node.driver.now = node.now().after(Nanos(1));
    node.driver.hear(PEER, 50);
    node.carry_out();
    let due = node.view.promised_until;
    node.grants = true;
    node.run_for(LEASE.times(3));
    assert_eq!(node.driver.state(), State::Active);
    assert!(due <= node.driver.status_of(ID).since);
}
