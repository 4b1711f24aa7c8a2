//! IPv6: take-over of an instance of IPv6 alone, and of one with addresses of both families.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use anyhow::{Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Client, Kind, Lab, Node, Prober, Probes, Sniffer, VirtualRouter, eventually,
    lab::{VIP, VIP_LINK_LOCAL, VIP_V6},
    node::PATIENCE,
    now, scenario,
    scene::{INTERVAL, INTERVAL_MS, VRID, WEB},
    wait::throughout,
};

/// How recent an answer must be to count as "is served".
const RECENTLY: Nanos = Nanos::from_millis(50);

/// Far beyond any Active_Down_Interval here.
const SOON: Nanos = Nanos::from_secs(3);

/// How long an unchanged state is watched.
const A_WHILE: Duration = Duration::from_secs(1);

/// The first node is Active, the second is Backup, and a client asks for [`VIP_V6`].
struct Scene {
    nodes: [Node; 2],
    sniffers: [Sniffer; 2],
    client: Client,
    prober: Prober,
}

impl Scene {
    fn new(lab: &Lab, shape: impl Fn(&Node, &Node) -> VirtualRouter) -> Result<Self> {
        Self::of(lab, [lab.node("n1")?, lab.node("n2")?], shape)
    }

    fn of(
        lab: &Lab,
        mut nodes: [Node; 2],
        shape: impl Fn(&Node, &Node) -> VirtualRouter,
    ) -> Result<Self> {
        let client = lab.client("c1")?;
        client.enable_v6()?;
        for node in &nodes {
            node.enable_v6()?;
        }
        let sniffers = [nodes[0].sniff(VIP_V6)?, nodes[1].sniff(VIP_V6)?];
        let prober = Prober::start(&client, VIP_V6, Probes::EchoAndArp)?;
        for (index, state) in ["active", "backup"].into_iter().enumerate() {
            let router = shape(&nodes[index], &nodes[1 - index]);
            nodes[index].start(Kind::Had, &[router])?;
            nodes[index].wait_for(WEB, state)?;
        }
        // A Backup that has heard nobody yet has nobody to take over from.
        let heard = shape(&nodes[0], &nodes[1]).source;
        nodes[1].wait_for_active_peer(WEB, heard)?;
        let scene = Self {
            nodes,
            sniffers,
            client,
            prober,
        };
        scene.wait_served_by(0)?;
        Ok(scene)
    }

    fn wait_served_by(&self, index: usize) -> Result<()> {
        let node = &self.nodes[index];
        let what = format!("the client is served by {} over IPv6", node.name());
        eventually(PATIENCE, &what, || {
            Ok(self.prober.answered_within(RECENTLY) == Some(node.mac()))
        })
    }

    /// For a while a node is Active, the other one Backup and silent, and the client served.
    fn stays(&self, active: usize) -> Result<()> {
        self.wait_served_by(active)?;
        self.nodes[1 - active].wait_for(WEB, "backup")?;
        let from = now();
        let what = format!("{} stays Active", self.nodes[active].name());
        throughout(A_WHILE, &what, || {
            Ok(self.nodes[active].state(WEB)? == "active"
                && self.nodes[1 - active].state(WEB)? == "backup")
        })?;
        ensure!(!self.nodes[1 - active].has(VIP_V6)?);
        let gap = self.prober.longest_gap(from, now())?.length();
        ensure!(gap < Nanos::from_millis(500), "the client waited {gap}");
        let stranger = self.sniffers[1 - active].spoken(from, now());
        ensure!(
            stranger.is_empty(),
            "the Backup spoke: {:?}",
            stranger.first()
        );
        Ok(())
    }

    fn gate_deadline(&self, index: usize, end: MonoNs) -> Result<MonoNs> {
        let last = self.sniffers[index].last_advert_before(VRID, end);
        let Some((last, _)) = last else {
            anyhow::bail!("the node sent no advert");
        };
        Ok(last.after(INTERVAL.times(3)))
    }
}

/// Whether the daemon's own local route to a VIP is there.
fn has_route(node: &Node, vip: Ipv6Addr) -> Result<bool> {
    let listed = ["-6", "route", "show", "table", "local", "proto", "112"];
    let routes = node.ns().ip(&listed)?;
    let destination = vip.to_string();
    Ok(routes
        .lines()
        .any(|route| route.split(' ').nth(1) == Some(&destination)))
}

