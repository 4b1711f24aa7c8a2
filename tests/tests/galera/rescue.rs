//! A cluster of which no node commits any more is begun anew by a person.

use anyhow::{Context as _, Result, ensure};
use ha_tests::{eventually, now, scenario};

use crate::stage::{LIMIT, Stage};

/// What is refused, and why.
fn refused(stage: &Stage, index: usize, options: &[&str]) -> Result<String> {
    let arguments = [&["db", "bootstrap", "db"], options].concat();
    match stage.nodes[index].hactl(&arguments) {
        Ok(report) => anyhow::bail!("it was not refused: {report}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

#[test]
fn the_node_with_the_newest_data_begins_its_cluster_anew() {
    scenario(|lab| {
        let mut stage = Stage::start(lab, &["n1", "n2"], "alone")?;
        let newer = stage.settle()?;
        let older = 1 - newer;
        stage.server(older).strike()?;
        stage.server(older).wait_for_end(LIMIT)?;
        let at = now();
        stage.served(at, Some(newer))?;
        // While one serves, nothing is begun on the other one.
        let why = refused(&stage, older, &["--accept-loss"])?;
        ensure!(why.contains("runs"), "{why}");
        let from = now();
        stage.server(newer).strike()?;
        stage.server(newer).wait_for_end(LIMIT)?;
        let died = (from, now());
        let mut why = String::new();
        eventually(LIMIT, "what the other one has is not known", || {
            why = refused(&stage, older, &[])?;
            Ok(why.contains("is not known"))
        })
        .with_context(|| why.clone())?;
        // It finds out what it has, and tells that; and it knows already what the other one has.
        let name = stage.nodes[newer].name().to_owned();
        eventually(LIMIT, "nothing stands against the newer one", || {
            Ok(stage.nodes[newer]
                .hactl(&["db", "bootstrap", "db", "--dry-run"])
                .is_ok())
        })?;
        eventually(LIMIT, "the other one is ahead", || {
            why = refused(&stage, older, &[])?;
            Ok(why.contains(&format!("{name} is ahead by")))
        })
        .with_context(|| why.clone())?;
        println!("{why}");
        let at = now();
        let report = stage.nodes[newer].hactl(&["db", "bootstrap", "db"])?;
        println!("{report}");
        ensure!(report["obstacles"].as_array().is_some_and(Vec::is_empty));
        stage.served(at, Some(newer))?;
        stage.revive(older)?;
        // All that was acknowledged is there, on both.
        stage.verify_where_all_died(died).map(drop)
    });
}
