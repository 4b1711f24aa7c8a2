//! Neighbour solicitations, and whatever else names a virtual IP in neighbour discovery.

use ha_common::{Address, abi::Reason, wire::ipv6};
use ha_core::InstanceId;

use super::{CLOSED, DROP, PASS, TX, check};
use crate::{
    fixture::{
        ELSEWHERE, Fixture, Gate, OTHER_V6, OURS_V6, PEER_V6, Row, UNICAST_V6, V3, V6, config, mac,
        vip_v6,
    },
    frames::SENDER,
    frames_v6::{
        ADVERTISEMENT, BODY, SOLICITATION, forged, group_mac, link_layer, neighbor, packet, probe,
        solicitation,
    },
};

const OVERRIDE: u8 = 0x20;
const SOLICITED: u8 = 0x40;
const ROUTER: u8 = 0x80;

/// The answer of an instance to somebody, or to all who listen.
fn answer(id: InstanceId, station: [u8; 6], to: Address, flags: u8) -> Vec<u8> {
    let mut frame = neighbor(
        station,
        (vip_v6(id), to),
        (ADVERTISEMENT, flags),
        vip_v6(id),
        &link_layer(2, mac(id)),
    );
    frame[6..12].copy_from_slice(&mac(id));
    frame
}

fn unicast(target: Address, station: [u8; 6]) -> Vec<u8> {
    neighbor(
        station,
        (OTHER_V6, target),
        (SOLICITATION, 0),
        target,
        &link_layer(1, SENDER),
    )
}

#[test]
fn solicitations_while_open() {
    let row = |name, frame, code, reason| Row::new(name, Gate::Open, frame, code, reason);
    let answered =
        |name, frame, out: Vec<u8>| row(name, frame, TX, Reason::NdpAnswered).turns_into(out);
    let to_other = |id| answer(id, SENDER, OTHER_V6, SOLICITED | OVERRIDE);
    let all = ([0x33, 0x33, 0, 0, 0, 1], ipv6::ALL_NODES);
    let kernel = |name, frame| row(name, frame, PASS, Reason::PassVipOpen);
    check(vec![
        answered(
            "to its group",
            solicitation(OTHER_V6, vip_v6(V6)),
            to_other(V6),
        ),
        answered(
            "of the other family's instance",
            solicitation(OTHER_V6, vip_v6(V3)),
            to_other(V3),
        ),
        answered("to our MAC", unicast(vip_v6(V6), mac(V6)), to_other(V6)),
        answered(
            "by a link-local address",
            solicitation(PEER_V6, vip_v6(V6)),
            answer(V6, SENDER, PEER_V6, SOLICITED | OVERRIDE),
        ),
        answered(
            "by the holder of another VIP",
            solicitation(vip_v6(UNICAST_V6), vip_v6(V6)),
            answer(V6, SENDER, vip_v6(UNICAST_V6), SOLICITED | OVERRIDE),
        ),
        answered(
            "duplicate address detection",
            probe(vip_v6(V6)),
            answer(V6, all.0, all.1, OVERRIDE),
        ),
        row(
            "by another interface than the instance's",
            solicitation(OTHER_V6, vip_v6(ELSEWHERE)),
            DROP,
            Reason::DropNdpElsewhere,
        ),
        row(
            "to another station",
            unicast(vip_v6(V6), [0x02, 0, 0, 0, 9, 9]),
            DROP,
            Reason::DropNdpElsewhere,
        ),
        // The kernel has the VIP too, and knows more.
        kernel(
            "without an option",
            neighbor(
                mac(V6),
                (OTHER_V6, vip_v6(V6)),
                (SOLICITATION, 0),
                vip_v6(V6),
                &[],
            ),
        ),
        kernel(
            "with two options",
            neighbor(
                group_mac(vip_v6(V6)),
                (OTHER_V6, ipv6::solicited_node(vip_v6(V6))),
                (SOLICITATION, 0),
                vip_v6(V6),
                &[link_layer(1, SENDER), vec![14, 1, 1, 2, 3, 4, 5, 6]].concat(),
            ),
        ),
        kernel("with a wrong checksum", {
            let mut frame = solicitation(OTHER_V6, vip_v6(V6));
            frame[BODY + 2] ^= 1;
            frame
        }),
        kernel("with an option of length 0", {
            forged(solicitation(OTHER_V6, vip_v6(V6)), |f| f[BODY + 25] = 0)
        }),
        row(
            "advertisement to us",
            neighbor(
                mac(V6),
                (OTHER_V6, vip_v6(V6)),
                (ADVERTISEMENT, SOLICITED),
                OTHER_V6,
                &link_layer(2, SENDER),
            ),
            PASS,
            Reason::PassVipOpen,
        ),
    ]);
}

