//! What a node says of its checks.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{Node, eventually, node::PATIENCE};

/// What `hactl checks NAME` says.
pub fn check(node: &Node, name: &str) -> Result<Value> {
    node.hactl(&["checks", name])
}

/// Waits until a check is in `state`, for a reason that contains `why`.
pub fn wait_for_check(node: &Node, name: &str, state: &str, why: &str) -> Result<()> {
    let mut last = Value::Null;
    eventually(PATIENCE, &format!("{name} is {state}: {why}"), || {
        last = check(node, name)?;
        let said = last["why"].as_str().unwrap_or_default();
        Ok(last["state"] == state && said.contains(why))
    })
    .with_context(|| last.to_string())
}

/// Waits until a check is in `state`, and its last probe has found what contains `text`.
pub fn wait_until_found(node: &Node, name: &str, state: &str, text: &str) -> Result<()> {
    let mut last = Value::Null;
    eventually(PATIENCE, &format!("{name} is {state}: {text}"), || {
        last = check(node, name)?;
        let probes = last["history"].as_array().context("it has a history")?;
        let found = probes.last().and_then(|probe| probe["text"].as_str());
        Ok(last["state"] == state && found.is_some_and(|found| found.contains(text)))
    })
    .with_context(|| last.to_string())
}

/// Waits until one of the last probes, that ended after `from`, has a result that contains `text`.
pub fn wait_for_probe(
    node: &Node,
    name: &str,
    from: ha_common::MonoNs,
    passed: bool,
    text: &str,
) -> Result<()> {
    let what = format!("a probe of {name} says: {text} (passed: {passed})");
    let mut last = Value::Null;
    eventually(PATIENCE, &what, || {
        last = check(node, name)?;
        let history = last["history"].as_array().context("it has a history")?;
        Ok(history.iter().any(|probe| {
            probe["at_ns"].as_u64().is_some_and(|at| at > from.0)
                && probe["passed"] == passed
                && probe["text"]
                    .as_str()
                    .is_some_and(|said| said.contains(text))
        }))
    })
    .with_context(|| last.to_string())
}
