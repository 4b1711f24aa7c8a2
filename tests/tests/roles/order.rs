//! The order of things: promoted one after the other before the gate opens, and back.

use anyhow::ensure;
use ha_tests::{eventually, lab::VIP, node::PATIENCE, now, scenario, scene::WEB};

use crate::{
    room::{Mark, TICK},
    stage::{GROUP, Shape, Stage},
};

/// What the diary has of one node's roles, in order, each begun and done.
pub(crate) fn story(node: &str, step: &str, roles: [&str; 2]) -> Vec<String> {
    let lines = roles
        .iter()
        .flat_map(|role| ["begin", "done"].map(|word| format!("{node} {role} {step} {word}")));
    lines.collect()
}

pub(crate) const UP: [&str; 2] = ["first", "second"];
pub(crate) const DOWN: [&str; 2] = ["second", "first"];

#[test]
fn roles_are_promoted_in_order_before_the_gate_opens_and_demoted_in_reverse_after_it_has_closed() {
    scenario(|lab| {
        let stage = Stage::new(lab, &Shape::default())?;
        stage.wait_settled(0)?;
        // A daemon that knows nothing of how its roles are demotes them first.
        let start = [
            story("n1", "demote", DOWN),
            story("n1", "promote", UP),
            story("n2", "demote", DOWN),
        ];
        ensure!(
            stage.room.since(0)? == start.concat(),
            "{:?}",
            stage.room.since(0)?
        );

        let (page, from) = (stage.room.page()?, now());
        stage.node(0).hactl(&["switchover", GROUP])?;
        stage.wait_settled(1)?;
        let handed_over = [story("n1", "demote", DOWN), story("n2", "promote", UP)];
        ensure!(
            stage.room.since(page)? == handed_over.concat(),
            "{:?}",
            stage.room.since(page)?
        );
        let [old, new] = stage.answers(from);
        let diary = stage.room.diary()?;
        let (begin, end) = (&diary[page], &diary[diary.len() - 1]);
        ensure!(old.last().is_some_and(|last| *last < begin.at.after(TICK)));
        ensure!(new.first().is_some_and(|first| *first >= end.at));
        // Each take-over has an epoch of its own, which its roles are told.
        let epochs: Vec<u64> = diary[page..].iter().map(|entry| entry.epoch).collect();
        let (demoted, promoted) = epochs.split_at(epochs.len() / 2);
        ensure!(demoted.iter().all(|epoch| *epoch == demoted[0]));
        ensure!(
            promoted
                .iter()
                .all(|epoch| *epoch > demoted[0] && *epoch == promoted[0])
        );
        stage.check()
    });
}

#[test]
fn nothing_is_served_while_the_last_role_is_on_its_way() {
    scenario(|lab| {
        let mut stage = Stage::new(lab, &Shape::default())?;
        stage.wait_settled(0)?;
        stage.room.set(Mark::Before, "n2", "second", "promote")?;
        let page = stage.room.page()?;
        stage.scene.nodes[0].kill()?;
        stage.room.wait_for(page, "n2 second promote begin")?;
        let from = now();
        let node = stage.node(1);
        ensure!(node.state(WEB)? == "promoting" && !node.has(VIP)?);
        ensure!(stage.room.promoted("n2") == ["first"]);
        let explained = node.hactl(&["explain", WEB])?.to_string();
        ensure!(explained.contains("second: promote"), "{explained}");
        stage.scene.wait_unserved()?;
        // Its adverts go on meanwhile, so that nobody else takes over.
        let heard = || stage.scene.sniffers[1].adverts(ha_tests::scene::VRID, from, now());
        eventually(PATIENCE, "it advertises", || Ok(heard().len() > 5))?;
        ensure!(node.state(WEB)? == "promoting" && !node.has(VIP)?);
        ensure!(stage.answers(from)[1].is_empty(), "it answered for the VIP");

        stage.room.lift(Mark::Before, "n2", "second", "promote")?;
        stage.scene.nodes[0].restart(ha_tests::Kind::Had)?;
        stage.wait_settled(1)?;
        stage.check()
    });
}

#[test]
fn the_other_node_waits_until_the_last_role_is_demoted() {
    scenario(|lab| {
        let stage = Stage::new(lab, &Shape::default())?;
        stage.wait_settled(0)?;
        stage.room.set(Mark::After, "n1", "first", "demote")?;
        let page = stage.room.page()?;
        std::thread::scope(|scope| {
            let moves = scope.spawn(|| stage.node(0).hactl(&["switchover", GROUP]));
            stage.room.wait_for(page, "n1 first demote changed")?;
            let from = now();
            let node = stage.node(0);
            ensure!(node.state(WEB)? == "demoting" && !node.has(VIP)?);
            let explained = node.hactl(&["explain", WEB])?.to_string();
            ensure!(explained.contains("first: demote"), "{explained}");
            let heard = || stage.scene.sniffers[0].adverts(ha_tests::scene::VRID, from, now());
            eventually(PATIENCE, "it advertises", || Ok(heard().len() > 20))?;
            ensure!(stage.node(1).state(WEB)? == "backup");
            ensure!(stage.room.promoted("n2").is_empty());
            stage.room.lift(Mark::After, "n1", "first", "demote")?;
            match moves.join() {
                Ok(moved) => moved.map(drop),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })?;
        stage.wait_settled(1)?;
        stage.check()
    });
}
