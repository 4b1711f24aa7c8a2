//! IPv4 packets to a virtual IP and to others.

use ha_common::abi::Reason;

use super::{CLOSED, DROP, PASS, check};
use crate::{
    fixture::{ELSEWHERE, Gate, OTHER, OURS, Row, V3, vip},
    frames::{self, IP, VRRP, udp},
};

#[test]
fn packets_to_a_vip() {
    let to_vip = || udp(OTHER, vip(V3));
    let first_fragment = || {
        let mut frame = to_vip();
        frame[IP + 6] = 0x20;
        frames::seal_header(&mut frame[IP..]);
        frame
    };
    let later_fragment = || {
        let mut frame = to_vip();
        frame[IP + 7] = 0x20;
        frames::seal_header(&mut frame[IP..]);
        frame
    };
    let broken = |change: fn(&mut Vec<u8>)| {
        let mut frame = to_vip();
        change(&mut frame);
        frame
    };
    type Make<'a> = &'a dyn Fn() -> Vec<u8>;
    let shapes: [(&'static str, Make<'_>); 6] = [
        ("plain", &to_vip),
        ("first fragment", &first_fragment),
        ("later fragment", &later_fragment),
        ("with options", &|| frames::with_options(to_vip())),
        ("total length below the header", &|| {
            broken(|f| f[IP + 3] = 3)
        }),
        ("without anything after the header", &|| {
            to_vip()[..VRRP].to_vec()
        }),
    ];
    let mut rows = Vec::new();
    for (name, make) in shapes {
        rows.push(Row::new(
            name,
            Gate::Open,
            make(),
            PASS,
            Reason::PassVipOpen,
        ));
        for gate in CLOSED {
            rows.push(Row::new(name, gate, make(), DROP, Reason::DropVipClosed));
        }
    }
    // By another interface than the instance's: the same gate.
    let elsewhere = || udp(OTHER, vip(ELSEWHERE));
    rows.push(Row::new(
        "weak host",
        Gate::Open,
        elsewhere(),
        PASS,
        Reason::PassVipOpen,
    ));
    rows.push(Row::new(
        "weak host",
        Gate::Closed,
        elsewhere(),
        DROP,
        Reason::DropVipClosed,
    ));
    check(rows);
}

#[test]
fn packets_to_others() {
    let mut rows = Vec::new();
    for gate in [Gate::Open, Gate::Closed] {
        let mut row = |name, frame, reason| rows.push(Row::new(name, gate, frame, PASS, reason));
        row(
            "to an ordinary address",
            udp(OTHER, OURS),
            Reason::PassOther,
        );
        row("from a VIP", udp(vip(V3), OURS), Reason::PassOther);
        row(
            "tagged, to a VIP",
            frames::tagged(udp(OTHER, vip(V3))),
            Reason::PassVlan,
        );
        let mut service = frames::tagged(udp(OTHER, vip(V3)));
        service[12..14].copy_from_slice(&[0x88, 0xa8]);
        row("service tag, to a VIP", service, Reason::PassVlan);
        let mut ipv6 = udp(OTHER, vip(V3));
        ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
        row("IPv6", ipv6, Reason::PassOther);
        let mut version = udp(OTHER, vip(V3));
        version[IP] = 0x55;
        row("not version 4", version, Reason::PassOther);
        let mut short = udp(OTHER, vip(V3));
        short[IP] = 0x44;
        row("header too short", short, Reason::PassOther);
        for len in 14..VRRP {
            let truncated = udp(OTHER, vip(V3))[..len].to_vec();
            row("truncated header", truncated, Reason::PassOther);
        }
    }
    check(rows);
}
