//! Faults of the Active node: what a client sees, and what still leaves the node.

use std::time::Duration;

use anyhow::ensure;
use ha_common::Nanos;
use ha_tests::{
    Kind, eventually,
    lab::VIP,
    node::PATIENCE,
    now,
    prober::DirectProber,
    scenario,
    scene::{INTERVAL, Scene, VRID, WEB},
    stray::Stray,
    wait::throughout,
};

/// Far beyond any Active_Down_Interval here, and far below what a client gives up after.
const SOON: Nanos = Nanos::from_secs(3);

/// How long an unchanged state is watched.
const A_WHILE: Duration = Duration::from_secs(1);

#[test]
fn power_off_moves_the_vip_and_the_first_node_returns_as_backup() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let from = now();
        scene.nodes[0].power_off()?;
        scene.wait_served_by(1)?;
        let gap = scene.prober.longest_gap(from, now())?;
        // Not before two adverts are missing for certain.
        ensure!(gap.length() > INTERVAL.times(2), "{}", gap.length());
        ensure!(gap.length() < SOON, "{}", gap.length());
        scene.nodes[0].wait_for(WEB, "fault")?;
        scene.nodes[0].power_on()?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn carrier_loss_on_the_node_moves_the_vip_and_it_returns_as_backup() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let from = now();
        scene.nodes[0].set_link("eth0", false)?;
        scene.wait_served_by(1)?;
        ensure!(scene.prober.longest_gap(from, now())?.length() < SOON);
        scene.nodes[0].wait_for(WEB, "fault")?;
        scene.nodes[0].wait_for_vip(VIP, false)?;
        scene.nodes[0].set_link("eth0", true)?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn a_backup_that_was_away_is_reached_at_once_when_it_returns() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        let [active, backup] = &scene.nodes;
        backup.set_link("eth0", false)?;
        backup.wait_for(WEB, "fault")?;
        // The kernel of the Active node has just begun to ask for the MAC address of a node that is away, and
        // asks again after a second: far more than the Active_Down_Interval.
        active.ns().ip(&["neighbour", "flush", "dev", "eth0"])?;
        eventually(PATIENCE, "an advert waits for the Backup's address", || {
            let table = active
                .ns()
                .ip(&["neighbour", "show", "nud", "incomplete"])?;
            Ok(table.contains(&backup.address().to_string()))
        })?;
        backup.set_link("eth0", true)?;
        scene.stays(0, A_WHILE)
    });
}

#[test]
fn sigterm_hands_over_and_leaves_nothing_behind() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let from = now();
        scene.nodes[0].stop()?;
        ensure!(!scene.nodes[0].has(VIP)?, "the VIP is still there");
        let released = scene.sniffers[0].last_advert(VRID);
        ensure!(
            released.is_some_and(|(at, priority)| at > from && priority == 0),
            "{released:?}"
        );
        scene.wait_served_by(1)?;
        // The peer acts on priority 0 and waits for no silence.
        let gap = scene.prober.longest_gap(from, now())?;
        ensure!(gap.length() < INTERVAL.times(3), "{}", gap.length());
        scene.one_after_the_other(from)?;
        let link = scene.nodes[0].ns().ip(&["-d", "link", "show", "eth0"])?;
        ensure!(!link.contains("xdp"), "XDP is still attached: {link}");
        scene.nodes[0].restart(Kind::Had)?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn sigkill_closes_the_gate_and_a_restart_removes_the_left_over_vip() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let stray = Stray::start(&scene.nodes[0], VIP, scene.client.address())?;
        let direct = DirectProber::start(&scene.client, VIP, scene.nodes[0].mac())?;
        let heard = &scene.sniffers[0];
        let from = now();
        eventually(PATIENCE, "the stray process is heard", || {
            Ok(heard.spoken(from, now()).len() > 100)
        })?;
        scene.nodes[0].kill()?;
        scene.wait_served_by(1)?;
        ensure!(
            scene.nodes[0].has(VIP)?,
            "SIGKILL is not supposed to remove the VIP"
        );
        let offered = stray.accepted();
        throughout(A_WHILE, "the client is served", || {
            Ok(scene.prober.answered_within(SOON) == Some(scene.nodes[1].mac()))
        })?;
        ensure!(stray.accepted() > offered, "the stray process gave up");
        let deadline = scene.gate_deadline(0, now())?;
        let spoken = scene.sniffers[0].spoken(deadline, now());
        ensure!(
            spoken.is_empty(),
            "{} frames, the first {:?}",
            spoken.len(),
            spoken.first()
        );
        scene.nodes[0].restart(Kind::Had)?;
        scene.nodes[0].wait_for_vip(VIP, false)?;
        drop((stray, direct));
        scene.stays(1, A_WHILE)?;
        let spoken = scene.sniffers[0].spoken(deadline, now());
        ensure!(spoken.is_empty(), "after the restart: {:?}", spoken.first());
        ensure!(scene.sniffers[0].lost() == 0);
        Ok(())
    });
}