/// IPv6 alone, by multicast.
fn multicast(node: &Node, _peer: &Node) -> VirtualRouter {
    node.router()
        .interval_ms(INTERVAL_MS)
        .only_v6(node.link_local())
        .vips_v6(&[VIP_LINK_LOCAL, VIP_V6])
}

/// IPv6 alone, by unicast between global addresses.
fn unicast(node: &Node, peer: &Node) -> VirtualRouter {
    let mut router = multicast(node, peer).peers(&[peer.address_v6()]);
    router.source = node.address_v6().into();
    router
}

/// Addresses of both families, adverts over IPv4.
fn dual(node: &Node, peer: &Node) -> VirtualRouter {
    node.router()
        .interval_ms(INTERVAL_MS)
        .peers(&[peer.address()])
        .vips_v6(&[VIP_V6])
}

fn power_off(shape: fn(&Node, &Node) -> VirtualRouter) {
    scenario(|lab| {
        let scene = Scene::new(lab, shape)?;
        let neighbour = scene.client.neighbour(VIP_V6)?;
        ensure!(neighbour.as_deref() == Some(&*scene.nodes[0].mac().to_string()));
        let from = now();
        scene.nodes[0].power_off()?;
        scene.wait_served_by(1)?;
        let gap = scene.prober.longest_gap(from, now())?.length();
        ensure!(gap > INTERVAL.times(2) && gap < SOON, "{gap}");
        // The client's neighbour table followed the announcement, not a time-out of its own.
        let announced = scene.sniffers[1].first_announcement(from);
        ensure!(announced.is_some(), "no unsolicited advertisement");
        scene.nodes[0].wait_for(WEB, "fault")?;
        scene.nodes[0].power_on()?;
        scene.stays(1)
    });
}

#[test]
fn power_off_by_multicast() {
    power_off(multicast);
}

#[test]
fn power_off_by_unicast() {
    power_off(unicast);
}

#[test]
fn power_off_with_both_families() {
    scenario(|lab| {
        let scene = Scene::new(lab, dual)?;
        let v4 = Prober::start(&scene.client, VIP, Probes::EchoAndArp)?;
        let served_by = |index: usize| {
            let mac = scene.nodes[index].mac();
            eventually(PATIENCE, "the client is served over IPv4", || {
                Ok(v4.answered_within(RECENTLY) == Some(mac))
            })
        };
        served_by(0)?;
        let from = now();
        scene.nodes[0].power_off()?;
        scene.wait_served_by(1)?;
        served_by(1)?;
        for prober in [&scene.prober, &v4] {
            let gap = prober.longest_gap(from, now())?.length();
            ensure!(gap > INTERVAL.times(2) && gap < SOON, "{gap}");
        }
        scene.nodes[0].power_on()?;
        scene.stays(1)?;
        ensure!(!scene.nodes[0].has(VIP)?);
        ensure!(scene.nodes[1].has(VIP)? && scene.nodes[1].has(VIP_V6)?);
        Ok(())
    });
}

#[test]
fn a_killed_daemon_is_silent_and_the_next_one_removes_what_it_left() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, multicast)?;
        let from = now();
        scene.nodes[0].kill()?;
        scene.wait_served_by(1)?;
        let left = &scene.nodes[0];
        ensure!(
            left.has(VIP_V6)? && has_route(left, VIP_V6)?,
            "SIGKILL does not remove it"
        );
        throughout(A_WHILE, "the client is served", || {
            Ok(scene.prober.answered_within(SOON) == Some(scene.nodes[1].mac()))
        })?;
        let spoken = scene.sniffers[0].spoken(scene.gate_deadline(0, now())?, now());
        ensure!(
            spoken.is_empty(),
            "{} frames, the first {:?}",
            spoken.len(),
            spoken.first()
        );
        ensure!(scene.prober.longest_gap(from, now())?.length() < SOON);
        scene.nodes[0].restart(Kind::Had)?;
        scene.nodes[0].wait_for_vip(VIP_V6, false)?;
        for vip in [VIP_V6, VIP_LINK_LOCAL] {
            ensure!(!has_route(&scene.nodes[0], vip)?, "the route to {vip}");
        }
        scene.stays(1)
    });
}

#[test]
fn a_backup_that_was_away_is_reached_at_once_when_it_returns() {
    scenario(|lab| {
        let scene = Scene::new(lab, unicast)?;
        let [active, backup] = &scene.nodes;
        backup.power_off()?;
        backup.wait_for(WEB, "fault")?;
        // As with IPv4: the kernel asks again after a second only.
        active
            .ns()
            .ip(&["-6", "neighbour", "flush", "dev", "eth0"])?;
        eventually(PATIENCE, "an advert waits for the Backup's address", || {
            let incomplete = ["-6", "neighbour", "show", "nud", "incomplete"];
            let table = active.ns().ip(&incomplete)?;
            Ok(table.contains(&backup.address_v6().to_string()))
        })?;
        backup.power_on()?;
        scene.stays(0)
    });
}

