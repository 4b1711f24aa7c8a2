//! A reload that takes a group's roles away.

use anyhow::{Context as _, Result, ensure};
use ha_tests::{Kind, Node, eventually, node::PATIENCE, scenario, scene::WEB};

use crate::{
    order::{DOWN, UP, story},
    stage::{GROUP, Shape, Stage},
};

/// The node's configuration without the sections of roles, and without what names them.
fn without_roles(node: &Node) -> Result<String> {
    let text = std::fs::read_to_string(node.config_path(Kind::Had))?;
    let (rest, _) = text.split_once("\n[[role]]").context("it has roles")?;
    Ok(rest.replace("roles = [\"first\", \"second\"]\n", ""))
}

/// The same with another name of something.
fn renamed(node: &Node, name: &str) -> Result<String> {
    let text = std::fs::read_to_string(node.config_path(Kind::Had))?;
    Ok(text.replace(&format!("\"{name}\""), &format!("\"{name}-2\"")))
}

#[test]
fn roles_that_are_promoted_are_not_reloaded_away() {
    scenario(|lab| {
        let stage = Stage::new(lab, &Shape::default())?;
        stage.wait_settled(0)?;
        let page = stage.room.page()?;
        let node = stage.node(0);
        let whole = std::fs::read_to_string(node.config_path(Kind::Had))?;
        for text in [
            without_roles(node)?,
            renamed(node, GROUP)?,
            renamed(node, WEB)?,
        ] {
            node.write_config(Kind::Had, &text)?;
            let refused = node.hactl(&["reload"]).err().context("it was reloaded")?;
            let said = format!("{refused:#}");
            ensure!(said.contains("hand it over first"), "{said}");
            stage.wait_settled(0)?;
        }
        ensure!(stage.room.page()? == page, "{:?}", stage.room.since(page));
        node.write_config(Kind::Had, &whole)?;
        node.hactl(&["reload"])?;

        // Handed over, they go.
        node.hactl(&["switchover", GROUP])?;
        stage.wait_settled(1)?;
        node.write_config(Kind::Had, &without_roles(node)?)?;
        node.hactl(&["reload"])?;
        eventually(PATIENCE, "there are no roles", || {
            Ok(node.hactl(&["roles"])?["groups"] == serde_json::json!([]))
        })?;
        let mut expected = story("n1", "demote", DOWN);
        expected.extend(story("n2", "promote", UP));
        ensure!(
            stage.room.since(page)? == expected,
            "{:?}",
            stage.room.since(page)
        );

        // And come back, demoted.
        node.write_config(Kind::Had, &whole)?;
        node.hactl(&["reload"])?;
        node.wait_for(WEB, "backup")?;
        stage.wait_settled(1)?;
        stage.check()
    });
}
