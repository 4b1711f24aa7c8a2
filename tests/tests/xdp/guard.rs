//! The verdicts of `had_guard`, on the interfaces that no instance names.

use std::fs;

use anyhow::Result;
use ha_common::{
    abi::Reason,
    wire::{
        arp::{self, Arp},
        ethernet,
    },
};

use crate::{
    fixture::{
        ELSEWHERE, Fixture, Gate, OTHER, OTHER_V6, OURS, OURS_V6, Row, Tags, V2, V3, V6, vip,
        vip_v6,
    },
    fixture_net::{Cable, NODE_IF},
    frames::{self, advert_with, request, udp},
    frames_v6,
};

/// `TC_ACT_UNSPEC`: whatever else is attached decides.
const NEXT: u32 = u32::MAX;

/// `TC_ACT_SHOT`.
const SHOT: u32 = 2;

/// All the ways in which a gate is not open.
const CLOSED: [Gate; 4] = [Gate::Closed, Gate::Expired, Gate::Raised, Gate::HalfOpen];

/// In a namespace that has a route to the VIPs, and forwards nothing.
fn scene() -> Result<Cable> {
    let cable = Cable::new()?;
    let node = &cable.node;
    node.enter(|| {
        ["lo", NODE_IF].iter().try_for_each(|one| {
            fs::write(format!("/proc/sys/net/ipv6/conf/{one}/disable_ipv6"), "0")
        })
    })??;
    for address in ["192.168.0.2/24", "2001:db8::2/64"] {
        node.ip(&["addr", "add", address, "dev", NODE_IF, "nodad"])?;
    }
    node.ip(&["link", "set", "lo", "up"])?;
    node.enter(|| forward("0"))??;
    Ok(cable)
}

fn forward(value: &str) -> std::io::Result<()> {
    for family in ["ipv4", "ipv6"] {
        for interface in ["all", "lo"] {
            fs::write(
                format!("/proc/sys/net/{family}/conf/{interface}/forwarding"),
                value,
            )?;
        }
    }
    Ok(())
}

fn check_in(cable: &Cable, tags: &[Tags], rows: &[Row]) {
    let mut fixture = Fixture::new();
    let run = || {
        fixture.check_tagged(tags, rows, |dataplane, frame| {
            dataplane.run_guard(frame).unwrap()
        });
    };
    cable.node.enter(run).unwrap();
}

fn check(rows: &[Row]) -> Result<()> {
    check_in(&scene()?, &[Tags::None], rows);
    Ok(())
}

#[test]
fn nobody_else_answers_for_a_vip() -> Result<()> {
    let mut rows = Vec::new();
    for gate in [Gate::Open, Gate::Closed] {
        let mut arp = |name, packet: Arp| {
            let frame = frames::arp(ethernet::BROADCAST, packet);
            rows.push(Row::new(name, gate, frame, SHOT, Reason::DropArpElsewhere));
        };
        arp("request", request(OTHER, vip(V3)));
        arp("probe", request([0; 4], vip(V3)));
        arp("from another VIP", request(vip(V2), vip(V3)));
        arp(
            "of an instance on another interface",
            request(OTHER, vip(ELSEWHERE)),
        );
        let frame = frames::arp([0x02, 0, 0, 0, 9, 9], request(OTHER, vip(V3)));
        rows.push(Row::new(
            "to one station",
            gate,
            frame,
            SHOT,
            Reason::DropArpElsewhere,
        ));
        for (name, source) in [("solicitation", OTHER_V6), ("probe", unspecified())] {
            let frame = frames_v6::solicitation(source, vip_v6(V6));
            rows.push(Row::new(name, gate, frame, SHOT, Reason::DropNdpElsewhere));
        }
    }
    check(&rows)
}

#[test]
fn packets_to_a_vip_meet_its_gate() -> Result<()> {
    let mut rows = Vec::new();
    for (name, frame) in to_vips() {
        let row = |gate, code, reason| Row::new(name, gate, frame.clone(), code, reason);
        rows.push(row(Gate::Open, NEXT, Reason::PassVipOpen));
        rows.extend(CLOSED.map(|gate| row(gate, SHOT, Reason::DropVipClosed)));
    }
    check(&rows)
}

