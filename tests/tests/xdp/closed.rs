//! Addresses that could not be taken off their interface: nobody's, and closed.

use ha_common::{abi::Reason, wire::ethernet};

use crate::{
    fixture::{Fixture, Gate, LOOPBACK, OTHER, V3, vip},
    frames::{self, request, udp},
    program::Program,
};

const DROP: u32 = 1;
const PASS: u32 = 2;
const STRAY: [u8; 4] = [192, 168, 0, 177];

impl Fixture {
    /// The verdict on an echo request to an address, and on an ARP request for it.
    fn verdicts(&mut self, address: [u8; 4]) -> [u32; 2] {
        let arp = frames::arp(ethernet::BROADCAST, request(OTHER, address));
        [udp(OTHER, address), arp].map(|frame| {
            let [xdp, tc] =
                Program::ALL.map(|program| program.run(&mut self.dataplane, &frame).code);
            assert_eq!(xdp, tc);
            xdp
        })
    }
}

#[test]
fn a_closed_address_is_closed_until_it_is_released() {
    let mut fixture = Fixture::new();
    fixture.reset(Gate::Open);
    assert_eq!(fixture.verdicts(STRAY), [PASS, PASS], "an ordinary address");
    fixture.dataplane.close_vip(STRAY.into()).unwrap();
    let before = fixture.counts();
    assert_eq!(fixture.verdicts(STRAY), [DROP, DROP]);
    assert_eq!(
        fixture.counted(&before),
        [(Reason::DropArpElsewhere, 2), (Reason::DropVipClosed, 2)],
        "by both programs"
    );
    let leaving = fixture.dataplane.run_egress(&udp(STRAY, OTHER)).unwrap();
    assert_eq!(leaving.code, 2, "TC_ACT_SHOT");
    fixture.dataplane.release_vip(STRAY.into()).unwrap();
    assert_eq!(fixture.verdicts(STRAY), [PASS, PASS]);
}

#[test]
fn an_address_outlives_its_instance_behind_a_closed_gate() {
    let mut fixture = Fixture::new();
    fixture.reset(Gate::Open);
    let address = vip(V3).into();
    fixture.dataplane.close_vip(address).unwrap();
    fixture.dataplane.clear_instance(V3).unwrap();
    assert_eq!(fixture.verdicts(vip(V3)), [DROP, DROP]);
    fixture
        .dataplane
        .forget_leftovers(&[(LOOPBACK, address)])
        .unwrap();
    assert_eq!(fixture.verdicts(vip(V3)), [DROP, DROP], "it is still owed");
    fixture.dataplane.forget_leftovers(&[]).unwrap();
    assert_eq!(fixture.verdicts(vip(V3)), [PASS, PASS], "an earlier run's");
}

#[test]
fn releasing_does_not_touch_an_instances_address() {
    let mut fixture = Fixture::new();
    fixture.reset(Gate::Open);
    fixture.dataplane.release_vip(vip(V3).into()).unwrap();
    fixture.reset(Gate::Closed);
    assert_eq!(fixture.verdicts(vip(V3)), [DROP, DROP]);
}
