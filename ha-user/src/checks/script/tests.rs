//! With real scripts.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::ScriptProbe;
use crate::{
    checks::probe::Probe as _,
    config::{self, CheckKind},
};

const LONG: Duration = Duration::from_secs(10);

/// A directory that anybody may enter, as a script of another user needs it.
struct Scripts {
    dir: TempDir,
}

impl Scripts {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        allow(dir.path(), 0o755);
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes one; a process that runs its predecessor is not disturbed. By a process of its own: what another test
    /// starts just then would have the file open for writing for a moment, and nobody could run it.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.path(name), self.path("new"));
        let written = Command::new("/bin/sh")
            .args([
                "-c",
                "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\"",
                "sh",
                text,
            ])
            .arg(&new)
            .status();
        assert!(written.unwrap().success());
        allow(&new, 0o755);
        fs::rename(new, &path).unwrap();
        path
    }

    /// One that this test's own user runs.
    fn probe(&self, name: &str, text: &str) -> ScriptProbe {
        let path = self.write(name, text);
        own(&path, "")
    }
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn own(path: &Path, keys: &str) -> ScriptProbe {
    let user = geteuid().as_raw();
    with_keys(&format!(
        "command = [\"{}\"]\nuser = \"{user}\"\n{keys}",
        path.display()
    ))
}

fn with_keys(keys: &str) -> ScriptProbe {
    match config::kind_of(&format!("kind = \"script\"\n{keys}")) {
        CheckKind::Script(script) => ScriptProbe::new(&script),
        other => panic!("{other:?}"),
    }
}

async fn result(probe: &mut ScriptProbe) -> Result<String, String> {
    timeout(LONG, probe.probe()).await.expect("an answer")
}

/// Lets a run begin and gives it up: when a file is there, or after a while.
async fn give_up(probe: &mut ScriptProbe, once: Option<&Path>) {
    let begun = async {
        for _ in 0..1_000 {
            match once {
                // What it printed before is read meanwhile.
                Some(path) if path.exists() => return sleep(Duration::from_millis(100)).await,
                None => return sleep(Duration::from_millis(300)).await,
                Some(_) => sleep(Duration::from_millis(5)).await,
            }
        }
        panic!("it does not begin");
    };
    tokio::select! {
        result = probe.probe() => panic!("{result:?}"),
        () = begun => {}
    }
}

async fn until(wanted: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if wanted() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("in vain");
}

fn exists(pid: &str) -> bool {
    Path::new(&format!("/proc/{}", pid.trim())).exists()
}

/// Whether it is more than a zombie: what a script started belongs to init, once that is gone.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn the_exit_code_decides() {
    let scripts = Scripts::new();
    let mut good = scripts.probe("good", "echo all is well");
    assert_eq!(result(&mut good).await, Ok("all is well".to_owned()));
    let mut silent = scripts.probe("silent", "exit 0");
    assert_eq!(result(&mut silent).await, Ok("exit code 0".to_owned()));
    let mut bad = scripts.probe(
        "bad",
        "echo first; printf '\\033[31mno space\\n' >&2; exit 3",
    );
    assert_eq!(
        result(&mut bad).await,
        Err("exit code 3: [31mno space".to_owned())
    );
    assert_eq!(bad.output(), ["first", "[31mno space"]);
    let mut killed = scripts.probe("killed", "kill -SEGV $$");
    assert_eq!(
        result(&mut killed).await,
        Err("ended by signal: 11 (SIGSEGV)".to_owned())
    );
    assert!(killed.output().is_empty());
}

#[tokio::test]
async fn the_environment_is_clean() {
    let scripts = Scripts::new();
    let path = scripts.write("env", "env | sort; pwd; set -- /proc/$$/fd/*; echo $#; ulimit -r; cat /proc/$$/oom_score_adj; grep NoNewPrivs /proc/$$/status; cat");
    let directory = scripts.dir.path().display().to_string();
    let mut probe = own(
        &path,
        &format!("env = {{ K = \"a b\", PATH = \"/usr/bin:/bin\" }}\ndirectory = \"{directory}\""),
    );
    result(&mut probe).await.unwrap();
    let output = probe.output();
    let mut names: Vec<&str> = output
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    // What a shell adds.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    assert_eq!(
        names,
        ["HAD_CHECK", "HOME", "K", "LANG", "LOGNAME", "PATH", "USER"]
    );
    for line in ["HAD_CHECK=watched", "K=a b", "LANG=C", "PATH=/usr/bin:/bin"] {
        assert!(output.iter().any(|shown| shown == line), "{output:?}");
    }
    // The directory; stdin, stdout, stderr, the script itself and the directory of descriptors; no real-time priority;
    // not spared when memory runs out.
    let rest = &output[output.len() - 5..];
    assert_eq!(rest, [directory.as_str(), "5", "0", "0", "NoNewPrivs: 1"]);
    assert!(!format!("{:?}", probe.config).contains("a b"));
}