#[test]
fn solicitations_while_closed() {
    let mut rows = Vec::new();
    for gate in CLOSED {
        for (name, frame) in [
            ("to its group", solicitation(OTHER_V6, vip_v6(V6))),
            ("to our MAC", unicast(vip_v6(V6), mac(V6))),
            ("duplicate address detection", probe(vip_v6(V6))),
            (
                "of the other family's instance",
                solicitation(OTHER_V6, vip_v6(V3)),
            ),
            ("with a wrong checksum", {
                let mut frame = solicitation(OTHER_V6, vip_v6(V6));
                frame[BODY + 2] ^= 1;
                frame
            }),
        ] {
            rows.push(Row::new(name, gate, frame, DROP, Reason::DropNdpClosed));
        }
        let reply = neighbor(
            mac(V6),
            (OTHER_V6, vip_v6(V6)),
            (ADVERTISEMENT, SOLICITED),
            OTHER_V6,
            &link_layer(2, SENDER),
        );
        rows.push(Row::new(
            "advertisement to us",
            gate,
            reply,
            DROP,
            Reason::DropVipClosed,
        ));
    }
    check(rows);
}

#[test]
fn whatever_the_gate() {
    let all = ([0x33, 0x33, 0, 0, 0, 1], ipv6::ALL_NODES);
    let claim = |target| {
        neighbor(
            all.0,
            (target, all.1),
            (ADVERTISEMENT, OVERRIDE),
            target,
            &link_layer(2, SENDER),
        )
    };
    let mut rows = Vec::new();
    for gate in [Gate::Open, Gate::Closed] {
        let mut row = |name, frame, reason| rows.push(Row::new(name, gate, frame, PASS, reason));
        row(
            "solicitation of an ordinary address",
            solicitation(PEER_V6, OURS_V6),
            Reason::PassNdp,
        );
        row(
            "solicitation by the holder of a VIP",
            solicitation(vip_v6(V6), OURS_V6),
            Reason::PassNdpFromVip,
        );
        row(
            "another node's advertisement of a VIP",
            claim(vip_v6(V6)),
            Reason::PassNdpFromVip,
        );
        row(
            "advertisement of an ordinary address",
            claim(OTHER_V6),
            Reason::PassNdp,
        );
        row(
            "solicitation from beyond the link",
            forged(solicitation(OTHER_V6, vip_v6(V6)), |f| f[21] = 254),
            Reason::PassOther,
        );
        row(
            "other ICMPv6",
            packet(all.0, (OTHER_V6, all.1), 58, &[143; 32]),
            Reason::PassOther,
        );
        for len in BODY..BODY + 24 {
            row(
                "truncated solicitation",
                solicitation(OTHER_V6, vip_v6(V6))[..len].to_vec(),
                Reason::PassOther,
            );
        }
    }
    check(rows);
}

#[test]
fn a_router_says_so() {
    let mut fixture = Fixture::shared();
    fixture.reset(Gate::Open);
    let router = ha_common::abi::InstanceConfig {
        router: 1,
        ..config(V6)
    };
    let vips = [vip_v6(V6).into()];
    fixture
        .dataplane
        .set_instance(V6, &router, &vips, &[])
        .unwrap();
    let verdict = fixture
        .dataplane
        .run_ingress(&solicitation(OTHER_V6, vip_v6(V6)))
        .unwrap();
    assert_eq!(verdict.code, TX);
    let flags = ROUTER | SOLICITED | OVERRIDE;
    assert_eq!(verdict.frame, answer(V6, SENDER, OTHER_V6, flags));
}
