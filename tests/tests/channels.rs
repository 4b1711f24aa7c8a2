//! Two paths for leases between two nodes: the LAN, and a cable of their own.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Kind, Lab, Node, VirtualRouter, eventually,
    lab::VIP,
    node::PATIENCE,
    now,
    prober::DirectProber,
    scenario,
    scene::{INTERVAL_MS, Scene, WEB},
    wait::throughout,
};

/// On the LAN: comfortable on a busy machine; a lease lasts 200 ms.
const HEARTBEAT: &str = "heartbeat = { interval = \"20ms\", multiplier = 10 }";

/// On the cable: its silence is noticed within 50 ms. A false alarm there costs nothing.
const CHANNEL: &str = "interval = \"10ms\"\nmultiplier = 5\n";

const CUTS: u32 = 50;

/// Within this after paths were healed one node alone speaks.
const SETTLED: Nanos = Nanos::from_secs(1);

/// How recent an answer must be to count as "is served".
const RECENTLY: Nanos = Nanos::from_millis(50);

const A_WHILE: Duration = Duration::from_secs(1);

/// Two nodes with a cable of their own between them; each has `lines` of its own for the channel on it.
fn scene(lab: &Lab, lines: [&str; 2]) -> Result<Scene> {
    let nodes = [lab.node("n1")?, lab.node("n2")?];
    scene_of(lab, nodes, lines)
}

fn scene_of(lab: &Lab, nodes: [Node; 2], lines: [&str; 2]) -> Result<Scene> {
    for (number, node) in (1..).zip(&nodes) {
        node.plug("eth1")?;
        let address = format!("10.99.0.{number}/24");
        node.ns().ip(&["addr", "add", &address, "dev", "eth1"])?;
    }
    let first = nodes[0].address();
    Scene::of(lab, nodes, |router| {
        let index = usize::from(router.source != first);
        with_channel(router, index, lines[index])
    })
}

/// The virtual router of the first or the second node.
fn with_channel(router: VirtualRouter, index: usize, lines: &str) -> VirtualRouter {
    let (local, peer) = (index + 1, 2 - index);
    router.had_lines(&format!(
        "{HEARTBEAT}\nchannels = [\"direct\"]\n\n[[channel]]\nname = \"direct\"\nkind = \"lease\"\n\
         interface = \"eth1\"\nlocal = \"10.99.0.{local}\"\npeer = \"10.99.0.{peer}\"\n{CHANNEL}{lines}"
    ))
}

/// How often a node said of a path that it works, or no longer does.
fn reports(node: &Node, peer: &str, sentence: &str) -> Result<usize> {
    let events = node.events("channel")?;
    let of_path = events
        .iter()
        .filter(|event| event.contains(&format!("{peer} ")) && event.contains(sentence));
    Ok(of_path.count())
}

const SILENT: &str = "nothing was heard from";

#[test]
fn fifty_cuts_of_the_direct_cable_are_events_and_nothing_else() {
    scenario(|lab| {
        let scene = scene(lab, ["", ""])?;
        for node in &scene.nodes {
            for name in ["eth0", "direct"] {
                node.wait_for_path(name, true)?;
            }
        }
        let transitions = |node: &Node| node.events("transition");
        let before = [transitions(&scene.nodes[0])?, transitions(&scene.nodes[1])?];
        let [holder, other] = &scene.nodes;
        let from = now();
        for round in 0..CUTS {
            // By turns without a sign, and with the carrier.
            let is_pulled = round % 2 == 1;
            if is_pulled {
                other.set_cable("eth1", false)?;
            } else {
                lab.cut_off(other, "eth1")?;
            }
            holder.wait_for_path("direct", false)?;
            if is_pulled {
                other.set_cable("eth1", true)?;
            } else {
                lab.heal()?;
            }
            holder.wait_for_path("direct", true)?;
        }
        let to = now();
        eventually(PATIENCE, "every probe was answered", || {
            Ok(scene.prober.unanswered(from, to) == 0)
        })
        .with_context(|| {
            let missing = scene.prober.unanswered(from, to);
            format!("{missing} were not, {} were missed", scene.prober.lost())
        })?;
        scene.stays(0, A_WHILE)?;
        let after = [transitions(&scene.nodes[0])?, transitions(&scene.nodes[1])?];
        ensure!(before == after, "{after:?}");
        let spoken = scene.sniffers[1].spoken(from, now());
        ensure!(spoken.is_empty(), "the Backup spoke: {:?}", spoken.first());
        let (cut, healed) = (
            reports(holder, "10.99.0.2", SILENT)?,
            reports(holder, "10.99.0.2", "works")?,
        );
        ensure!(cut >= 50 && healed >= 50, "{cut} and {healed} events");
        Ok(())
    });
}

