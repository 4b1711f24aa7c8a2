//! What this node is for the instances that track a check: what a database has to be depends on it.

use std::{collections::BTreeMap, sync::Arc};

use ha_core::tracking::{Source, Track};

use crate::{
    checks::{Checks, Role},
    config::{Check, Config, Instance},
};

/// How far an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Promoting,
    Active,
}

/// The instances that are Active here, or about to be.
#[derive(Debug, Default)]
pub(super) struct Actives(BTreeMap<Arc<str>, Stage>);

impl Actives {
    /// An instance changed its state.
    pub(super) fn note(&mut self, instance: &Arc<str>, to: &str) {
        let stage = match to {
            "active" => Stage::Active,
            "promoting" => Stage::Promoting,
            _ => {
                self.0.remove(instance);
                return;
            }
        };
        self.0.insert(Arc::clone(instance), stage);
    }

    /// Whether an instance is Active here, or about to be.
    pub(super) fn has(&self, instance: &str) -> bool {
        self.0.contains_key(instance)
    }

    /// Tells every check.
    pub(super) fn tell(&self, config: &Config, checks: &Checks) {
        for check in &config.checks {
            let active = config
                .instances
                .iter()
                .filter(|instance| tracks(config, instance, check))
                .any(|instance| self.needs(config, instance));
            let role = if active { Role::Active } else { Role::Standby };
            checks.set_role(&check.name, role);
        }
    }

    /// Whether what an instance tracks has to be as on an Active node. What roles promote is that only at the end.
    fn needs(&self, config: &Config, instance: &Instance) -> bool {
        let group = instance.group.and_then(|group| config.groups.get(group));
        let has_roles = group.is_some_and(|group| !group.roles.is_empty());
        match self.0.get(instance.name.as_str()) {
            Some(Stage::Active) => true,
            Some(Stage::Promoting) => !has_roles,
            None => false,
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
