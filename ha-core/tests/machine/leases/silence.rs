//! A Backup that watches who asks.

use ha_common::{MonoNs, Nanos, lease::margin};
use ha_core::{Action, Alone, Input, PathConfig, PathId, State};

use super::{ADVERTS, LEASE, PATH, PEER, node::Node};
use crate::driver::*;

#[test]
fn a_promise_that_runs_out_is_silence_long_before_three_adverts_are_missing() {
    let mut node = Node::bereaved();
    node.grants = true;
    node.done.clear();
    node.silence();
    node.run_for(Nanos::ZERO);
    assert_eq!(
        node.driver.state(),
        State::Active,
        "one announcement was granted"
    );
    assert_eq!(node.echoes(), 1);
    assert_eq!(node.now(), node.driver.status_of(ID).since);
}

#[test]
fn a_release_is_followed_at_once() {
    let mut node = Node::bereaved();
    node.grants = true;
    node.view.promised_until = node.now();
    let received_at = node.now();
    node.input(Input::Released {
        instance: ID,
        peer: 0,
        received_at,
    });
    node.run_for(Nanos::ZERO);
    assert_eq!(node.driver.state(), State::Active);
    assert_eq!(node.now(), received_at);
}

#[test]
fn a_peer_that_advertises_and_no_longer_asks_is_not_dead() {
    let mut node = Node::bereaved();
    node.driver.now = node.view.promised_until.before(Nanos(1));
    node.driver.hear(PEER, 200);
    node.done.clear();
    node.silence();
    assert_eq!(node.driver.state(), State::Backup);
    assert!(!node.done.contains(&Action::Act { instance: ID }));
}

#[test]
fn a_peer_that_advertises_no_more_and_still_asks_is_told_of() {
    let mut node = Node::backup(Alone::Serve);
    node.driver.hear(PEER, 200);
    for _ in 0..2_000 {
        node.asked();
        node.run_for(PATH.interval);
    }
    assert_eq!(node.driver.state(), State::Backup);
    let explained = node.driver.status_of(ID).explanation.join(" ");
    assert!(explained.contains("the last advert of"), "{explained}");
    assert!(
        explained.contains("still asks for its lease"),
        "{explained}"
    );
    assert!(!explained.contains("Takes over if"), "{explained}");
}

#[test]
fn silence_of_adverts_never_beats_a_promise() {
    let mut node = Node::bereaved();
    for _ in 0..2_000 {
        node.driver.now = node.driver.now.after(PATH.interval);
        node.asked();
        node.run_for(Nanos::ZERO);
        assert_eq!(node.driver.state(), State::Backup);
    }
}

/// A Backup whose peer advertised after its last request, told by its kernel that nobody asks; and until when the
/// advert shows the peer alive.
fn advertised_after_asking() -> (Node, MonoNs) {
    let mut node = Node::bereaved();
    node.driver.now = node.now().after(Nanos::from_millis(2));
    let due = node.now().after(LEASE).after(margin(LEASE));
    node.driver.hear(PEER, 200);
    node.silence();
    (node, due)
}

#[test]
fn an_advert_after_the_last_request_shows_its_sender_alive_as_that_does() {
    let (mut node, due) = advertised_after_asking();
    while node.now() < due {
        assert_eq!(node.driver.state(), State::Backup, "{:?}", node.now());
        node.tick();
    }
    assert_eq!(node.now(), due);
    assert_eq!(node.driver.state(), State::Promoting);
}

/// A Backup that was told of a silence, and was held up before it could act on it: the wake-up that it waited
/// for is `late`.
fn held_up_by(late: Nanos) -> Node {
    let (mut node, due) = advertised_after_asking();
    node.driver.now = due.after(late);
    node.tick();
    node
}

#[test]
fn a_silence_that_was_seen_before_a_node_was_held_up_has_to_last_a_lease_more() {
    let almost = Nanos(PATH.interval.0 - 1);
    assert_eq!(held_up_by(almost).driver.state(), State::Promoting);
    for late in [PATH.interval, LEASE, LEASE.times(2)] {
        let mut node = held_up_by(late);
        let due = node.now().after(LEASE);
        while node.now() < due {
            assert_eq!(
                node.driver.state(),
                State::Backup,
                "{late} {:?}",
                node.now()
            );
            node.tick();
        }
        assert_eq!(node.now(), due, "{late}");
        assert_eq!(node.driver.state(), State::Promoting, "{late}");
    }
}

#[test]
fn a_node_that_is_always_held_up_believes_a_silence_the_second_time() {
    let mut node = held_up_by(LEASE);
    node.driver.now = node.now().after(LEASE.times(2));
    node.tick();
    assert_eq!(node.driver.state(), State::Promoting);
}

#[test]
fn a_request_after_a_hold_up_ends_the_silence_before() {
    let mut node = held_up_by(LEASE);
    let end = node.now().after(LEASE.times(5));
    while node.now() < end {
        node.driver.now = node.now().after(PATH.interval);
        node.holds();
        node.read();
        let now = node.now();
        node.driver.engine.handle_timeout(now);
        node.carry_out();
        assert_eq!(node.driver.state(), State::Backup);
    }
}

#[test]
fn where_paths_differ_a_peer_is_silent_after_a_lease_of_the_slowest() {
    let slow = PathConfig {
        id: PathId(1),
        interval: PATH.interval.times(3),
        ..PATH
    };
    let mut node = Node::backup_with(Alone::Serve, &[PATH, slow]);
    node.driver.hear(PEER, 200);
    node.asked();
    let due = node.now().after(slow.lease()).after(margin(slow.lease()));
    node.silence();
    while node.now() < due {
        assert_eq!(node.driver.state(), State::Backup, "{:?}", node.now());
        node.tick();
    }
    assert_eq!(node.now(), due);
    assert_eq!(node.driver.state(), State::Promoting);
}

#[test]
fn a_silence_that_a_hold_down_kept_from_counting_ends_when_the_peer_asks_again() {
    for asks in [false, true] {
        let mut node = Node::active();
        node.input(Input::Yielded {
            instance: ID,
            peer: 0,
        });
        node.run_for(PATH.interval);
        node.driver.hear(PEER, 200);
        node.asked();
        node.silence();
        assert_eq!(node.driver.state(), State::Backup, "it just let go");
        node.done.clear();
        let end = node.now().after(ADVERTS);
        while node.now() < end {
            node.driver.now = node.now().after(PATH.interval);
            if asks {
                node.holds();
            }
            node.run_for(Nanos::ZERO);
        }
        let competes = node.done.contains(&Action::Act { instance: ID });
        assert_eq!(competes, !asks);
    }
}
