//! IPv6 packets to a virtual IP and to others.

use ha_common::{Address, abi::Reason};

use super::{CLOSED, DROP, PASS, check};
use crate::{
    fixture::{ELSEWHERE, Gate, OTHER_V6, OURS_V6, Row, V3, V6, vip, vip_v6},
    frames::IP,
    frames_v6::{BODY, packet, udp},
};

const STATION: [u8; 6] = [0x02, 0, 0, 0, 1, 1];

#[test]
fn packets_to_a_vip() {
    let to = (OTHER_V6, vip_v6(V6));
    let shapes = [
        ("plain", udp(OTHER_V6, vip_v6(V6))),
        ("of the other family's instance", udp(OTHER_V6, vip_v6(V3))),
        (
            "fragment",
            packet(STATION, to, 44, &[17, 0, 0, 1, 0, 0, 0, 7, 1, 2, 3, 4]),
        ),
        (
            "hop-by-hop options",
            packet(STATION, to, 0, &[58, 0, 1, 4, 0, 0, 0, 0, 135, 0]),
        ),
        (
            "echo request",
            packet(STATION, to, 58, &[128, 0, 0, 0, 0, 1, 0, 1]),
        ),
        (
            "without anything after the header",
            udp(OTHER_V6, vip_v6(V6))[..BODY].to_vec(),
        ),
        ("weak host", udp(OTHER_V6, vip_v6(ELSEWHERE))),
    ];
    let mut rows = Vec::new();
    for (name, frame) in shapes {
        let open = Row::new(name, Gate::Open, frame.clone(), PASS, Reason::PassVipOpen);
        rows.push(open);
        for gate in CLOSED {
            let frame = frame.clone();
            rows.push(Row::new(name, gate, frame, DROP, Reason::DropVipClosed));
        }
    }
    check(rows);
}

#[test]
fn packets_to_others() {
    let mut rows = Vec::new();
    for gate in [Gate::Open, Gate::Closed] {
        let mut row = |name, frame| {
            rows.push(Row::new(name, gate, frame, PASS, Reason::PassOther));
        };
        row("to an ordinary address", udp(OTHER_V6, OURS_V6));
        row("from a VIP", udp(vip_v6(V6), OURS_V6));
        // No way to an address of IPv4.
        row("IPv4-mapped", udp(OTHER_V6, Address::v4(vip(V3))));
        let mut version = udp(OTHER_V6, vip_v6(V6));
        version[IP] = 0x50;
        row("not version 6", version);
        for len in 14..BODY {
            row(
                "truncated header",
                udp(OTHER_V6, vip_v6(V6))[..len].to_vec(),
            );
        }
    }
    check(rows);
}
