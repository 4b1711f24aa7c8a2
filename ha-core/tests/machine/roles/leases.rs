//! Roles of a group whose gate is opened by leases.

use ha_common::{MonoNs, Nanos, lease::Standing};
use ha_core::{Action, Alone, Cause, Input, Manner, State};

use super::*;
use crate::leases::{LEASE, PATH, PEER, node::Node, with_leases};

fn config(alone: Alone) -> EngineConfig {
    let mut config = with_roles(1);
    let mut one = with_leases(alone, &[PATH]);
    one.group = Some(0);
    config.instances = vec![one];
    config
}

/// Elected, and its roles are being promoted; the round.
fn promoting(grants: bool) -> (Node, MonoNs) {
    let mut node = Node::of(config(Alone::Serve));
    node.input(prospect(Ok(())));
    checked(&mut node.driver, ha_core::check::Health::Up);
    node.driver.hear(PEER, 200);
    node.asked();
    node.grants = grants;
    node.silence();
    node.run_for(Nanos::from_millis(30));
    let round = promotion(&node.done).expect("it has won").0;
    node.done.clear();
    (node, round)
}

fn active() -> Node {
    let (mut node, round) = promoting(true);
    node.input(outcome(round, true));
    assert_eq!(node.driver.state(), State::Active);
    node.done.clear();
    node
}

fn outcome(round: MonoNs, promoted: bool) -> Input {
    let group = String::from("db");
    let result = Ok(());
    if promoted {
        Input::RolesPromoted {
            group,
            round,
            result,
        }
    } else {
        Input::RolesDemoted {
            group,
            round,
            result,
        }
    }
}

fn stands(node: &Node) -> Vec<Standing> {
    let standing = |action: &Action| match action {
        Action::Stand { standing, .. } => Some(*standing),
        _ => None,
    };
    node.done.iter().filter_map(standing).collect()
}

#[test]
fn they_are_promoted_once_every_peer_has_granted_and_the_leases_go_on() {
    let mut node = Node::of(config(Alone::Serve));
    node.input(prospect(Ok(())));
    checked(&mut node.driver, ha_core::check::Health::Up);
    node.driver.hear(PEER, 200);
    node.asked();
    node.silence();
    node.run_for(Nanos::ZERO);
    // It competes: the peer is there, and has not granted.
    node.view.heard_at = node.now();
    node.read();
    node.carry_out();
    assert_eq!(node.driver.state(), State::Promoting);
    assert_eq!(promotion(&node.done), None);
    assert_eq!(stands(&node), [Standing::Candidate]);
    node.grants = true;
    node.run_for(Nanos::from_millis(3));
    let (round, unplanned) = promotion(&node.done).expect("it has won");
    assert!(unplanned);
    node.done.clear();

    node.run_for(Nanos::from_secs(3));
    assert!(node.echoes() > 900, "its leases go on");
    assert!(node.adverts() >= 2, "and its adverts");
    assert_eq!(stands(&node), []);
    assert_eq!(node.driver.state(), State::Promoting);
    node.input(outcome(round, true));
    assert_eq!(node.driver.state(), State::Active);
    assert_eq!(stands(&node), [Standing::Active]);
}

#[test]
fn alone_they_are_promoted_too() {
    let (mut node, round) = promoting(false);
    node.run_for(Nanos::from_secs(3));
    assert_eq!(node.driver.state(), State::Promoting);
    assert!(node.view.deadline > node.now(), "renewed alone, in time");
    assert_eq!(demotion(&node.done), None);
    node.input(outcome(round, true));
    assert_eq!(node.driver.state(), State::Active);
}

#[test]
fn a_peer_that_dies_meanwhile_changes_nothing() {
    let (mut node, round) = promoting(true);
    node.grants = false;
    node.run_for(Nanos::from_secs(1));
    assert_eq!(node.driver.state(), State::Promoting);
    assert_eq!(demotion(&node.done), None);
    node.input(outcome(round, true));
    assert_eq!(node.driver.state(), State::Active);
}

#[test]
fn a_lease_that_is_not_granted_any_more_is_lost() {
    let (mut node, round) = promoting(true);
    // The peer is heard, and does not grant.
    node.grants = false;
    let began = node.now();
    while node.driver.state() == State::Promoting {
        node.view.heard_at = node.now();
        node.tick();
        assert!(
            node.now().since(began) < LEASE.times(2),
            "{:?}",
            node.cause()
        );
    }
    assert!(matches!(node.cause(), Cause::NotGranted { .. }));
    assert_eq!(
        demotion(&node.done).map(|(_, manner)| manner),
        Some(Manner::Forced)
    );
    node.input(outcome(round, true));
    assert_eq!(node.driver.state(), State::Backup);
}

#[test]
fn a_kernel_that_gives_way_has_them_demoted() {
    let (mut node, _) = promoting(true);
    node.view.promised_until = node.now().after(LEASE);
    node.input(Input::Yielded {
        instance: ID,
        peer: 0,
    });
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(
        demotion(&node.done).map(|(_, manner)| manner),
        Some(Manner::Forced)
    );
}