/// Nothing passes any more between the nodes.
fn cut_every_path(lab: &Lab, scene: &Scene) -> Result<()> {
    let [first, second] = &scene.nodes;
    lab.cut(first, second)?;
    // At both ends: the lab's cable is two ports of the one switch, and a kernel answers ARP on any of them.
    lab.cut_off(first, "eth1")?;
    lab.cut_off(second, "eth1")
}

/// A node whose kernel notices within two seconds that a neighbour does not answer, not within half a minute.
fn inquisitive(lab: &Lab, name: &str) -> Result<Node> {
    let node = lab.node(name)?;
    for (setting, value) in [
        ("base_reachable_time_ms", "500"),
        ("delay_first_probe_time", "1"),
        ("retrans_time_ms", "200"),
    ] {
        node.ns()
            .sysctl(&format!("net/ipv4/neigh/eth0/{setting}"), value)?;
    }
    Ok(node)
}

fn wait_for_unknown_neighbour(node: &Node, peer: &Node) -> Result<()> {
    let address = peer.address().to_string();
    let what = format!("{} has no answer from {}", node.name(), peer.name());
    let mut shown = String::new();
    eventually(PATIENCE, &what, || {
        shown = node
            .ns()
            .ip(&["neigh", "show", "to", &address, "dev", "eth0"])?;
        Ok(!shown.contains("lladdr"))
    })
    .context(shown)
}

/// Since `healed`, one node fell silent in time, and the other one serves; which.
fn settles(scene: &Scene, healed: MonoNs) -> Result<usize> {
    let mut active = 0;
    eventually(PATIENCE, "one node is Active, the other one Backup", || {
        let states = [scene.nodes[0].state(WEB)?, scene.nodes[1].state(WEB)?];
        active = usize::from(states[1] == "active");
        Ok(states[active] == "active" && states[1 - active] == "backup")
    })?;
    scene.wait_served_by(active)?;
    scene.stays(active, A_WHILE)?;
    let end = healed.after(SETTLED);
    let late = scene.sniffers[1 - active].spoken(end, now());
    ensure!(late.is_empty(), "both speak: {:?}", late.last());
    let answers = scene.prober.answers(healed, end);
    ensure!(
        answers
            .last()
            .is_some_and(|answer| answer.by == scene.nodes[active].mac()),
        "the client is not served by {} within a second: {:?}",
        scene.nodes[active].name(),
        answers.last()
    );
    let gap = scene.prober.longest_gap(end, now())?.length();
    ensure!(gap < RECENTLY.times(2), "a gap of {gap} after that");
    Ok(active)
}

