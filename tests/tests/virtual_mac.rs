//! `virtual_mac`: the VIPs keep their MAC address whichever node has them, and no node's own addresses get it. Needs
//! root.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos, wire::virtual_mac};
use ha_tests::{
    Client, Kind, Lab, Mac, Node, Payload, Prober, Probes, Sniffer, VirtualRouter, eventually,
    lab::{VIP, VIP_LINK_LOCAL, VIP_V6},
    node::PATIENCE,
    now, scenario,
    scene::{INTERVAL_MS, VRID, WEB},
    wait::throughout,
};

/// `[dataplane]`. Native XDP is not for a veth here.
const GENERIC: &str = "mode = \"generic\"";
const TC: &str = "mode = \"tc\"";

/// How recent an answer must be to count as "is served".
const RECENTLY: Nanos = Nanos::from_millis(50);

/// How long an unchanged state is watched.
const A_WHILE: Duration = Duration::from_secs(1);

/// How long data may stay away.
const STALLED: Duration = Duration::from_secs(5);

/// An address behind the VIP: on the nodes, in no network of the client's.
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// Two nodes, of which the first is Active, and a client that asks for the VIPs of both families.
struct Scene {
    nodes: [Node; 2],
    sniffers: [[Sniffer; 2]; 2],
    client: Client,
    probers: [Prober; 2],
    mac: Mac,
}

impl Scene {
    fn new(
        lab: &Lab,
        dataplane: &str,
        family: u8,
        shape: impl Fn(&Node, &Node) -> VirtualRouter,
    ) -> Result<Self> {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        let client = lab.client("c1")?;
        client.enable_v6()?;
        for node in &mut nodes {
            node.enable_v6()?;
            node.set_dataplane(dataplane);
        }
        let sniff = |node: &Node| -> Result<_> { Ok([node.sniff(VIP)?, node.sniff(VIP_V6)?]) };
        let sniffers = [sniff(&nodes[0])?, sniff(&nodes[1])?];
        for (index, state) in ["active", "backup"].into_iter().enumerate() {
            let router = shape(&nodes[index], &nodes[1 - index]).had_lines("virtual_mac = true");
            nodes[index].start(Kind::Had, &[router])?;
            nodes[index].wait_for(WEB, state)?;
        }
        let heard = shape(&nodes[0], &nodes[1]).source;
        nodes[1].wait_for_active_peer(WEB, heard)?;
        let probers = [
            Prober::start(&client, VIP, Probes::Echo)?,
            Prober::start(&client, VIP_V6, Probes::Echo)?,
        ];
        let scene = Self {
            nodes,
            sniffers,
            client,
            probers,
            mac: Mac(virtual_mac::of(VRID, family)),
        };
        scene.wait_served_by(0)?;
        Ok(scene)
    }

    /// Waits until a node speaks for the VIPs of both families and the other one does not, and the client has its
    /// answers at the virtual MAC address.
    fn wait_served_by(&self, index: usize) -> Result<()> {
        let what = format!("the client is served by {}", self.nodes[index].name());
        eventually(PATIENCE, &what, || {
            let from = now().before(RECENTLY);
            let speaks = |node: usize| {
                let spoken = |sniffer: &Sniffer| !sniffer.spoken(from, now()).is_empty();
                self.sniffers[node].each_ref().map(spoken)
            };
            let answered = |prober: &Prober| prober.answered_within(RECENTLY) == Some(self.mac);
            Ok(self.probers.iter().all(answered)
                && speaks(index) == [true; 2]
                && speaks(1 - index) == [false; 2])
        })?;
        for vip in [VIP.into(), VIP_V6.into()] {
            self.client_finds(vip, self.mac)?;
        }
        Ok(())
    }

    fn client_finds(&self, address: IpAddr, mac: Mac) -> Result<()> {
        let found = self.client.neighbour(address)?;
        ensure!(
            found.as_deref() == Some(&*mac.to_string()),
            "{address} is at {found:?} for the client, not {mac}"
        );
        Ok(())
    }

