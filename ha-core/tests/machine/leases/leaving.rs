//! A holder that lets go.

use ha_common::Nanos;
use ha_core::{Action, Cause, Input, State};

use super::{LEASE, PEER, node::Node};
use crate::driver::*;

#[test]
fn a_node_that_was_held_up_steps_down_before_it_answers_anybody() {
    let mut node = Node::active();
    node.run_for(Nanos::from_millis(30));
    node.done.clear();
    node.driver.now = node.now().after(LEASE);
    let heard = Input::Advert {
        instance: ID,
        advert: advert(PEER, 50),
        received_at: node.now(),
    };
    let unread = node.driver.engine.unread(&heard, node.now());
    assert_eq!(unread, [ID]);
    node.read();
    assert!(node.driver.engine.unread(&heard, node.now()).is_empty());
    node.driver.input(heard);
    node.carry_out();
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.adverts(), 0);
}

#[test]
fn a_node_that_is_heard_and_not_granted_falls_silent() {
    let mut node = Node::active();
    node.grants = false;
    for _ in 0..40 {
        if node.driver.state() != State::Active {
            break;
        }
        node.view.heard_at = node.now();
        node.tick();
    }
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.cause(), Cause::NotGranted { by: address(PEER) });
    assert!(!node.view.self_renewed);
}

#[test]
fn a_node_whose_kernel_yielded_lets_go() {
    let mut node = Node::active();
    node.input(Input::Yielded {
        instance: ID,
        peer: 0,
    });
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.cause(), Cause::Yielded { to: address(PEER) });
}

#[test]
fn a_hand_over_closes_before_it_releases_and_acts_no_more() {
    let mut node = Node::active();
    node.input(Input::Switchover(ha_core::Target::Instance(ID)));
    let place = |wanted: fn(&Action) -> bool| node.done.iter().position(wanted);
    let closed = place(|action| matches!(action, Action::SetEpoch { .. }));
    let released = place(|action| matches!(action, Action::SendRelease { .. }));
    let let_go = place(|action| matches!(action, Action::LetGo { .. }));
    assert!(closed.is_some() && closed < released && released < let_go);
}
