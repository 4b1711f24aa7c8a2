//! SIGHUP and `hactl reload`.

use std::time::Duration;

use ha_core::Version;
use sd_notify::NotifyState;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{Daemon, advice, check_beside, notify};
use crate::{
    config::{Config, Instance},
    control::report::ReloadReport,
    engine::{Command, Reloaded},
    net::links::Table,
    runtime::memory::Memory,
};

/// How long the engine thread may take to apply a plan.
const APPLY_LIMIT: Duration = Duration::from_secs(4);

impl Daemon {
    /// Reads the file again and applies what changed. An invalid file changes nothing.
    pub(super) async fn reload(&mut self) -> Result<ReloadReport, String> {
        let mut state = vec![NotifyState::Reloading];
        state.extend(NotifyState::monotonic_usec_now());
        notify(&state);
        let result = self.read_and_apply().await;
        match &result {
            Ok(report) if report.changes.is_empty() => info!("reloaded: nothing changed"),
            Ok(report) => info!("reloaded: {}", report.changes.join("; ")),
            Err(error) => error!("not reloaded, nothing was changed:\n{error}"),
        }
        for warning in result.iter().flat_map(|report| &report.warnings) {
            warn!("{warning}");
        }
        notify(&[NotifyState::Ready]);
        result
    }

    async fn read_and_apply(&mut self) -> Result<ReloadReport, String> {
        let mut config =
            check_beside(&self.file, &self.memory).map_err(|error| error.to_string())?;
        let table = Table::read().unwrap_or_default();
        lost_interface(&self.config, &config, &table)?;
        let fixed = keep_fixed(&self.config, &mut config);
        let plan = self.memory.plan(&config);
        let runtime_dir = &config.node.runtime_dir;
        let unwritable = |error| format!("{} cannot be written: {error}", runtime_dir.display());
        // Before: what may be added, and what may be left. Afterwards: the former, and what was left.
        Memory::of(&plan, self.memory.vips())
            .save(runtime_dir)
            .map_err(unwritable)?;
        self.memory = Memory::of(&plan, &[]);
        let applied = self.engine.ask(|reply| Command::Reload {
            plan: plan.clone(),
            reply,
        });
        let Reloaded { mut report, left } = timeout(APPLY_LIMIT, applied)
            .await
            .map_err(|_| {
                "the engine thread has not applied it yet: see the log and `hactl status`"
                    .to_owned()
            })?
            .map_err(|error| error.to_string())?;
        self.memory = Memory::of(&plan, &left);
        self.memory.save(runtime_dir).map_err(unwritable)?;
        report.changes.extend(fixed);
        report.warnings = advice::of_links(&config, &table);
        report.warnings.extend(advice::of_tracking(&config));
        if let Some(others) = &self.others {
            others.configure(&config);
        }
        self.config = config;
        self.checks.configure(&self.config);
        self.roles.tell(&self.config, &self.checks);
        Ok(report)
    }
}

/// Keeps what only a restart can change, and says so.
fn keep_fixed(running: &Config, wanted: &mut Config) -> Vec<String> {
    let mut notes = keep_intervals(running, wanted);
    let mut keep = |key: &str, differs: bool| {
        if differs {
            notes.push(format!("{key}: changes with a restart only"));
        }
    };
    keep(
        "node.runtime_dir",
        running.node.runtime_dir != wanted.node.runtime_dir,
    );
    keep(
        "node.start_delay",
        running.node.start_delay != wanted.node.start_delay,
    );
    keep("dataplane", running.dataplane != wanted.dataplane);
    keep("api.control", running.control != wanted.control);
    wanted
        .node
        .runtime_dir
        .clone_from(&running.node.runtime_dir);
    wanted.node.start_delay = running.node.start_delay;
    wanted.dataplane = running.dataplane.clone();
    wanted.control.clone_from(&running.control);
    notes
}

/// VRRPv2 routers discard adverts of another interval than their own (RFC 3768 section 7.1): with one that
/// changes while they run, two would be Active until the last one has it.
fn keep_intervals(running: &Config, wanted: &mut Config) -> Vec<String> {
    let mut notes = Vec::new();
    for instance in &mut wanted.instances {
        let same = |old: &&Instance| {
            old.name == instance.name
                && (&old.interface, old.vrid) == (&instance.interface, instance.vrid)
                && (old.version, instance.version) == (Version::V2, Version::V2)
                && old.advert_interval != instance.advert_interval
        };
        if let Some(old) = running.instances.iter().find(same) {
            notes.push(format!(
                "{}: advert_interval: changes with a restart only, of all its routers together: in version 2 they do not hear each other otherwise",
                instance.name
            ));
            instance.advert_interval = old.advert_interval;
        }
    }
    notes
}

/// A service is not moved to an interface that does not exist: more likely its name is mistyped.
fn lost_interface(running: &Config, wanted: &Config, table: &Table) -> Result<(), String> {
    let lost = |instance: &&Instance| {
        let moved = running
            .instances
            .iter()
            .any(|old| old.name == instance.name && old.interface != instance.interface);
        moved && table.links().next().is_some() && table.by_name(&instance.interface).is_none()
    };
    match wanted.instances.iter().find(lost) {
        Some(instance) => Err(format!(
            "{}: there is no interface {}: make it first, or correct the name",
            instance.name, instance.interface
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(version: u32, vrid: u32, interval: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("had.toml");
        let text = format!(
            "[[instance]]\nname = \"a\"\ninterface = \"nowhere0\"\nvrid = {vrid}\nversion = {version}\nadvert_interval = \"{interval}\"\nvips = [\"10.0.0.1/24\"]\n"
        );
        std::fs::write(&file, text).unwrap();
        config::load(&file, &|_| None, &|_, _| false).unwrap()
    }

    #[test]
    fn only_the_interval_of_a_version_2_router_that_stays_is_kept() {
        let running = config(2, 1, "1s");
        for (wanted, kept) in [
            (config(2, 1, "2s"), true),
            (config(2, 1, "1s"), false),
            (config(2, 7, "2s"), false),
            (config(3, 1, "2s"), false),
        ] {
            let mut applied = wanted.clone();
            let notes = keep_fixed(&running, &mut applied);
            assert_eq!(notes.len(), usize::from(kept), "{notes:?}");
            assert_eq!(applied == wanted, !kept);
        }
        let mut applied = config(3, 1, "20ms");
        assert!(keep_fixed(&config(3, 1, "10ms"), &mut applied).is_empty());
        assert_eq!(applied, config(3, 1, "20ms"));
    }

    #[test]
    fn an_instance_is_not_moved_to_an_interface_that_does_not_exist() {
        let table = Table::read().unwrap();
        let wanted = config(3, 1, "10ms");
        assert!(lost_interface(&wanted, &wanted, &table).is_ok());
        let mut running = wanted.clone();
        "lo".clone_into(&mut running.instances[0].interface);
        let error = lost_interface(&running, &wanted, &table).unwrap_err();
        assert!(error.contains("nowhere0"), "{error}");
        "b".clone_into(&mut running.instances[0].name);
        assert!(lost_interface(&running, &wanted, &table).is_ok());
    }
}
