//! What operators and careless people do, and what is not ready at boot.

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use ha_common::Nanos;
use ha_tests::{
    Daemon, Kind, Lab, Node, Prober, Probes,
    daemon::program,
    eventually,
    lab::{VIP, VIP_V6},
    node::PATIENCE,
    now, scenario,
    scene::{INTERVAL_MS, Scene, WEB},
    wait::throughout,
};
use rustix::{
    net::{AddressFamily, sockopt::socket_domain},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

const A_WHILE: Duration = Duration::from_secs(1);

#[test]
fn a_switchover_moves_the_vip_and_moves_it_back() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let from = now();
        scene.nodes[0].hand_over(WEB)?;
        scene.wait_served_by(1)?;
        let gap = scene.prober.longest_gap(from, now())?;
        ensure!(gap.length() < Nanos::from_millis(500), "{}", gap.length());
        scene.one_after_the_other(from)?;
        scene.stays(1, A_WHILE)?;
        scene.nodes[1].hand_over(WEB)?;
        scene.stays(0, A_WHILE)
    });
}

#[test]
fn a_switchover_on_a_backup_is_refused_with_a_reason() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let refused = scene.nodes[1].hactl(&["switchover", WEB]);
        let error = format!("{:#}", refused.err().context("it is not Active")?);
        ensure!(error.contains("hactl switchover web` there"), "{error}");
        let unknown = scene.nodes[0].hactl(&["switchover", "nothing"]);
        ensure!(unknown.is_err(), "{unknown:?}");
        scene.stays(0, A_WHILE)
    });
}

#[test]
fn a_bad_configuration_is_refused_with_its_line() {
    scenario(|lab| {
        let mut node = lab.node("n1")?;
        node.configure(Kind::Had, &[node.router()])?;
        let path = node.config_path(Kind::Had);
        let good = fs::read_to_string(&path)?;
        let line = 1 + good
            .lines()
            .position(|line| line.starts_with("vrid"))
            .context("no vrid")?;
        fs::write(&path, good.replace("vrid = 51", "vrid = 512"))?;
        node.restart(Kind::Had)?;
        let status = node.daemon()?.wait(PATIENCE)?;
        ensure!(status.code() == Some(1), "it ended with {status}");
        let log = node.log();
        ensure!(
            log.contains(&format!(":{line}")) && log.contains("vrid"),
            "{log}"
        );
        Ok(())
    });
}

#[test]
fn a_switchover_that_nobody_follows_comes_back_at_once() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        scene.nodes[1].stop()?;
        let from = now();
        let refused = scene.nodes[0].hactl(&["switchover", WEB]);
        let error = format!(
            "{:#}",
            refused.err().context("there is nobody to take over")?
        );
        ensure!(error.contains("this one is Active again"), "{error}");
        scene.wait_served_by(0)?;
        let gap = scene.prober.longest_gap(from, now())?;
        // The Active_Down_Interval is below four intervals of 50 ms.
        ensure!(gap.length() < Nanos::from_millis(500), "{}", gap.length());
        Ok(())
    });
}

#[test]
fn a_switchover_succeeds_right_after_a_carrier_returned() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        scene.nodes[0].power_off()?;
        scene.nodes[1].wait_for(WEB, "active")?;
        scene.nodes[0].power_on()?;
        scene.nodes[0].wait_for(WEB, "backup")?;
        scene.nodes[0].wait_for_active_peer(WEB, scene.nodes[1].address())?;
        scene.nodes[1].hand_over(WEB)?;
        scene.stays(0, A_WHILE)
    });
}

#[test]
fn routers_that_do_not_understand_each_other_are_reported() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let mut third = lab.node("n3")?;
        let mut router = third.router().interval_ms(1_000);
        router.version = 2;
        third.start(Kind::Had, &[router])?;
        third.wait_for(WEB, "active")?;
        let limit = Duration::from_secs(60);
        for node in &scene.nodes {
            eventually(limit, &format!("{} warns", node.name()), || {
                let status = node.hactl(&["status"])?;
                let warned = status["warnings"].to_string();
                Ok(warned.contains("advert_version") && node.log().contains("advert_version"))
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_vip_that_someone_deletes_is_put_back() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let node = &scene.nodes[0];
        for times in 1..=3 {
            node.ns()
                .ip(&["addr", "del", "10.77.0.100/24", "dev", "eth0"])?;
            node.wait_for_vip(VIP, true)?;
            let notes = node.events("note")?;
            let told = notes.iter().filter(|note| note.contains("put back"));
            ensure!(told.count() == times, "{notes:?}");
        }
        scene.stays(0, A_WHILE)?;
        let explained = scene.nodes[0].hactl(&["explain", WEB])?.to_string();
        ensure!(!explained.contains("put back"), "{explained}");
        Ok(())
    });
}

