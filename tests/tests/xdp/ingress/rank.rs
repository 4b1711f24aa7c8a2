//! Which adverts end the epoch of an open gate.

use ha_common::{Address, abi::Reason, wire::ethernet};

use super::{DROP, TX};
use crate::{
    fixture::{Fixture, Gate, LOWER, OTHER, PEER, V2, V3, vip},
    frames::{self, VRRP, advert, advert_with, request},
};

#[test]
fn rank_decides_whether_an_open_gate_stays_open() {
    let from = |source, priority| {
        advert_with(V3, move |spec| {
            spec.source = Address::v4(source);
            spec.priority = ha_common::Priority(priority);
        })
    };
    let rows: [(&str, Vec<u8>, bool); 7] = [
        ("higher priority", from(LOWER, 101), false),
        ("equal priority, greater address", from(PEER, 100), false),
        ("equal priority, lower address", from(LOWER, 100), true),
        ("lower priority, greater address", from(PEER, 99), true),
        ("priority 0", from(PEER, 0), true),
        ("owner", from(LOWER, 255), false),
        (
            "higher priority with a wrong checksum",
            {
                let mut frame = from(PEER, 200);
                frame[VRRP + 2] = 201;
                frame
            },
            true,
        ),
    ];
    let mut fixture = Fixture::shared();
    for (name, frame, stays) in rows {
        fixture.reset(Gate::Open);
        let before = fixture.counts();
        let verdict = fixture.dataplane.run_ingress(&frame).unwrap();
        assert_eq!(verdict.code, DROP, "{name}");
        assert_eq!(fixture.is_open(V3), stays, "{name}");
        let outranked = fixture.counted(&before) == [(Reason::AdvertOutranks, 1)];
        assert_eq!(outranked, !stays, "{name}");
        let request = frames::arp(ethernet::BROADCAST, request(OTHER, vip(V3)));
        let verdict = fixture.dataplane.run_ingress(&request).unwrap();
        assert_eq!(verdict.code, if stays { TX } else { DROP }, "{name}");
        // Only the daemon opens it again, with an epoch of its own; another instance's is untouched.
        assert!(fixture.is_open(V2), "{name}");
        let raised = fixture.dataplane.epoch(V3).raised();
        fixture.dataplane.set_epoch(V3, raised);
        assert!(!fixture.is_open(V3), "{name}");
    }
}

#[test]
fn an_advert_that_outranks_comes_before_the_gate_is_opened() {
    let mut fixture = Fixture::shared();
    fixture.reset(Gate::Closed);
    fixture.dataplane.run_ingress(&advert(V3, 200)).unwrap();
    fixture.lease(V3, ha_tests::now().after(ha_common::Nanos::from_secs(9)));
    assert!(
        !fixture.is_open(V3),
        "the epoch was superseded before the lease was given"
    );
    assert_eq!(
        fixture.dataplane.superseded(V3),
        fixture.dataplane.epoch(V3)
    );
}

#[test]
fn an_epoch_that_comes_round_again_can_open() {
    let mut fixture = Fixture::shared();
    fixture.reset(Gate::Open);
    fixture.dataplane.run_ingress(&advert(V3, 200)).unwrap();
    assert!(!fixture.is_open(V3));
    let epoch = fixture.dataplane.epoch(V3);
    fixture.dataplane.set_epoch(V3, epoch.raised());
    fixture.dataplane.set_epoch(V3, epoch);
    fixture.lease(V3, ha_tests::now().after(ha_common::Nanos::from_secs(9)));
    assert!(fixture.is_open(V3));
}

#[test]
fn the_priority_that_counts_is_the_present_one() {
    let mut fixture = Fixture::shared();
    fixture.reset(Gate::Open);
    fixture.dataplane.set_priority(V3, 210).unwrap();
    fixture.dataplane.run_ingress(&advert(V3, 200)).unwrap();
    assert!(fixture.is_open(V3));
    fixture.dataplane.set_priority(V3, 190).unwrap();
    fixture.dataplane.run_ingress(&advert(V3, 200)).unwrap();
    assert!(!fixture.is_open(V3));
}
