//! SIGHUP and `hactl reload`.

mod sections;

use std::{future::pending, iter, time::Duration};

use ha_core::Version;
use sd_notify::NotifyState;
use tokio::{
    sync::oneshot::{self, error::RecvError},
    time::timeout,
};
use tracing::{error, info, warn};

use super::{Daemon, advice, check_beside, notify};
use crate::{
    config::{Config, Instance},
    control::report::ReloadReport,
    engine::{Command, Plan, Reloaded},
    net::links::Table,
    roles,
    runtime::memory::{Memory, Vip},
};

/// How long whoever asked for a reload waits for the engine thread to apply it.
const APPLY_LIMIT: Duration = Duration::from_secs(4);

/// A plan that the engine thread has accepted, and is still applying.
pub(super) struct Applying {
    plan: Plan,
    done: oneshot::Receiver<Reloaded>,
}

/// Waits for the end of what is being applied; for ever, where nothing is.
pub(super) async fn applied(applying: &mut Option<Applying>) -> Result<Reloaded, RecvError> {
    match applying {
        Some(applying) => (&mut applying.done).await,
        None => pending().await,
    }
}

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
        let is_active = |instance: &str| self.actives.has(instance);
        self.groups.fits(&config, &is_active)?;
        let fixed = keep_fixed(&self.config, &mut config);
        let mut warnings = advice::of_links(&config, &table);
        warnings.extend(advice::of_tracking(&config, &table));
        let mut report = self.apply(config, APPLY_LIMIT).await?;
        report.changes.extend(fixed);
        report.warnings.extend(warnings);
        Ok(report)
    }

    /// Has the engine thread apply a configuration. Once it has accepted it, it will do so, however long that takes:
    /// so the checks that it may wait for begin at once.
    async fn apply(&mut self, config: Config, limit: Duration) -> Result<ReloadReport, String> {
        let mut plan = self.memory.plan(&config);
        plan.mode = self.mode;
        let runtime_dir = &config.node.runtime_dir;
        // Before: what may be added, and what may be left. Afterwards: the former, and what was left.
        let both = Memory::of(&plan, self.memory.vips());
        both.save(runtime_dir)
            .map_err(|error| format!("{} cannot be written: {error}", runtime_dir.display()))?;
        let (reply, done) = oneshot::channel();
        let command = Command::Reload {
            plan: plan.clone(),
            reply,
        };
        if let Err(error) = self.engine.send(command) {
            if let Err(error) = self.memory.save(runtime_dir) {
                warn!("{} cannot be written: {error}", runtime_dir.display());
            }
            return Err(error.to_string());
        }
        self.memory = both;
        let sections = sections::changed(&self.config, &config);
        self.config = config;
        self.applying = Some(Applying { plan, done });
        self.checks.configure(&self.config);
        self.link.configure(&self.config);
        self.actives.tell(&self.config, &self.checks);
        self.fence
            .configure(&self.file, roles::any_fenced(&self.config));
        let unled = self.groups.configure(&self.config, self.mode).await;
        match timeout(limit, applied(&mut self.applying)).await {
            Ok(result) => {
                let Reloaded { mut report, left } = result.map_err(|_| {
                    self.applying = None;
                    "the engine thread has ended".to_owned()
                })?;
                report.changes.extend(sections);
                report.warnings.extend(unled);
                report.warnings.extend(self.settle(&left).err());
                Ok(report)
            }
            Err(_) => Ok(ReloadReport {
                changes: iter::once("the new configuration was accepted".to_owned())
                    .chain(sections)
                    .collect(),
                warnings: iter::once(
                    "the engine thread has not finished applying it yet: the log says when it has"
                        .to_owned(),
                )
                .chain(unled)
                .collect(),
            }),
        }
    }

    /// A plan was applied later than anybody waited for it.
    pub(super) fn finish_reload(&mut self, result: Result<Reloaded, RecvError>) {
        match result {
            Ok(Reloaded { report, left }) => {
                info!("reloaded at last: {}", report.changes.join("; "));
                if let Err(warning) = self.settle(&left) {
                    warn!("{warning}");
                }
            }
            // The thread has ended; why is told elsewhere.
            Err(_) => self.applying = None,
        }
    }

    /// The plan was applied: writes down what was left, and has the guards of other interfaces follow, which must not
    /// go before the engine's programs are in their place.
    fn settle(&mut self, left: &[Vip]) -> Result<(), String> {
        let Some(Applying { plan, .. }) = self.applying.take() else {
            return Ok(());
        };
        self.others.configure(&self.config);
        self.memory = Memory::of(&plan, left);
        let runtime_dir = &self.config.node.runtime_dir;
        self.memory.save(runtime_dir).map_err(|error| {
            format!(
                "{} cannot be written, so that the next daemon may look for addresses that are gone: {error}",
                runtime_dir.display()
            )
        })
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
        "node.state_dir",
        running.node.state_dir != wanted.node.state_dir,
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
    wanted.node.state_dir.clone_from(&running.node.state_dir);
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
    use std::sync::{Arc, mpsc::Receiver};

    use ha_core::Mode;
    use tempfile::TempDir;
    use tokio::{sync::mpsc, time::sleep};

    use super::*;
    use crate::{
        checks::Checks,
        config,
        daemon::{active::Actives, keeper::Keeper},
        engine::Handle,
        fence::Fence,
        link::Link,
        others::Others,
        roles::Groups,
    };

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

    /// A daemon whose engine thread's part is the test's.
    struct Bench {
        dir: TempDir,
        daemon: Daemon,
        commands: Receiver<Command>,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let config = configured(&dir, "10.0.0.1/24", "");
            let (engine, commands) = Handle::unread();
            let (messages, _) = mpsc::channel(64);
            let fence = Fence::new().unwrap();
            let (modes, _) = mpsc::channel(8);
            let link = Link::start("a", messages.clone()).0;
            let peers = Arc::new(link.clone());
            let mut memory = Memory::default();
            memory = Memory::of(&memory.plan(&config), &[]);
            memory.save(dir.path()).unwrap();
            let daemon = Daemon {
                file: dir.path().join("had.toml"),
                others: Others::spawn(&config, false, None).unwrap(),
                config,
                memory,
                checks: Checks::new(engine.clone(), messages.clone()),
                link,
                groups: Groups::new(engine.clone(), messages, modes, peers, fence.clone()),
                fence,
                mode: Mode::default(),
                keeper: Keeper::new(dir.path().to_owned()),
                engine,
                history: Arc::default(),
                actives: Actives::default(),
                applying: None,
            };
            Self {
                dir,
                daemon,
                commands,
            }
        }

        fn checks(&self) -> Vec<String> {
            let report = self.daemon.checks.report();
            report.into_iter().map(|check| check.name).collect()
        }

        /// The VIPs that the next daemon would look for.
        fn remembered(&self) -> Vec<String> {
            let memory = Memory::load(self.dir.path()).unwrap();
            assert_eq!(memory, self.daemon.memory);
            let vips = memory.vips().iter();
            vips.map(|vip| vip.address.to_string()).collect()
        }
    }

    fn configured(dir: &TempDir, vip: &str, rest: &str) -> Config {
        let file = dir.path().join("had.toml");
        let text = format!(
            "[node]\nruntime_dir = \"{}\"\n[dataplane]\nguard_others = false\n[[instance]]\nname = \"a\"\n\
             interface = \"nowhere0\"\nvrid = 1\nvips = [\"{vip}\"]\n{rest}",
            dir.path().display()
        );
        std::fs::write(&file, text).unwrap();
        config::load(&file, &|_| None, &|_, _| false).unwrap()
    }

    const CHECK: &str = "[[check]]\nname = \"c\"\nkind = \"file\"\npath = \"/dev/null\"\n";
    const AT_ONCE: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_reload_that_takes_long_is_complete_in_the_end() {
        let mut bench = Bench::new();
        let wanted = configured(&bench.dir, "10.0.0.2/24", CHECK);
        let report = bench.daemon.apply(wanted.clone(), AT_ONCE).await.unwrap();
        assert!(report.warnings[0].contains("not finished"), "{report:?}");
        assert_eq!(report.changes[1..], ["check c: added"]);
        assert_eq!(bench.checks(), ["c"]);
        assert_eq!(bench.daemon.config, wanted);
        // Which of them is there is not known yet.
        assert_eq!(bench.remembered(), ["10.0.0.1/24", "10.0.0.2/24"]);
        let Ok(Command::Reload { plan, reply }) = bench.commands.try_recv() else {
            panic!("no plan");
        };
        assert_eq!(plan.seats[0].instance, wanted.instances[0]);
        let done = Reloaded {
            report,
            left: Vec::new(),
        };
        reply.send(done).unwrap();
        let result = timeout(LONG, applied(&mut bench.daemon.applying)).await;
        bench.daemon.finish_reload(result.expect("an answer"));
        assert!(bench.daemon.applying.is_none());
        assert_eq!(bench.remembered(), ["10.0.0.2/24"]);
    }

    #[tokio::test]
    async fn a_reload_that_the_engine_does_not_accept_changes_nothing() {
        let mut bench = Bench::new();
        let before = bench.daemon.config.clone();
        while bench.daemon.engine.send(Command::Shutdown).is_ok() {}
        let wanted = configured(&bench.dir, "10.0.0.2/24", CHECK);
        let error = bench.daemon.apply(wanted, AT_ONCE).await.unwrap_err();
        assert!(error.contains("does not take up commands"), "{error}");
        assert!(bench.checks().is_empty());
        assert_eq!(bench.daemon.config, before);
        assert_eq!(bench.remembered(), ["10.0.0.1/24"]);
    }

    #[tokio::test]
    async fn what_cannot_be_written_down_at_last_is_only_a_warning() {
        let mut bench = Bench::new();
        let wanted = configured(&bench.dir, "10.0.0.2/24", CHECK);
        let draft = bench.dir.path().join("memory.new");
        let engine = async {
            let reply = loop {
                match bench.commands.try_recv() {
                    Ok(Command::Reload { reply, .. }) => break reply,
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => sleep(Duration::from_millis(1)).await,
                }
            };
            // There a file would be written.
            std::fs::create_dir(draft).unwrap();
            let report = ReloadReport {
                changes: vec!["a: other VIPs".to_owned()],
                warnings: Vec::new(),
            };
            let left = Vec::new();
            reply.send(Reloaded { report, left }).unwrap();
        };
        let (report, ()) = tokio::join!(bench.daemon.apply(wanted.clone(), LONG), engine);
        let report = report.unwrap();
        assert_eq!(report.changes, ["a: other VIPs", "check c: added"]);
        let [warning] = &report.warnings[..] else {
            panic!("{report:?}");
        };
        assert!(warning.contains("cannot be written"), "{warning}");
        assert_eq!(bench.checks(), ["c"]);
        assert_eq!(bench.daemon.config, wanted);
    }
}
