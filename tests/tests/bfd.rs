//! BFD sessions of `had` with other implementations, and between two `had` nodes.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Kind, Node, Program, Speaker, eventually,
    lab::{VIP, VIP_2},
    netns::run,
    node::PATIENCE,
    now, scenario,
    scene::WEB,
    wait::throughout,
};
use serde_json::Value;

/// A channel of a node to an address on its LAN.
fn channel(node: &Node, peer: Ipv4Addr, rest: &str) -> String {
    channel_from(node.address().into(), peer.into(), rest)
}

fn channel_from(local: IpAddr, peer: IpAddr, rest: &str) -> String {
    format!(
        "channels = [\"path\"]\n\n[[channel]]\nname = \"path\"\nkind = \"bfd\"\ninterface = \"eth0\"\n\
         local = \"{local}\"\npeer = \"{peer}\"\n{rest}"
    )
}

/// Starts `had` with a channel; its instance is nobody else's.
fn start(node: &mut Node, peer: Ipv4Addr, rest: &str) -> Result<()> {
    let lines = channel(node, peer, rest);
    start_with(node, &lines)
}

fn start_with(node: &mut Node, lines: &str) -> Result<()> {
    let router = node.router().sibling("own", 77, VIP_2).had_lines(lines);
    node.start(Kind::Had, &[router])
}

/// What `hactl status` says of the only channel.
fn status(node: &Node) -> Result<Value> {
    let status = node.hactl(&["status"])?;
    let channel = status["channels"][0].clone();
    ensure!(channel.is_object(), "no channel: {status}");
    Ok(channel)
}

fn wait_for(node: &Node, what: &str, condition: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    eventually(PATIENCE, what, || {
        last = status(node)?;
        Ok(condition(&last))
    })
    .with_context(|| format!("at last {last:#}"))?;
    Ok(last)
}

fn wait_up(node: &Node, transmit_us: u64, detection_us: u64) -> Result<Value> {
    wait_for(node, "the session is up, with its intervals", |channel| {
        channel["state"] == "up"
            && channel["remote_state"] == "up"
            && channel["transmit_interval_us"] == transmit_us
            && channel["detection_time_us"] == detection_us
    })
}

fn is_down_by_silence(channel: &Value) -> bool {
    channel["state"] == "down" && channel["diagnostic"] == "Control Detection Time Expired"
}

fn frr_config(
    ours: Ipv4Addr,
    had: Ipv4Addr,
    receive: u32,
    transmit: u32,
    multiplier: u32,
) -> String {
    format!(
        "bfd\n peer {had} local-address {ours}\n  receive-interval {receive}\n  transmit-interval {transmit}\n  \
         detect-multiplier {multiplier}\n  no shutdown\n !\n!\n"
    )
}

/// Runs a test with two nodes.
fn between(body: impl FnOnce(Node, Node) -> Result<()>) {
    scenario(|lab| body(lab.node("n1")?, lab.node("n2")?));
}

#[test]
fn frr_comes_up_changes_its_parameters_and_goes_down_by_silence() {
    between(|mut had, other| {
        let config = frr_config(other.address(), had.address(), 20, 30, 3);
        let mut frr = Speaker::start(&other, Program::Frr, &config)?;
        start(
            &mut had,
            other.address(),
            "interval = \"10ms\"\nmultiplier = 4\n",
        )?;
        wait_up(&had, 20_000, 90_000)?;
        eventually(PATIENCE, "FRR is up with our parameters", || {
            let peer = frr.frr_peer()?;
            Ok(peer["status"] == "up"
                && peer["remote-transmit-interval"] == 10
                && peer["remote-detect-multiplier"] == 4)
        })?;

        // FRR's parameters change by a Poll Sequence.
        frr.vtysh(&[
            "configure",
            "bfd",
            &format!("peer {} local-address {}", had.address(), other.address()),
            "transmit-interval 50",
            "receive-interval 40",
            "detect-multiplier 5",
        ])?;
        wait_up(&had, 40_000, 250_000)?;
        // Ours likewise, by a reload, which keeps the session.
        let lines = channel(
            &had,
            other.address(),
            "interval = \"60ms\"\nmultiplier = 3\n",
        );
        let router = had.router().sibling("own", 77, VIP_2).had_lines(&lines);
        had.reload(&[router])?;
        wait_up(&had, 60_000, 300_000)?;
        eventually(PATIENCE, "FRR has our new parameters", || {
            let peer = frr.frr_peer()?;
            Ok(peer["status"] == "up" && peer["remote-transmit-interval"] == 60)
        })?;
        ensure!(status(&had)?["flaps"] == 0);

        // Up, repetitions wake nobody. A rate is counted, so that this sleep is the measurement, and no wait.
        let before = wakeups(&had)?;
        std::thread::sleep(Duration::from_secs(1));
        let woken = wakeups(&had)? - before;
        ensure!(
            woken < 60,
            "{woken} wake-ups a second, and 17 packets of ours"
        );

        frr.kill()?;
        let down = wait_for(&had, "down by silence", is_down_by_silence)?;
        ensure!(
            down["flaps"] == 1 && down["packets_rejected"] == 0,
            "{down}"
        );
        let events = had.events("channel")?;
        ensure!(
            events
                .last()
                .is_some_and(|last| last.contains("nothing was heard from the peer for 30")),
            "{events:?}"
        );
        Ok(())
    });
}

