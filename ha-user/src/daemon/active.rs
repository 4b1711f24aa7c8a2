//! What this node is for the instances that track a check: what a database has to be depends on it.

use std::{collections::BTreeSet, sync::Arc};

use ha_core::tracking::{Source, Track};

use crate::{
    checks::{Checks, Role},
    config::{Check, Config, Instance},
};

/// The instances that are Active here, or about to be.
#[derive(Debug, Default)]
pub(super) struct Actives {
    active: BTreeSet<Arc<str>>,
}

impl Actives {
    /// An instance changed its state.
    pub(super) fn note(&mut self, instance: &Arc<str>, to: &str) {
        if matches!(to, "active" | "promoting") {
            self.active.insert(Arc::clone(instance));
        } else {
            self.active.remove(instance);
        }
    }

    /// Whether an instance is Active here, or about to be.
    pub(super) fn has(&self, instance: &str) -> bool {
        self.active.contains(instance)
    }

    /// Tells every check.
    pub(super) fn tell(&self, config: &Config, checks: &Checks) {
        for check in &config.checks {
            let active = config
                .instances
                .iter()
                .filter(|instance| tracks(config, instance, check))
                .any(|instance| self.active.contains(instance.name.as_str()));
            let role = if active { Role::Active } else { Role::Standby };
            checks.set_role(&check.name, role);
        }
    }
}

/// Whether an instance, or its group, tracks a check.
fn tracks(config: &Config, instance: &Instance, check: &Check) -> bool {
    let group = instance.group.and_then(|group| config.groups.get(group));
    let common = group.map_or(&[][..], |group| &group.track);
    let is_it = |track: &Track| matches!(&track.source, Source::Check(name) if *name == check.name);
    instance.track.iter().chain(common).any(is_it)
}