/// The client goes on asking the old node's Ethernet address while announcements are lost.
fn repaired_by(lab: &Lab, announce: &str) -> Result<()> {
    let mut scene = Scene::new(lab, |router| router.had_lines(announce))?;
    // Without questions of its own: the client would believe the answers one second (`locktime`) after
    // it learned the old address.
    scene.prober = Prober::start(&scene.client, VIP, Probes::Echo)?;
    scene.wait_served_by(0)?;
    lab.lose_announcements(VIP)?;
    scene.nodes[0].power_off()?;
    scene.nodes[1].wait_for(WEB, "active")?;
    let heard = &scene.sniffers[1];
    eventually(PATIENCE, "the burst was sent, and lost", || {
        Ok(heard.announcements(ha_common::MonoNs::ZERO, now()) >= 2)
    })?;
    let believed = scene.client.neighbour(VIP)?;
    ensure!(
        believed == Some(scene.nodes[0].mac().to_string()),
        "the client knows too much: {believed:?}"
    );
    ensure!(scene.prober.answered_within(Nanos::from_millis(100)) != Some(scene.nodes[1].mac()));
    lab.heal()?;
    scene.wait_served_by(1)
}

#[test]
fn a_lost_announcement_is_repaired_by_the_second_burst() {
    scenario(|lab| {
        repaired_by(
            lab,
            "announce = { count = 2, interval = \"0ms\", repeat_after = \"3s\", refresh = \"0s\" }",
        )
    });
}

#[test]
fn a_lost_announcement_is_repaired_by_the_refresh() {
    scenario(|lab| {
        repaired_by(
            lab,
            "announce = { count = 2, interval = \"0ms\", repeat_after = \"0s\", refresh = \"3s\" }",
        )
    });
}

#[test]
fn an_interface_that_is_absent_at_boot_is_waited_for() {
    scenario(|lab| {
        let mut node = lab.node("n1")?;
        let mut router = node.router().interval_ms(INTERVAL_MS);
        "eth1".clone_into(&mut router.interface);
        router.source = [10, 78, 0, 1].into();
        router.vips = vec![[10, 78, 0, 100].into()];
        node.start(Kind::Had, &[router])?;
        says(&node, "eth1")?;
        throughout(A_WHILE, "it waits", || {
            Ok(["initialize", "fault"].contains(&node.state(WEB)?.as_str()))
        })?;
        node.plug("eth1")?;
        throughout(A_WHILE, "it waits for the address", || {
            Ok(["initialize", "fault"].contains(&node.state(WEB)?.as_str()))
        })?;
        node.ns()
            .ip(&["addr", "add", "10.78.0.1/24", "dev", "eth1"])?;
        node.wait_for(WEB, "active")?;
        ensure!(node.addresses("eth1")?.contains(&[10, 78, 0, 100].into()));
        Ok(())
    });
}

#[test]
fn an_address_that_is_absent_at_boot_is_waited_for() {
    scenario(|lab| {
        let mut node = lab.node("n1")?;
        let own = format!("{}/24", node.address());
        node.ns().ip(&["addr", "del", &own, "dev", "eth0"])?;
        let routers = [node.router().interval_ms(INTERVAL_MS)];
        node.start(Kind::Had, &routers)?;
        says(&node, "address")?;
        ensure!(!node.has(VIP)?);
        node.ns().ip(&["addr", "add", &own, "dev", "eth0"])?;
        node.wait_for(WEB, "active")?;
        node.wait_for_vip(VIP, true)
    });
}

/// Waits until `hactl explain` mentions a word.
fn says(node: &Node, word: &str) -> Result<()> {
    let mut explained = String::new();
    eventually(PATIENCE, "hactl explain says what is waited for", || {
        explained = node.hactl(&["explain", WEB])?.to_string();
        Ok(explained.contains(word))
    })
    .with_context(|| format!("it says {explained}"))
}

