//! Reloads: what changes in place, what is handed over, and what changes nothing.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Kind, VirtualRouter, eventually,
    lab::{VIP, VIP_2},
    node::PATIENCE,
    now, scenario,
    scene::{INTERVAL_MS, Scene, WEB},
    wait::throughout,
};

const A_WHILE: Duration = Duration::from_secs(1);

#[test]
fn a_good_reload_changes_priority_and_vips_without_a_take_over() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let peer = scene.nodes[1].address();
        let mut router = scene.nodes[0]
            .router()
            .interval_ms(INTERVAL_MS)
            .peers(&[peer]);
        router = router.priority(150);
        router.vips.push(VIP_2);
        let from = now();
        scene.nodes[0].reload(&[router.clone()])?;
        let node = &scene.nodes[0];
        eventually(PATIENCE, "the new priority is in use", || {
            Ok(node.instance(WEB)?["priority"] == 150)
        })?;
        node.wait_for_vip(VIP_2, true)?;
        ensure!(node.state(WEB)? == "active" && node.has(VIP)?);
        router.vips.pop();
        scene.nodes[0].reload(&[router])?;
        scene.nodes[0].wait_for_vip(VIP_2, false)?;
        ensure!(scene.nodes[0].has(VIP)?);
        let gap = scene.prober.longest_gap(from, now())?;
        ensure!(
            gap.length() < Nanos::from_millis(500),
            "the client waited {}",
            gap.length()
        );
        scene.stays(0, A_WHILE)
    });
}

#[test]
fn a_reload_adds_and_removes_an_instance() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let peer = scene.nodes[1].address();
        let web = scene.nodes[0]
            .router()
            .interval_ms(INTERVAL_MS)
            .peers(&[peer]);
        let mail = web.clone().sibling("mail", 52, VIP_2);
        scene.nodes[0].reload(&[web.clone(), mail])?;
        scene.nodes[0].wait_for("mail", "active")?;
        scene.nodes[0].wait_for_vip(VIP_2, true)?;
        scene.nodes[0].reload(&[web])?;
        scene.nodes[0].wait_for_vip(VIP_2, false)?;
        let node = &scene.nodes[0];
        eventually(PATIENCE, "the instance is gone", || {
            Ok(node.instance("mail").is_err())
        })?;
        scene.stays(0, A_WHILE)
    });
}

#[test]
fn a_bad_reload_changes_nothing_and_says_why() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let path = scene.nodes[0].config_path(Kind::Had);
        let good = fs::read_to_string(&path)?;
        let before = scene.nodes[0].instance(WEB)?;
        for (bad, word) in [
            (good.replace("vrid = 51", "vrid = 51\nvird = 3"), "vird"),
            (good.replace("priority = 100", "priority = 300"), "priority"),
            (good.replace("\"50ms\"", "\"5ms\""), "advert_interval"),
            (good.replace("10.77.0.100/24", "192.0.2.1/24"), "vips"),
            (good.replace("[node]", "[node"), "node"),
        ] {
            ensure!(bad != good, "the text to break is not in the configuration");
            fs::write(&path, bad)?;
            let refused = scene.nodes[0].hactl(&["reload"]);
            let error = format!("{:#}", refused.err().context("a bad file was accepted")?);
            ensure!(error.contains(word), "{error}");
        }
        scene.stays(0, A_WHILE)?;
        let after = scene.nodes[0].instance(WEB)?;
        for key in ["priority", "vips", "state", "since"] {
            ensure!(before[key] == after[key], "{key} changed: {before} {after}");
        }
        Ok(())
    });
}

#[test]
fn a_reload_warns_as_a_check_does() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let path = scene.nodes[0].config_path(Kind::Had);
        let channel = "[[channel]]\nname = \"direct\"\nkind = \"bfd\"\ninterface = \"eth9\"\n\
                       local = \"10.9.9.1\"\npeer = \"10.9.9.2\"\n";
        let text = fs::read_to_string(&path)?;
        fs::write(&path, format!("{text}{channel}"))?;
        let report = scene.nodes[0].hactl(&["reload"])?;
        let warning = "[[channel]] \"direct\": there is no interface eth9 at present";
        let warned = report["warnings"][0].as_str().unwrap_or_default();
        ensure!(warned.contains(warning), "{report}");
        ensure!(scene.nodes[0].log().contains(warning));
        scene.stays(0, A_WHILE)
    });
}