#[tokio::test]
async fn what_cannot_be_run_is_a_failure_in_words() {
    let scripts = Scripts::new();
    let path = scripts.path("check");
    let shown = fs::canonicalize(scripts.dir.path()).unwrap().join("check");
    let shown = shown.display();
    let mut probe = own(&path, "");
    assert_eq!(
        result(&mut probe).await,
        Err(format!("{} does not exist", path.display()))
    );
    fs::create_dir(&path).unwrap();
    assert_eq!(result(&mut probe).await, Err(format!("{shown} is no file")));
    fs::remove_dir(&path).unwrap();
    scripts.write("check", "exit 0");
    allow(&path, 0o644);
    let words = result(&mut probe).await.unwrap_err();
    assert!(
        words.starts_with(&format!("{shown} is not executable for ")),
        "{words}"
    );
    allow(&path, 0o777);
    let words = result(&mut probe).await.unwrap_err();
    assert!(
        words.ends_with(&format!("run chmod go-w {shown}")),
        "{words}"
    );
    allow(&path, 0o755);
    result(&mut probe).await.unwrap();
    // Its directory.
    allow(scripts.dir.path(), 0o777);
    let words = result(&mut probe).await.unwrap_err();
    assert!(
        words.contains("may be changed by others (mode 777)"),
        "{words}"
    );
    allow(scripts.dir.path(), 0o755);
    // A program that the kernel does not know.
    fs::write(&path, "\u{1}\u{2}").unwrap();
    assert!(result(&mut probe).await.is_err());
    let mut nobody = with_keys(&format!(
        "command = [\"{}\"]\nuser = \"no-such-user\"",
        path.display()
    ));
    assert_eq!(
        result(&mut nobody).await,
        Err("there is no user no-such-user".to_owned())
    );
}

#[tokio::test]
async fn a_link_is_judged_with_its_own_directory() {
    let scripts = Scripts::new();
    let target = scripts.write("check", "echo here");
    let open = scripts.path("open");
    fs::create_dir(&open).unwrap();
    let link = open.join("link");
    std::os::unix::fs::symlink(target, &link).unwrap();
    let mut probe = own(&link, "");
    assert_eq!(result(&mut probe).await, Ok("here".to_owned()));
    allow(&open, 0o777);
    let words = result(&mut probe).await.unwrap_err();
    assert!(words.contains("/open may be changed by others"), "{words}");
}

#[tokio::test]
#[ignore = "needs root, who runs it as another user: cargo xtask test runs it"]
async fn a_script_has_no_privileges() {
    let scripts = Scripts::new();
    let path = scripts.write(
        "who",
        "id -un; id -G; grep -h Cap /proc/$$/status; echo $HOME",
    );
    let keys = format!("command = [\"{}\"]", path.display());
    let mut probe = with_keys(&keys);
    result(&mut probe).await.unwrap();
    let output = probe.output();
    assert!(
        ["nobody", "had-script"].contains(&output[0].as_str()),
        "{output:?}"
    );
    assert_eq!(output[1].split(' ').count(), 1, "{output:?}");
    let granted = output.iter().filter(|line| {
        line.starts_with("CapInh")
            || line.starts_with("CapPrm")
            || line.starts_with("CapEff")
            || line.starts_with("CapAmb")
    });
    let granted: Vec<&String> = granted.collect();
    assert_eq!(granted.len(), 4);
    assert!(
        granted
            .iter()
            .all(|line| line.ends_with(" 0000000000000000")),
        "{output:?}"
    );
    // What belongs to a third user could be anything.
    chown(&path, Some(1), None).unwrap();
    let words = result(&mut probe).await.unwrap_err();
    assert!(
        words.contains("belongs to user 1, who could have"),
        "{words}"
    );
}

#[tokio::test]
async fn a_hanging_script_is_killed_with_its_whole_group() {
    let scripts = Scripts::new();
    let (own_pid, child_pid) = (scripts.path("own"), scripts.path("child"));
    let mut probe = scripts.probe(
        "hang",
        &format!(
            "trap '' TERM HUP INT\nsleep 1000 & echo $! > {child}\necho waiting\necho $$ > {own}.new; mv {own}.new {own}\nwait",
            child = child_pid.display(),
            own = own_pid.display(),
        ),
    );
    for _ in 0..3 {
        let _ = fs::remove_file(&own_pid);
        give_up(&mut probe, Some(&own_pid)).await;
        let pids = [&own_pid, &child_pid].map(|file| fs::read_to_string(file).unwrap());
        assert_eq!(probe.output(), ["waiting"]);
        until(|| !exists(&pids[0]) && !runs(&pids[1])).await;
    }
}