#[test]
fn while_they_are_demoted_the_gate_is_closed_and_the_leases_are_asked_for() {
    let mut node = active();
    node.input(Input::Switchover(Target::Group(0)));
    assert_eq!(node.driver.state(), State::Demoting);
    assert_eq!(stands(&node), [Standing::Candidate]);
    let (round, _) = demotion(&node.done).expect("they are promoted");
    let release = |node: &Node| {
        let mut done = node.done.iter();
        done.any(|one| matches!(one, Action::SendRelease { .. } | Action::LetGo { .. }))
    };
    assert!(!release(&node));
    node.done.clear();
    node.run_for(Nanos::from_secs(1));
    assert_eq!(node.driver.state(), State::Demoting);
    assert!(node.echoes() > 300);
    assert!(!release(&node));
    node.input(outcome(round, false));
    assert_eq!(node.driver.state(), State::Backup);
    assert!(release(&node));
}

#[test]
fn a_switchover_that_is_refused_opens_again() {
    let mut node = active();
    node.input(Input::Switchover(Target::Group(0)));
    let (round, _) = demotion(&node.done).expect("they are promoted");
    node.run_for(Nanos::from_millis(50));
    node.done.clear();
    node.input(Input::RolesDemoted {
        group: String::from("db"),
        round,
        result: Err(String::from("no standby is fit")),
    });
    assert_eq!(node.driver.state(), State::Active);
    assert_eq!(stands(&node), [Standing::Active]);
}

#[test]
fn what_is_lost_while_they_are_demoted_is_let_go_of() {
    let mut node = active();
    node.input(Input::Switchover(Target::Group(0)));
    node.done.clear();
    node.grants = false;
    let began = node.now();
    while node.driver.state() == State::Demoting {
        node.view.heard_at = node.now();
        node.tick();
        assert!(
            node.now().since(began) < LEASE.times(6),
            "{:?}",
            node.cause()
        );
    }
    assert!(matches!(node.cause(), Cause::NotGranted { .. }));
    assert_eq!(
        demotion(&node.done).map(|(_, manner)| manner),
        Some(Manner::Forced)
    );

    let mut node = active();
    node.input(Input::Switchover(Target::Group(0)));
    node.view.promised_until = node.now().after(LEASE);
    node.input(Input::Yielded {
        instance: ID,
        peer: 0,
    });
    assert!(matches!(node.cause(), Cause::Yielded { .. }));
}

#[test]
fn a_node_that_was_held_up_does_not_ask_whether_it_may_go_on() {
    // Who had it meanwhile may have let go again, and has newer data.
    let (promoting, _) = promoting(true);
    let mut demoting = active();
    demoting.input(Input::Switchover(Target::Group(0)));
    demoting.done.clear();
    for mut node in [active(), promoting, demoting] {
        node.driver.after(LEASE.times(2));
        node.tick();
        assert_eq!(node.driver.state(), State::Backup);
        assert!(matches!(node.cause(), Cause::Late { .. }));
        assert!(!stands(&node).contains(&Standing::Lapsed));
        let (round, manner) = demotion(&node.done).expect("they may be promoted");
        assert_eq!(manner, Manner::Forced);
        assert_eq!(node.adverts(), 0, "somebody may have taken over");
        node.input(outcome(round, false));
        node.run_for(Nanos::from_secs(5));
        assert_eq!(node.driver.state(), State::Promoting, "as any Backup");
    }
}

fn ranks(node: &Node) -> Vec<(u8, u32)> {
    let rank = |action: &Action| match action {
        Action::SetRank {
            priority, position, ..
        } => Some((priority.0, *position)),
        _ => None,
    };
    node.done.iter().filter_map(rank).collect()
}

/// Whoever was promoted while the two heard nothing of each other has what clients wrote meanwhile.
#[test]
fn a_node_that_its_peer_left_goes_last_until_that_grants_again() {
    let mut node = active();
    node.grants = false;
    node.run_for(LEASE);
    assert_eq!(node.driver.state(), State::Active, "alone");
    assert_eq!(ranks(&node), [(1, 0)]);
    node.done.clear();

    // It is heard, and does not grant: it may be Active itself.
    node.view.heard_at = node.now();
    node.run_for(Nanos::from_millis(3));
    assert_eq!(ranks(&node), []);
    node.grants = true;
    node.run_for(LEASE);
    assert_eq!(ranks(&node), [(100, 7)]);
    assert_eq!(node.driver.state(), State::Active);
}

#[test]
fn a_node_that_goes_last_lets_a_peer_of_any_priority_and_address_go_first() {
    let mut node = active();
    node.grants = false;
    node.run_for(LEASE);
    node.driver.hear(PEER - 2, 2);
    node.carry_out();
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(
        ranks(&node).last(),
        Some(&(100, 7)),
        "as a Backup it competes with what it has"
    );
}

#[test]
fn a_node_that_is_promoted_alone_does_not_go_last() {
    let (mut node, round) = promoting(false);
    node.input(outcome(round, true));
    node.done.clear();
    node.run_for(LEASE.times(3));
    assert_eq!(node.driver.state(), State::Active);
    assert_eq!(ranks(&node), []);
}
