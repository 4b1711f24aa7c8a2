//! With real processes: sleep(1) under names of their own.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::mpsc,
    time::Duration,
};

use ha_core::check::Observation;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::{ProcessProbe, scan::Found};
use crate::{
    checks::probe::Probe as _,
    config::{self, CheckKind},
};

const LONG: Duration = Duration::from_secs(10);

/// A program that nobody else runs, and its processes, which end with it.
struct Program {
    _dir: TempDir,
    path: PathBuf,
    name: String,
    running: Vec<Child>,
}

impl Drop for Program {
    fn drop(&mut self) {
        for child in &mut self.running {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Program {
    fn new(tag: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("{tag}{}", std::process::id());
        let path = dir.path().join(&name);
        let sleep = ["/usr/bin/sleep", "/bin/sleep"];
        let sleep = sleep.iter().find(|path| Path::new(path).exists());
        // A process has the name of the link.
        symlink(sleep.unwrap(), &path).unwrap();
        Self {
            _dir: dir,
            path,
            name,
            running: Vec::new(),
        }
    }

    /// Starts one more; its number.
    fn start(&mut self, seconds: &str) -> i32 {
        let child = Command::new(&self.path).arg(seconds).spawn().unwrap();
        let pid = child.id().cast_signed();
        self.running.push(child);
        pid
    }

    /// Kills the first; nobody waits for it yet, so it is a zombie.
    fn kill_first(&mut self) -> i32 {
        self.running[0].kill().unwrap();
        self.running[0].id().cast_signed()
    }

    /// A dead one is waited for.
    fn reap_first(&mut self) {
        self.running.remove(0).wait().unwrap();
    }

    fn signal_first(&self, signal: Signal) {
        let pid = Pid::from_child(&self.running[0]);
        kill_process(pid, signal).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }
}

fn probe(keys: &str) -> ProcessProbe {
    match config::kind_of(&format!("kind = \"process\"\n{keys}")) {
        CheckKind::Process(process) => ProcessProbe::new(&process),
        other => panic!("{other:?}"),
    }
}

async fn result(probe: &mut ProcessProbe) -> Result<String, String> {
    timeout(LONG, probe.probe()).await.expect("an answer")
}

async fn news(probe: &mut ProcessProbe) -> Observation {
    timeout(LONG, probe.watch()).await.expect("news")
}

/// Waits until a probe says what it should.
async fn until(
    probe: &mut ProcessProbe,
    wanted: impl Fn(&Result<String, String>) -> bool,
) -> String {
    for _ in 0..1_000 {
        let said = result(probe).await;
        if wanted(&said) {
            return said.unwrap_or_else(|error| error);
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", result(probe).await);
}

#[tokio::test]
async fn a_process_that_dies_is_gone_at_once_even_if_nobody_waits_for_it() {
    let mut program = Program::new("hadA");
    let mut probe = probe(&format!("process = \"{}\"", program.name));
    let name = program.name.clone();
    assert_eq!(result(&mut probe).await, Err(format!("no {name} runs")));
    let pid = program.start("1000");
    let words = until(&mut probe, Result::is_ok).await;
    assert!(
        words.starts_with(&format!("{name} runs (process {pid}")),
        "{words}"
    );
    timeout(Duration::from_millis(50), probe.watch())
        .await
        .expect_err("no news");
    program.kill_first();
    assert_eq!(
        news(&mut probe).await,
        Observation::Failed(format!("{name} ended (process {pid})"))
    );
    // It is a zombie now.
    assert_eq!(result(&mut probe).await, Err(format!("no {name} runs")));
}

#[tokio::test]
async fn a_process_that_was_replaced_has_not_failed() {
    let mut program = Program::new("hadB");
    let mut probe = probe(&format!("process = \"{}\"", program.name));
    program.start("1000");
    until(&mut probe, Result::is_ok).await;
    let second = program.start("1000");
    // Until it has become that program it is a copy of this one.
    let comm = format!("/proc/{second}/comm");
    for attempt in 0.. {
        if fs::read_to_string(&comm).unwrap().trim() == program.name {
            break;
        }
        assert!(attempt < 1_000);
        sleep(Duration::from_millis(5)).await;
    }
    program.kill_first();
    assert_eq!(news(&mut probe).await, Observation::Changed);
    let words = result(&mut probe).await.unwrap();
    assert!(words.contains(&format!("process {second}")), "{words}");
    // Its end is noticed as well.
    program.reap_first();
    program.kill_first();
    assert!(matches!(news(&mut probe).await, Observation::Failed(_)));
}

#[tokio::test]
async fn the_number_of_processes_counts() {
    let mut program = Program::new("hadC");
    let name = program.name.clone();
    let mut probe = probe(&format!("process = \"{name}\"\nmin = 2\nmax = 3"));
    let first = program.start("1000");
    assert_eq!(
        until(&mut probe, |said| said
            .as_ref()
            .is_err_and(|words| !words.starts_with("no ")))
        .await,
        format!("1 of {name} run, fewer than 2")
    );
    program.start("1000");
    until(&mut probe, Result::is_ok).await;
    program.start("1000");
    until(&mut probe, |said| {
        said.as_ref().is_ok_and(|words| words.starts_with("3 "))
    })
    .await;
    program.start("1000");
    assert_eq!(
        until(&mut probe, Result::is_err).await,
        format!("4 of {name} run, more than 3")
    );
    for _ in 0..2 {
        program.kill_first();
        program.reap_first();
    }
    let words = result(&mut probe).await.unwrap();
    assert!(words.starts_with(&format!("2 of {name} run")), "{words}");
    assert!(!words.contains(&first.to_string()));
    let killed = program.kill_first();
    assert_eq!(
        news(&mut probe).await,
        Observation::Failed(format!(
            "one of {name} ended (process {killed}): 1 left, fewer than 2"
        ))
    );
}

#[tokio::test]
async fn a_stopped_process_hangs() {
    let mut program = Program::new("hadD");
    let name = program.name.clone();
    let mut probe = probe(&format!("process = \"{name}\""));
    let pid = program.start("1000");
    until(&mut probe, Result::is_ok).await;
    program.signal_first(Signal::STOP);
    assert_eq!(
        until(&mut probe, Result::is_err).await,
        format!("{name} hangs: process {pid} stopped by a signal (state T)")
    );
    program.signal_first(Signal::CONT);
    until(&mut probe, Result::is_ok).await;
}

#[tokio::test]
async fn a_file_names_the_process() {
    let mut program = Program::new("hadE");
    let file = program.file("pid");
    let shown = file.display().to_string();
    let mut probe = probe(&format!(
        "pid_file = \"{shown}\"\nprocess = \"{}\"",
        program.name
    ));
    assert_eq!(
        result(&mut probe).await,
        Err(format!("{shown} cannot be read: No such file or directory"))
    );
    fs::write(&file, "none").unwrap();
    assert_eq!(
        result(&mut probe).await,
        Err(format!("{shown} has no number of a process in it"))
    );
    // A number that another process has by now.
    fs::write(&file, "1\n").unwrap();
    assert_eq!(
        result(&mut probe).await,
        Err(format!("{shown} names process 1, which is another one"))
    );
    let first = program.start("1000");
    fs::write(&file, format!("{first}\n")).unwrap();
    until(&mut probe, Result::is_ok).await;
    let second = program.start("1000");
    program.kill_first();
    assert!(matches!(news(&mut probe).await, Observation::Failed(_)));
    program.reap_first();
    assert_eq!(
        result(&mut probe).await,
        Err(format!("{shown} names process {first}, which does not run"))
    );
    fs::write(&file, format!("{second}\n")).unwrap();
    until(&mut probe, Result::is_ok).await;
    // It moves on to another process in order: no failure.
    let third = program.start("1000");
    fs::write(&file, format!("{third}\n")).unwrap();
    let comm = format!("/proc/{third}/comm");
    for attempt in 0.. {
        if fs::read_to_string(&comm).unwrap().trim() == program.name {
            break;
        }
        assert!(attempt < 1_000);
        sleep(Duration::from_millis(5)).await;
    }
    program.kill_first();
    assert_eq!(news(&mut probe).await, Observation::Changed);
}

#[tokio::test]
async fn a_command_line_is_compared_in_whole_words() {
    let mut program = Program::new("hadF");
    let path = program.path.display().to_string();
    let pid = program.start("1000");
    let comm = format!("/proc/{pid}/comm");
    for attempt in 0.. {
        if fs::read_to_string(&comm).unwrap().trim() == program.name {
            break;
        }
        assert!(attempt < 1_000);
        sleep(Duration::from_millis(5)).await;
    }
    let fits = async |command: &str, place: &str| {
        let keys = format!("command = \"{command}\"\ncommand_match = \"{place}\"");
        result(&mut probe(&keys)).await.is_ok()
    };
    assert!(fits(&path, "start").await);
    assert!(fits(&format!("{path}  1000"), "start").await);
    assert!(!fits(&format!("{path} 100"), "start").await);
    assert!(!fits(&path[..path.len() - 1], "start").await);
    assert!(fits(&format!("{path} 1000"), "exact").await);
    assert!(!fits(&path, "exact").await);
    assert!(fits(&path, "contains").await);
    assert!(!fits(&program.name, "contains").await);
}

#[tokio::test]
async fn whose_process_it_is_counts() {
    let mut program = Program::new("hadG");
    program.start("1000");
    let name = program.name.clone();
    let of = |user: &str| probe(&format!("process = \"{name}\"\nuser = \"{user}\""));
    let mine = rustix::process::geteuid().as_raw();
    until(&mut of(&mine.to_string()), Result::is_ok).await;
    let other = if mine == 0 { "daemon" } else { "root" };
    assert_eq!(result(&mut of(other)).await, Err(format!("no {name} runs")));
    assert_eq!(
        result(&mut of("nobody-of-that-name")).await,
        Err("there is no user nobody-of-that-name".to_owned())
    );
}

/// Waits until a dead process is one for everybody.
async fn until_dead(pid: i32) {
    for _ in 0..1_000 {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        if state.contains(") Z ") {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("process {pid} does not end");
}

/// By the end of a probe's interval, or by somebody who asks.
#[tokio::test]
async fn an_end_is_told_though_a_probe_comes_before_it() {
    for seen in [false, true] {
        let mut program = Program::new("hadI");
        let name = program.name.clone();
        let mut probe = probe(&format!("process = \"{name}\""));
        let pid = program.start("1000");
        until(&mut probe, Result::is_ok).await;
        program.kill_first();
        until_dead(pid).await;
        // A look at /proc that takes its time, for which the watch waits when it is given up.
        let (release, held) = mpsc::channel::<()>();
        let slow = probe.looking.call("the look", move || {
            // Ends when the sender is gone.
            let _ = held.recv();
            Ok(Found::default())
        });
        timeout(Duration::ZERO, slow).await.expect_err("it is out");
        for _ in 0..1_000 {
            if !seen || probe.ended.is_some() {
                break;
            }
            let given_up = timeout(Duration::ZERO, probe.watch()).await;
            given_up.expect_err("it waits");
            sleep(Duration::from_millis(2)).await;
        }
        drop(release);
        assert_eq!(probe.ended, seen.then_some(pid));
        assert_eq!(result(&mut probe).await, Err(format!("no {name} runs")));
        assert_eq!(
            news(&mut probe).await,
            Observation::Failed(format!("{name} ended (process {pid})"))
        );
        // Once.
        timeout(Duration::from_millis(50), probe.watch())
            .await
            .expect_err("no news");
    }
}

#[tokio::test]
async fn an_end_is_no_news_once_a_probe_found_enough() {
    let mut program = Program::new("hadJ");
    let mut probe = probe(&format!("process = \"{}\"", program.name));
    program.start("1000");
    until(&mut probe, Result::is_ok).await;
    let pid = program.kill_first();
    until_dead(pid).await;
    result(&mut probe).await.unwrap_err();
    program.start("1000");
    until(&mut probe, Result::is_ok).await;
    timeout(Duration::from_millis(50), probe.watch())
        .await
        .expect_err("no news");
}

/// Where the kernel does not tell the beginning of processes, a missing one is found by the next probe.
#[tokio::test]
async fn a_process_that_begins_is_found_by_a_probe() {
    let mut program = Program::new("hadK");
    let mut probe = probe(&format!("process = \"{}\"", program.name));
    probe.begun = true;
    result(&mut probe).await.unwrap_err();
    program.start("1000");
    timeout(Duration::from_millis(50), probe.watch())
        .await
        .expect_err("no news");
    let words = until(&mut probe, Result::is_ok).await;
    assert!(words.contains("is not told by the kernel here"), "{words}");
}

/// These run in the guest alone: a container or a further namespace has no proc connector.
mod in_guest {
    use super::*;

    #[tokio::test]
    #[ignore = "needs the proc connector: cargo xtask vm-test runs it in the guest"]
    async fn a_process_that_begins_is_noticed() {
        let mut program = Program::new("hadH");
        let mut probe = probe(&format!("process = \"{}\"", program.name));
        result(&mut probe).await.unwrap_err();
        assert!(probe.connector.is_some(), "there is no proc connector");
        timeout(Duration::from_millis(100), probe.watch())
            .await
            .expect_err("no news of others");
        program.start("1000");
        assert_eq!(news(&mut probe).await, Observation::Changed);
        until(&mut probe, Result::is_ok).await;
    }
}
