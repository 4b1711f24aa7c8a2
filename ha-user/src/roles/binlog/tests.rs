//! Against a real server.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use ha_common::Priority;
use tokio::time::timeout;

use super::{manifest::Manifest, *};
use crate::checks::mysql::tests::mariadbd::{Mariadbd, PATIENCE, alone};

/// A server with a table, and a role that keeps its logs for no longer than they are needed.
struct Scene {
    server: Mariadbd,
    neighbours: Arc<Neighbours>,
    role: Binlog,
    dir: tempfile::TempDir,
    rows: u32,
}

impl Scene {
    async fn start() -> Self {
        let options = [
            "--log-bin=binlog",
            "--server-id=7",
            "--gtid-strict-mode=ON",
            "--binlog-format=STATEMENT",
        ];
        let server = Mariadbd::start(&alone(&options)).await;
        for statement in [
            "CREATE DATABASE shop",
            "CREATE TABLE shop.orders (id INT PRIMARY KEY)",
        ] {
            server.sql(statement).await;
        }
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            directory: dir.path().to_owned(),
            every: Nanos::from_secs(1),
            keep: Nanos::ZERO,
            keep_backups: None,
            give_up_replica_after: None,
        };
        let setting = Setting {
            node: "n1".to_owned(),
            group: "db".to_owned(),
            role: "binlogs".to_owned(),
            priority: Priority(100),
            state_dir: dir.path().join("state"),
            runtime_dir: dir.path().join("run"),
            mask_units: true,
            arbitrators: Vec::new(),
            peers: 1,
            database: Some(server.config()),
        };
        let neighbours = Arc::new(Neighbours::default());
        Self {
            role: Binlog::new(&config, setting, Arc::clone(&neighbours)),
            server,
            neighbours,
            dir,
            rows: 0,
        }
    }

    async fn write(&mut self, rows: u32) {
        for id in self.rows + 1..=self.rows + rows {
            let insert = format!("INSERT INTO shop.orders VALUES ({id})");
            self.server.sql(&insert).await;
        }
        self.rows += rows;
    }

    /// One run, as the role makes them at the Active node.
    async fn run(&self) -> Said {
        self.run_in(Some(3), LOGS).await
    }

    async fn run_in(&self, epoch: Option<u64>, most: usize) -> Said {
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut tools = self.role.job.tools.lock().await;
        let run = Run {
            job: &self.role.job,
            epoch,
            most,
            cancelled: &cancelled,
        };
        let said = run.carry_out(&mut tools);
        timeout(PATIENCE, said).await.expect("the end of a run")
    }

    async fn state(&self) -> String {
        let state = self.server.sql("SELECT @@gtid_binlog_state").await;
        state.into_iter().next().unwrap()
    }

    /// The other node says this of its data.
    fn hear(&self, history: Option<&str>) {
        self.neighbours.hear("n2", history, clock::now());
    }

    /// The server's logs, as it keeps account of them.
    fn logs(&self) -> Vec<String> {
        let index = fs::read_to_string(self.server.dir().join("data/binlog.index")).unwrap();
        let names = index.lines().map(|line| line.trim_start_matches("./"));
        names.map(str::to_owned).collect()
    }

    /// Runs until these are left: the server may need one for a moment, for its own recovery.
    async fn left(&self, expected: &[&str]) -> Said {
        let run = async {
            loop {
                let said = self.run().await;
                if self.logs() == expected {
                    return said;
                }
            }
        };
        let said = timeout(PATIENCE, run).await;
        said.unwrap_or_else(|_| panic!("{:?}", self.logs()))
    }

    fn own(&self) -> PathBuf {
        self.dir.path().join("n1")
    }

    fn files(&self) -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(self.own()) else {
            return BTreeSet::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    /// The rows that the backups have, as the server's own tool reads them.
    fn backed_up(&self) -> BTreeSet<u32> {
        let backups = self.files().into_iter();
        let mut ids = BTreeSet::new();
        // Each by itself: a server that begins its logs anew counts anew.
        for name in backups.filter(|name| !name.contains(".json")) {
            let output = Command::new("mariadb-binlog")
                .arg("--no-defaults")
                .arg(self.own().join(name))
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            ids.extend(text.lines().filter_map(|line| {
                let rest = line.strip_prefix("INSERT INTO shop.orders VALUES (")?;
                rest.split(')').next()?.parse::<u32>().ok()
            }));
        }
        ids
    }

    fn step(&mut self, step: &'static str) -> Done {
        let order = Order {
            serial: 1,
            role: 0,
            step,
            deadline: clock::now().after(Nanos::from_secs(5)),
            epoch: 3,
            context: ha_core::plan::Context::default(),
        };
        self.role.step(&order).unwrap()
    }

    /// Until runs have made it so.
    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let so = async {
            while !is_so().await {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = timeout(PATIENCE, so).await;
        waited.unwrap_or_else(|_| panic!("{what}: {:?}", self.role.job.said()));
    }
}

#[tokio::test]
async fn logs_are_backed_up_whole_and_purged_when_the_replica_has_them() {
    let mut scene = Scene::start().await;
    scene.write(5).await;
    let said = scene.run().await;
    let text = said.note.unwrap();
    assert!(!said.failed, "{text}");
    assert!(text.contains("was not heard of"), "{text}");
    assert_eq!(scene.backed_up(), (1..=5).collect());
    let manifest = Manifest::read(&scene.own().join("binlog.000001")).unwrap();
    assert_eq!((manifest.epoch, manifest.server_id), (3, 7));
    assert_eq!(manifest.gtids_before, "");
    assert_eq!(manifest.gtids_after, scene.state().await);
    let sum = Command::new("sha256sum")
        .arg(scene.server.dir().join("data/binlog.000001"))
        .output()
        .unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(sum.split(' ').next(), Some(manifest.sha256.as_str()));
    assert_eq!(scene.logs().len(), 2, "nothing is known of a replica");

    // Nothing was written: no log is begun.
    scene.run().await;
    assert_eq!(scene.logs(), ["binlog.000001", "binlog.000002"]);

    // The other node's server is behind, and then down.
    scene.hear(Some(&scene.state().await));
    scene.write(2).await;
    let behind = scene.state().await;
    scene.write(2).await;
    scene.hear(Some(&behind));
    scene.hear(None);
    let said = scene.left(&["binlog.000002", "binlog.000003"]).await;
    let text = said.note.unwrap();
    assert!(text.contains("the replica on n2 needs it"), "{text}");
    scene.run().await;
    assert_eq!(scene.logs(), ["binlog.000002", "binlog.000003"]);
    scene.hear(Some(&scene.state().await));
    scene.left(&["binlog.000003"]).await;
    assert_eq!(scene.backed_up(), (1..=9).collect());
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_told_and_stays() {
    let mut scene = Scene::start().await;
    scene.write(5).await;
    scene.server.sql("FLUSH BINARY LOGS").await;
    let file = scene.server.dir().join("data/binlog.000001");
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(&file, &bad).unwrap();
    scene.hear(Some(&scene.state().await));
    let said = scene.run().await;
    let warning = said.warning.unwrap();
    assert!(said.failed);
    assert!(
        warning.contains("binlog.000001 cannot be read"),
        "{warning}"
    );
    assert_eq!(scene.logs().len(), 2);
    assert_eq!(scene.files(), BTreeSet::new(), "its copy is removed");
    fs::write(&file, &good).unwrap();
    assert_eq!(scene.left(&["binlog.000002"]).await.warning, None);
    assert_eq!(scene.backed_up(), (1..=5).collect());
    assert_eq!(scene.files().len(), 2, "{:?}", scene.files());
}

#[tokio::test]
async fn another_log_of_the_same_name_replaces_no_backup() {
    let mut scene = Scene::start().await;
    scene.write(3).await;
    scene.run().await;
    // As `hactl db init-replication` does with an empty server.
    scene.server.sql("RESET MASTER").await;
    scene.write(3).await;
    scene.run().await;
    let files = scene.files();
    assert!(
        files
            .iter()
            .any(|name| name.starts_with("binlog.000001.replaced-")),
        "{files:?}"
    );
    assert_eq!(scene.backed_up(), (1..=6).collect());
}

#[tokio::test]
async fn old_backups_are_removed_when_the_server_has_the_log_no_more() {
    let mut scene = Scene::start().await;
    scene.write(3).await;
    scene.run().await;
    scene.write(3).await;
    scene.hear(Some(&scene.state().await));
    scene.write(1).await;
    scene.left(&["binlog.000002", "binlog.000003"]).await;
    assert_eq!(scene.files().len(), 4);
    let made = Manifest::read(&scene.own().join("binlog.000001")).unwrap();
    let mut tools = scene.role.job.tools.lock().await;
    let tools = &mut *tools;
    let list = tools.logs.as_mut().unwrap().list().await.unwrap();
    let age = Nanos::from_secs(100);
    for (later, removed) in [(99, 0), (1_000, 1), (1_000, 0)] {
        let now_s = made.made_s + later;
        let count = tools.files.remove(age, now_s, &list).await.unwrap();
        assert_eq!(count, removed, "{later}");
    }
    let left = scene.files();
    let left: Vec<&str> = left.iter().map(String::as_str).collect();
    assert_eq!(left, ["binlog.000002", "binlog.000002.json"]);
}

#[tokio::test]
async fn what_keeps_backups_from_being_made_is_told_and_nothing_is_purged() {
    let mut scene = Scene::start().await;
    scene.write(3).await;
    scene.hear(Some(&scene.state().await));
    // As a directory whose file system is not mounted.
    let gone = scene.dir.path().join("n1-elsewhere");
    scene.role.job.tools.lock().await.files = Files::new(gone.clone(), "n1");
    let said = scene.run().await;
    let warning = said.warning.unwrap();
    assert!(
        warning.contains("n1-elsewhere/n1: No such file"),
        "{warning}"
    );
    assert_eq!(scene.logs().len(), 2);
    assert!(!gone.exists());
}

#[tokio::test]
async fn a_standby_purges_what_the_other_node_has_and_makes_no_backup() {
    let mut scene = Scene::start().await;
    scene.write(3).await;
    scene.server.sql("FLUSH BINARY LOGS").await;
    scene.hear(None);
    let note = scene.run_in(None, LOGS).await.note.unwrap();
    assert!(
        note.contains("what the replica on n2 has is not known"),
        "{note}"
    );
    assert_eq!(scene.logs().len(), 2);
    scene.hear(Some(&scene.state().await));
    let purged = async || {
        scene.run_in(None, LOGS).await;
        scene.logs() == ["binlog.000002"]
    };
    scene.until("a purge", purged).await;
    assert_eq!(scene.files(), BTreeSet::new());
}

#[tokio::test]
async fn in_maintenance_nothing_is_done() {
    let mut scene = Scene::start().await;
    let maintenance = Situation {
        mode: Mode::Maintenance,
        fault: false,
    };
    scene.role.adapt(Situation::default()).await.unwrap();
    assert!(scene.role.running.is_some());
    scene.role.adapt(maintenance).await.unwrap();
    assert!(scene.role.running.is_none());
    scene.step("activate");
    scene.step("deactivate");
    assert!(scene.role.running.is_none());
    scene.role.adapt(Situation::default()).await.unwrap();
    assert!(scene.role.running.is_some());
}

/// However many logs stay at the server, the newer ones get a backup, too.
#[tokio::test]
async fn more_logs_than_one_run_backs_up_are_backed_up_by_the_next_ones() {
    let mut scene = Scene::start().await;
    for _ in 0..5 {
        scene.write(1).await;
        scene.server.sql("FLUSH BINARY LOGS").await;
    }
    for (waiting, done) in [(3, 2), (1, 4)] {
        let said = scene.run_in(Some(3), 2).await;
        let note = said.note.unwrap();
        let wanted = format!("{waiting} have to wait for the next run");
        assert!(said.failed && note.contains(&wanted), "{note}");
        assert_eq!(scene.files().len(), 2 * done);
    }
    let said = scene.run_in(Some(3), 2).await;
    assert!(!said.failed, "{said:?}");
    assert_eq!(scene.backed_up(), (1..=5).collect());
}

#[tokio::test]
async fn a_server_that_purges_by_itself_is_told() {
    let scene = Scene::start().await;
    scene.hear(Some(&scene.state().await));
    assert_eq!(scene.run().await.warning, None);
    let expire = "SET GLOBAL binlog_expire_logs_seconds = 864000";
    scene.server.sql(expire).await;
    let warning = scene.run().await.warning.unwrap();
    assert!(
        warning.contains("binlog_expire_logs_seconds = 0"),
        "{warning}"
    );
}

#[tokio::test]
async fn it_works_while_it_is_active_and_ends_at_once() {
    let mut scene = Scene::start().await;
    scene.write(3).await;
    assert_eq!(scene.role.observe().await.promoted, Some(false));
    assert_eq!(scene.step("deactivate").text, "was not active");
    assert_eq!(scene.step("activate").text, "active");
    assert_eq!(scene.step("activate").text, "was active already");
    assert_eq!(scene.role.observe().await.promoted, Some(true));
    let first = async || scene.files().contains("binlog.000001.json");
    scene.until("a backup", first).await;
    assert_eq!(scene.step("deactivate").text, "not active any more");
    let seen = scene.role.observe().await;
    assert_eq!((seen.promoted, seen.able), (Some(false), Ok(())));
    // Whatever was under way has ended when another run could begin.
    let tools = timeout(PATIENCE, scene.role.job.tools.lock()).await;
    drop(tools.expect("an end"));
    let before = scene.files();
    scene.write(3).await;
    scene.server.sql("FLUSH BINARY LOGS").await;
    // As a standby it makes runs, and no backups.
    let at = scene.role.job.said().note;
    let again = async || scene.role.job.said().note != at;
    scene.until("a run of a standby", again).await;
    assert_eq!(scene.files(), before);
    // A copy that was given up leaves a file, and the next run removes it.
    fs::write(scene.own().join("binlog.000002.part"), "half").unwrap();
    scene.step("activate");
    let second = async || scene.files().contains("binlog.000002.json");
    scene.until("another backup", second).await;
    assert!(!scene.files().iter().any(|name| name.ends_with(".part")));
    assert_eq!(scene.backed_up(), (1..=6).collect());
}
