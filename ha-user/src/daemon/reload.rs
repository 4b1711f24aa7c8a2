//! SIGHUP and `hactl reload`.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::timeout;
use tracing::{error, info};

use super::{Daemon, check, notify};
use crate::{
    config::Config, control::report::ReloadReport, engine::Command, runtime::memory::Memory,
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
        notify(&[NotifyState::Ready]);
        result
    }

    async fn read_and_apply(&mut self) -> Result<ReloadReport, String> {
        let mut config = check(&self.file).map_err(|error| error.to_string())?;
        let fixed = keep_fixed(&self.config, &mut config);
        let plan = self.memory.plan(&config);
        let runtime_dir = &config.node.runtime_dir;
        let unwritable = |error| format!("{} cannot be written: {error}", runtime_dir.display());
        // Before: what may be added, and what may be left. Afterwards: only the former.
        Memory::of(&plan, self.memory.vips())
            .save(runtime_dir)
            .map_err(unwritable)?;
        self.memory = Memory::of(&plan, &[]);
        let applied = self.engine.ask(|reply| Command::Reload { plan, reply });
        let mut report = timeout(APPLY_LIMIT, applied)
            .await
            .map_err(|_| {
                "the engine thread has not applied it yet: see the log and `hactl status`"
                    .to_owned()
            })?
            .map_err(|error| error.to_string())?;
        self.memory.save(runtime_dir).map_err(unwritable)?;
        report.changes.extend(fixed);
        self.config = config;
        Ok(report)
    }
}

/// Keeps what only a restart can change, and says so.
fn keep_fixed(running: &Config, wanted: &mut Config) -> Vec<String> {
    let mut notes = Vec::new();
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
