//! The steps under way, and how long they take, in sentences.

use std::collections::BTreeMap;

use ha_common::{MonoNs, Nanos};
use ha_core::plan::{Done, Order};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Steps {
    under_way: BTreeMap<u64, Step>,
    /// When the engine asked for what is under way.
    since: MonoNs,
}

#[derive(Debug)]
struct Step {
    role: usize,
    /// Role and step.
    name: String,
    began: MonoNs,
}

impl Steps {
    /// The engine asks for something.
    pub(super) fn begin(&mut self, now: MonoNs) {
        self.since = now;
    }

    /// How long ago that was.
    pub(super) fn took(&self, now: MonoNs) -> Nanos {
        now.since(self.since)
    }

    /// A step begins.
    pub(super) fn ordered(&mut self, order: &Order, role: String, now: MonoNs) {
        let step = Step {
            role: order.role,
            name: format!("{role}: {}", order.step),
            began: now,
        };
        self.under_way.insert(order.serial, step);
    }

    /// A step has ended; `None`: it was given up before.
    pub(super) fn end(
        &mut self,
        serial: u64,
        result: &Result<Done, String>,
        now: MonoNs,
    ) -> Option<String> {
        let step = self.under_way.remove(&serial)?;
        let (name, took) = (step.name, now.since(step.began));
        Some(match result {
            Ok(done) if done.text.is_empty() => format!("{name}: done in {took}"),
            Ok(done) => format!("{name}: done in {took}: {}", done.text),
            Err(why) => format!("{name}: FAILED after {took}: {why}"),
        })
    }

    /// A step is given up: its role.
    pub(super) fn abandon(&mut self, serial: u64, now: MonoNs) -> Option<(usize, String)> {
        let step = self.under_way.remove(&serial)?;
        let took = now.since(step.began);
        Some((step.role, format!("{}: GIVEN UP after {took}", step.name)))
    }
}
