//! Several interfaces in one network: only the instance's own answers for its VIPs (ARP flux), and packets to them
//! meet its gate whichever way they come. Needs root.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use ha_common::Nanos;
use ha_tests::{
    Kind, Lab, Node, Prober, Probes, VirtualRouter,
    asker::{Asker, node_with_two},
    eventually,
    lab::VIP,
    node::PATIENCE,
    now, scenario,
    scene::{Scene, WEB},
    wait::throughout,
};

/// How long an unchanged state is watched.
const A_WHILE: Duration = Duration::from_secs(1);

/// The VIP's interface of a node, and another one in its network.
const BOTH: [&str; 2] = ["eth0", "eth1"];

fn guarded(node: &Node) -> Result<Vec<String>> {
    let status = node.hactl(&["status"])?;
    let names = status["dataplane"]["guarded"]
        .as_array()
        .context("no list")?;
    Ok(names
        .iter()
        .filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect())
}

fn wait_guarded(node: &Node, expected: &[&str]) -> Result<()> {
    let what = format!("{} guards {expected:?}", node.name());
    eventually(PATIENCE, &what, || Ok(guarded(node)? == expected))
}

/// Whether the guard is at an interface.
fn has_guard(node: &Node, interface: &str) -> Result<bool> {
    let (_, programs) = node
        .ns()
        .enter(|| SchedClassifier::query_tcx(interface, TcAttachType::Ingress))??;
    Ok(programs.iter().any(|one| one.name() == b"had_guard"))
}

fn sysctl(node: &Node, interface: &str, key: &str) -> Result<String> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/{key}");
    let text = node.ns().enter(|| std::fs::read_to_string(path))??;
    Ok(text.trim().to_owned())
}

