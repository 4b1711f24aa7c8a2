//! Within a network namespace of the test's own thread, where it may be told not to answer.

use std::{fs, process::Command, time::Duration};

use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::time::{sleep, timeout};

use super::PingProbe;
use crate::{
    checks::probe::Probe as _,
    config::{self, CheckKind},
};

const IGNORE_V4: &str = "/proc/sys/net/ipv4/icmp_echo_ignore_all";
const IGNORE_V6: &str = "/proc/sys/net/ipv6/icmp/echo_ignore_all";

/// Moves this test's thread, and with it its runtime, to a network of its own.
fn alone() {
    // SAFETY: the flag changes the network namespace of this thread alone, and nothing that memory or descriptors
    // depend on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.unwrap().success());
}

fn ignore(file: &str, ignored: bool) {
    fs::write(file, if ignored { "1" } else { "0" }).unwrap();
}

fn probe(keys: &str) -> PingProbe {
    match config::kind_of(&format!("kind = \"ping\"\n{keys}")) {
        CheckKind::Ping(ping) => PingProbe::new(&ping),
        other => panic!("{other:?}"),
    }
}

async fn result(probe: &mut PingProbe) -> Result<String, String> {
    let result = timeout(Duration::from_secs(10), probe.probe()).await;
    result.expect("an answer")
}

#[tokio::test]
#[ignore = "needs root, for a network namespace: cargo xtask test runs it"]
async fn hosts_answer_over_both_families() {
    alone();
    let mut one = probe("targets = [\"127.0.0.1\"]");
    assert_eq!(result(&mut one).await, Ok("127.0.0.1 answers".to_owned()));
    let mut six = probe("targets = [\"::1\"]\ninterface = \"lo\"");
    assert_eq!(result(&mut six).await, Ok("::1 answers".to_owned()));
    let mut all =
        probe("targets = [\"127.0.0.1\", \"127.0.0.2\", \"::1\"]\nneed = 3\ninterface = \"lo\"");
    assert_eq!(result(&mut all).await, Ok("3 of 3 answer".to_owned()));
}

#[tokio::test]
#[ignore = "needs root, for a network namespace: cargo xtask test runs it"]
async fn so_many_must_answer() {
    alone();
    ignore(IGNORE_V6, true);
    let keys = "targets = [\"127.0.0.1\", \"::1\", \"2001:db8::1\"]\ntimeout = \"200ms\"";
    let mut one = probe(keys);
    assert_eq!(result(&mut one).await, Ok("127.0.0.1 answers".to_owned()));
    let mut two = probe(&format!("{keys}\nneed = 2"));
    assert_eq!(
        result(&mut two).await,
        Err("1 of 3 answered, fewer than 2: ::1 does not answer, 2001:db8::1: Network is unreachable".to_owned())
    );
    ignore(IGNORE_V6, false);
    assert_eq!(result(&mut two).await, Ok("2 of 3 answer".to_owned()));
}

#[tokio::test]
#[ignore = "needs root, for a network namespace: cargo xtask test runs it"]
async fn a_lost_packet_is_no_failure_and_silence_is() {
    alone();
    ignore(IGNORE_V4, true);
    let mut silent = probe("targets = [\"127.0.0.1\"]\ntimeout = \"100ms\"");
    assert_eq!(
        result(&mut silent).await,
        Err("127.0.0.1 does not answer".to_owned())
    );
    let mut patient = probe("targets = [\"127.0.0.1\"]\ntimeout = \"3s\"");
    let heal = async {
        // After the first request, before the second.
        sleep(Duration::from_millis(300)).await;
        ignore(IGNORE_V4, false);
    };
    let (result, ()) = tokio::join!(result(&mut patient), heal);
    assert_eq!(result, Ok("127.0.0.1 answers".to_owned()));
}

#[tokio::test]
#[ignore = "needs root, for a network namespace: cargo xtask test runs it"]
async fn interface_and_source_must_be_there() {
    alone();
    let keys = "targets = [\"127.0.0.1\"]\ntimeout = \"50ms\"";
    let mut absent = probe(&format!("{keys}\ninterface = \"absent0\""));
    assert_eq!(
        result(&mut absent).await,
        Err("127.0.0.1: there is no interface absent0".to_owned())
    );
    let mut foreign = probe(&format!("{keys}\nsource = \"192.0.2.7\""));
    assert_eq!(
        result(&mut foreign).await,
        Err("127.0.0.1: this node does not have 192.0.2.7".to_owned())
    );
    let add = Command::new("ip")
        .args(["addr", "add", "192.0.2.7/32", "dev", "lo"])
        .status();
    assert!(add.unwrap().success());
    assert_eq!(
        result(&mut foreign).await,
        Ok("127.0.0.1 answers".to_owned())
    );
}
