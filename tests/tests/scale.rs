//! Many addresses: they all move, and nothing else suffers from it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Client, Frame, Kind, Lab, Mac, Node, Payload, VirtualRouter,
    capture::Capture,
    eventually, frame,
    lab::VIP,
    node::PATIENCE,
    now, scenario,
    scene::{VRID, WEB},
    sys,
    wait::throughout,
};

/// In each advert: as many of 255 as the lab's network has room for.
const ADVERTISED: usize = 251;
/// Beyond those.
const EXTRA: usize = 1_000;

/// Between two adverts: on a busy machine the engine thread of a debug build was held up for 60 ms.
const INTERVAL_MS: u32 = 100;
const INTERVAL: Nanos = Nanos::from_millis(INTERVAL_MS as u64);
/// Below the gate's three intervals: whoever misses that has lost its role.
const LATE: Nanos = Nanos(INTERVAL.0 * 2 + INTERVAL.0 / 2);

/// Addresses of networks that are routed to the link: a /32 each.
fn routed(network: u8, count: usize) -> Vec<Ipv4Addr> {
    (0..count)
        .map(|n| {
            let [high, low] = u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
            Ipv4Addr::new(10, network, high, low)
        })
        .collect()
}

/// The router with `extra` further addresses.
fn router(node: &Node, peer: Ipv4Addr, extra: usize) -> VirtualRouter {
    let list = |vips: &[Ipv4Addr]| {
        let vips: Vec<String> = vips.iter().map(|vip| format!("\"{vip}/32\"")).collect();
        vips.join(", ")
    };
    let mut router = node
        .router()
        .interval_ms(INTERVAL_MS)
        .peers(&[peer])
        .had_lines(&format!("extra_vips = [{}]", list(&routed(89, extra))));
    let taken = [1, 2, 100, 200, 255];
    let free = (1..=u8::MAX).filter(|last| !taken.contains(last));
    router
        .vips
        .extend(free.map(|last| Ipv4Addr::new(10, 77, 0, last)));
    router
}

struct Pair {
    nodes: [Node; 2],
    client: Client,
    vips: Vec<Ipv4Addr>,
}

impl Pair {
    fn start(lab: &Lab) -> Result<Self> {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        let client = lab.client("c1")?;
        let addresses = [nodes[0].address(), nodes[1].address()];
        let mut vips = routed(89, EXTRA);
        for (index, state) in ["active", "backup"].into_iter().enumerate() {
            let router = router(&nodes[index], addresses[1 - index], EXTRA);
            vips.extend(&router.vips);
            nodes[index].start(Kind::Had, &[router])?;
            nodes[index].wait_for(WEB, state)?;
        }
        nodes[1].wait_for_active_peer(WEB, addresses[0])?;
        vips.sort_unstable();
        vips.dedup();
        ensure!(vips.len() == ADVERTISED + EXTRA);
        Ok(Self {
            nodes,
            client,
            vips,
        })
    }

    /// Asks for every address until all of them were answered for by `node`, and by nobody else.
    fn all_answer(&self, node: usize) -> Result<()> {
        let asker = (self.client.mac(), self.client.address());
        let to = asker.1;
        let keep = move |frame: &Frame| matches!(frame.payload, Payload::ArpReply { target, .. } if target == to);
        let capture = Capture::start(self.client.ns(), "eth0", keep)?;
        let socket = self.client.ns().enter(|| sys::packet_socket("eth0"))??;
        let from = now();
        eventually(PATIENCE, "every address is answered for", || {
            let heard = capture.between(from, now());
            let strangers: BTreeSet<Mac> = heard
                .iter()
                .map(|(_, frame)| frame.source)
                .filter(|mac| *mac != self.nodes[node].mac())
                .collect();
            ensure!(strangers.is_empty(), "{strangers:?} answered too");
            let answered: BTreeSet<Ipv4Addr> = heard
                .iter()
                .filter_map(|(_, frame)| match frame.payload {
                    Payload::ArpReply { sender, .. } => Some(sender),
                    _ => None,
                })
                .collect();
            let missing = self.vips.iter().filter(|vip| !answered.contains(vip));
            // Not all at once: the lab's queues are short.
            for vip in missing.clone().take(128) {
                socket.send(&frame::arp_request_frame(asker, *vip))?;
            }
            Ok(missing.count() == 0)
        })
    }

    /// How many of them a node has.
    fn held(&self, node: usize) -> Result<usize> {
        let there = self.nodes[node].addresses("eth0")?;
        Ok(self
            .vips
            .iter()
            .filter(|vip| there.contains(&IpAddr::from(**vip)))
            .count())
    }

    fn wait_for_none(&self, node: usize) -> Result<()> {
        eventually(PATIENCE, "every address is taken off", || {
            Ok(self.held(node)? == 0)
        })
    }
}

