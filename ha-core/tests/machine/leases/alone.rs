//! A node whose peer is not heard.

use ha_common::Nanos;
use ha_core::{Action, Alone, Cause, State};

use super::{LEASE, PATH, PEER, node::Node};
use crate::driver::*;

#[test]
fn a_node_alone_renews_to_what_its_last_echo_would_give() {
    let mut node = Node::active();
    node.run_for(Nanos::from_millis(30));
    assert!(!node.view.self_renewed);
    node.grants = false;
    let dead = node.now();
    for _ in 0..40 {
        node.tick();
        assert_eq!(node.driver.state(), State::Active);
        let last = node.done.iter().rev().find_map(|action| match action {
            Action::SendEcho { round, .. } => Some(*round),
            _ => None,
        });
        assert!(node.view.deadline <= last.expect("it echoes").after(LEASE));
    }
    assert!(node.view.self_renewed && node.now().since(dead) > LEASE);
}

#[test]
fn a_node_that_is_to_stop_alone_stops() {
    let mut node = Node::backup(Alone::Stop);
    node.driver.hear(PEER, 200);
    node.asked();
    node.grants = true;
    node.silence();
    node.run_for(PATH.interval.times(3));
    assert_eq!(node.driver.state(), State::Active);
    node.grants = false;
    node.run_for(Nanos::from_millis(20));
    assert_eq!(node.driver.state(), State::Backup);
    let without = address(PEER);
    assert_eq!(node.cause(), Cause::Alone { without });

    // It has said so.
    node.done.clear();
    node.run_for(Nanos::from_secs(20));
    assert_eq!(node.driver.status_of(ID).awaits, Some(without));
    assert!(node.told().is_empty(), "{:?}", node.told());
    node.grants = true;
    node.run_for(PATH.interval.times(3));
    assert_eq!(node.driver.state(), State::Active);
    assert_eq!(node.driver.status_of(ID).awaits, None);
}

#[test]
fn who_is_not_to_serve_alone_waits_quietly_until_its_peer_is_heard() {
    let mut node = Node::backup(Alone::Stop);
    node.driver.hear(PEER, 200);
    node.asked();
    node.done.clear();
    node.silence();
    node.run_for(Nanos::from_secs(20));
    assert_eq!(node.driver.state(), State::Backup);
    let [Action::Note { sentence, .. }] = &node.told()[..] else {
        panic!("{:?}", node.told());
    };
    assert!(sentence.contains("waits for") && sentence.contains("alone = \"stop\""));
    let status = node.driver.status_of(ID);
    assert_eq!(status.awaits, Some(address(PEER)));
    let explained = status.explanation.join(" ");
    assert!(explained.contains("It waits for"), "{explained}");
    assert!(!explained.contains("takes over"), "{explained}");

    node.grants = true;
    node.run_for(PATH.interval.times(3));
    assert_eq!(node.driver.state(), State::Active);
}

#[test]
fn a_peer_that_asks_while_it_is_waited_for_is_waited_for_no_more() {
    let mut node = Node::backup(Alone::Stop);
    node.driver.hear(PEER, 200);
    node.asked();
    node.silence();
    node.run_for(Nanos::from_secs(1));
    assert_eq!(node.driver.status_of(ID).awaits, Some(address(PEER)));
    node.driver.hear(PEER, 200);
    node.asked();
    node.done.clear();
    node.run_for(PATH.interval);
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.driver.status_of(ID).awaits, None);
    assert!(node.told().is_empty(), "{:?}", node.told());
}
