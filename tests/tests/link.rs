//! The link between two nodes: on two paths, cut, hung, and under fire.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Kind, Lab, NetNs, Node, VirtualRouter, eventually,
    gaps::Gaps,
    lab::{VIP_LINK_LOCAL, VIP_V6},
    node::PATIENCE,
    now, scenario,
    scene::{INTERVAL_MS, Scene, VRID, WEB},
    wait::throughout,
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

const PORT: u16 = 9_747;
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// How fresh what is known of the other node must be, while one path is cut: it reports each second.
const FRESH_MS: u64 = 2_000;

/// Far above what a machine that builds something adds to an advert each 50 ms; that nobody takes over says the rest.
const LONGEST_GAP: Nanos = Nanos::from_millis(300);

/// Puts a node's key where its configuration names it, and plugs in the second path.
fn prepare(node: &Node, key: &str) -> Result<()> {
    write_key(node, key)?;
    node.plug("eth1")?;
    let [.., number] = node.address().octets();
    let address = format!("10.99.0.{number}/24");
    node.ns()
        .ip(&["addr", "add", &address, "dev", "eth1"])
        .map(drop)
}

fn write_key(node: &Node, key: &str) -> Result<()> {
    let file = node.dir().join("link.key");
    fs::write(&file, format!("{key}\n"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// The lines of a node for two paths: the LAN, and a cable.
fn lines(node: &Node, peer: Ipv4Addr) -> String {
    let ([.., near], [.., far]) = (node.address().octets(), peer.octets());
    format!(
        "heartbeat = {{ interval = \"50ms\", multiplier = 10 }}\nchannels = [\"direct\"]\n\n\
         [[channel]]\nname = \"direct\"\nkind = \"lease\"\ninterface = \"eth1\"\n\
         local = \"10.99.0.{near}\"\npeer = \"10.99.0.{far}\"\ninterval = \"50ms\"\nmultiplier = 10\n\n\
         [link]\nkey_file = \"{}/link.key\"\n",
        node.dir().display()
    )
}

/// Two nodes with a key each; the second one, to which the first one connects, is Active.
fn scene(lab: &Lab, keys: [&str; 2]) -> Result<Scene> {
    let (first, second) = (lab.node("n1")?, lab.node("n2")?);
    let addresses = [first.address(), second.address()];
    prepare(&first, keys[0])?;
    prepare(&second, keys[1])?;
    let of = [lines(&first, addresses[1]), lines(&second, addresses[0])];
    Scene::of(lab, [second, first], |router: VirtualRouter| {
        let index = usize::from(router.source == addresses[1]);
        router.had_lines(&of[index])
    })
}

/// What a node knows of the other one.
fn peer(node: &Node) -> Result<Value> {
    let status = node.hactl(&["status"])?;
    Ok(status["peers"][0].clone())
}

fn link_path(node: &Node, name: &str) -> Result<Value> {
    let peer = peer(node)?;
    let paths = peer["paths"].as_array().into_iter().flatten();
    let mut paths = paths.filter(|path| path["name"] == name);
    let path = paths.next().cloned();
    path.with_context(|| format!("{}: no path {name}: {peer}", node.name()))
}

fn wait_for_link(node: &Node, name: &str, up: bool) -> Result<()> {
    let what = format!("{}: link over {name}, up: {up}", node.name());
    eventually(PATIENCE, &what, || Ok(link_path(node, name)?["up"] == up))
}

fn wait_for_both(scene: &Scene) -> Result<()> {
    for node in &scene.nodes {
        for name in ["eth0", "direct"] {
            wait_for_link(node, name, true)?;
        }
    }
    Ok(())
}

fn wait_for_peer_state(node: &Node, state: &str) -> Result<()> {
    let what = format!("{} knows that the other node is {state}", node.name());
    eventually(PATIENCE, &what, || {
        Ok(peer(node)?["instances"][0]["state"] == state)
    })
}

#[test]
fn each_node_shows_both_and_a_cut_path_changes_nothing() {
    scenario(|lab| {
        let scene = scene(lab, [KEY, KEY])?;
        let [active, backup] = &scene.nodes;
        wait_for_both(&scene)?;
        wait_for_peer_state(active, "backup")?;
        wait_for_peer_state(backup, "active")?;
        let known = peer(backup)?;
        ensure!(
            known["node"] == "n2" && known["mode"] == "active-standby",
            "{known}"
        );
        ensure!(known["instances"][0]["name"] == WEB, "{known}");
        lab.cut_off(backup, "eth1")?;
        let fresh = || -> Result<bool> {
            let heard = peer(backup)?["last_heard_ms"].as_u64();
            Ok(heard.is_some_and(|heard| heard < FRESH_MS))
        };
        throughout(Duration::from_secs(1), "the other node is heard", fresh)?;
        wait_for_link(backup, "direct", false)?;
        wait_for_link(active, "direct", false)?;
        ensure!(fresh()?, "{}", peer(backup)?);
        // What changes now goes over the other path, at once.
        active.hactl(&["switchover", WEB])?;
        wait_for_peer_state(active, "active")?;
        lab.heal()?;
        wait_for_both(&scene)?;
        let events = active.events("link")?;
        let said = |what: &str| events.iter().any(|event| event.contains(what));
        ensure!(
            said("works over eth1") && said("does not work over eth1"),
            "{events:?}"
        );
        Ok(())
    });
}

#[test]
fn another_key_is_refused_and_said_and_a_reload_mends_it() {
    scenario(|lab| {
        let other = KEY.replace('0', "f");
        let mut scene = scene(lab, [KEY, &other])?;
        for node in &scene.nodes {
            eventually(PATIENCE, "both refuse", || {
                let status = node.hactl(&["status"])?;
                let warnings = status["warnings"].to_string();
                Ok(warnings.contains("it has another key"))
            })?;
            let events = node.events("link")?;
            ensure!(
                events.iter().all(|event| event.contains("another key")),
                "{events:?}"
            );
            // One for each path, however often it was tried.
            ensure!((1..=2).contains(&events.len()), "{events:?}");
            ensure!(!node.log().contains(&KEY[8..40]) && !node.log().contains(&other[8..40]));
            ensure!(peer(node)?["node"].is_null());
        }
        write_key(&scene.nodes[0], KEY)?;
        scene.nodes[0].daemon()?.hang_up()?;
        wait_for_both(&scene)?;
        ensure!(scene.nodes[0].log().contains("link: another key"));
        scene.stays(0, Duration::from_secs(1))
    });
}

#[test]
fn a_node_without_power_is_missed_and_comes_back() {
    scenario(|lab| {
        let mut scene = scene(lab, [KEY, KEY])?;
        wait_for_both(&scene)?;
        let off = &scene.nodes[1];
        off.power_off()?;
        off.set_port("eth1", false)?;
        let from = now();
        for name in ["eth0", "direct"] {
            wait_for_link(&scene.nodes[0], name, false)?;
        }
        println!("missed after {}", now().since(from));
        let off = &mut scene.nodes[1];
        off.kill()?;
        off.power_on()?;
        off.set_port("eth1", true)?;
        off.restart(Kind::Had)?;
        let from = now();
        wait_for_both(&scene)?;
        println!("back after {}", now().since(from));
        wait_for_peer_state(&scene.nodes[0], "backup")
    });
}

#[test]
fn a_hung_daemon_is_missed_and_its_peer_goes_on() {
    scenario(|lab| {
        let mut scene = scene(lab, [KEY, KEY])?;
        wait_for_both(&scene)?;
        scene.nodes[1].daemon()?.freeze()?;
        // Its kernel goes on to acknowledge: only what it does not say tells.
        for name in ["eth0", "direct"] {
            wait_for_link(&scene.nodes[0], name, false)?;
        }
        let why = link_path(&scene.nodes[0], "direct")?["trouble"].clone();
        ensure!(why.as_str().is_some_and(|why| !why.is_empty()), "{why}");
        ensure!(scene.nodes[0].state(WEB)? == "active");
        scene.nodes[1].daemon()?.thaw()?;
        wait_for_both(&scene)
    });
}

#[test]
fn an_interface_that_is_made_anew_is_listened_on_again() {
    scenario(|lab| {
        let scene = scene(lab, [KEY, KEY])?;
        wait_for_both(&scene)?;
        let listens = &scene.nodes[0];
        listens.ns().ip(&["link", "del", "eth1"])?;
        wait_for_link(listens, "direct", false)?;
        listens.plug("eth1")?;
        let [.., number] = listens.address().octets();
        let address = format!("10.99.0.{number}/24");
        listens.ns().ip(&["addr", "add", &address, "dev", "eth1"])?;
        wait_for_both(&scene)
    });
}

/// Who connects as often as it can, and leaves rubbish.
struct Siege {
    stop: Arc<AtomicBool>,
    connected: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Result<()>>>,
}

impl Siege {
    /// Connections that each thread keeps open.
    const KEPT: usize = 100;

    /// From one address of a namespace.
    fn begin(ns: &NetNs, from: Ipv4Addr, to: Ipv4Addr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let connected = Arc::new(AtomicU64::new(0));
        let threads = (0..4_u8).map(|kind| {
            let (stop, connected) = (Arc::clone(&stop), Arc::clone(&connected));
            ns.spawn(move || {
                let mut kept = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(mut stream) = connect(from, to) {
                        connected.fetch_add(1, Ordering::Relaxed);
                        // It may have been closed by then.
                        let _ = stream.write_all(&rubbish(kind));
                        kept.push(stream);
                    }
                    if kept.len() >= Self::KEPT {
                        kept.remove(0);
                    }
                }
            })
        });
        Ok(Self {
            threads: threads.collect::<Result<_>>()?,
            stop,
            connected,
        })
    }

    fn connections(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that failed made no connections, which the test asks for.
            let _ = thread.join();
        }
    }
}

fn connect(from: Ipv4Addr, to: Ipv4Addr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    let to = SocketAddr::from((to, PORT));
    socket.connect_timeout(&to.into(), Duration::from_millis(100))?;
    socket.set_write_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket.into())
}

