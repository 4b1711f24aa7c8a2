//! A holder that was held up until its leases had run out.

use ha_common::{
    Nanos,
    lease::{Standing, margin},
};
use ha_core::{Action, Alone, Cause, Input, State};

use super::{ADVERTS, LEASE, PATH, PEER, node::Node, with_leases};
use crate::driver::*;

/// What lets go of an instance.
fn lets_go(action: &Action) -> bool {
    matches!(
        action,
        Action::RemoveVips { .. } | Action::LetGo { .. } | Action::SendRelease { .. }
    )
}

/// An Active node that sleeps for so long from the middle between two echoes.
fn held_up(span: Nanos) -> Node {
    let mut node = Node::active();
    node.run_for(Nanos::from_micros(31_500));
    node.done.clear();
    node.grants = false;
    node.driver.now = node.now().after(span);
    node
}

fn stands(node: &Node) -> Vec<Standing> {
    let stands = node.done.iter().filter_map(|action| match action {
        Action::Stand { standing, .. } => Some(*standing),
        _ => None,
    });
    stands.collect()
}

#[test]
fn it_goes_on_when_its_peer_grants_and_never_let_go() {
    let mut node = held_up(LEASE);
    node.grants = true;
    node.run_for(Nanos::ZERO);
    assert_eq!(node.driver.state(), State::Active);
    assert!(!node.done.iter().any(lets_go), "{:?}", node.done);
    assert_eq!(stands(&node), [Standing::Lapsed, Standing::Active]);
    let is_new_epoch = |action: &Action| matches!(action, Action::SetEpoch { .. });
    assert!(is_new_epoch(&node.done[0]), "{:?}", node.done);
    let told = format!("{:?}", node.told());
    assert!(told.contains("Late"), "{told}");
}

#[test]
fn it_is_silent_on_the_lan_until_it_is_granted() {
    let mut node = held_up(LEASE);
    node.view.heard_at = node.now();
    node.tick();
    assert_eq!(node.driver.state(), State::Promoting);
    assert_eq!(node.adverts(), 0);
    let explanation = node.driver.status_of(ID).explanation.join(" ");
    assert!(
        explanation.contains("whether it may go on"),
        "{explanation}"
    );
}

#[test]
fn who_advertises_meanwhile_has_it() {
    for priority in [50, 200] {
        let mut node = held_up(LEASE);
        node.tick();
        let advert = Input::Advert {
            instance: ID,
            advert: advert(PEER, priority),
            received_at: node.now(),
        };
        node.input(advert);
        assert_eq!(node.driver.state(), State::Backup);
        assert_eq!(node.adverts(), 0);
    }
}

#[test]
fn it_lets_go_when_its_kernel_has_given_way() {
    let mut node = held_up(LEASE);
    node.view.promised_until = node.now().after(LEASE);
    node.tick();
    assert_eq!(node.driver.state(), State::Backup);
    assert!(!stands(&node).contains(&Standing::Lapsed));

    let mut node = held_up(LEASE);
    node.tick();
    node.input(Input::Yielded {
        instance: ID,
        peer: 0,
    });
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.cause(), Cause::Yielded { to: address(PEER) });
}

#[test]
fn it_gives_up_when_its_peer_refuses() {
    let mut node = held_up(LEASE);
    let awake = node.now();
    while node.driver.state() != State::Backup {
        // A refusal is heard.
        node.view.heard_at = node.now();
        node.tick();
        assert!(node.now().since(awake) <= LEASE.times(5));
    }
    assert_eq!(node.cause(), Cause::NotGranted { by: address(PEER) });
    assert_eq!(node.adverts(), 0);
}

#[test]
fn it_goes_on_alone_only_after_it_has_listened_for_as_long_as_a_backup() {
    let mut node = held_up(LEASE.times(10));
    let awake = node.now();
    node.tick();
    assert_eq!(node.driver.state(), State::Promoting);
    while node.driver.state() != State::Active {
        node.tick();
    }
    let took = node.now().since(awake);
    let listens = LEASE.plus(margin(LEASE));
    assert!(took >= listens, "{took}");
    assert!(took <= listens.plus(PATH.interval), "{took}");
}

#[test]
fn where_adverts_were_missed_as_well_others_get_the_time_to_object() {
    let mut node = held_up(ADVERTS.times(4));
    let awake = node.now();
    node.grants = true;
    node.tick();
    assert_eq!(node.driver.state(), State::Promoting);
    while node.driver.state() != State::Active {
        node.tick();
    }
    assert!(node.now().since(awake) >= ADVERTS);

    let mut node = held_up(ADVERTS.times(4));
    node.grants = true;
    node.tick();
    let objection = Input::Advert {
        instance: ID,
        advert: advert(PEER, 50),
        received_at: node.now(),
    };
    node.input(objection);
    assert_eq!(node.driver.state(), State::Backup);
}

#[test]
fn who_is_held_up_again_and_again_lets_go() {
    let hold_up = |node: &mut Node| {
        node.driver.now = node.now().after(LEASE);
        node.run_for(Nanos::ZERO);
        node.driver.state()
    };
    let mut node = Node::active();
    for _ in 0..3 {
        node.run_for(Nanos::from_millis(30));
        assert_eq!(hold_up(&mut node), State::Active);
    }
    // It is forgiven.
    node.run_for(LEASE.times(100));
    for _ in 0..3 {
        node.run_for(Nanos::from_millis(30));
        assert_eq!(hold_up(&mut node), State::Active);
    }
    node.run_for(Nanos::from_millis(30));
    assert_eq!(hold_up(&mut node), State::Backup);
    assert!(matches!(node.cause(), Cause::Late { .. }));
}

#[test]
fn a_reload_makes_it_no_less_silent() {
    let mut node = held_up(LEASE);
    node.view.heard_at = node.now();
    node.tick();
    let mut shorter = with_leases(Alone::Serve, &[PATH]);
    shorter.advert_interval = Nanos::from_millis(10);
    node.input(Input::Reconfigure(config(vec![shorter])));
    node.view.heard_at = node.now();
    node.run_for(Nanos::from_millis(20));
    assert_eq!(node.driver.state(), State::Promoting);
    assert_eq!(node.adverts(), 0);
}

#[test]
fn who_is_not_to_serve_alone_does_not_go_on_alone() {
    let mut node = Node::backup(Alone::Stop);
    node.driver.hear(PEER, 200);
    node.asked();
    node.grants = true;
    node.silence();
    node.run_for(Nanos::ZERO);
    assert_eq!(node.driver.state(), State::Active);
    node.grants = false;
    node.driver.now = node.now().after(Nanos::from_secs(10));
    node.tick();
    while node.driver.state() != State::Backup {
        assert_eq!(node.driver.state(), State::Promoting);
        node.tick();
    }
    assert_eq!(
        node.cause(),
        Cause::Alone {
            without: address(PEER)
        }
    );
}