#[test]
fn nodes_without_any_path_serve_both_and_one_again_within_a_second() {
    scenario(|lab| {
        // Their kernels have forgotten each other's Ethernet addresses when the paths are healed.
        let nodes = [inquisitive(lab, "n1")?, inquisitive(lab, "n2")?];
        let scene = scene_of(lab, nodes, ["", ""])?;
        let ask = |node: &Node| DirectProber::start(&scene.client, VIP, node.mac());
        let _asked = [ask(&scene.nodes[0])?, ask(&scene.nodes[1])?];
        cut_every_path(lab, &scene)?;
        for (node, peer) in [(0, 1), (1, 0)] {
            let (node, peer) = (&scene.nodes[node], &scene.nodes[peer]);
            node.wait_for(WEB, "active")?;
            for path in ["eth0", "direct"] {
                node.wait_for_path(path, false)?;
            }
            wait_for_unknown_neighbour(node, peer)?;
        }
        for (node, peers) in scene
            .nodes
            .iter()
            .zip([["10.77.0.2", "10.99.0.2"], ["10.77.0.1", "10.99.0.1"]])
        {
            for peer in peers {
                let said = reports(node, peer, SILENT)?;
                ensure!(said > 0, "{}: no event of {peer}", node.name());
            }
        }
        throughout(A_WHILE, "both serve", || {
            Ok(scene.nodes[0].state(WEB)? == "active" && scene.nodes[1].state(WEB)? == "active")
        })?;
        for node in &scene.nodes {
            warns(node, "both serve now")?;
        }
        let healed = now();
        lab.heal()?;
        let active = settles(&scene, healed)?;
        let loser = scene.nodes[1 - active].events("transition")?;
        ensure!(
            loser.last().is_some_and(|last| last.contains("is backup")),
            "{loser:?}"
        );
        Ok(())
    });
}

/// `hactl status` on a node has such a warning by and by.
fn warns(node: &Node, words: &str) -> Result<()> {
    let what = format!("{} warns: {words}", node.name());
    eventually(PATIENCE, &what, || {
        let warnings = &node.hactl(&["status"])?["warnings"];
        Ok(warnings.to_string().contains(words))
    })
    .with_context(|| format!("{:?}", node.hactl(&["status"])))
}

/// What `hactl explain` says.
fn explained(node: &Node) -> Result<String> {
    Ok(node.hactl(&["explain", WEB])?["sentences"].to_string())
}

/// Nobody is served; these nodes say for whom they wait, and nothing new.
fn wait_quietly(scene: &Scene, nodes: &[Node]) -> Result<()> {
    for node in nodes {
        warns(node, "waits for")?;
        let explained = explained(node)?;
        ensure!(explained.contains("alone = \\\"stop\\\""), "{explained}");
    }
    let said = || -> Result<Vec<Vec<String>>> {
        let kinds = ["transition", "note"];
        nodes
            .iter()
            .flat_map(|node| kinds.map(|kind| node.events(kind)))
            .collect()
    };
    let before = said()?;
    throughout(A_WHILE, "nobody serves", || {
        Ok(scene.prober.answered_within(RECENTLY).is_none())
    })?;
    let after = said()?;
    ensure!(before == after, "{after:?}");
    Ok(())
}

/// Two nodes of which neither serves without the other one; the first one serves.
fn stops_when_alone(lab: &Lab) -> Result<Scene> {
    let scene = scene(lab, ["", ""])?;
    // Not before: who stops when alone does not begin, either.
    let addresses = [scene.nodes[0].address(), scene.nodes[1].address()];
    for (index, node) in scene.nodes.iter().enumerate() {
        let router = node.router().interval_ms(INTERVAL_MS);
        let router = router.peers(&[addresses[1 - index]]);
        let router = with_channel(router, index, "alone = \"stop\"\n");
        node.configure(Kind::Had, &[router])?;
        node.hactl(&["reload"])?;
    }
    scene.stays(0, A_WHILE)?;
    Ok(scene)
}

#[test]
fn who_stops_when_alone_waits_for_a_backup_that_was_stopped() {
    scenario(|lab| {
        let mut scene = stops_when_alone(lab)?;
        scene.nodes[1].stop()?;
        scene.nodes[0].wait_for(WEB, "backup")?;
        wait_quietly(&scene, &scene.nodes[..1])?;
        scene.nodes[1].restart(Kind::Had)?;
        let returned = now();
        eventually(PATIENCE, "one serves again", || {
            Ok(scene.prober.answered_within(RECENTLY).is_some())
        })
        .with_context(|| format!("since {}", now().since(returned)))
    });
}

