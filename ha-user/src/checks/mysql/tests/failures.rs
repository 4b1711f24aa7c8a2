//! A server that dies, hangs, comes back.

use std::time::Duration;

use ha_common::Nanos;
use ha_core::check::Observation;
use rustix::process::Signal;
use tokio::time::timeout;

use super::mariadbd::{Mariadbd, PATIENCE, alone, check};
use crate::{
    checks::{mysql::MysqlProbe, probe::Probe as _},
    sys::clock,
};

/// What a check of ours would give a probe.
const SHORT: Duration = Duration::from_millis(200);

/// Waits until the server has a session that only waits.
async fn waits(server: &Mariadbd, probe: &mut MysqlProbe) {
    let waiting = async {
        loop {
            let sleeping =
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'DO SLEEP%'";
            if server.sql(sleeping).await == ["1"] {
                return;
            }
        }
    };
    tokio::select! {
        observation = probe.watch() => panic!("{observation:?}"),
        waiting = timeout(PATIENCE, waiting) => waiting.expect("a session that waits"),
    }
}

async fn passes(probe: &mut MysqlProbe) -> String {
    let found = timeout(PATIENCE, probe.probe()).await.expect("an answer");
    found.expect("a server that works")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_noticed_at_once_and_the_return_too() {
    let mut server = Mariadbd::start(&alone(&[])).await;
    let mut probe = MysqlProbe::new(&check(server.config()));
    let detail = passes(&mut probe).await;
    assert!(detail.ends_with("socket answers the query"), "{detail}");
    // The session stays: two for both probes and the one that waits, the others are those of `counter` itself.
    waits(&server, &mut probe).await;
    let before = server.counter("CONNECTIONS").await;
    for _ in 0..5 {
        passes(&mut probe).await;
    }
    assert_eq!(server.counter("CONNECTIONS").await, before + 1);

    let died = tokio::task::spawn_blocking(move || {
        let at = clock::now();
        server.kill();
        (server, at)
    });
    let observation = timeout(PATIENCE, probe.watch()).await.expect("news");
    let noticed = clock::now();
    assert!(matches!(observation, Observation::Suspect(_)));
    let error = timeout(PATIENCE, probe.probe()).await.expect("an answer");
    let decided = clock::now();
    let (mut server, at) = died.await.unwrap();
    println!(
        "after SIGKILL: {}, known to be down: {}",
        noticed.since(at),
        decided.since(at)
    );
    // Refused, or reset where the kernel is not done with its sockets.
    assert!(error.unwrap_err().contains("Connection re"));
    // The kernel takes the process apart first; the test only says that no interval is waited for.
    assert!(decided.since(at) < Nanos::from_millis(900));

    server.restart().await;
    passes(&mut probe).await;
    waits(&server, &mut probe).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_not_given_a_session_by_each_probe() {
    let server = Mariadbd::start(&alone(&[])).await;
    let mut kept = MysqlProbe::new(&check(server.config()));
    passes(&mut kept).await;
    let mut fresh = MysqlProbe::new(&check(server.config()));
    let before = server.counter("CONNECTIONS").await;

    server.freeze().await;
    for _ in 0..5 {
        assert!(timeout(SHORT, kept.probe()).await.is_err());
        assert!(timeout(SHORT, fresh.probe()).await.is_err());
    }
    server.signal(Signal::CONT);
    passes(&mut kept).await;
    passes(&mut fresh).await;
    // One that was being opened, and the one that counts them.
    assert_eq!(server.counter("CONNECTIONS").await, before + 2);
}

#[tokio::test]
async fn a_session_that_is_killed_is_no_failure() {
    let server = Mariadbd::start(&alone(&[])).await;
    let mut probe = MysqlProbe::new(&check(server.config()));
    passes(&mut probe).await;
    waits(&server, &mut probe).await;
    let others = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'root' AND ID <> CONNECTION_ID()";
    for id in server.sql(others).await {
        server.kill_session(&id).await;
    }
    let observation = timeout(PATIENCE, probe.watch()).await.expect("news");
    assert!(matches!(observation, Observation::Suspect(_)));
    passes(&mut probe).await;
    waits(&server, &mut probe).await;
}

#[tokio::test]
async fn nothing_is_left_of_a_check_that_ended() {
    let server = Mariadbd::start(&alone(&[])).await;
    let mut probe = MysqlProbe::new(&check(server.config()));
    passes(&mut probe).await;
    waits(&server, &mut probe).await;
    drop(probe);
    let gone = async {
        // The server looks every five seconds whether somebody still waits for its SLEEP.
        while server.counter("THREADS_CONNECTED").await > 1 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("no session");
    let unannounced = server.log().matches("Aborted connection").count();
    assert!(unannounced <= 1, "{}", server.log());
}

#[tokio::test]
async fn the_session_that_waits_holds_up_no_demotion() {
    let server = Mariadbd::start(&alone(&["--log-bin"])).await;
    let mut probe = MysqlProbe::new(&check(server.config()));
    passes(&mut probe).await;
    waits(&server, &mut probe).await;
    for statement in [
        "SET GLOBAL read_only = 1",
        "FLUSH TABLES WITH READ LOCK",
        "FLUSH LOGS",
    ] {
        let done = timeout(Duration::from_secs(2), server.sql(statement)).await;
        assert!(done.is_ok(), "{statement}");
    }
}
