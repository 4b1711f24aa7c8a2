//! Leases granted by a peer's kernel.

mod alone;
mod candidate;
mod leaving;
pub(crate) mod node;
mod resuming;
mod silence;
mod third;

use ha_common::Nanos;
use ha_core::{Alone, Cause, InstanceConfig, LeaseConfig, LeasePeer, PathConfig, PathId, State};

use self::node::Node;
use crate::driver::*;

pub(crate) const PATH: PathConfig = PathConfig {
    id: PathId(0),
    interval: Nanos::from_millis(3),
    multiplier: 3,
};
pub(crate) const LEASE: Nanos = Nanos::from_millis(9);
pub(crate) const PEER: u8 = 102;
/// Far beyond any lease.
const ADVERTS: Nanos = Nanos::from_secs(1);

pub(crate) fn with_leases(alone: Alone, paths: &[PathConfig]) -> InstanceConfig {
    InstanceConfig {
        lease: Some(LeaseConfig {
            peers: vec![LeasePeer {
                address: address(PEER),
                paths: paths.to_vec(),
            }],
            alone,
        }),
        advert_interval: ADVERTS,
        preempt: false,
        sole_peer: true,
        ..instance(0)
    }
}

#[test]
fn what_the_kernel_s_reports_tell_is_read_from_its_maps_as_well() {
    let mut node = Node::active();
    node.view.promised_until = node.now().after(LEASE);
    node.run_for(Nanos::from_millis(3));
    assert_eq!(node.driver.state(), State::Backup);
    assert_eq!(node.cause(), Cause::Yielded { to: address(PEER) });

    let mut node = Node::backup(Alone::Serve);
    node.driver.hear(PEER, 200);
    node.holds();
    node.silence();
    assert_eq!(node.driver.state(), State::Promoting);
}

#[test]
fn every_state_says_what_its_leases_are_about() {
    let says = |node: &Node, words: &str| {
        let explanation = node.driver.status_of(ID).explanation.join(" ");
        assert!(explanation.contains(words), "{explanation}");
    };
    let mut node = Node::backup(Alone::Serve);
    node.driver.hear(PEER, 200);
    says(&node, "its adverts alone count");
    node.asked();
    says(&node, "stops asking for its lease");
    node.silence();
    says(&node, "proved silent");
    node.grants = true;
    node.tick();
    says(&node, "192.168.33.102 has granted a lease");
    node.grants = false;
    node.run_for(Nanos::from_millis(30));
    says(&node, "renews its lease alone");
}