#[test]
fn who_stops_when_alone_takes_over_while_the_cable_lives() {
    scenario(|lab| {
        let scene = stops_when_alone(lab)?;
        scene.nodes[0].set_cable("eth0", false)?;
        scene.nodes[0].wait_for(WEB, "fault")?;
        let path = scene.nodes[0].path("eth0")?;
        ensure!(path["up"] == false, "{path}");
        scene.wait_served_by(1)?;
        throughout(A_WHILE, "it serves", || {
            Ok(scene.nodes[1].state(WEB)? == "active")
        })
    });
}

#[test]
fn a_lan_that_is_cut_while_the_cable_lives_is_told_of_on_both_nodes() {
    scenario(|lab| {
        let scene = scene(lab, ["", ""])?;
        for node in &scene.nodes {
            node.wait_for_path("direct", true)?;
        }
        let [holder, other] = &scene.nodes;
        lab.cut(holder, other)?;
        warns(holder, "on eth0 for ")?;
        warns(holder, "only over direct: ")?;
        warns(other, "still asks for its lease over direct: ")?;
        let explained = explained(other)?;
        ensure!(
            explained.contains("still asks for its lease")
                && !explained.contains("Takes over if nothing is heard"),
            "{explained}"
        );
        scene.stays(0, A_WHILE)?;
        // What the warnings advise.
        holder.hactl(&["switchover", WEB])?;
        scene.wait_served_by(1)?;
        scene.stays(1, A_WHILE)?;
        warns(other, "only over direct: ")?;
        lab.heal()?;
        for node in &scene.nodes {
            let what = format!("{} warns no more", node.name());
            eventually(PATIENCE, &what, || {
                let warnings = node.hactl(&["status"])?["warnings"].to_string();
                Ok(!warnings.contains("direct"))
            })
            .with_context(|| format!("{:?}", node.hactl(&["status"])))?;
        }
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn nodes_that_stop_when_alone_serve_nobody_and_one_again_within_a_second() {
    scenario(|lab| {
        let scene = stops_when_alone(lab)?;
        let ask = |node: &Node| DirectProber::start(&scene.client, VIP, node.mac());
        let _asked = [ask(&scene.nodes[0])?, ask(&scene.nodes[1])?];
        let from = now();
        cut_every_path(lab, &scene)?;
        scene.nodes[0].wait_for(WEB, "backup")?;
        eventually(PATIENCE, "nobody serves", || {
            Ok(scene.prober.answered_within(RECENTLY).is_none())
        })?;
        // Who stops says why with that, and who does not begin by itself.
        for (node, kind) in scene.nodes.iter().zip(["transition", "note"]) {
            let why = format!("{}: an event says why", node.name());
            eventually(PATIENCE, &why, || {
                let events = node.events(kind)?;
                Ok(events.iter().any(|event| event.contains("alone")))
            })
            .with_context(|| format!("{:?}", node.events(kind)))?;
        }
        wait_quietly(&scene, &scene.nodes)?;
        let spoken = scene.sniffers[1].spoken(from, now());
        ensure!(spoken.is_empty(), "the Backup spoke: {:?}", spoken.first());
        ensure!(scene.prober.answered_within(RECENTLY).is_none());
        let healed = now();
        lab.heal()?;
        settles(&scene, healed).map(drop)
    });
}

#[test]
fn a_path_works_again_after_both_ends_got_other_ethernet_addresses() {
    scenario(|lab| {
        let scene = scene(lab, ["", ""])?;
        for node in &scene.nodes {
            node.wait_for_path("direct", true)?;
            lab.lose_frames_to(node.mac_of("eth1")?)?;
        }
        for node in &scene.nodes {
            node.wait_for_path("direct", false)?;
        }
        for (number, node) in scene.nodes.iter().enumerate() {
            let mac = format!("02:00:00:00:99:{number:02}");
            node.ns().ip(&["link", "set", "eth1", "address", &mac])?;
        }
        for node in &scene.nodes {
            node.wait_for_path("direct", true)?;
        }
        scene.stays(0, A_WHILE)
    });
}

/// Writes a key for each node and returns the lines that name it.
fn keys(nodes: &[Node; 2], digits: [&str; 2]) -> Result<[String; 2]> {
    let mut lines = [String::new(), String::new()];
    for ((node, line), digit) in nodes.iter().zip(&mut lines).zip(digits) {
        let path = node.dir().join("channel.key");
        fs::write(&path, digit.repeat(32))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        *line = format!("key_file = \"{}\"\n", path.display());
    }
    Ok(lines)
}

/// The pair with one key for the cable, which works.
fn keyed(lab: &Lab) -> Result<Scene> {
    let nodes = [lab.node("n1")?, lab.node("n2")?];
    let lines = keys(&nodes, ["a", "a"])?;
    let scene = scene_of(lab, nodes, [&lines[0], &lines[1]])?;
    for node in &scene.nodes {
        node.wait_for_path("direct", true)?;
    }
    Ok(scene)
}

#[test]
fn leases_with_a_key_hold_while_the_lan_is_cut() {
    scenario(|lab| {
        let scene = keyed(lab)?;
        let path = scene.nodes[0].path("direct")?;
        ensure!(path["keyed"] == true && path["bad_tags"] == 0, "{path}");
        lab.cut(&scene.nodes[0], &scene.nodes[1])?;
        scene.nodes[0].wait_for_path("eth0", false)?;
        scene.stays(0, A_WHILE)?;
        // The one that holds has no power any more.
        scene.nodes[0].set_cable("eth1", false)?;
        scene.nodes[0].power_off()?;
        scene.wait_served_by(1)
    });
}

#[test]
fn a_reload_takes_a_new_key_from_the_same_file_and_says_so() {
    scenario(|lab| {
        let scene = keyed(lab)?;
        keys(&scene.nodes, ["c", "c"])?;
        for node in &scene.nodes {
            let reload = node.hactl(&["reload"])?;
            let told = serde_json::json!(["channel direct: its key changed"]);
            ensure!(reload["changes"] == told, "{reload}");
        }
        // From now on the answers have the new key, too.
        let answers = scene.nodes[0].path("direct")?["answers"].as_u64();
        eventually(PATIENCE, "the new key is in use", || {
            let path = scene.nodes[0].path("direct")?;
            Ok(path["up"] == true && path["answers"].as_u64() > answers.map(|count| count + 10))
        })?;
        scene.stays(0, A_WHILE)
    });
}

#[test]
fn a_wrong_key_is_no_path() {
    scenario(|lab| {
        let nodes = [lab.node("n1")?, lab.node("n2")?];
        let lines = keys(&nodes, ["a", "b"])?;
        let scene = scene_of(lab, nodes, [&lines[0], &lines[1]])?;
        let refused = |node: &Node| {
            let what = format!("{}: refused and silent", node.name());
            eventually(PATIENCE, &what, || {
                let path = node.path("direct")?;
                Ok(path["bad_tags"].as_u64() > Some(10) && path["up"] == false)
            })
        };
        refused(&scene.nodes[1])?;
        // Who is asked nothing that it takes answers nothing.
        scene.nodes[0].wait_for_path("direct", false)?;
        for node in &scene.nodes {
            node.wait_for_path("eth0", true)?;
            let path = node.path("direct")?;
            ensure!(
                path["answers"] == 0 && path["echoes_answered"] == 0,
                "{path}"
            );
        }
        scene.stays(0, A_WHILE)?;
        for node in &scene.nodes {
            let what = format!("{} warns", node.name());
            eventually(Duration::from_secs(60), &what, || {
                let warned = node.hactl(&["status"])?["warnings"].to_string();
                Ok(warned.contains("key_file") && node.log().contains("echo_tag"))
            })?;
        }
        // So that, the LAN cut, nothing is left that holds the other node back.
        lab.cut(&scene.nodes[0], &scene.nodes[1])?;
        scene.nodes[1].wait_for(WEB, "active")
    });
}
