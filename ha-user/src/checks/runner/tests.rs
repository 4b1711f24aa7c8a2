//! With real scripts; the engine thread's part is the test's.

use std::{fs, path::PathBuf, sync::mpsc::Receiver, time::Duration};

use ha_common::MonoNs;
use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::Checks;
use crate::{
    config::{self, Config},
    engine::{Command, Handle, Message},
    sys::clock,
};

const LONG: Duration = Duration::from_secs(10);

/// A check whose script writes down that it begins, and passes once it may.
struct Watched {
    dir: TempDir,
    checks: Checks,
    commands: Receiver<Command>,
    messages: mpsc::Receiver<Message>,
}

impl Watched {
    fn new() -> Self {
        let (engine, commands) = Handle::unread();
        let (sender, messages) = mpsc::channel(64);
        Self {
            dir: tempfile::tempdir().unwrap(),
            checks: Checks::new(engine, sender),
            commands,
            messages,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// It is not looked at before somebody asks.
    fn config(&self, keys: &str) -> Config {
        let begun = self.path("begun").display().to_string();
        let may_pass = self.path("may-pass").display().to_string();
        config::config_of(&format!(
            "kind = \"script\"\nuser = \"{}\"\nstart_delay = \"1h\"\ninterval = \"20s\"\ntimeout = \"20s\"\n{keys}\n\
             command = [\"/bin/sh\", \"-c\", \"echo once >> {begun}; until [ -e {may_pass} ]; do sleep 0.01; done\"]",
            geteuid().as_raw()
        ))
    }

    fn begun(&self) -> usize {
        let text = fs::read_to_string(self.path("begun"));
        text.map_or(0, |text| text.lines().count())
    }

    async fn until_begun(&self, times: usize) {
        let begun = async {
            while self.begun() < times {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LONG, begun).await.expect("a run");
    }

    /// Asks, and waits until the task knows it.
    async fn ask(&self, round: MonoNs) {
        self.checks.ask("watched", round);
        let known = async {
            while self.checks.running()[0].asks.capacity() < super::ASKS {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(LONG, known).await.expect("a task that takes it");
    }

    fn pass(&self) {
        fs::write(self.path("may-pass"), "").unwrap();
    }

    /// What is answered to so many.
    async fn answers(&self, count: usize) -> Vec<(MonoNs, Result<(), String>)> {
        let mut answers = Vec::new();
        let all = async {
            while answers.len() < count {
                match self.commands.try_recv() {
                    Ok(Command::Confirmed {
                        check,
                        round,
                        result,
                    }) => {
                        assert_eq!(check, "watched");
                        answers.push((round, result));
                    }
                    Ok(Command::Checked { .. }) => {}
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => sleep(Duration::from_millis(2)).await,
                }
            }
        };
        timeout(LONG, all).await.expect("answers");
        answers
    }
}

#[tokio::test]
async fn one_run_answers_all_who_asked_before_it_began() {
    let watched = Watched::new();
    watched.checks.configure(&watched.config(""));
    let first = clock::now();
    let rounds = [0, 1, 2, 3].map(|more| MonoNs(first.0 + more));
    // Two before the task runs at all, two while the script does.
    watched.checks.ask("watched", rounds[0]);
    watched.checks.ask("watched", rounds[1]);
    watched.until_begun(1).await;
    watched.ask(rounds[2]).await;
    watched.ask(rounds[3]).await;
    watched.pass();
    assert_eq!(
        watched.answers(4).await,
        rounds.map(|round| (round, Ok(())))
    );
    assert_eq!(watched.begun(), 1);
}

#[tokio::test]
async fn who_asks_later_gets_no_older_answer() {
    let watched = Watched::new();
    watched.checks.configure(&watched.config(""));
    let first = clock::now();
    watched.ask(first).await;
    watched.until_begun(1).await;
    let second = clock::now();
    watched.ask(second).await;
    watched.until_begun(2).await;
    watched.pass();
    assert_eq!(
        watched.answers(2).await,
        [(first, Ok(())), (second, Ok(()))]
    );
    assert_eq!(watched.begun(), 2);
}

#[tokio::test]
async fn a_check_that_changes_answers_all_the_same() {
    let mut watched = Watched::new();
    watched.checks.configure(&watched.config(""));
    let round = clock::now();
    watched.ask(round).await;
    watched.until_begun(1).await;
    watched.checks.configure(&watched.config("fall = 7"));
    // As the main task does.
    match timeout(LONG, watched.messages.recv()).await {
        Ok(Some(Message::Confirm { check, round })) => watched.checks.ask(&check, round),
        other => panic!("{other:?}"),
    }
    watched.until_begun(2).await;
    watched.pass();
    assert_eq!(watched.answers(1).await, [(round, Ok(()))]);
}

#[tokio::test]
async fn a_check_that_is_gone_answers_that() {
    let mut watched = Watched::new();
    let mut config = watched.config("");
    watched.checks.configure(&config);
    let round = clock::now();
    watched.ask(round).await;
    config.checks.clear();
    watched.checks.configure(&config);
    match timeout(LONG, watched.messages.recv()).await {
        Ok(Some(Message::Confirm { check, round })) => watched.checks.ask(&check, round),
        other => panic!("{other:?}"),
    }
    let answers = watched.answers(1).await;
    assert!(matches!(&answers[..], [(asked, Err(_))] if *asked == round));
}

/// The engine thread does not take up commands for a while.
#[tokio::test]
async fn an_answer_waits_for_a_busy_engine() {
    let watched = Watched::new();
    let engine = watched.checks.engine.clone();
    while engine
        .send(Command::Mute {
            check: String::new(),
            lasts: None,
            end: false,
            reply: tokio::sync::oneshot::channel().0,
        })
        .is_ok()
    {}
    let round = clock::now();
    watched.checks.ask("nobody", round);
    sleep(Duration::from_millis(20)).await;
    while let Ok(Command::Mute { .. }) = watched.commands.try_recv() {}
    let answer = async {
        loop {
            match watched.commands.try_recv() {
                Ok(Command::Confirmed { check, round, .. }) => return (check, round),
                Ok(other) => panic!("{other:?}"),
                Err(_) => sleep(Duration::from_millis(2)).await,
            }
        }
    };
    assert_eq!(
        timeout(LONG, answer).await,
        Ok(("nobody".to_owned(), round))
    );
}
