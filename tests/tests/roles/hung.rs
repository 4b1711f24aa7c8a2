//! Programs that hang: adverts go on, and the other node takes over in time.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{
    Sniffer,
    checks::wait_for_check,
    eventually,
    gaps::Gaps,
    node::PATIENCE,
    now, scenario,
    scene::{INTERVAL, VRID, WEB},
    wait::throughout,
};

use crate::{
    room::{CHECK, Mark},
    stage::{Shape, Stage},
};

const A_WHILE: Duration = Duration::from_secs(3);

/// The check's two timeouts, the limit of a demotion that hangs, and the promotion of the other node; with what a busy
/// machine takes.
const IN_TIME: Nanos = Nanos::from_secs(10);

fn adverts_went_on(sniffer: &Sniffer, from: MonoNs, to: MonoNs) -> Result<()> {
    let gaps = Gaps::of(&sniffer.adverts(VRID, from, to), INTERVAL);
    println!("while programs hang: {gaps}");
    ensure!(
        gaps.count() > 0 && gaps.longest() < INTERVAL.times(3),
        "{gaps}"
    );
    Ok(())
}

#[test]
fn a_hung_role_beside_a_hung_check_delays_no_advert_and_the_other_node_takes_over() {
    scenario(|lab| {
        let shape = Shape {
            role: "promote_limit = \"10s\"\ndemote_limit = \"2s\"",
            group: "track = [{ check = \"probe\" }]",
            check: true,
            ..Shape::default()
        };
        let stage = Stage::new(lab, &shape)?;
        stage.wait_settled(0)?;
        let room = &stage.room;

        // A role that says nothing of how it is moves nothing.
        room.set(Mark::Silent, "n1", "second", "status")?;
        eventually(PATIENCE, "the role says nothing", || {
            Ok(stage.group(0)?["roles"][1]["promoted"].is_null())
        })?;
        let from = now();
        throughout(A_WHILE, "the node stays Active", || {
            Ok(stage.node(0).state(WEB)? == "active")
        })?;
        adverts_went_on(&stage.scene.sniffers[0], from, now())?;

        room.set(Mark::Before, "n1", "second", "demote")?;
        let (page, from) = (room.page()?, now());
        room.hang("n1", true)?;
        room.wait_for(page, "n1 second demote begin")?;
        stage.scene.wait_served_by(1)?;
        let took = now().since(from);
        println!("served by the other node {took} after the check began to hang");
        ensure!(took < IN_TIME, "{took}");
        wait_for_check(stage.node(0), CHECK, "down", "no answer within 500 ms")?;
        // It held the election until the second role's demotion was given up and the first role was demoted.
        let end = room.wait_for(page, "n1 first demote done")?.at;
        adverts_went_on(&stage.scene.sniffers[0], from, end)?;
        let begin = room.wait_for(page, "n2 first promote begin")?.at;
        ensure!(begin >= end, "{begin:?} is before {end:?}");

        // It can be asked, and is well again when they are.
        stage.node(0).wait_for(WEB, "fault")?;
        room.lift(Mark::Before, "n1", "second", "demote")?;
        room.lift(Mark::Silent, "n1", "second", "status")?;
        room.hang("n1", false)?;
        stage.node(0).wait_for(WEB, "backup")?;
        stage.node(0).hactl(&["explain", WEB])?;
        stage.check()
    });
}