fn wakeups(node: &Node) -> Result<u64> {
    let status = node.hactl(&["status"])?;
    status["engine"]["wakeups"].as_u64().context("a number")
}

#[test]
fn frr_s_shutdown_and_ours_are_no_silence() {
    between(|mut had, other| {
        let config = frr_config(other.address(), had.address(), 20, 20, 3);
        let frr = Speaker::start(&other, Program::Frr, &config)?;
        start(&mut had, other.address(), "interval = \"20ms\"\n")?;
        wait_up(&had, 20_000, 60_000)?;
        let peer = format!("peer {} local-address {}", had.address(), other.address());
        frr.vtysh(&["configure", "bfd", &peer, "shutdown"])?;
        wait_for(&had, "down by the peer's administrator", |channel| {
            channel["state"] == "down" && channel["remote_state"] == "admin-down"
        })?;
        frr.vtysh(&["configure", "bfd", &peer, "no shutdown"])?;
        wait_up(&had, 20_000, 60_000)?;
        had.stop()?;
        eventually(PATIENCE, "FRR knows that it was on purpose", || {
            let peer = frr.frr_peer()?;
            Ok(peer["status"] == "down" && peer["diagnostic"] == "neighbor signaled session down")
        })
        .with_context(|| format!("{:?}", frr.frr_peer()))
    });
}

fn keepalived_config(ours: Ipv4Addr, had: Ipv4Addr, interval: u32, multiplier: u32) -> String {
    format!(
        "bfd_instance path {{\n  neighbor_ip {had}\n  source_ip {ours}\n  min_rx {interval}\n  min_tx {interval}\n  \
         idle_tx 1000\n  multiplier {multiplier}\n}}\n"
    )
}

#[test]
fn keepalived_comes_up_and_goes_down_by_silence() {
    between(|mut had, other| {
        let config = keepalived_config(other.address(), had.address(), 20, 5);
        let mut keepalived = Speaker::start(&other, Program::Keepalived, &config)?;
        start(
            &mut had,
            other.address(),
            "interval = \"10ms\"\nmultiplier = 3\n",
        )?;
        wait_up(&had, 20_000, 100_000)?;
        eventually(PATIENCE, "keepalived is up", || {
            Ok(keepalived.log().contains("Entering Up state"))
        })
        .with_context(|| keepalived.log())?;
        // Our parameters change while the session stays.
        let lines = channel(&had, other.address(), "interval = \"40ms\"\n");
        let router = had.router().sibling("own", 77, VIP_2).had_lines(&lines);
        had.reload(&[router])?;
        wait_up(&had, 40_000, 200_000)?;
        throughout(Duration::from_millis(600), "it stays up", || {
            Ok(status(&had)?["state"] == "up")
        })?;
        keepalived.kill()?;
        let down = wait_for(&had, "down by silence", is_down_by_silence)?;
        ensure!(
            down["flaps"] == 1 && down["packets_rejected"] == 0,
            "{down}"
        );

        let keepalived = Speaker::start(&other, Program::Keepalived, &config)?;
        wait_up(&had, 40_000, 200_000)?;
        had.kill()?;
        eventually(PATIENCE, "keepalived notices the silence", || {
            Ok(keepalived.log().contains("Entering Down state"))
        })
        .with_context(|| keepalived.log())
    });
}