/// Peers that are not there: with so many more packets wait while the kernel asks for their MAC addresses than one
/// peer's queue holds.
fn with_absent_peers(node: &Node, peer: &Node) -> VirtualRouter {
    let mut router = unicast(node, peer);
    let absent = |number| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 1, number));
    router.peers.extend((0..12).map(absent));
    router
}

#[test]
fn an_active_node_stays_active_while_its_kernel_asks_for_peers_that_are_away() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, with_absent_peers)?;
        let [active, peer] = &mut scene.nodes;
        lab.cut_off(peer, "eth0")?;
        peer.kill()?;
        active.ns().ip(&["neighbour", "flush", "dev", "eth0"])?;
        let address = peer.address_v6().to_string();
        eventually(PATIENCE, "adverts wait for the peer's address", || {
            let asked = ["-6", "neighbour", "show", "nud", "incomplete"];
            Ok(active.ns().ip(&asked)?.contains(&address))
        })?;
        let transitions = active.events("transition")?;
        let from = now();
        // Several times as long as the kernel asks.
        throughout(Duration::from_secs(8), "it is Active", || {
            Ok(active.state(WEB)? == "active")
        })?;
        ensure!(active.events("transition")? == transitions);
        let gap = scene.prober.longest_gap(from, now())?.length();
        ensure!(gap < Nanos::from_millis(500), "the client waited {gap}");
        Ok(())
    });
}

#[test]
fn sigterm_hands_over_and_leaves_nothing_behind() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, unicast)?;
        let from = now();
        scene.nodes[0].stop()?;
        for vip in [VIP_V6, VIP_LINK_LOCAL] {
            ensure!(!scene.nodes[0].has(vip)?, "{vip} is still there");
            ensure!(!has_route(&scene.nodes[0], vip)?, "the route to {vip}");
        }
        let released = scene.sniffers[0].last_advert(VRID);
        ensure!(
            released.is_some_and(|(at, priority)| at > from && priority == 0),
            "{released:?}"
        );
        scene.wait_served_by(1)?;
        let gap = scene.prober.longest_gap(from, now())?.length();
        ensure!(gap < INTERVAL.times(3), "{gap}");
        for vip in [VIP_V6, VIP_LINK_LOCAL] {
            ensure!(has_route(&scene.nodes[1], vip)?, "no route to {vip}");
        }
        scene.nodes[0].restart(Kind::Had)?;
        scene.stays(1)
    });
}

/// Adverts each second, so that nothing within a second can be by their absence.
fn with_leases(node: &Node, peer: &Node) -> VirtualRouter {
    unicast(node, peer)
        .interval_ms(1_000)
        .had_lines("heartbeat = { interval = \"20ms\", multiplier = 10 }")
}

#[test]
fn leases_prove_a_silence_long_before_adverts_are_missed() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, with_leases)?;
        scene.nodes[0].wait_for_path("eth0", true)?;
        scene.stays(0)?;
        let soon = Nanos::from_millis(1_500);
        let from = now();
        scene.nodes[0].power_off()?;
        scene.wait_served_by(1)?;
        let gap = scene.prober.longest_gap(from, now())?.length();
        ensure!(gap < soon, "{gap}");
        scene.nodes[0].power_on()?;
        scene.stays(1)?;
        let from = now();
        scene.nodes[1].kill()?;
        scene.wait_served_by(0)?;
        let gap = scene.prober.longest_gap(from, now())?.length();
        ensure!(gap < soon, "{gap}");
        let first = scene.sniffers[0].spoken(from, now());
        let last = scene.sniffers[1].spoken(from, now());
        let (Some((first, _)), last) = (first.first(), last.last()) else {
            anyhow::bail!("nobody speaks");
        };
        ensure!(last.is_none_or(|(last, _)| last < first), "both spoke");
        Ok(())
    });
}

/// Without XDP adverts come from sockets.
#[test]
fn sockets_alone() {
    scenario(|lab| {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        for node in &mut nodes {
            node.set_dataplane("mode = \"off\"");
        }
        let scene = Scene::of(lab, nodes, multicast)?;
        let from = now();
        scene.nodes[0].power_off()?;
        scene.wait_served_by(1)?;
        ensure!(scene.prober.longest_gap(from, now())?.length() < SOON);
        scene.nodes[0].power_on()?;
        scene.stays(1)
    });
}