#[test]
fn a_second_daemon_with_the_same_directory_is_refused() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let node = &scene.nodes[0];
        let log = node.dir().join("second");
        let config = node.config_path(Kind::Had);
        let mut second = Daemon::start(Kind::Had, node.ns(), node.dir(), &config, &log)?;
        let status = second.wait(PATIENCE)?;
        ensure!(status.code() == Some(1), "it ended with {status}");
        scene.stays(0, A_WHILE)
    });
}

#[test]
fn a_vip_that_the_node_has_already_is_refused_and_left_alone() {
    scenario(|lab| {
        let mut node = lab.node("n1")?;
        node.ns()
            .ip(&["addr", "add", "10.77.0.100/24", "dev", "eth0"])?;
        node.configure(Kind::Had, &[node.router()])?;
        node.restart(Kind::Had)?;
        let status = node.daemon()?.wait(PATIENCE)?;
        ensure!(status.code() == Some(1), "it ended with {status}");
        let log = node.log();
        ensure!(log.contains("has the address 10.77.0.100 already"), "{log}");
        ensure!(node.has(VIP)?, "the address was taken off");
        Ok(())
    });
}

#[test]
fn a_second_daemon_leaves_the_first_ones_vip_alone() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let node = &scene.nodes[0];
        let text = fs::read_to_string(node.config_path(Kind::Had))?;
        let file = node.dir().join("second.toml");
        let run = node.dir().join("run").display().to_string();
        fs::write(&file, text.replace(&run, &format!("{run}2")))?;
        let mut second = Daemon::start(
            Kind::Had,
            node.ns(),
            node.dir(),
            &file,
            &node.dir().join("second.log"),
        )?;
        let status = second.wait(PATIENCE)?;
        ensure!(status.code() == Some(1), "it ended with {status}");
        ensure!(!node.log().contains("somebody else took"), "{}", node.log());
        scene.stays(0, A_WHILE)
    });
}

#[test]
fn without_a_dataplane_nothing_of_a_killed_run_is_left_attached() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        scene.nodes[0].kill()?;
        scene.nodes[1].wait_for(WEB, "active")?;
        let path = scene.nodes[0].config_path(Kind::Had);
        let text = fs::read_to_string(&path)?;
        let off = text.replace("mode = \"native\"", "mode = \"off\"");
        ensure!(off != text, "the lab does not choose a mode");
        fs::write(&path, off)?;
        scene.nodes[0].restart(Kind::Had)?;
        let peer = scene.nodes[1].address();
        scene.nodes[0].wait_for_active_peer(WEB, peer)?;
        let links = scene.nodes[0].ns().ip(&["link", "show", "eth0"])?;
        ensure!(!links.contains("xdp"), "{links}");
        scene.stays(1, A_WHILE)?;
        // And it serves when it is its turn.
        scene.nodes[1].power_off()?;
        scene.wait_served_by(0)
    });
}

#[test]
fn a_renamed_interface_does_not_keep_the_vip() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let node = &scene.nodes[0];
        node.ns().ip(&["link", "set", "eth0", "name", "eth9"])?;
        scene.nodes[1].wait_for(WEB, "active")?;
        eventually(PATIENCE, "the VIP is taken off", || {
            Ok(!node.addresses("eth9")?.contains(&VIP.into()))
        })?;
        eventually(PATIENCE, "the programs are taken off", || {
            let links = node.ns().ip(&["link", "show", "eth9"])?;
            Ok(!links.contains("prog/xdp"))
        })?;
        node.ns().ip(&["link", "set", "eth9", "name", "eth0"])?;
        node.wait_for(WEB, "backup")?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn the_unit_file_allows_every_family_of_sockets_that_the_daemon_has() {
    scenario(|lab| {
        let mut node = lab.node("n1")?;
        node.enable_v6()?;
        let router = node.router().interval_ms(INTERVAL_MS);
        let router = router
            .peers(&[Ipv4Addr::new(10, 77, 0, 99)])
            .vips_v6(&[VIP_V6])
            .had_lines("heartbeat = { interval = \"20ms\", multiplier = 10 }\n");
        node.start(Kind::Had, &[router])?;
        node.wait_for(WEB, "active")?;
        let allowed = unit("RestrictAddressFamilies")?;
        let pid = node.daemon()?.pid();
        let families = socket_families(pid)?;
        ensure!(families.len() >= 4, "{families:?}");
        for family in families {
            let name = match family {
                AddressFamily::UNIX => "AF_UNIX",
                AddressFamily::INET => "AF_INET",
                AddressFamily::INET6 => "AF_INET6",
                AddressFamily::NETLINK => "AF_NETLINK",
                AddressFamily::PACKET => "AF_PACKET",
                other => bail!("the daemon has a socket of {other:?}"),
            };
            let allows = allowed.split_whitespace().any(|one| one == name);
            ensure!(allows, "{name} is not among {allowed}");
        }
        Ok(())
    });
}