fn bird_config(ours: Ipv4Addr, had: Ipv4Addr, auth: &str, secret: &str) -> String {
    format!(
        "router id {ours};\nprotocol device {{}}\nprotocol bfd {{\n  interface \"eth0\" {{\n    \
         min rx interval 20 ms;\n    min tx interval 20 ms;\n    idle tx interval 1 s;\n    multiplier 20;\n    \
         authentication {auth};\n    password \"{secret}\" {{ id 7; }};\n  }};\n  \
         neighbor {had} dev \"eth0\" local {ours};\n}}\n"
    )
}

fn keyed(node: &Node, auth: &str) -> Result<String> {
    let file = node.dir().join("channel.key");
    fs::write(&file, "between the two\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    Ok(format!(
        "interval = \"10ms\"\nkey_file = \"{}\"\nauth = \"{auth}\"\nkey_id = 7\n",
        file.display()
    ))
}

#[test]
fn bird_authenticates_with_both_kinds_of_sha1() {
    for (ours, theirs) in [
        ("keyed-sha1", "keyed sha1"),
        ("meticulous-keyed-sha1", "meticulous keyed sha1"),
    ] {
        scenario(|lab| {
            let (mut had, other) = (lab.node("n1")?, lab.node("n2")?);
            let config = bird_config(other.address(), had.address(), theirs, "between the two");
            let mut bird = Speaker::start(&other, Program::Bird, &config)?;
            let keyed = keyed(&had, ours)?;
            start(&mut had, other.address(), &keyed)?;
            // BIRD may stand still for a moment on a busy machine.
            let up = wait_up(&had, 20_000, 400_000)?;
            ensure!(up["authenticated"] == true, "{up}");
            eventually(PATIENCE, "BIRD is up", || {
                Ok(bird.birdc("show bfd sessions")?.contains("Up"))
            })?;
            throughout(Duration::from_secs(2), "it stays up", || {
                Ok(status(&had)?["state"] == "up")
            })?;
            ensure!(status(&had)?["packets_rejected"] == 0);
            ensure!(
                !had.log().contains("between the two"),
                "the log has the key"
            );
            bird.kill()?;
            wait_for(&had, "down by silence", is_down_by_silence)?;

            // Another key, and none at all, are not taken.
            let config = bird_config(other.address(), had.address(), theirs, "between the toe");
            let mut bird = Speaker::start(&other, Program::Bird, &config)?;
            wait_for(&had, "another key's packets are refused", |channel| {
                channel["packets_rejected"].as_u64() > Some(1)
            })?;
            ensure!(status(&had)?["state"] == "down");
            bird.kill()?;
            let config = frr_config(other.address(), had.address(), 20, 20, 3);
            let _frr = Speaker::start(&other, Program::Frr, &config)?;
            eventually(PATIENCE, "packets without a key are refused by XDP", || {
                Ok(had.hactl(&["counters"])?["bfd_auth"].as_u64() > Some(1))
            })?;
            ensure!(status(&had)?["state"] == "down");
            Ok(())
        });
    }
}

/// What leaves a node's port while a session comes up, polls and goes down, read by tshark.
#[test]
fn tshark_finds_no_fault_with_our_packets() {
    for auth in [None, Some("keyed-sha1"), Some("meticulous-keyed-sha1")] {
        scenario(|lab| {
            let (mut one, mut two) = (lab.node("n1")?, lab.node("n2")?);
            let file = one.dir().join("capture.pcap");
            let path = file.to_str().context("UTF-8")?;
            let mut tshark = one
                .ns()
                .command("tshark")
                .args([
                    "-q",
                    "-i",
                    "eth0",
                    "-w",
                    path,
                    "-F",
                    "pcap",
                    "udp port 3784",
                ])
                .stderr(std::process::Stdio::null())
                .spawn()?;
            eventually(PATIENCE, "tshark captures", || Ok(file.exists()))?;
            let rest = |node: &Node| match auth {
                Some(auth) => keyed(node, auth),
                None => Ok("interval = \"10ms\"\n".to_owned()),
            };
            let (first, second) = (rest(&one)?, rest(&two)?);
            let (peer, other) = (two.address(), one.address());
            start(&mut one, peer, &first)?;
            start(&mut two, other, &second)?;
            wait_up(&one, 10_000, 30_000)?;
            two.stop()?;
            wait_for(&one, "on purpose", |channel| {
                channel["remote_state"] == "admin-down"
            })?;
            one.stop()?;
            let read = |filter: &str| -> Result<usize> {
                let mut tshark = Command::new("tshark");
                let output = run(tshark.args(["-r", path, "-Y", filter]))?;
                Ok(String::from_utf8_lossy(&output.stdout).lines().count())
            };
            eventually(PATIENCE, "the last packet is in the file", || {
                Ok(read("bfd.sta == 0")? > 0)
            })?;
            ha_tests::daemon::signal(tshark.id(), rustix::process::Signal::INT)?;
            tshark.wait()?;
            ensure!(read("_ws.malformed or _ws.expert")? == 0, "{path}");
            for filter in [
                "bfd.sta == 3",
                "bfd.flags.p == 1",
                "bfd.flags.f == 1",
                "bfd.sta == 0",
            ] {
                ensure!(read(filter)? > 0, "nothing with {filter}");
            }
            let authenticated = read("bfd.auth.type")?;
            ensure!((authenticated > 0) == auth.is_some());
            ensure!(read("bfd and ip.ttl != 255")? == 0);
            ensure!(read("bfd and udp.srcport < 49152")? == 0);
            Ok(())
        });
    }
}