#[test]
fn a_thousand_addresses_move_without_an_advert_being_late() {
    scenario(|lab| {
        let pair = Pair::start(lab)?;
        pair.all_answer(0)?;
        let sniffer = pair.nodes[1].sniff(VIP)?;
        let announced = Capture::start(
            pair.client.ns(),
            "eth0",
            |frame| matches!(frame.payload, Payload::ArpRequest { sender, target } | Payload::ArpReply { sender, target } if sender == target),
        )?;
        let from = now();
        pair.nodes[0].power_off()?;
        pair.nodes[1].wait_for(WEB, "active")?;
        pair.all_answer(1)?;
        ensure!(pair.held(1)? == pair.vips.len());
        let promoted = now();
        eventually(PATIENCE, "every address was announced", || {
            let told: BTreeSet<Ipv4Addr> = announced
                .between(from, now())
                .iter()
                .filter_map(|(_, frame)| match frame.payload {
                    Payload::ArpRequest { target, .. } | Payload::ArpReply { target, .. } => {
                        Some(target)
                    }
                    _ => None,
                })
                .collect();
            Ok(pair.vips.iter().all(|vip| told.contains(vip)))
        })?;
        throughout(Duration::from_millis(500), "it stays Active", || {
            Ok(pair.nodes[1].state(WEB)? == "active")
        })?;
        let adverts = sniffer.adverts(VRID, from, promoted);
        let longest = adverts
            .windows(2)
            .map(|pair| pair[1].0.since(pair[0].0))
            .max();
        ensure!(longest.is_some_and(|gap| gap <= LATE), "{longest:?}");
        let elections = pair.nodes[1].events("transition")?;
        let promotions = elections.iter().filter(|one| one.contains("is promoting"));
        ensure!(promotions.count() == 1, "{elections:?}");
        ensure!(sniffer.lost() == 0);
        Ok(())
    });
}

#[test]
fn a_thousand_addresses_go_by_switchover_reload_and_after_a_kill() {
    scenario(|lab| {
        let mut pair = Pair::start(lab)?;
        let sniffer = pair.nodes[0].sniff(VIP)?;
        let peer = pair.nodes[1].address();
        let changed = router(&pair.nodes[0], peer, 10);
        let from = now();
        pair.nodes[0].reload(&[changed])?;
        eventually(PATIENCE, "most are taken off", || {
            Ok(pair.held(0)? == ADVERTISED + 10)
        })?;
        let back = router(&pair.nodes[0], peer, EXTRA);
        pair.nodes[0].reload(&[back])?;
        pair.all_answer(0)?;
        let adverts = sniffer.adverts(VRID, from, now());
        let longest = adverts
            .windows(2)
            .map(|pair| pair[1].0.since(pair[0].0))
            .max();
        ensure!(longest.is_some_and(|gap| gap <= LATE), "{longest:?}");
        ensure!(pair.nodes[0].state(WEB)? == "active");

        pair.nodes[0].hand_over(WEB)?;
        pair.nodes[1].wait_for(WEB, "active")?;
        pair.all_answer(1)?;
        pair.wait_for_none(0)?;

        pair.nodes[1].kill()?;
        pair.nodes[0].wait_for(WEB, "active")?;
        pair.all_answer(0)?;
        ensure!(
            pair.held(1)? == pair.vips.len(),
            "SIGKILL takes nothing off"
        );
        pair.nodes[1].restart(Kind::Had)?;
        pair.wait_for_none(1)?;
        pair.nodes[0].stop()?;
        ensure!(pair.held(0)? == 0, "SIGTERM takes everything off");
        Ok(())
    });
}

/// Virtual routers with leases on one interface.
const ROUTERS: u8 = 100;

/// One of them, with adverts too slow to move it within the test.
fn leased(node: &Node, peer: Ipv4Addr, number: u8) -> VirtualRouter {
    let mut router = node
        .router()
        .interval_ms(1_000)
        .peers(&[peer])
        .had_lines("heartbeat = { interval = \"30ms\", multiplier = 10 }");
    router.name = format!("r{number}");
    router.vrid = number;
    router.vips = vec![Ipv4Addr::new(10, 89, 0, number)];
    router.prefix_len = 32;
    router
}

#[test]
fn a_hundred_routers_with_leases_are_kept_and_move_together() {
    scenario(|lab| {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        let addresses = [nodes[0].address(), nodes[1].address()];
        let all_are = |node: &Node, state: &str| -> Result<bool> {
            let status = node.hactl(&["status"])?;
            let instances = status["instances"].as_array().context("instances")?;
            Ok(instances.len() == usize::from(ROUTERS)
                && instances.iter().all(|one| one["state"] == state))
        };
        for (index, state) in ["active", "backup"].into_iter().enumerate() {
            let routers: Vec<VirtualRouter> = (1..=ROUTERS)
                .map(|number| leased(&nodes[index], addresses[1 - index], number))
                .collect();
            nodes[index].start(Kind::Had, &routers)?;
            let node = &nodes[index];
            eventually(PATIENCE, "every router has its role", || {
                all_are(node, state)
            })?;
        }
        nodes[1].wait_for_active_peer("r1", addresses[0])?;
        throughout(Duration::from_secs(2), "nothing moves", || {
            Ok(all_are(&nodes[0], "active")? && all_are(&nodes[1], "backup")?)
        })?;
        let from = now();
        nodes[0].power_off()?;
        eventually(PATIENCE, "all of them move", || {
            all_are(&nodes[1], "active")
        })?;
        // By adverts alone it would take three seconds and more.
        let took = now().since(from);
        ensure!(took < Nanos::from_millis(2_500), "{took}");
        Ok(())
    });
}