/// A VIP is no source of the node's own connections, and usable without duplicate address detection.
#[test]
fn how_the_address_is_put_on() {
    scenario(|lab| {
        let node = &Scene::new(lab, dual)?.nodes[0];
        let shown = node
            .ns()
            .ip(&["-6", "addr", "show", "to", &VIP_V6.to_string()])?;
        for word in ["nodad", "noprefixroute", "deprecated"] {
            ensure!(shown.contains(word), "{word}: {shown}");
        }
        ensure!(!shown.contains("tentative"), "{shown}");
        let route = node.ns().ip(&["-6", "route", "get", "2001:db8:77::c8"])?;
        ensure!(
            route.contains(&format!("src {}", node.address_v6())),
            "{route}"
        );
        Ok(())
    });
}

/// The kernel makes an address's local route some time after the address, and on a busy machine late.
#[test]
fn a_vip_is_served_before_the_kernel_has_made_its_route() {
    scenario(|lab| {
        let scene = Scene::new(lab, dual)?;
        let node = &scene.nodes[0];
        let vip = VIP_V6.to_string();
        let which = [&vip, "dev", "eth0", "table", "local", "proto", "kernel"];
        let is_there = || {
            let listed = node
                .ns()
                .ip(&[&["-6", "route", "show"], &which[..]].concat())?;
            anyhow::Ok(listed.contains(&vip))
        };
        eventually(PATIENCE, "the kernel has made its route", is_there)?;
        node.ns()
            .ip(&[&["-6", "route", "del", "local"], &which[..]].concat())?;
        ensure!(!is_there()?);
        scene.stays(0)
    });
}

/// A route of the daemon's would outlive an address that the daemon does not take off.
#[test]
fn an_owners_addresses_get_no_route() {
    scenario(|lab| {
        let mut node = lab.node("n1")?;
        node.enable_v6()?;
        let peer = lab.node("n2")?;
        let address = format!("{VIP_V6}/64");
        node.ns()
            .ip(&["addr", "add", &address, "dev", "eth0", "nodad"])?;
        node.start(Kind::Had, &[unicast(&node, &peer).priority(255)])?;
        node.wait_for(WEB, "active")?;
        for vip in [VIP_V6, VIP_LINK_LOCAL] {
            node.wait_for_vip(vip, true)?;
            ensure!(!has_route(&node, vip)?, "a route to {vip}");
        }
        node.stop()?;
        ensure!(node.has(VIP_V6)?, "the owner's own address was removed");
        // Nor does the owner keep one that it had as somebody else.
        node.ns().ip(&["addr", "del", &address, "dev", "eth0"])?;
        node.start(Kind::Had, &[unicast(&node, &peer)])?;
        node.wait_for(WEB, "active")?;
        ensure!(has_route(&node, VIP_V6)?, "no route");
        node.kill()?;
        node.start(Kind::Had, &[unicast(&node, &peer).priority(255)])?;
        node.wait_for(WEB, "active")?;
        for vip in [VIP_V6, VIP_LINK_LOCAL] {
            ensure!(node.has(vip)?, "{vip} was removed");
            ensure!(!has_route(&node, vip)?, "a route to {vip}");
        }
        Ok(())
    });
}

/// The groups in which the VIPs are asked for are joined before the VIPs are there.
#[test]
fn a_backup_has_joined_the_groups_of_the_vips() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, multicast)?;
        let groups = |node: &Node| node.ns().ip(&["-6", "maddr", "show", "dev", "eth0"]);
        for node in &scene.nodes {
            for group in ["ff02::12", "ff02::1:ff00:100", "ff02::1:ff00:33"] {
                let joined = groups(node)?;
                ensure!(joined.contains(group), "{group}: {joined}");
            }
        }
        // A reload lets go of those that nobody asks for any more.
        let router = multicast(&scene.nodes[1], &scene.nodes[0]);
        let mut fewer = router.clone();
        fewer.vips_v6 = vec![VIP_LINK_LOCAL];
        scene.nodes[1].reload(&[fewer])?;
        let node = &scene.nodes[1];
        eventually(PATIENCE, "the group was left", || {
            Ok(!groups(node)?.contains("ff02::1:ff00:100"))
        })?;
        ensure!(groups(node)?.contains("ff02::1:ff00:33"));
        Ok(())
    });
}