#[test]
fn a_bad_sighup_changes_nothing() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let path = scene.nodes[0].config_path(Kind::Had);
        fs::write(&path, "nonsense = true\n")?;
        scene.nodes[0].daemon()?.hang_up()?;
        let node = &scene.nodes[0];
        eventually(PATIENCE, "the log names the bad key", || {
            Ok(node.log().contains("nonsense"))
        })?;
        scene.stays(0, A_WHILE)?;
        ensure!(scene.nodes[0].daemon()?.is_running()?);
        Ok(())
    });
}

/// Reloads the Backup and then the Active node, with `change` on top of what they have. Afterwards there
/// is one Active node, and the other one hears it.
fn both_agree_after(what: &str, change: impl Fn(VirtualRouter) -> VirtualRouter) {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let addresses = [scene.nodes[0].address(), scene.nodes[1].address()];
        let routers = [0, 1].map(|index| {
            let router = scene.nodes[index].router().interval_ms(INTERVAL_MS);
            change(router.peers(&[addresses[1 - index]]))
        });
        let name = routers[0].name.clone();
        for index in [1, 0] {
            scene.nodes[index].reload(&[routers[index].clone()])?;
            let node = &scene.nodes[index];
            eventually(PATIENCE, &format!("{what}: the reload is applied"), || {
                let log = node.log();
                Ok(log.contains("reloaded: ") && node.instance(&name).is_ok())
            })?;
        }
        let states = || -> Result<[String; 2]> {
            Ok([scene.nodes[0].state(&name)?, scene.nodes[1].state(&name)?])
        };
        let one_active = || -> Result<bool> {
            let mut states = states()?;
            states.sort();
            Ok(states == ["active", "backup"])
        };
        eventually(PATIENCE, &format!("{what}: one is Active"), one_active)?;
        let active = usize::from(states()?[1] == "active");
        let backup = &scene.nodes[1 - active];
        backup.wait_for_active_peer(&name, addresses[active])?;
        let heard = || {
            let count = backup.instance(&name)?["adverts_received"].as_u64();
            count.context("no count of adverts")
        };
        let before = heard()?;
        throughout(A_WHILE, &format!("{what}: one stays Active"), one_active)?;
        ensure!(heard()? > before, "{what}: the Backup hears nothing");
        for node in &scene.nodes {
            let log = node.log();
            ensure!(!log.contains("somebody else took"), "{what}: {log}");
        }
        Ok(())
    });
}

#[test]
fn another_name_keeps_the_pair_in_touch() {
    both_agree_after("name", |mut router| {
        "web2".clone_into(&mut router.name);
        router
    });
}

#[test]
fn another_version_keeps_the_pair_in_touch() {
    both_agree_after("version", |mut router| {
        router.version = 2;
        router.interval_ms(1_000)
    });
}

#[test]
fn another_vrid_keeps_the_pair_in_touch() {
    both_agree_after("vrid", |mut router| {
        router.vrid = 77;
        router
    });
}

#[test]
fn another_interval_keeps_the_pair_in_touch() {
    both_agree_after("longer", |router| router.interval_ms(INTERVAL_MS * 2));
    both_agree_after("shorter", |router| router.interval_ms(20));
}

#[test]
fn another_set_of_vips_keeps_the_pair_in_touch() {
    both_agree_after("one VIP more", |mut router| {
        router.vips.push(VIP_2);
        router
    });
    both_agree_after("another VIP", |mut router| {
        router.vips = vec![VIP_2];
        router
    });
}

#[test]
fn the_interval_of_version_2_waits_for_a_restart() {
    scenario(|lab| {
        let shape = |mut router: VirtualRouter| {
            router.version = 2;
            router.interval_ms(1_000)
        };
        let scene = Scene::new(lab, shape)?;
        let peer = scene.nodes[1].address();
        let router = shape(scene.nodes[0].router()).peers(&[peer]);
        scene.nodes[0].configure(Kind::Had, &[router.interval_ms(2_000)])?;
        let report = scene.nodes[0].hactl(&["reload"])?.to_string();
        ensure!(
            report.contains("advert_interval") && report.contains("restart"),
            "{report}"
        );
        scene.stays(0, Duration::from_secs(4))
    });
}