/// A setting of the packaged unit.
fn unit(key: &str) -> Result<String> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/had.service");
    let text = fs::read_to_string(unit)?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Ok(value
        .with_context(|| format!("the unit has no {key}"))?
        .to_owned())
}

#[test]
fn without_its_capabilities_it_names_them_and_makes_nothing() {
    scenario(|lab| {
        let node = lab.node("n1")?;
        node.configure(Kind::Had, &[node.router()])?;
        let config = node.config_path(Kind::Had);
        fs::remove_dir(node.dir().join("run"))?;
        for (capabilities, lacks) in [
            ("-all", "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_PERFMON"),
            ("-net_raw", "it lacks CAP_NET_RAW."),
        ] {
            let log = node.dir().join(format!("had{capabilities}.log"));
            let mut had = Daemon::start_confined(capabilities, node.ns(), &config, &log)?;
            let status = had.wait(PATIENCE)?;
            let said = fs::read_to_string(&log)?;
            ensure!(status.code() == Some(1), "it ended with {status}: {said}");
            ensure!(said.contains(lacks) && said.contains("root"), "{said}");
        }
        ensure!(!node.dir().join("run").exists(), "a directory was made");
        // To look at a file takes none.
        let had = program("had")?.display().to_string();
        let config = config.display().to_string();
        let check = ["--bounding-set=-all", &had, "--config", &config, "--check"];
        let said = node.ns().run("setpriv", &check)?;
        ensure!(said.contains("valid"), "{said}");
        Ok(())
    });
}

#[test]
fn the_unit_file_leaves_every_capability_that_the_gate_takes() {
    scenario(|lab| {
        let node = lab.node("n1")?;
        node.configure(Kind::Had, &[node.router().interval_ms(INTERVAL_MS)])?;
        let kept: Vec<String> = unit("CapabilityBoundingSet")?
            .split_whitespace()
            .filter_map(|name| Some(format!("+{}", name.strip_prefix("CAP_")?.to_lowercase())))
            .collect();
        let capabilities = format!("-all,{}", kept.join(","));
        let config = node.config_path(Kind::Had);
        let log = node.dir().join("confined.log");
        let _had = Daemon::start_confined(&capabilities, node.ns(), &config, &log)?;
        node.wait_for(WEB, "active")
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        let open = node.instance(WEB)?["gate_open"] == true;
        ensure!(open, "{}", fs::read_to_string(&log)?);
        Ok(())
    });
}

#[test]
fn who_wants_the_vip_of_a_keepalived_is_told_how() {
    scenario(|lab| {
        let mut nodes = [lab.node("n1")?, lab.node("n2")?];
        let router = |node: &Node| node.router().interval_ms(INTERVAL_MS);
        let (first, second) = (router(&nodes[0]), router(&nodes[1]));
        nodes[1].start(Kind::Keepalived, &[second])?;
        nodes[1].wait_for_vip(VIP, true)?;
        nodes[0].start(Kind::Had, &[first])?;
        let peer = nodes[1].address();
        nodes[0].wait_for_active_peer(WEB, peer)?;
        let refused = nodes[0].hactl(&["switchover", WEB]);
        let error = format!("{:#}", refused.err().context("it is not Active")?);
        ensure!(error.contains(&peer.to_string()), "{error}");
        ensure!(error.contains("systemctl stop keepalived"), "{error}");
        ensure!(!error.contains("hactl switchover web` there"), "{error}");
        // And that is what moves it.
        nodes[1].stop()?;
        nodes[0].wait_for(WEB, "active")
    });
}

/// The families of a process' sockets, each once.
fn socket_families(pid: u32) -> Result<Vec<AddressFamily>> {
    let handle = pidfd_open(
        Pid::from_raw(pid.try_into()?).context("no PID")?,
        PidfdFlags::empty(),
    )?;
    let mut families = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let is_socket =
            fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        if !is_socket {
            continue;
        }
        let number = entry.file_name().to_string_lossy().parse()?;
        let socket = pidfd_getfd(&handle, number, PidfdGetfdFlags::empty())?;
        let family = socket_domain(socket)?;
        if !families.contains(&family) {
            families.push(family);
        }
    }
    Ok(families)
}