fn rubbish(kind: u8) -> Vec<u8> {
    match kind {
        0 => Vec::new(),
        1 => vec![0xa5; 4_096],
        2 => b"hadL\0\x01".to_vec(),
        _ => [&b"hadL\0\x01"[..], &[0x5a; 2_000]].concat(),
    }
}

/// Descriptors and resident memory (KiB) of a process.
fn uses(pid: u32) -> Result<(usize, u64)> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())
        .context("no VmRSS")?;
    Ok((descriptors, resident.parse()?))
}

#[test]
fn a_flood_of_connections_and_rubbish_disturbs_neither_adverts_nor_the_link() {
    scenario(|lab| {
        let mut scene = scene(lab, [KEY, KEY])?;
        wait_for_both(&scene)?;
        let pid = scene.nodes[0].daemon()?.pid();
        let before = uses(pid)?;
        let (from, to) = (scene.nodes[1].address(), scene.nodes[0].address());
        let began = now();
        // From the address of the other node, which the kernel lets through, and from somebody's.
        let siege = Siege::begin(scene.nodes[1].ns(), from, to)?;
        let strangers = Siege::begin(scene.client.ns(), scene.client.address(), to)?;
        let mut most = before;
        throughout(
            Duration::from_secs(5),
            "the link and the roles stay",
            || {
                let now = uses(pid)?;
                most = (most.0.max(now.0), most.1.max(now.1));
                Ok(link_path(&scene.nodes[0], "eth0")?["up"] == true
                    && scene.nodes[0].state(WEB)? == "active"
                    && scene.nodes[1].state(WEB)? == "backup")
            },
        )?;
        let (connections, of_strangers) = (siege.connections(), strangers.connections());
        drop((siege, strangers));
        let ended = now();
        let adverts = scene.sniffers[0].adverts(VRID, began, ended);
        let gaps = Gaps::of(&adverts, Nanos::from_millis(INTERVAL_MS.into()));
        println!(
            "{connections} connections of the peer's address, {of_strangers} of a stranger's; descriptors {} to {}, \
             memory {} to {} KiB; {gaps}",
            before.0, most.0, before.1, most.1
        );
        ensure!(connections >= 300, "a flood of {connections} connections");
        ensure!(of_strangers == 0, "{of_strangers} strangers were let in");
        ensure!(gaps.longest() <= LONGEST_GAP, "{gaps}");
        ensure!(scene.sniffers[0].lost() == 0);
        ensure!(most.0 <= before.0 + 32, "{} descriptors", most.0);
        ensure!(most.1 <= before.1 + 16_384, "{} KiB", most.1);
        let events = scene.nodes[0].events("link")?;
        let refusals = events.iter().filter(|event| event.contains("no link to"));
        ensure!(refusals.count() <= 1, "{events:?}");
        let refused = link_path(&scene.nodes[0], "eth0")?["refused"].as_u64();
        ensure!(refused >= Some(50), "{refused:?}");
        // It still takes up what is the other node's.
        scene.nodes[1].kill()?;
        scene.nodes[1].restart(Kind::Had)?;
        wait_for_both(&scene)
    });
}

