//! `hactl switchover` and `hactl roles` of a group with roles.

use anyhow::{Context as _, Result, ensure};
use ha_tests::{Node, daemon::program, lab::VIP, scenario, scene::WEB};
use serde_json::{Value, json};

use crate::{
    order::{DOWN, UP, story},
    room::Mark,
    stage::{GROUP, Shape, Stage},
};

/// The steps of a plan as `--dry-run` lists them.
pub(crate) fn steps(plan: &Value) -> Result<Vec<(String, String)>> {
    let text = |step: &Value, key: &str| Some(step[key].as_str()?.to_owned());
    let steps = plan.as_array().context("a plan is a list")?.iter();
    let steps = steps.map(|step| Some((text(step, "role")?, text(step, "step")?)));
    steps
        .collect::<Option<_>>()
        .context("a step has a role and a name")
}

fn of(step: &str, roles: [&str; 2]) -> Vec<(String, String)> {
    roles
        .map(|role| (role.to_owned(), step.to_owned()))
        .to_vec()
}

/// What `hactl` prints for people.
fn printed(node: &Node, arguments: &[&str]) -> Result<String> {
    let socket = node.dir().join("run/control.sock");
    let mut command = std::process::Command::new(program("hactl")?);
    let output = command
        .arg("--control")
        .arg(socket)
        .args(arguments)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn refusal(node: &Node, arguments: &[&str]) -> Result<String> {
    let refused = node.hactl(arguments).err();
    Ok(format!(
        "{:#}",
        refused.with_context(|| format!("hactl {arguments:?} was not refused"))?
    ))
}

#[test]
fn a_switchover_is_shown_beforehand_and_step_by_step() {
    scenario(|lab| {
        let stage = Stage::new(lab, &Shape::default())?;
        stage.wait_settled(0)?;
        let (first, second) = (stage.node(0), stage.node(1));
        let page = stage.room.page()?;
        let shown = first.hactl(&["switchover", GROUP, "--dry-run"])?;
        ensure!(
            shown["to"] == "n2" && shown["obstacles"] == json!([]),
            "{shown}"
        );
        ensure!(steps(&shown["demote"])? == of("demote", DOWN), "{shown}");
        ensure!(steps(&shown["promote"])? == of("promote", UP), "{shown}");
        // By the instance's name, and to the node that would take over anyway.
        let named = first.hactl(&["switchover", WEB, "--dry-run", "--to", "n2"])?;
        ensure!(named == shown, "{named}");
        let elsewhere = refusal(second, &["switchover", GROUP, "--dry-run"])?;
        ensure!(
            elsewhere.contains("would not be handed over"),
            "{elsewhere}"
        );
        let elsewhere = refusal(second, &["switchover", GROUP])?;
        ensure!(elsewhere.contains("promoted on n1"), "{elsewhere}");
        for arguments in [
            &["switchover", GROUP, "--to", "n3"][..],
            &["switchover", GROUP, "--dry-run", "--to", "n3"],
        ] {
            let nobody = refusal(first, arguments)?;
            ensure!(
                nobody.contains("n3") || nobody.contains("would not be"),
                "{nobody}"
            );
        }
        ensure!(stage.room.page()? == page && first.state(WEB)? == "active");

        let text = printed(first, &["switchover", GROUP, "--to", "n2"])?;
        let mut lines = text.lines();
        for (role, step) in of("demote", DOWN) {
            let line = format!("{role}: {step} (");
            ensure!(
                lines.any(|said| said.contains(&line)),
                "{line} is missing: {text}"
            );
        }
        stage.wait_settled(1)?;
        stage.check()
    });
}

#[test]
fn a_hand_over_that_fails_is_rolled_back() {
    scenario(|lab| {
        let stage = Stage::new(lab, &Shape::default())?;
        stage.wait_settled(0)?;
        stage.room.set(Mark::Fail, "n1", "first", "demote")?;
        let page = stage.room.page()?;
        let said = refusal(stage.node(0), &["switchover", GROUP])?;
        ensure!(
            said.contains("was not handed over, and is served by this node as before"),
            "{said}"
        );
        stage.wait_settled(0)?;
        let mut expected = story("n1", "demote", ["second", "first"]);
        expected.pop();
        expected.push("n1 first demote failed".to_owned());
        expected.extend(story("n1", "promote", UP));
        let found = stage.room.since(page)?;
        ensure!(found == expected, "{found:#?}");
        ensure!(stage.node(1).state(WEB)? == "backup" && stage.node(0).has(VIP)?);
        let events = stage.node(0).events("roles")?;
        ensure!(
            events
                .iter()
                .any(|event| event.contains("it was told to fail")),
            "{events:?}"
        );
        stage.room.lift(Mark::Fail, "n1", "first", "demote")?;
        stage.node(0).hactl(&["switchover", GROUP])?;
        stage.wait_settled(1)?;
        stage.check()
    });
}

#[test]
fn both_nodes_show_how_the_roles_stand() {
    scenario(|lab| {
        let stage = Stage::new(lab, &Shape::default())?;
        stage.wait_settled(0)?;
        for (own, other, stance) in [(0, 1, "primary"), (1, 0, "standby")] {
            let report = stage.node(own).hactl(&["roles"])?;
            ensure!(
                report["node"] == stage.name(own) && report["mode"] == "active-standby",
                "{report}"
            );
            let group = &report["groups"][0];
            ensure!(
                group["group"] == GROUP && group["stance"] == stance,
                "{group}"
            );
            ensure!(
                group["epoch"] == 1 && group["not_eligible"].is_null(),
                "{group}"
            );
            let roles = group["roles"].as_array().context("a list of roles")?;
            for (role, name) in roles.iter().zip(UP) {
                ensure!(
                    role["name"] == name && role["kind"] == "script" && role["unable"].is_null(),
                    "{role}"
                );
                ensure!(role["promoted"] == (stance == "primary"), "{role}");
            }
            let peer = &group["peers"][0];
            ensure!(
                peer["node"] == stage.name(other) && peer["mode"] == "active-standby",
                "{peer}"
            );
            ensure!(peer["stance"] != stance && peer["epoch"] == 1, "{peer}");
        }
        let plan = &stage.group(0)?["plan"];
        ensure!(
            plan["purpose"] == "promote" && plan["under_way"] == false,
            "{plan}"
        );
        ensure!(steps(&plan["steps"])? == of("promote", UP), "{plan}");
        Ok(())
    });
}
