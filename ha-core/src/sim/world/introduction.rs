//! What a seed stands for, in words.

use std::{fmt, format, string::String};

use super::super::{ledger::millis, scenario::Scenario};
use super::{Choices, World};

impl World {
    /// Appends the class, the pace and each node's configuration to `text`.
    pub(crate) fn introduce(&self, choices: Choices<'_>, text: &mut String) {
        use fmt::Write as _;
        let Scenario {
            class,
            trouble,
            pace,
            ..
        } = &self.scenario;
        let kind = match trouble {
            Some(trouble) => format!("{trouble:?}"),
            None => format!("{class:?}"),
        };
        let _ = writeln!(
            text,
            "{choices}: {kind}; one way {} to {} ms; a step takes up to {} ms, {} of 1000 up to {} ms",
            millis(pace.delay.0),
            millis(pace.delay.1),
            millis(pace.step_max),
            pace.stall_permille,
            millis(pace.stall_max)
        );
        for (index, node) in self.scenario.nodes.iter().enumerate() {
            for one in &node.config.instances {
                let _ = writeln!(
                    text,
                    "  node{index} {} {}: {} {:?} priority {} every {}{}{}",
                    node.address,
                    format!("{:?}", node.reports).to_lowercase(),
                    one.name,
                    one.version,
                    one.priority,
                    one.advert_interval,
                    if one.preempt { ", preempts" } else { "" },
                    if one.group.is_some() {
                        ", in the group"
                    } else {
                        ""
                    },
                );
            }
        }
    }
}