/// Between the nodes' addresses of IPv6, of one kind or the other.
fn over_v6(lab: &Lab, address: impl Fn(&Node) -> Ipv6Addr) -> Result<()> {
    let mut nodes = [lab.node("n1")?, lab.node("n2")?];
    for node in &nodes {
        node.enable_v6()?;
        write_key(node, KEY)?;
    }
    let addresses = [address(&nodes[0]), address(&nodes[1])];
    for (index, node) in nodes.iter_mut().enumerate() {
        let lines = format!("[link]\nkey_file = \"{}/link.key\"\n", node.dir().display());
        let mut router = node.router().only_v6(addresses[index]);
        router.vips_v6 = vec![VIP_LINK_LOCAL, VIP_V6];
        let router = router.peers(&[addresses[1 - index]]).had_lines(&lines);
        node.start(Kind::Had, &[router])?;
    }
    for node in &nodes {
        wait_for_link(node, "eth0", true)?;
    }
    Ok(())
}

#[test]
fn it_goes_over_ipv6_with_global_and_with_link_local_addresses() {
    scenario(|lab| over_v6(lab, Node::address_v6));
    scenario(|lab| over_v6(lab, Node::link_local));
}

/// Two nodes have each heard the third one before there is a way between them.
#[test]
fn of_three_nodes_each_hears_of_a_group_from_both_others() {
    scenario(|lab| {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?, lab.node("n3")?];
        let addresses = nodes.each_ref().map(Node::address);
        lab.cut(&nodes[0], &nodes[1])?;
        for node in &mut nodes {
            write_key(node, KEY)?;
            let own = node.address();
            let others = addresses.iter().filter(|address| **address != own);
            let others: Vec<Ipv4Addr> = others.copied().collect();
            let lines = format!(
                "heartbeat = {{ interval = \"50ms\", multiplier = 10 }}\ngroup = \"app\"\n\n\
                 [link]\nkey_file = \"{}/link.key\"\n\n[[group]]\nname = \"app\"\nroles = [\"job\"]\n\n\
                 [[role]]\nname = \"job\"\nkind = \"script\"\ncommand = [\"/bin/true\"]\n",
                node.dir().display()
            );
            let router = node.router().peers(&others).had_lines(&lines);
            node.start(Kind::Had, &[router])?;
        }
        let heard = |node: &Node| -> Result<Vec<String>> {
            let roles = node.hactl(&["roles"])?;
            let peers = roles["groups"][0]["peers"].as_array();
            let peers = peers.context("a group has peers")?.iter();
            let fresh = peers.filter(|peer| peer["heard_ms_ago"].as_u64() < Some(FRESH_MS));
            let mut names: Vec<String> = fresh
                .filter_map(|peer| Some(peer["node"].as_str()?.to_owned()))
                .collect();
            names.sort_unstable();
            Ok(names)
        };
        let wait = |node: &Node, names: &[&str]| {
            eventually(
                PATIENCE,
                &format!("{} hears {names:?}", node.name()),
                || Ok(heard(node)? == names),
            )
        };
        wait(&nodes[0], &["n3"])?;
        wait(&nodes[1], &["n3"])?;
        lab.heal()?;
        wait(&nodes[0], &["n2", "n3"])?;
        wait(&nodes[1], &["n1", "n3"])?;
        wait(&nodes[2], &["n1", "n2"])
    });
}
