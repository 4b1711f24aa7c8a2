//! Promotions that fail or hang: what was done is taken back, the other node is asked, and this one waits.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_common::{MonoNs, Nanos};
use ha_tests::{eventually, now, scenario, scene::WEB};

use crate::{
    order::{DOWN, UP, story},
    room::Mark,
    stage::{GROUP, Shape, Stage},
};

/// Four attempts, with waits of 1, 2 and 4 s in between.
const ATTEMPTS: usize = 4;
const THEY_TAKE: Duration = Duration::from_secs(40);

/// Tells what was demoted of a promotion that did not come to its end, and that the other node has it again.
fn taken_back(stage: &Stage, page: usize, last: &[String]) -> Result<()> {
    stage.wait_settled(0)?;
    let mut expected = story("n1", "demote", DOWN);
    expected.extend(["n2 first promote begin", "n2 first promote done"].map(str::to_owned));
    expected.extend_from_slice(last);
    expected.extend(story("n2", "demote", DOWN));
    expected.extend(story("n1", "promote", UP));
    let found = stage.room.since(page)?;
    ensure!(found == expected, "{found:#?}");
    Ok(())
}

#[test]
fn a_promotion_that_fails_is_taken_back_and_the_other_node_is_asked() {
    scenario(|lab| {
        let stage = Stage::new(lab, &Shape::default())?;
        stage.wait_settled(0)?;
        stage.room.set(Mark::Fail, "n2", "second", "promote")?;
        let page = stage.room.page()?;
        let moved = stage.node(0).hactl(&["switchover", GROUP]);
        let said = format!("{:#}", moved.err().context("it was handed over to nobody")?);
        ensure!(said.contains("no other node took app over"), "{said}");
        let last = ["begin", "failed"].map(|word| format!("n2 second promote {word}"));
        taken_back(&stage, page, &last)?;
        let events = stage.node(1).events("roles")?;
        let why = "second: promote: exit code 1: it was told to fail";
        ensure!(events.iter().any(|event| event.contains(why)), "{events:?}");
        let explained = stage.node(1).hactl(&["explain", WEB])?.to_string();
        ensure!(explained.contains("it was told to fail"), "{explained}");
        stage.check()
    });
}

#[test]
fn a_promotion_that_hangs_ends_at_its_limit() {
    scenario(|lab| {
        let shape = Shape {
            role: "promote_limit = \"1s\"\ndemote_limit = \"10s\"",
            ..Shape::default()
        };
        let stage = Stage::new(lab, &shape)?;
        stage.wait_settled(0)?;
        stage.room.set(Mark::Before, "n2", "second", "promote")?;
        let page = stage.room.page()?;
        stage
            .node(0)
            .hactl(&["switchover", GROUP])
            .err()
            .context("it was handed over to nobody")?;
        taken_back(&stage, page, &["n2 second promote begin".to_owned()])?;
        let diary = stage.room.diary()?;
        let at = |line: &str| -> Result<MonoNs> {
            let mut later = diary[page..].iter();
            let entry = later.find(|entry| entry.to_string() == line);
            Ok(entry.with_context(|| line.to_owned())?.at)
        };
        let hung = at("n2 second demote begin")?.since(at("n2 second promote begin")?);
        ensure!(
            hung > Nanos::from_millis(900) && hung < Nanos::from_secs(3),
            "given up after {hung}"
        );
        let events = stage.node(1).events("roles")?;
        let why = "it had not ended after 1.000 s";
        ensure!(events.iter().any(|event| event.contains(why)), "{events:?}");
        // Nothing of it went on.
        stage.room.lift(Mark::Before, "n2", "second", "promote")?;
        // It is not elected for a second after a failure.
        eventually(THEY_TAKE, "it is handed over", || {
            stage.wait_settled(0)?;
            stage.node(0).hactl(&["switchover", GROUP]).map(|_| true)
        })?;
        stage.wait_settled(1)?;
        let changed = stage.room.diary()?;
        let mut changed = changed[page..]
            .iter()
            .filter(|entry| entry.to_string() == "n2 second promote changed");
        ensure!(changed.next().is_some() && changed.next().is_none());
        stage.check()
    });
}

#[test]
fn a_node_whose_promotion_keeps_failing_waits_longer_and_longer() {
    scenario(|lab| {
        let mut stage = Stage::new(lab, &Shape::default())?;
        stage.wait_settled(0)?;
        stage.room.set(Mark::Fail, "n2", "second", "promote")?;
        let page = stage.room.page()?;
        stage.scene.nodes[0].kill()?;
        let begun = || -> Result<Vec<MonoNs>> {
            let diary = stage.room.diary()?;
            let later = diary.iter().skip(page);
            let begins = later.filter(|entry| entry.to_string() == "n2 first promote begin");
            Ok(begins.map(|entry| entry.at).collect())
        };
        eventually(THEY_TAKE, "it tries", || Ok(begun()?.len() >= ATTEMPTS))?;
        let begun = begun()?;
        let waits: Vec<Nanos> = begun
            .windows(2)
            .map(|pair| pair[1].since(pair[0]))
            .collect();
        println!("from one attempt to the next: {waits:?}");
        ensure!(waits[0] >= Nanos::from_secs(1), "{waits:?}");
        ensure!(
            waits[1] > waits[0] && waits[2] > waits[1].plus(Nanos::from_secs(1)),
            "{waits:?}"
        );
        // What is whole again is promoted, by itself.
        stage.room.lift(Mark::Fail, "n2", "second", "promote")?;
        let lifted = now();
        eventually(THEY_TAKE, "it is Active", || {
            Ok(stage.node(1).state(WEB)? == "active")
        })?;
        println!("Active {} after it could be promoted", now().since(lifted));
        ensure!(stage.room.promoted("n2") == UP);
        stage.check()
    });
}
