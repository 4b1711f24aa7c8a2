//! Steady traffic wakes nobody on the receiving side.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ha_common::Nanos;
use ha_tests::{
    Node, eventually,
    node::PATIENCE,
    now, scenario,
    scene::{Scene, VRID, WEB},
};
use serde_json::Value;

/// 10 ms adverts, and a lease that outlasts a stall of a busy machine.
const INTERVAL_MS: u32 = 10;
const HEARTBEAT: &str = "heartbeat = { interval = \"3ms\", multiplier = 30 }";

/// Adverts in the time that is looked at: five seconds of them.
const ADVERTS: usize = 500;

/// Of the engine thread, beyond those that send a packet of its own.
const WAKE_UPS_PER_SEC: u64 = 2;

/// How often a node's engine thread went to sleep, and so was woken.
fn wake_ups(status: &Value) -> Result<u64> {
    let (process, thread) = (&status["pid"], &status["engine"]["thread"]);
    let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/status"))?;
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .context("no voluntary_ctxt_switches")?;
    Ok(count.trim().parse()?)
}

/// Packets that a node sent or answered on its path, by a key of `hactl status`.
fn on_path(node: &Node, key: &str) -> Result<u64> {
    node.path("eth0")?[key].as_u64().context("a number")
}

#[test]
fn a_backup_is_woken_to_send_and_hardly_else() {
    scenario(|lab| {
        let scene = Scene::new(lab, |router| {
            router.interval_ms(INTERVAL_MS).had_lines(HEARTBEAT)
        })?;
        let backup = &scene.nodes[1];
        backup.wait_for_path("eth0", true)?;
        let status = backup.hactl(&["status"])?;
        let (sent, answered) = (
            on_path(backup, "echoes_sent")?,
            on_path(backup, "echoes_answered")?,
        );
        let (woken, from) = (wake_ups(&status)?, now());
        eventually(PATIENCE, "the Active node advertises", || {
            Ok(scene.sniffers[0].adverts(VRID, from, now()).len() >= ADVERTS)
        })?;
        let (woken, span) = (wake_ups(&status)? - woken, now().since(from));
        let sent = on_path(backup, "echoes_sent")? - sent;
        let answered = on_path(backup, "echoes_answered")? - answered;
        ensure!(backup.state(WEB)? == "backup");
        ensure!(
            answered > u64::try_from(ADVERTS)?,
            "{answered} echoes were answered"
        );
        let secs = span.0.div_ceil(Nanos::from_secs(1).0);
        ensure!(
            woken <= sent + secs * WAKE_UPS_PER_SEC,
            "{woken} wake-ups in {span}, {sent} packets of its own"
        );
        println!(
            "{woken} wake-ups in {span}, {sent} packets of its own, {answered} answers by its kernel"
        );
        Ok(())
    });
}