fn to_vips() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("IPv4", udp(OTHER, vip(V3))),
        ("with options", frames::with_options(udp(OTHER, vip(V3)))),
        ("another interface's", udp(OTHER, vip(ELSEWHERE))),
        ("IPv6", frames_v6::udp(OTHER_V6, vip_v6(V6))),
        ("both families'", frames_v6::udp(OTHER_V6, vip_v6(V3))),
    ]
}

/// A router that is Backup is still the way to the Active node, unless it has the address itself.
#[test]
fn what_is_forwarded_passes_a_closed_gate() -> Result<()> {
    let cable = scene()?;
    cable.node.enter(|| forward("1"))??;
    let rows = |code, reason| {
        let mut rows = Vec::new();
        for (name, frame) in to_vips() {
            for gate in CLOSED {
                rows.push(Row::new(name, gate, frame.clone(), code, reason));
            }
        }
        rows
    };
    check_in(&cable, &[Tags::None], &rows(NEXT, Reason::PassVipForwarded));
    for id in [V3, ELSEWHERE, V6] {
        let addresses = [
            format!("{}/24", std::net::Ipv4Addr::from(vip(id))),
            format!("{}/64", std::net::Ipv6Addr::from(vip_v6(id).octets())),
        ];
        for address in addresses {
            let add = ["addr", "add", &address, "dev", NODE_IF, "nodad"];
            cable.node.ip(&add)?;
        }
    }
    check_in(&cable, &[Tags::None], &rows(SHOT, Reason::DropVipClosed));
    Ok(())
}

#[test]
fn everything_else_passes() -> Result<()> {
    let mut rows = Vec::new();
    for gate in [Gate::Open, Gate::Closed] {
        let mut row = |name, frame, reason| rows.push(Row::new(name, gate, frame, NEXT, reason));
        let broadcast = |packet| frames::arp(ethernet::BROADCAST, packet);
        let reply = |sender, target| Arp {
            operation: arp::REPLY,
            ..request(sender, target)
        };
        row(
            "request of an ordinary address",
            broadcast(request(OTHER, OURS)),
            Reason::PassArp,
        );
        row(
            "request from a VIP",
            broadcast(request(vip(V3), OURS)),
            Reason::PassArp,
        );
        row(
            "announcement",
            broadcast(request(vip(V3), vip(V3))),
            Reason::PassArp,
        );
        row("reply", broadcast(reply(OTHER, vip(V3))), Reason::PassArp);
        row("packet", udp(OTHER, OURS), Reason::PassOther);
        row("from a VIP", udp(vip(V3), OURS), Reason::PassOther);
        row("advert", advert_with(V3, |_| {}), Reason::PassOther);
        row(
            "solicitation of an ordinary address",
            frames_v6::solicitation(OTHER_V6, OURS_V6),
            Reason::PassNdp,
        );
        row(
            "another EtherType",
            frames::frame(ethernet::BROADCAST, 0x88cc, &[0; 46]),
            Reason::PassOther,
        );
        for len in [20, frames::IP + 27] {
            let frame = broadcast(request(OTHER, vip(V3)))[..len].to_vec();
            row("truncated ARP", frame, Reason::PassOther);
        }
    }
    check(&rows)
}

/// They belong to another interface, which has its own programs.
#[test]
fn frames_with_tags_pass() -> Result<()> {
    let tagged = Tags::ALL.into_iter().filter(|tags| *tags != Tags::None);
    let tagged: Vec<Tags> = tagged.collect();
    let rows = [
        frames::arp(ethernet::BROADCAST, request(OTHER, vip(V3))),
        udp(OTHER, vip(V3)),
        frames_v6::solicitation(OTHER_V6, vip_v6(V6)),
    ]
    .map(|frame| Row::new("tagged", Gate::Closed, frame, NEXT, Reason::PassVlan));
    check_in(&scene()?, &tagged, &rows);
    Ok(())
}

const fn unspecified() -> ha_common::Address {
    ha_common::Address::UNSPECIFIED
}
