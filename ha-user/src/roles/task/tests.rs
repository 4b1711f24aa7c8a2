//! A group with scripts for roles; the engine's part is the test's.

use std::{fs, path::PathBuf, process::Command as Process, sync::mpsc::Receiver};

use ha_common::Nanos;
use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    config::{self, Config},
    fence::Fence,
    link::Link,
    roles::{Groups, open},
};

const LONG: Duration = Duration::from_secs(20);

struct Bench {
    dir: TempDir,
    commands: Receiver<Command>,
    messages: mpsc::Receiver<Message>,
    modes: mpsc::Receiver<ModeRequest>,
    groups: Groups,
    config: Config,
    /// What the engine was told of the node's prospects last.
    eligible: Option<Result<(), String>>,
}

fn round(number: u64) -> MonoNs {
    MonoNs::ZERO.after(Nanos(number))
}

impl Bench {
    /// With two roles, each of which writes down what it is told; then a line of its own.
    fn new(first: &str, second: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            let log = dir.path().join("told");
            let text = format!("echo {name} $HAD_STEP >> {}\n{text}", log.display());
            let made = Process::new("/bin/sh")
                .args([
                    "-c",
                    "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"",
                    "sh",
                ])
                .arg(text)
                .arg(&path)
                .status();
            assert!(made.unwrap().success());
            path.display().to_string()
        };
        let user = geteuid().as_raw();
        let role = |name: &str, text: &str| {
            format!(
                "[[role]]\nname = \"{name}\"\nkind = \"script\"\ncommand = [\"{}\"]\nuser = \"{user}\"\n\
                 promote_limit = \"1s\"\ndemote_limit = \"1s\"\n",
                write(name, text)
            )
        };
        let text = format!(
            "[node]\nname = \"n1\"\nstate_dir = \"{}\"\n[[instance]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\n\
             vips = [\"192.168.33.100/24\"]\ngroup = \"db\"\n[[group]]\nname = \"db\"\nroles = [\"a\", \"b\"]\n{}{}",
            dir.path().join("state").display(),
            role("a", first),
            role("b", second),
        );
        Self::begin(dir, config::for_tests(&text), Mode::ActiveStandby)
    }

    fn begin(dir: TempDir, config: Config, mode: Mode) -> Self {
        let (engine, commands) = Handle::unread();
        let (to_daemon, messages) = mpsc::channel(1_024);
        let (wish, modes) = mpsc::channel(8);
        let link = Link::start("n1", to_daemon.clone()).0;
        let groups = Groups::new(
            engine,
            to_daemon,
            wish,
            Arc::new(link),
            Fence::new().unwrap(),
        );
        groups.start(open(&config).unwrap(), &config, mode);
        Self {
            dir,
            commands,
            messages,
            modes,
            groups,
            config,
            eligible: None,
        }
    }

    /// As by SIGKILL, and a new start.
    async fn killed(self) -> Self {
        let Self {
            dir,
            groups,
            config,
            ..
        } = self;
        groups.retire(Duration::ZERO).await;
        // Tasks that were killed let go of their journals a moment later.
        let deadline = Instant::now() + LONG;
        while open(&config).is_err() {
            assert!(Instant::now() < deadline, "the journal stays open");
            sleep(Duration::from_millis(5)).await;
        }
        let _ = fs::remove_file(dir.path().join("told"));
        Self::begin(dir, config, Mode::ActiveStandby)
    }

    fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("told")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn forget(&self) {
        let _ = fs::remove_file(self.dir.path().join("told"));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The next answer, of a promotion (true) or a demotion.
    async fn answer(&mut self) -> (bool, MonoNs, Result<(), String>) {
        let deadline = Instant::now() + LONG;
        loop {
            match self.commands.try_recv() {
                Ok(Command::RolesPromoted { round, result, .. }) => return (true, round, result),
                Ok(Command::RolesDemoted { round, result, .. }) => return (false, round, result),
                Ok(Command::Prospect { prospect, .. }) => self.eligible = Some(prospect.eligible),
                Ok(_) => {}
                Err(_) => {
                    assert!(
                        Instant::now() < deadline,
                        "no answer: {:?}",
                        self.groups.report()
                    );
                    sleep(Duration::from_millis(2)).await;
                }
            }
        }
    }

    /// Waits until the node may be elected.
    async fn is_eligible(&mut self) {
        let deadline = Instant::now() + LONG;
        while self.eligible != Some(Ok(())) {
            match self.commands.try_recv() {
                Ok(Command::Prospect { prospect, .. }) => self.eligible = Some(prospect.eligible),
                Ok(_) => {}
                Err(_) => {
                    assert!(Instant::now() < deadline, "{:?}", self.eligible);
                    sleep(Duration::from_millis(2)).await;
                }
            }
        }
    }

    async fn stands(&self, stance: &str) {
        let deadline = Instant::now() + LONG;
        while self.groups.report()[0].stance != stance {
            assert!(Instant::now() < deadline, "{:?}", self.groups.report());
            sleep(Duration::from_millis(2)).await;
        }
    }

    fn sentences(&mut self) -> Vec<String> {
        let mut sentences = Vec::new();
        while let Ok(message) = self.messages.try_recv() {
            if let Message::Event(event) = message {
                sentences.push(event.sentence);
            }
        }
        sentences
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_promoted_in_order_and_demoted_in_reverse() {
    let mut bench = Bench::new("", "");
    bench.stands("standby").await;
    // A node that does not know how it stood begins as a standby.
    assert_eq!(bench.told(), ["b demote", "a demote"]);
    bench.forget();
    bench.is_eligible().await;
    bench.groups.promote("db", round(1), true);
    assert_eq!(bench.answer().await, (true, round(1), Ok(())));
    assert_eq!(bench.told(), ["a promote", "b promote"]);
    let report = &bench.groups.report()[0];
    assert_eq!((report.stance.as_str(), report.epoch), ("primary", 1));
    let plan = report.plan.as_ref().unwrap();
    let steps: Vec<&str> = plan.steps.iter().map(|step| step.role.as_str()).collect();
    assert_eq!(
        (plan.purpose.as_str(), &steps[..]),
        ("promote", &["a", "b"][..])
    );
    assert!(plan.steps.iter().all(|step| step.took_us.is_some()));
    bench.groups.demote("db", round(2), Manner::Graceful);
    assert_eq!(bench.answer().await, (false, round(2), Ok(())));
    assert_eq!(bench.told()[2..], ["b demote", "a demote"]);
    let sentences = bench.sentences();
    let told = |words: &str| sentences.iter().any(|one| one.contains(words));
    assert!(told("a: promote: done in"), "{sentences:?}");
    assert!(told("its roles are promoted after"), "{sentences:?}");
    assert!(told("its roles are demoted after"), "{sentences:?}");
    bench.groups.retire(LONG).await;
    assert!(bench.groups.report().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_hangs_is_killed_and_all_is_taken_back() {
    let mut bench = Bench::new("", "[ $HAD_STEP = promote ] && exec sleep 1000; exit 0");
    bench.is_eligible().await;
    bench.forget();
    bench.groups.promote("db", round(1), true);
    let (promoted, _, result) = bench.answer().await;
    let why = result.unwrap_err();
    assert!(promoted && why.contains("b: promote"), "{why}");
    assert_eq!(
        bench.told(),
        ["a promote", "b promote", "b demote", "a demote"]
    );
    bench.stands("standby").await;
    let sentences = bench.sentences();
    let given_up = |one: &String| one.starts_with("b: promote: GIVEN UP after 1");
    assert!(sentences.iter().any(given_up), "{sentences:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_that_fails_is_taken_back() {
    let mut bench = Bench::new(
        "[ $HAD_STEP = demote ] && [ -e $0.stuck ] && exit 1; exit 0",
        "",
    );
    bench.is_eligible().await;
    bench.groups.promote("db", round(1), false);
    bench.answer().await.2.unwrap();
    fs::write(bench.path("a.stuck"), "").unwrap();
    bench.forget();
    bench.groups.demote("db", round(2), Manner::Graceful);
    let (_, _, result) = bench.answer().await;
    assert!(result.unwrap_err().contains("a: demote"));
    assert_eq!(
        bench.told(),
        ["b demote", "a demote", "a promote", "b promote"]
    );
    bench.stands("primary").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_in_a_promotion_or_behind_it_demotes_first() {
    let mut bench = Bench::new(
        "",
        "[ $HAD_STEP = promote ] && [ -e $0.slow ] && exec sleep 1000; exit 0",
    );
    bench.is_eligible().await;
    fs::write(bench.path("b.slow"), "").unwrap();
    bench.groups.promote("db", round(1), true);
    let deadline = Instant::now() + LONG;
    while bench.told().last().map(String::as_str) != Some("b promote") {
        assert!(Instant::now() < deadline, "{:?}", bench.told());
        sleep(Duration::from_millis(2)).await;
    }
    let mut bench = bench.killed().await;
    bench.is_eligible().await;
    assert_eq!(bench.told(), ["b demote", "a demote"]);
    fs::remove_file(bench.path("b.slow")).unwrap();
    bench.groups.promote("db", round(2), true);
    bench.answer().await.2.unwrap();
    assert_eq!(bench.groups.report()[0].epoch, 2);
    let mut bench = bench.killed().await;
    bench.is_eligible().await;
    assert_eq!(bench.told(), ["b demote", "a demote"]);
    // As a standby it has nothing to demote.
    bench.stands("standby").await;
    let mut bench = bench.killed().await;
    bench.is_eligible().await;
    assert_eq!(bench.told(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_maintenance_nothing_is_promoted_and_whoever_is_alone_says_so() {
    let mut bench = Bench::new("", "");
    bench.is_eligible().await;
    bench.groups.set_mode(Mode::Maintenance);
    let deadline = Instant::now() + LONG;
    while bench.groups.report()[0].not_eligible.is_none() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(2)).await;
    }
    bench.groups.promote("db", round(1), true);
    let (_, _, result) = bench.answer().await;
    assert!(result.unwrap_err().contains("maintenance"));
    assert!(bench.modes.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_that_changed_wait_until_they_are_demoted() {
    let mut bench = Bench::new("", "");
    bench.is_eligible().await;
    let mut other = bench.config.clone();
    other.groups[0].roles.pop();
    other.roles.pop();
    assert!(bench.groups.fits(&other, &|_| true).is_err());
    bench.groups.promote("db", round(1), false);
    bench.answer().await.2.unwrap();
    let why = bench.groups.fits(&other, &|_| false).unwrap_err();
    assert!(why.contains("hactl switchover db"), "{why}");
    let same = bench.config.clone();
    bench.groups.fits(&same, &|_| true).unwrap();
    bench.groups.configure(&same, Mode::ActiveStandby).await;
    bench.stands("primary").await;
    bench.groups.demote("db", round(2), Manner::Forced);
    bench.answer().await.2.unwrap();
    bench.stands("standby").await;
    bench.groups.fits(&other, &|_| false).unwrap();
    let failed = bench.groups.configure(&other, Mode::ActiveStandby).await;
    assert!(failed.is_empty(), "{failed:?}");
    let deadline = Instant::now() + LONG;
    while bench.groups.report()[0].roles.len() != 1 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(2)).await;
    }
    other.groups[0].roles.clear();
    other.roles.clear();
    bench.groups.configure(&other, Mode::ActiveStandby).await;
    let deadline = Instant::now() + LONG;
    while open(&bench.config).is_err() {
        assert!(Instant::now() < deadline, "its journal stays open");
        sleep(Duration::from_millis(5)).await;
    }
}