    /// What spoke for the VIPs since did so from the virtual MAC address, and the client never had another one.
    fn only_the_virtual_mac_spoke(&self, from: MonoNs) -> Result<()> {
        for sniffer in self.sniffers.iter().flatten() {
            let spoken = sniffer.spoken(from, now());
            let stranger = spoken.iter().find(|(_, frame)| frame.source != self.mac);
            ensure!(stranger.is_none(), "{stranger:?}");
        }
        for prober in &self.probers {
            let answers = prober.answers(from, now());
            let stranger = answers.iter().find(|answer| answer.by != self.mac);
            ensure!(stranger.is_none(), "{stranger:?}");
        }
        Ok(())
    }

    /// The Active node's adverts leave from the virtual MAC address, and nothing else of its own does.
    fn adverts_come_from_it(&self, index: usize) -> Result<()> {
        let node = &self.nodes[index];
        let from = now();
        let mut last = None;
        let what = format!("{} advertises from {}", node.name(), self.mac);
        eventually(PATIENCE, &what, || {
            let frames = self.sniffers[index][0].frames(from, now());
            let is_advert = |payload| matches!(payload, Payload::Advert { .. });
            last = frames
                .iter()
                .rev()
                .find(|(_, frame)| is_advert(frame.payload))
                .map(|(_, frame)| frame.source);
            Ok(last == Some(self.mac))
        })
        .with_context(|| format!("the last one came from {last:?}"))
    }

    /// Both nodes' own addresses are at their own MAC addresses.
    fn nodes_keep_their_own(&self) -> Result<()> {
        for node in &self.nodes {
            let own: [IpAddr; 2] = [node.address().into(), node.address_v6().into()];
            for address in own {
                let prober = Prober::start(&self.client, address, Probes::Echo)?;
                let what = format!("{address} answers");
                eventually(PATIENCE, &what, || {
                    Ok(prober.answered_within(RECENTLY) == Some(node.mac()))
                })?;
                self.client_finds(address, node.mac())?;
            }
        }
        Ok(())
    }
}

fn unicast(node: &Node, peer: &Node) -> VirtualRouter {
    node.router()
        .interval_ms(INTERVAL_MS)
        .peers(&[peer.address()])
        .vips_v6(&[VIP_V6])
}

fn multicast(node: &Node, _peer: &Node) -> VirtualRouter {
    node.router().interval_ms(INTERVAL_MS).vips_v6(&[VIP_V6])
}

fn leases(node: &Node, peer: &Node) -> VirtualRouter {
    unicast(node, peer).had_lines("heartbeat = { interval = \"10ms\", multiplier = 5 }")
}

/// Adverts over IPv6, and a VIP of IPv4 beside.
fn over_v6(node: &Node, _peer: &Node) -> VirtualRouter {
    node.router()
        .interval_ms(INTERVAL_MS)
        .only_v6(node.link_local())
        .vips_v6(&[VIP_LINK_LOCAL, VIP_V6])
        .had_lines(&format!("extra_vips = [\"{VIP}/24\"]"))
}

fn moves(dataplane: &str, family: u8, shape: fn(&Node, &Node) -> VirtualRouter) {
    scenario(|lab| {
        let mut scene = Scene::new(lab, dataplane, family, shape)?;
        let from = now();
        scene.adverts_come_from_it(0)?;
        scene.nodes_keep_their_own()?;
        scene.nodes[0].hand_over(WEB)?;
        scene.nodes[1].wait_for(WEB, "active")?;
        scene.wait_served_by(1)?;
        scene.adverts_come_from_it(1)?;
        scene.nodes_keep_their_own()?;
        scene.nodes[0].wait_for_active_peer(WEB, shape(&scene.nodes[1], &scene.nodes[0]).source)?;
        scene.nodes[1].power_off()?;
        scene.wait_served_by(0)?;
        scene.nodes[1].power_on()?;
        scene.nodes[1].wait_for(WEB, "backup")?;
        scene.wait_served_by(0)?;
        scene.nodes[1].kill()?;
        scene.adverts_come_from_it(0)?;
        scene.only_the_virtual_mac_spoke(from)
    });
}