/// Other tests open some meanwhile, too.
#[tokio::test]
async fn runs_leave_no_descriptors() {
    let scripts = Scripts::new();
    let mut quick = scripts.probe("quick", "exit 0");
    let mut slow = scripts.probe("slow", "exec sleep 1000");
    let before = descriptors();
    for _ in 0..100 {
        result(&mut quick).await.unwrap();
        timeout(Duration::from_millis(10), slow.probe())
            .await
            .expect_err("it hangs");
    }
    until(|| descriptors() < before + 60).await;
}

#[tokio::test]
async fn what_a_script_leaves_running_is_ended() {
    let scripts = Scripts::new();
    let child_pid = scripts.path("child");
    let mut probe = scripts.probe(
        "leave",
        &format!("sleep 1000 &\necho $! > {}", child_pid.display()),
    );
    // Its child still has the pipe.
    assert_eq!(result(&mut probe).await, Ok("exit code 0".to_owned()));
    let pid = fs::read_to_string(&child_pid).unwrap();
    until(|| !runs(&pid)).await;
}

#[tokio::test]
async fn a_flood_of_output_ends_with_the_script() {
    let scripts = Scripts::new();
    let mut much = scripts.probe(
        "much",
        "head -c 8000000 /dev/zero | tr '\\0' 'x' | fold -w 70; echo; echo the end; exit 1",
    );
    assert_eq!(
        result(&mut much).await,
        Err("exit code 1: the end".to_owned())
    );
    assert_eq!(much.runs.output.total, 8_000_000 + 8_000_000 / 70 + 1 + 8);
    assert_eq!(much.output().len(), 20);
    let mut endless = scripts.probe("endless", "exec yes");
    give_up(&mut endless, None).await;
    assert!(
        endless.runs.output.total > super::FREE,
        "{}",
        endless.runs.output.total
    );
    assert!(
        endless.runs.output.total < 64 << 20,
        "{}",
        endless.runs.output.total
    );
    let pid = endless.runs.pid.unwrap().to_string();
    until(|| !exists(&pid)).await;
    let mut closed = scripts.probe("closed", "exec >&- 2>&-; sleep 0.2; exit 4");
    assert_eq!(result(&mut closed).await, Err("exit code 4".to_owned()));
}

#[tokio::test]
async fn a_replaced_script_is_the_new_one_next_time() {
    let scripts = Scripts::new();
    let begun = scripts.path("begun");
    let mut probe = scripts.probe(
        "check",
        &format!("touch {}; sleep 0.3; echo old", begun.display()),
    );
    let replace = async {
        until(|| begun.exists()).await;
        scripts.write("check", "echo new");
    };
    let (old, ()) = tokio::join!(result(&mut probe), replace);
    assert_eq!(old, Ok("old".to_owned()));
    assert_eq!(result(&mut probe).await, Ok("new".to_owned()));
    fs::remove_file(scripts.path("check")).unwrap();
    assert!(
        result(&mut probe)
            .await
            .unwrap_err()
            .ends_with("does not exist")
    );
}

/// What a process in uninterruptible sleep looks like from here: its place is not given back.
#[tokio::test]
async fn beside_a_run_that_cannot_be_ended_no_other_one_begins() {
    let scripts = Scripts::new();
    let begun = scripts.path("begun");
    let mut probe = scripts.probe("check", &format!("touch {}", begun.display()));
    probe.runs.pid = Some(4711);
    let held = Arc::clone(&probe.runs.permits)
        .acquire_owned()
        .await
        .unwrap();
    assert_eq!(
        result(&mut probe).await,
        Err(
            "an earlier run (process 4711) was killed and does not end, so no other one is started"
                .to_owned()
        )
    );
    assert!(!begun.exists());
    drop(held);
    result(&mut probe).await.unwrap();
    assert!(begun.exists());
}

#[tokio::test]
async fn a_check_that_is_removed_takes_its_run_with_it() {
    let scripts = Scripts::new();
    let mut probe = scripts.probe("hang", "sleep 1000");
    give_up(&mut probe, None).await;
    let pid = probe.runs.pid.unwrap().to_string();
    drop(probe);
    until(|| !exists(&pid)).await;
}