fn wait_sysctls(node: &Node, announce: [&str; 2], ignore: [&str; 2]) -> Result<()> {
    let what = format!(
        "{}: arp_announce {announce:?}, arp_ignore {ignore:?}",
        node.name()
    );
    eventually(PATIENCE, &what, || {
        for index in 0..2 {
            if sysctl(node, BOTH[index], "arp_announce")? != announce[index]
                || sysctl(node, BOTH[index], "arp_ignore")? != ignore[index]
            {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// What the tests below would not notice if Linux did not do it.
#[test]
fn linux_alone_answers_by_every_interface() {
    scenario(|lab| {
        let node = node_with_two(lab, "n1")?;
        let client = lab.client("c1")?;
        node.ns()
            .ip(&["addr", "add", "10.77.0.100/24", "dev", "eth0"])?;
        let asker = Asker::new(&client, &node, "eth1")?;
        let from = now();
        let mut both = [node.mac(), node.mac_of("eth1")?];
        both.sort_unstable_by_key(|mac| mac.0);
        eventually(PATIENCE, "both answer", || Ok(asker.stations(from) == both))?;
        eventually(PATIENCE, "packets are taken by the other one", || {
            Ok(asker.is_served(from))
        })
    });
}

#[test]
fn only_the_instances_interface_answers_and_the_gate_is_at_both() {
    scenario(|lab| {
        let mut node = node_with_two(lab, "n1")?;
        let client = lab.client("c1")?;
        let routers = [node.router()];
        node.start(Kind::Had, &routers)?;
        node.wait_for(WEB, "active")?;
        wait_guarded(&node, &["eth1"])?;
        let asker = Asker::new(&client, &node, "eth1")?;
        let from = now();
        eventually(PATIENCE, "packets to the VIP pass the open gate", || {
            Ok(asker.is_served(from))
        })?;
        let own = [node.mac()];
        eventually(PATIENCE, "its own interface answers", || {
            Ok(asker.stations(from) == own)
        })?;
        throughout(A_WHILE, "no other one does", || {
            Ok(asker.stations(from) == own)
        })?;

        // The VIP stays, and both gates close and stay closed.
        node.kill()?;
        eventually(PATIENCE, "the gate closes", || {
            let lately = now().before(Nanos::from_millis(100));
            Ok(!asker.is_served(lately) && asker.stations(lately).is_empty())
        })?;
        ensure!(node.has(VIP)?);
        let from = now();
        throughout(A_WHILE, "it stays closed", || {
            Ok(!asker.is_served(from) && asker.stations(from).is_empty())
        })?;

        // The next daemon takes the guard over.
        let before = has_guard(&node, "eth1")?;
        node.restart(Kind::Had)?;
        node.wait_for(WEB, "active")?;
        wait_guarded(&node, &["eth1"])?;
        ensure!(before && has_guard(&node, "eth1")?);
        node.stop()?;
        ensure!(!has_guard(&node, "eth1")?, "the guard stays");
        Ok(())
    });
}

#[test]
fn sysctls_are_set_where_they_are_needed_and_put_back_also_after_a_kill() {
    scenario(|lab| {
        let mut node = node_with_two(lab, "n1")?;
        node.ns().sysctl("net/ipv4/conf/eth1/arp_announce", "1")?;
        let routers = [node.router()];
        node.start(Kind::Had, &routers)?;
        // XDP answers for the VIPs, and the guard for none: the kernel need not be told not to.
        wait_sysctls(&node, ["2", "2"], ["0", "0"])?;
        node.kill()?;
        wait_sysctls(&node, ["2", "2"], ["0", "0"])?;
        node.set_dataplane("mode = \"off\"");
        node.start(Kind::Had, &routers)?;
        wait_sysctls(&node, ["2", "2"], ["1", "1"])?;
        node.wait_for(WEB, "active")?;
        let client = lab.client("c1")?;
        let asker = Asker::new(&client, &node, "eth1")?;
        let (from, own) = (now(), [node.mac()]);
        eventually(PATIENCE, "its own interface answers", || {
            Ok(asker.stations(from) == own)
        })?;
        throughout(A_WHILE, "no other one does", || {
            Ok(asker.stations(from) == own)
        })?;
        node.stop()?;
        wait_sysctls(&node, ["0", "1"], ["0", "0"])
    });
}

#[test]
fn a_port_of_a_bridge_is_let_go_of_and_a_released_one_is_guarded_again() {
    scenario(|lab| {
        let mut node = node_with_two(lab, "n1")?;
        let routers = [node.router()];
        node.start(Kind::Had, &routers)?;
        wait_guarded(&node, &["eth1"])?;
        let ip = |arguments: &[&str]| node.ns().ip(arguments).map(drop);
        ip(&["link", "add", "br1", "type", "bridge"])?;
        ip(&["link", "set", "br1", "up"])?;
        wait_guarded(&node, &["eth1", "br1"])?;
        ip(&["link", "set", "eth1", "master", "br1"])?;
        wait_guarded(&node, &["br1"])?;
        ensure!(!has_guard(&node, "eth1")?);
        ip(&["link", "set", "eth1", "nomaster"])?;
        wait_guarded(&node, &["eth1", "br1"])?;
        ip(&["link", "del", "br1"])?;
        wait_guarded(&node, &["eth1"])?;
        // An instance comes to it, and goes again.
        let mut second = node.router().sibling("second", 52, [10, 77, 0, 102].into());
        "eth1".clone_into(&mut second.interface);
        second.source = [10, 77, 0, 51].into();
        node.reload(&[node.router(), second])?;
        wait_guarded(&node, &[])?;
        node.wait_for("second", "active")?;
        node.reload(&routers)?;
        wait_guarded(&node, &["eth1"])
    });
}

/// A Backup that is a router is the way to the Active node for whoever comes by its other interface.
#[test]
fn a_backup_still_forwards_to_the_active_node() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, node_with_two(lab, "n2")?];
        let scene = Scene::of(lab, nodes, |router| router)?;
        let [active, backup] = &scene.nodes;
        wait_guarded(backup, &["eth1"])?;
        backup.ns().sysctl("net/ipv4/ip_forward", "1")?;
        backup
            .ns()
            .ip(&["addr", "add", "10.79.0.2/24", "dev", "eth1"])?;
        let back = format!("{}", backup.address());
        active
            .ns()
            .ip(&["route", "add", "10.79.0.0/24", "via", &back])?;
        let client = lab.client("c2")?;
        client
            .ns()
            .ip(&["addr", "add", "10.79.0.9/24", "dev", "eth0"])?;
        // Its eth0 would answer for that address as well: the flux of an ordinary address.
        let station = backup.mac_of("eth1")?.to_string();
        client.ns().ip(&[
            "neigh",
            "add",
            "10.79.0.2",
            "lladdr",
            &station,
            "dev",
            "eth0",
        ])?;
        client.ns().ip(&[
            "route",
            "add",
            "10.77.0.100/32",
            "via",
            "10.79.0.2",
            "src",
            "10.79.0.9",
        ])?;
        let from = now();
        let through_kernel = Prober::start(&client, VIP, Probes::Echo)?;
        eventually(
            PATIENCE,
            "the client gets through to the Active node",
            || Ok(!through_kernel.answers(from, now()).is_empty()),
        )?;
        drop(through_kernel);
        let counters = backup.hactl(&["status"])?["dataplane"]["counters"].clone();
        for reason in ["pass_vip_forwarded", "egress_forwarded"] {
            ensure!(
                counters[reason].as_u64().is_some_and(|count| count > 0),
                "{reason}: {counters}"
            );
        }
        // If it has the address after all, nothing passes.
        backup
            .ns()
            .ip(&["addr", "add", "10.77.0.100/32", "dev", "lo"])?;
        let from = now();
        let asker = Asker::new(&client, backup, "eth1")?;
        throughout(A_WHILE, "it does not answer itself", || {
            Ok(!asker.is_served(from))
        })
    });
}

/// Two nodes with adverts alone, of which the second has another interface in the network; and a client.
fn pair(lab: &Lab, interval_ms: u32) -> Result<([Node; 2], [VirtualRouter; 2])> {
    let nodes = [lab.node("n1")?, node_with_two(lab, "n2")?];
    let [one, two] = &nodes;
    let routers = [
        one.router().peers(&[two.address()]),
        two.router().peers(&[one.address()]),
    ];
    Ok((nodes, routers.map(|router| router.interval_ms(interval_ms))))
}

/// Lets a node believe that another one's address is where its eth1 is: as Linux answers without `had`.
fn mislead(node: &Node, about: &Node) -> Result<()> {
    let address = about.address().to_string();
    let station = about.mac_of("eth1")?.to_string();
    let entry = ["lladdr", &station, "dev", "eth0", "nud", "reachable"];
    let replace = [&["neigh", "replace", &address], &entry[..]].concat();
    node.ns().ip(&replace).map(drop)
}

/// The station at which a node believes another one's address to be.
fn neighbour(node: &Node, about: &Node) -> Result<Option<String>> {
    let address = about.address().to_string();
    let text = node
        .ns()
        .ip(&["-j", "neigh", "show", "to", &address, "dev", "eth0"])?;
    let entries: serde_json::Value = serde_json::from_str(&text)?;
    Ok(entries[0]["lladdr"].as_str().map(str::to_owned))
}

fn adverts_heard(node: &Node) -> Result<u64> {
    let count = &node.instance(WEB)?["adverts_received"];
    count.as_u64().context("no count")
}

fn has_been_active(node: &Node) -> Result<bool> {
    let events = node.events("transition")?;
    let active = format!("{WEB} is active");
    Ok(events.iter().any(|event| event.starts_with(&active)))
}

/// Packets of the peer would else go past the programs of the instance's interface.
#[test]
fn only_its_own_interface_answers_for_a_nodes_own_address() {
    scenario(|lab| {
        let ([_, mut node], [_, router]) = pair(lab, 50)?;
        let client = lab.client("c1")?;
        let asker = Asker::of(node.address(), &client, &node, "eth1")?;
        let mut both = [node.mac(), node.mac_of("eth1")?];
        both.sort_unstable_by_key(|mac| mac.0);
        let from = now();
        eventually(PATIENCE, "without had both answer", || {
            Ok(asker.stations(from) == both)
        })?;
        node.start(Kind::Had, &[router])?;
        wait_guarded(&node, &["eth1"])?;
        let own = [node.mac()];
        let answers_alone = |what: &str| {
            let from = now();
            eventually(PATIENCE, what, || Ok(asker.stations(from) == own))?;
            throughout(A_WHILE, what, || Ok(asker.stations(from) == own))
        };
        answers_alone("its own interface answers")?;
        let from = now();
        eventually(PATIENCE, "other packets pass", || Ok(asker.is_served(from)))?;
        let other = Asker::of([10, 77, 0, 52].into(), &client, &node, "eth1")?;
        let from = now();
        eventually(PATIENCE, "so do questions for eth1's own", || {
            Ok(other.stations(from).contains(&node.mac_of("eth1")?))
        })?;
        node.kill()?;
        answers_alone("after SIGKILL as well")?;
        node.restart(Kind::Had)?;
        node.wait_for(WEB, "active")?;
        node.stop()?;
        let from = now();
        eventually(PATIENCE, "without had both answer again", || {
            Ok(asker.stations(from) == both)
        })
    });
}

#[test]
fn a_peer_with_the_wrong_mac_address_is_corrected_before_anybody_takes_over() {
    scenario(|lab| {
        let ([mut one, mut two], routers) = pair(lab, 50)?;
        one.start(Kind::Had, &routers[..1])?;
        one.wait_for(WEB, "active")?;
        // It learned that before `had` guarded the other interface.
        mislead(&one, &two)?;
        ensure!(neighbour(&one, &two)? == Some(two.mac_of("eth1")?.to_string()));
        two.start(Kind::Had, &routers[1..])?;
        two.wait_for_active_peer(WEB, one.address())?;
        wait_guarded(&two, &["eth1"])?;
        let right = Some(two.mac().to_string());
        ensure!(neighbour(&one, &two)? == right);
        // And later, however that comes.
        for _ in 0..5 {
            mislead(&one, &two)?;
            eventually(PATIENCE, "it is corrected", || {
                Ok(neighbour(&one, &two)? == right)
            })?;
            // One was lost; three in a row would be silence.
            let heard = adverts_heard(&two)?;
            eventually(PATIENCE, "adverts are heard again", || {
                Ok(adverts_heard(&two)? > heard)
            })?;
        }
        ensure!(!has_been_active(&two)?);
        eventually(PATIENCE, "it is told", || {
            let status = two.hactl(&["status"])?;
            let count = &status["dataplane"]["counters"]["heartbeat_elsewhere"];
            let warnings = status["warnings"].to_string();
            Ok(count.as_u64() > Some(0) && warnings.contains("another interface"))
        })
    });
}

/// While the instance's interface is dead the other one does not stand in for it: the peer would go on sending there.
#[test]
fn the_other_interface_does_not_stand_in_for_a_dead_one() {
    scenario(|lab| {
        let ([mut one, mut two], routers) = pair(lab, 50)?;
        one.start(Kind::Had, &routers[..1])?;
        one.wait_for(WEB, "active")?;
        two.start(Kind::Had, &routers[1..])?;
        two.wait_for_active_peer(WEB, one.address())?;
        wait_guarded(&two, &["eth1"])?;
        let wrong = Some(two.mac_of("eth1")?.to_string());
        for _ in 0..3 {
            two.set_cable("eth0", false)?;
            two.wait_for(WEB, "fault")?;
            // The kernel would believe what it knows for half a minute.
            one.ns()
                .ip(&["neigh", "flush", "to", &two.address().to_string()])?;
            throughout(A_WHILE, "eth1 does not answer for eth0", || {
                Ok(neighbour(&one, &two)? != wrong)
            })?;
            two.set_cable("eth0", true)?;
            two.wait_for(WEB, "backup")?;
            two.wait_for_active_peer(WEB, one.address())?;
        }
        ensure!(!has_been_active(&two)?);
        ensure!(one.state(WEB)? == "active");
        Ok(())
    });
}