#[test]
fn unicast_in_generic_mode() {
    moves(GENERIC, 4, unicast);
}

#[test]
fn multicast_at_tc() {
    moves(TC, 4, multicast);
}

#[test]
fn leases_at_tc() {
    moves(TC, 4, leases);
}

#[test]
fn leases_in_generic_mode() {
    moves(GENERIC, 4, leases);
}

#[test]
fn over_ipv6_in_generic_mode() {
    moves(GENERIC, 6, over_v6);
}

#[test]
fn over_ipv6_at_tc() {
    moves(TC, 6, over_v6);
}

/// A connection to the VIP's port on a node, both ends.
fn connect(scene: &Scene, vip: IpAddr) -> Result<[TcpStream; 2]> {
    let listener = scene.nodes[0]
        .ns()
        .enter(|| TcpListener::bind(SocketAddr::new(vip, 0)))??;
    let to = listener.local_addr()?;
    let near = scene
        .client
        .ns()
        .enter(|| TcpStream::connect_timeout(&to, STALLED))??;
    let (far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_read_timeout(Some(STALLED))?;
        end.set_write_timeout(Some(STALLED))?;
    }
    Ok([near, far])
}

/// A megabyte, which the kernel sends in large pieces.
fn pass(from: &mut TcpStream, to: &mut TcpStream) -> Result<()> {
    let data: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    let mut writer = from.try_clone()?;
    let sent = data.clone();
    let thread = std::thread::spawn(move || writer.write_all(&sent));
    let mut read = vec![0; data.len()];
    to.read_exact(&mut read)?;
    let sent = thread.join();
    ensure!(sent.is_ok_and(|sent| sent.is_ok()), "it was not sent");
    ensure!(read == data, "other bytes came than were sent");
    Ok(())
}

fn carries(dataplane: &str) {
    scenario(|lab| {
        let scene = Scene::new(lab, dataplane, 4, unicast)?;
        let from = now();
        for vip in [VIP.into(), VIP_V6.into()] {
            let [mut near, mut far] = connect(&scene, vip)?;
            pass(&mut near, &mut far)?;
            pass(&mut far, &mut near)?;
            // The kernel asks for the client anew, and names the VIP as it does so.
            for _ in 0..5 {
                scene.nodes[0].ns().ip(&["neigh", "flush", "dev", "eth0"])?;
                pass(&mut far, &mut near)?;
            }
            scene.client_finds(vip, scene.mac)?;
        }
        scene.only_the_virtual_mac_spoke(from)
    });
}

#[test]
fn a_connection_in_generic_mode() {
    carries(GENERIC);
}

#[test]
fn a_connection_at_tc() {
    carries(TC);
}

/// The VIP may be somebody's router: what comes to its MAC address is then for others.
#[test]
fn what_is_routed_by_the_vip_is_taken() {
    scenario(|lab| {
        let scene = Scene::new(lab, GENERIC, 4, unicast)?;
        let behind = format!("{BEHIND}/32");
        for node in &scene.nodes {
            node.ns().ip(&["link", "set", "lo", "up"])?;
            node.ns().ip(&["addr", "add", &behind, "dev", "lo"])?;
        }
        let via = VIP.to_string();
        scene
            .client
            .ns()
            .ip(&["route", "add", &behind, "via", &via])?;
        let prober = Prober::start(&scene.client, BEHIND, Probes::Echo)?;
        let answered_by = |index: usize| {
            let mac = scene.nodes[index].mac();
            let what = format!("{} answers behind the VIP", scene.nodes[index].name());
            eventually(PATIENCE, &what, || {
                Ok(prober.answered_within(RECENTLY) == Some(mac))
            })
        };
        answered_by(0)?;
        scene.nodes[0].power_off()?;
        answered_by(1)?;
        scene.nodes[0].power_on()?;
        scene.nodes[0].wait_for(WEB, "backup")?;
        scene.wait_served_by(1)
    });
}