#[test]
fn after_sigkill_and_a_restart_the_kernel_reports_as_before() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let other = scene.nodes[1].address();
        scene.nodes[0].kill()?;
        scene.wait_served_by(1)?;
        scene.nodes[0].restart(Kind::Had)?;
        scene.nodes[0].wait_for_active_peer(WEB, other)?;
        scene.nodes[1].power_off()?;
        scene.nodes[0].wait_for(WEB, "active")?;
        let silences = scene.nodes[0].events("silence")?;
        ensure!(!silences.is_empty(), "the kernel reported no silence");
        Ok(())
    });
}

#[test]
fn a_stopped_daemon_is_silent_and_returns_as_backup() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let stray = Stray::start(&scene.nodes[0], VIP, scene.client.address())?;
        let direct = DirectProber::start(&scene.client, VIP, scene.nodes[0].mac())?;
        let heard = &scene.sniffers[0];
        let from = now();
        eventually(PATIENCE, "the stray process is heard", || {
            Ok(heard.spoken(from, now()).len() > 100)
        })?;
        scene.nodes[0].daemon()?.freeze()?;
        scene.wait_served_by(1)?;
        throughout(A_WHILE, "the client is served", || {
            Ok(scene.prober.answered_within(SOON) == Some(scene.nodes[1].mac()))
        })?;
        let deadline = scene.gate_deadline(0, now())?;
        scene.nodes[0].daemon()?.thaw()?;
        scene.nodes[0].wait_for(WEB, "backup")?;
        scene.nodes[0].wait_for_vip(VIP, false)?;
        drop((stray, direct));
        scene.stays(1, A_WHILE)?;
        let spoken = scene.sniffers[0].spoken(deadline, now());
        ensure!(
            spoken.is_empty(),
            "{} frames, the first {:?}",
            spoken.len(),
            spoken.first()
        );
        ensure!(scene.sniffers[0].lost() == 0);
        Ok(())
    });
}

#[test]
fn a_backup_that_is_stopped_and_goes_on_stays_backup() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let from = now();
        scene.nodes[1].daemon()?.freeze()?;
        throughout(A_WHILE, "the client is served", || {
            Ok(scene.prober.answered_within(SOON) == Some(scene.nodes[0].mac()))
        })?;
        scene.nodes[1].daemon()?.thaw()?;
        scene.stays(0, A_WHILE)?;
        ensure!(scene.sniffers[1].spoken(from, now()).is_empty());
        ensure!(
            scene.sniffers[1].adverts(VRID, from, now()).is_empty(),
            "it advertised"
        );
        Ok(())
    });
}

#[test]
fn a_cut_makes_both_active_and_its_end_leaves_one() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router)?;
        lab.cut(&scene.nodes[0], &scene.nodes[1])?;
        scene.nodes[1].wait_for(WEB, "active")?;
        lab.heal()?;
        // Equal priority: the higher address stays (RFC 9568 section 6.4.3).
        scene.nodes[0].wait_for(WEB, "backup")?;
        scene.stays(1, A_WHILE)
    });
}

#[test]
fn lost_adverts_below_three_cause_no_take_over() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| router.interval_ms(200))?;
        let from = now();
        for _ in 0..3 {
            let (seen, _) = scene.sniffers[0].last_advert(VRID).unwrap_or_default();
            let advert_after = |at| {
                let what = "the Active node advertises";
                eventually(PATIENCE, what, || {
                    Ok(scene.sniffers[0]
                        .last_advert(VRID)
                        .is_some_and(|(last, _)| last > at))
                })
            };
            advert_after(seen)?;
            // Two of four: from just after one advert until two more are gone.
            lab.cut_one_way(&scene.nodes[0], &scene.nodes[1])?;
            let (cut_at, _) = scene.sniffers[0].last_advert(VRID).unwrap_or_default();
            advert_after(cut_at)?;
            lab.heal()?;
            let (healed_at, _) = scene.sniffers[0].last_advert(VRID).unwrap_or_default();
            advert_after(healed_at)?;
        }
        scene.stays(0, A_WHILE)?;
        ensure!(scene.sniffers[1].spoken(from, now()).is_empty());
        Ok(())
    });
}
