//! With real scripts.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use ha_common::{MonoNs, Nanos, Priority};
use ha_core::{Mode, plan::Context};
use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::*;
use crate::config::{self, RoleKind};

const LONG: Duration = Duration::from_secs(20);

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// By a process of its own: what another test starts just then would have the file open for writing for a moment.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        let written = Command::new("/bin/sh")
            .args([
                "-c",
                "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"",
                "sh",
                text,
            ])
            .arg(&path)
            .status();
        assert!(written.unwrap().success());
        path.to_str().unwrap().to_owned()
    }

    fn role(&self, keys: &str) -> ScriptRole {
        let user = geteuid().as_raw();
        let text = format!(
            "[[instance]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\nvips = [\"192.168.33.100/24\"]\n\
             group = \"db\"\n[[group]]\nname = \"db\"\nroles = [\"told\"]\n[[role]]\nname = \"told\"\n\
             kind = \"script\"\nuser = \"{user}\"\n{keys}\n"
        );
        let config = config::for_tests(&text);
        let RoleKind::Script(script) = &config.roles[0].kind else {
            panic!("{config:?}");
        };
        let setting = Setting {
            node: "n1".to_owned(),
            group: "db".to_owned(),
            role: "told".to_owned(),
            priority: Priority(90),
            state_dir: self.path("state"),
            runtime_dir: self.path("run"),
            arbitrators: Vec::new(),
            peers: 1,
            database: None,
            mask_units: true,
        };
        ScriptRole::new(script, setting)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn order(step: &'static str) -> Order {
    Order {
        serial: 1,
        role: 0,
        step,
        deadline: MonoNs::ZERO.after(Nanos::from_secs(1)),
        epoch: 7,
        context: Context {
            source_gone: step == "promote",
            ..Context::default()
        },
    }
}

async fn step(role: &mut ScriptRole, step: &'static str) -> Result<String, String> {
    let order = order(step);
    let done = timeout(LONG, role.run(&order)).await.expect("an end");
    done.map(|done| done.text)
}

fn situation(fault: bool) -> Situation {
    Situation {
        mode: Mode::ActiveStandby,
        fault,
    }
}

#[tokio::test]
async fn a_script_of_keepalived_is_told_each_change() {
    let bench = Bench::new();
    let said = bench.path("said");
    let script = bench.write(
        "notify",
        &format!("echo \"$@\" >> {}; echo fine", said.display()),
    );
    let mut role = bench.role(&format!("command = [\"{script}\", \"-v\"]"));
    assert_eq!(role.observe().await.promoted, None);
    assert_eq!(step(&mut role, "demote").await.unwrap(), "fine");
    assert_eq!(role.observe().await.promoted, Some(false));
    assert_eq!(step(&mut role, "promote").await.unwrap(), "fine");
    let observation = role.observe().await;
    assert_eq!(
        (observation.promoted, observation.able),
        (Some(true), Ok(()))
    );
    step(&mut role, "demote").await.unwrap();
    for fault in [false, true, true, false, false] {
        role.adapt(situation(fault)).await.unwrap();
    }
    assert_eq!(
        bench.lines("said"),
        [
            "-v GROUP db BACKUP 90",
            "-v GROUP db MASTER 90",
            "-v GROUP db BACKUP 90",
            "-v GROUP db FAULT 90",
            "-v GROUP db BACKUP 90",
        ]
    );
}

#[tokio::test]
async fn each_step_has_its_own_command_and_finds_in_its_environment_what_it_is_about() {
    let bench = Bench::new();
    let said = bench.path("said");
    let write = |name: &str| {
        let text = format!(
            "echo {name} $K $(env | grep ^HAD_ | sort | tr '\\n' ' ') >> {}",
            said.display()
        );
        bench.write(name, &text)
    };
    let mut role = bench.role(&format!(
        "promote = [\"{}\"]\ndemote = [\"{}\"]\nfault = [\"{}\"]\nenv = {{ K = \"v\" }}",
        write("up"),
        write("down"),
        write("off"),
    ));
    step(&mut role, "promote").await.unwrap();
    step(&mut role, "demote").await.unwrap();
    role.adapt(situation(true)).await.unwrap();
    let common = "HAD_GROUP=db HAD_NODE=n1 HAD_PRIORITY=90 HAD_ROLE=told";
    assert_eq!(
        bench.lines("said"),
        [
            format!(
                "up v HAD_EPOCH=7 {common} HAD_STATE=MASTER HAD_STEP=promote HAD_UNPLANNED=yes"
            ),
            format!(
                "down v HAD_EPOCH=7 {common} HAD_STATE=BACKUP HAD_STEP=demote HAD_UNPLANNED=no"
            ),
            format!("off v {common} HAD_STATE=FAULT"),
        ]
    );
}

#[tokio::test]
async fn what_fails_is_not_acknowledged() {
    let bench = Bench::new();
    let script = bench.write("up", "echo no such disk; exit 3");
    let mut role = bench.role(&format!(
        "promote = [\"{script}\"]\ndemote = [\"{script}\"]"
    ));
    let why = step(&mut role, "promote").await.unwrap_err();
    assert_eq!(why, "exit code 3: no such disk");
    assert_eq!(role.observe().await.promoted, None);
    fs::remove_file(&script).unwrap();
    let why = role.observe().await.able.unwrap_err();
    assert!(why.contains("does not exist"), "{why}");
    assert!(step(&mut role, "dance").await.is_err());
}

#[tokio::test]
async fn status_has_the_last_word() {
    let bench = Bench::new();
    let up = bench.path("is-up");
    let promote = bench.write("up", "exit 0");
    let demote = bench.write("down", &format!("rm -f {}", up.display()));
    let status = bench.write("status", &format!("test -e {}", up.display()));
    let mut role = bench.role(&format!(
        "promote = [\"{promote}\"]\ndemote = [\"{demote}\"]\nstatus = [\"{status}\"]"
    ));
    let why = step(&mut role, "promote").await.unwrap_err();
    assert!(why.contains("not promoted"), "{why}");
    fs::write(&up, "").unwrap();
    assert_eq!(role.observe().await.promoted, Some(true));
    step(&mut role, "promote").await.unwrap();
    step(&mut role, "demote").await.unwrap();
    assert_eq!(role.observe().await.promoted, Some(false));
    assert!(!up.exists());
}

#[tokio::test]
async fn a_script_that_is_given_up_is_killed_and_the_next_one_runs() {
    let bench = Bench::new();
    let pid = bench.path("pid");
    let hang = bench.write(
        "up",
        &format!("echo $$ > {}; exec sleep 1000", pid.display()),
    );
    let down = bench.write("down", "exit 0");
    let mut role = bench.role(&format!("promote = [\"{hang}\"]\ndemote = [\"{down}\"]"));
    let order = order("promote");
    let begun = async {
        while bench.lines("pid").is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = role.run(&order) => panic!("{ended:?}"),
        begun = timeout(LONG, begun) => begun.expect("a run"),
    }
    step(&mut role, "demote").await.unwrap();
    let pid = bench.lines("pid").remove(0);
    assert!(!Path::new("/proc").join(pid).exists());
    assert_eq!(role.observe().await.promoted, Some(false));
}
