use std::path::PathBuf;

use ha_common::{MonoNs, Nanos};
use ha_core::plan::Context;
use tempfile::TempDir;

use super::*;

const JOBS: &str = "0 3 * * * root /usr/local/bin/backup\n";

struct Bench {
    dir: TempDir,
    cron: Cron,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("cron.d")).unwrap();
        fs::write(dir.path().join("jobs"), JOBS).unwrap();
        let cron = Cron::new(&Config {
            file: dir.path().join("jobs"),
            entry: dir.path().join("cron.d/backup"),
        });
        Self { dir, cron }
    }

    async fn step(&mut self, step: &'static str) -> Result<String, String> {
        let order = Order {
            serial: 1,
            role: 0,
            step,
            deadline: MonoNs::ZERO.after(Nanos::from_secs(1)),
            epoch: 1,
            context: Context::default(),
        };
        self.cron.run(&order).await.map(|done| done.text)
    }

    fn directory(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("cron.d")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test]
async fn jobs_are_there_while_they_are_active() {
    let mut bench = Bench::new();
    let entry = bench.cron.config.entry.clone();
    assert_eq!(bench.step("deactivate").await.unwrap(), "was not active");
    assert_eq!(bench.cron.observe().await.promoted, Some(false));
    assert_eq!(bench.step("activate").await.unwrap(), "active");
    assert_eq!(fs::read_to_string(&entry).unwrap(), JOBS);
    let mode = fs::metadata(&entry).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    assert_eq!(bench.directory(), std::slice::from_ref(&entry));
    assert_eq!(bench.step("activate").await.unwrap(), "was active already");
    let observation = bench.cron.observe().await;
    assert_eq!(
        (observation.promoted, observation.able),
        (Some(true), Ok(()))
    );
    fs::write(bench.dir.path().join("jobs"), "# other ones\n").unwrap();
    assert_eq!(bench.step("activate").await.unwrap(), "active");
    assert_eq!(fs::read_to_string(&entry).unwrap(), "# other ones\n");
    assert_eq!(
        bench.step("deactivate").await.unwrap(),
        "not active any more"
    );
    assert_eq!(bench.directory(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn without_its_file_it_cannot_be_activated_and_says_why() {
    let mut bench = Bench::new();
    fs::remove_file(bench.dir.path().join("jobs")).unwrap();
    let why = bench.cron.observe().await.able.unwrap_err();
    assert!(why.contains("No such file"), "{why}");
    let why = bench.step("activate").await.unwrap_err();
    assert!(why.contains("jobs"), "{why}");
    assert_eq!(bench.directory(), Vec::<PathBuf>::new());
    assert!(bench.step("dance").await.is_err());
}