#[test]
fn two_nodes_at_3_ms_notice_a_power_failure() {
    between(|mut one, mut two| {
        let (peer, other) = (two.address(), one.address());
        start(&mut one, peer, "interval = \"3ms\"\nmultiplier = 3\n")?;
        start(&mut two, other, "interval = \"3ms\"\nmultiplier = 3\n")?;
        wait_up(&one, 3_000, 9_000)?;
        wait_up(&two, 3_000, 9_000)?;
        for _ in 0..3 {
            two.power_off()?;
            for node in [&one, &two] {
                wait_for(node, "down by silence", is_down_by_silence)?;
            }
            two.power_on()?;
            wait_up(&one, 3_000, 9_000)?;
            wait_up(&two, 3_000, 9_000)?;
        }
        // A restart is announced, and the new session has another discriminator.
        two.stop()?;
        wait_for(&one, "on purpose", |channel| {
            channel["state"] == "down" && channel["remote_state"] == "admin-down"
        })?;
        two.restart(Kind::Had)?;
        wait_up(&one, 3_000, 9_000)?;
        Ok(())
    });
}

#[test]
fn a_dead_channel_is_an_event_and_nothing_else() {
    between(|mut one, mut two| {
        for node in [&one, &two] {
            node.plug("eth1")?;
        }
        one.ns()
            .ip(&["addr", "add", "10.0.3.1/24", "dev", "eth1"])?;
        two.ns()
            .ip(&["addr", "add", "10.0.3.2/24", "dev", "eth1"])?;
        let addresses = [one.address(), two.address()];
        for (index, node) in [&mut one, &mut two].into_iter().enumerate() {
            let lines = format!(
                "channels = [\"direct\"]\n\n[[channel]]\nname = \"direct\"\nkind = \"bfd\"\ninterface = \"eth1\"\n\
                 local = \"10.0.3.{}\"\npeer = \"10.0.3.{}\"\n",
                index + 1,
                2 - index
            );
            let router = node
                .router()
                .peers(&[addresses[1 - index]])
                .had_lines(&lines);
            node.start(Kind::Had, &[router])?;
            node.wait_for("web", ["active", "backup"][index])?;
        }
        two.wait_for_active_peer("web", addresses[0])?;
        for node in [&one, &two] {
            wait_up(node, 3_000, 9_000)?;
        }
        let transitions = two.events("transition")?;
        for _ in 0..3 {
            one.set_link("eth1", false)?;
            for node in [&one, &two] {
                wait_for(node, "down", |channel| channel["state"] == "down")?;
            }
            one.set_link("eth1", true)?;
            for node in [&one, &two] {
                wait_up(node, 3_000, 9_000)?;
            }
        }
        ensure!(one.state("web")? == "active" && two.state("web")? == "backup");
        ensure!(two.events("transition")? == transitions);
        // Down, and up again, perhaps by way of init.
        ensure!(two.events("channel")?.len() >= 3 * 2);
        Ok(())
    });
}

#[test]
fn without_xdp_sockets_take_the_packets() {
    between(|mut had, other| {
        let config = frr_config(other.address(), had.address(), 20, 20, 3);
        let mut frr = Speaker::start(&other, Program::Frr, &config)?;
        let lines = channel(&had, other.address(), "interval = \"20ms\"\n");
        let router = had.router().sibling("own", 77, VIP_2).had_lines(&lines);
        let mode = "mode = \"off\"";
        let text = ha_tests::virtual_router::had_config("n1", had.dir(), mode, &[router]);
        had.write_config(Kind::Had, &text)?;
        had.restart(Kind::Had)?;
        wait_up(&had, 20_000, 60_000)?;
        frr.kill()?;
        wait_for(&had, "down by silence", is_down_by_silence).map(drop)
    });
}