/// Set and removed while Active: the client follows at once, as the MAC address is announced.
#[test]
fn a_reload_changes_it() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, GENERIC, 4, unicast)?;
        let routers = [0, 1].map(|index| unicast(&scene.nodes[index], &scene.nodes[1 - index]));
        for (node, router) in scene.nodes.iter_mut().zip(&routers) {
            node.reload(std::slice::from_ref(router))?;
        }
        let own = scene.nodes[0].mac();
        for prober in &scene.probers {
            eventually(PATIENCE, "the client is served by the card's own", || {
                Ok(prober.answered_within(RECENTLY) == Some(own))
            })?;
        }
        for vip in [VIP.into(), VIP_V6.into()] {
            scene.client_finds(vip, own)?;
        }
        for (node, router) in scene.nodes.iter_mut().zip(routers) {
            node.reload(&[router.had_lines("virtual_mac = true")])?;
        }
        let what = "the client finds the VIPs at the virtual MAC address";
        eventually(PATIENCE, what, || {
            Ok(scene.client_finds(VIP.into(), scene.mac).is_ok()
                && scene.client_finds(VIP_V6.into(), scene.mac).is_ok())
        })?;
        scene.wait_served_by(0)
    });
}

/// Where it cannot work, an instance says so and leaves the VIPs to others.
#[test]
fn on_a_veth_native_xdp_is_refused() {
    scenario(|lab| {
        let mut node = lab.node("n1")?;
        let router = node.router().had_lines("virtual_mac = true");
        node.start(Kind::Had, &[router])?;
        let what = "the log says that it does not work, and why";
        eventually(PATIENCE, what, || {
            let log = node.log();
            let line = log.lines().find(|line| line.contains("ERROR"));
            Ok(line.is_some_and(|line| line.contains("native XDP comes too late")))
        })?;
        throughout(A_WHILE, "it takes no part", || {
            Ok(node.state(WEB)? == "initialize")
        })?;
        node.reload(&[node.router()])?;
        node.wait_for(WEB, "active")
    });
}

/// keepalived makes a macvlan with that MAC address, and finds `had`'s VIPs there as `had` finds its own.
#[test]
fn beside_keepalived_with_use_vmac() {
    scenario(|lab| {
        let mut had = lab.node("n1")?;
        let mut keepalived = lab.node("n2")?;
        had.set_dataplane(GENERIC);
        keepalived.spare_keepalived_realtime();
        let client = lab.client("c1")?;
        let mac = Mac(virtual_mac::of(VRID, 4));
        let multicast = |node: &Node, priority| {
            let router = node.router().interval_ms(200).priority(priority);
            router.had_lines("virtual_mac = true")
        };
        had.start(Kind::Had, &[multicast(&had, 100)])?;
        had.wait_for(WEB, "active")?;
        let prober = Prober::start(&client, VIP, Probes::Echo)?;
        // keepalived's node has two routes to the client, and answers by that of its card.
        let served = |what: &str| {
            eventually(PATIENCE, what, || {
                Ok(prober.answered_within(RECENTLY).is_some()
                    && client.neighbour(VIP)? == Some(mac.to_string()))
            })
        };
        served("had serves the client")?;
        let mut router = multicast(&keepalived, 100);
        router.use_vmac = true;
        keepalived.start(Kind::Keepalived, &[router])?;
        let holds = |node: &Node| -> Result<bool> {
            let text = node.ns().ip(&["-o", "-4", "addr", "show"])?;
            Ok(text.contains(&format!("{VIP}/")))
        };
        had.wait_for(WEB, "active")?;
        served("had serves the client on")?;
        had.stop()?;
        eventually(PATIENCE, "keepalived takes over", || holds(&keepalived))?;
        served("keepalived serves the client")?;
        had.restart(Kind::Had)?;
        had.wait_for_active_peer(WEB, keepalived.address())?;
        had.wait_for(WEB, "backup")?;
        served("keepalived serves the client on")?;
        keepalived.stop()?;
        had.wait_for(WEB, "active")?;
        served("had serves the client again")
    });
}