/// Gives a node's eth0 an IPv6 address, at once.
fn add_v6(node: &Node, address: &str) -> Result<IpAddr> {
    for scope in ["all", "default", "eth0"] {
        let ns = node.ns();
        ns.sysctl(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "0")?;
    }
    let net = format!("{address}/64");
    node.ns()
        .ip(&["addr", "add", &net, "dev", "eth0", "nodad"])?;
    Ok(address.parse()?)
}

#[test]
fn sessions_over_ipv6() {
    // The peer is FRR, and for link-local addresses, which it takes only from zebra, another had.
    between(|mut had, other| {
        let ours = add_v6(&had, "2001:db8:77::1")?;
        let theirs = add_v6(&other, "2001:db8:77::2")?;
        let config = format!(
            "bfd\n peer {ours} local-address {theirs}\n  receive-interval 20\n  transmit-interval 20\n  \
             detect-multiplier 3\n  no shutdown\n !\n!\n"
        );
        let mut frr = Speaker::start(&other, Program::Frr, &config)?;
        start_with(
            &mut had,
            &channel_from(ours, theirs, "interval = \"10ms\"\n"),
        )?;
        wait_up(&had, 20_000, 60_000)?;
        eventually(PATIENCE, "FRR is up", || {
            Ok(frr.frr_peer()?["status"] == "up")
        })?;
        ensure!(had.hactl(&["counters"])?["bfd_taken"].as_u64() > Some(1));
        frr.kill()?;
        wait_for(&had, "down by silence", is_down_by_silence).map(drop)
    });
    between(|mut one, mut two| {
        let ours = add_v6(&one, "fe80::77:1")?;
        let theirs = add_v6(&two, "fe80::77:2")?;
        start_with(&mut one, &channel_from(ours, theirs, ""))?;
        start_with(&mut two, &channel_from(theirs, ours, ""))?;
        wait_up(&one, 3_000, 9_000)?;
        wait_up(&two, 3_000, 9_000)?;
        two.power_off()?;
        for node in [&one, &two] {
            wait_for(node, "down by silence", is_down_by_silence)?;
        }
        Ok(())
    });
}

/// keepalived as the Active router with adverts each second, FRR beside it for BFD. The path's death proves
/// more than missing adverts do; BFD's alone proves nothing.
#[test]
fn a_dead_peer_is_taken_over_from_before_three_adverts_are_missing() {
    between(|mut had, mut other| {
        let router = other.router().interval_ms(1_000).priority(200);
        other.start(Kind::Keepalived, &[router.peers(&[had.address()])])?;
        other.wait_for_vip(VIP, true)?;
        let config = frr_config(other.address(), had.address(), 20, 20, 3);
        let mut frr = Speaker::start(&other, Program::Frr, &config)?;
        let lines = channel(&had, other.address(), "interval = \"20ms\"\n");
        let router = had.router().interval_ms(1_000).peers(&[other.address()]);
        had.start(Kind::Had, &[router.had_lines(&lines)])?;
        had.wait_for(WEB, "backup")?;
        had.wait_for_active_peer(WEB, other.address())?;
        wait_up(&had, 20_000, 60_000)?;

        frr.kill()?;
        wait_for(&had, "down by silence", is_down_by_silence)?;
        throughout(Duration::from_millis(2_500), "adverts disprove it", || {
            Ok(had.state(WEB)? == "backup")
        })?;
        let _frr = Speaker::start(&other, Program::Frr, &config)?;
        wait_up(&had, 20_000, 60_000)?;

        let cut = now();
        other.power_off()?;
        had.wait_for(WEB, "active")?;
        let took = now().since(cut);
        // The next advert is overdue after at most 1.25 s; three of them and Skew_Time are 3.6 s.
        ensure!(took < Nanos::from_millis(2_500), "{took}");
        let transitions = had.events("transition")?;
        let dead = format!("every channel to {} is dead", other.address());
        ensure!(
            transitions.iter().any(|one| one.contains(&dead)),
            "{transitions:?}"
        );
        Ok(())
    });
}
