//! Passwords and keys are in their files, in the databases, and nowhere else that anybody looks.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    mariadb::{Durability, HA, REPLICATION, Topology, role},
    now, processes, scenario,
};

use super::pair::{Pair, other};

/// Between two looks at all processes' command lines.
const PAUSE: Duration = Duration::from_millis(5);

fn secrets(pair: &Pair) -> Result<Vec<String>> {
    let server = pair.server(0);
    Ok(vec![
        server.password(HA)?,
        server.password(REPLICATION)?,
        role::link_key(),
    ])
}

/// Looks at every command line until it is told to end, at least once; those that show a secret.
fn watch(secrets: &[String], end: &AtomicBool) -> Result<Vec<String>> {
    let mut shown = Vec::new();
    loop {
        let last = end.load(Ordering::SeqCst);
        for secret in secrets {
            let found = processes::naming(Path::new(secret))?;
            shown.extend(found.into_iter().map(|process| process.command));
        }
        if last {
            return Ok(shown);
        }
        thread::sleep(PAUSE);
    }
}

/// Where a secret stands in a file below `dir`; left out are the server's own files, those made for secrets, and pinned maps.
fn leaks(dir: &Path, secrets: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if ["mariadb", "link.key", "bpf"]
            .iter()
            .any(|left_out| name == *left_out)
        {
            continue;
        }
        if kind.is_dir() {
            found.extend(leaks(&path, secrets)?);
        } else if kind.is_file() {
            let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            if secrets.iter().any(|secret| text.contains(secret)) {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(found)
}

#[test]
fn no_password_and_no_key_is_shown_anywhere() {
    scenario(|lab| {
        let mut pair = Pair::start(lab, Topology::PrimaryReplica, Durability::SemiSync)?;
        let old = pair.settle()?;
        let secrets = secrets(&pair)?;
        let end = AtomicBool::new(false);
        let shown = thread::scope(|scope| -> Result<Vec<String>> {
            let watcher = scope.spawn(|| watch(&secrets, &end));
            let outcome = change_over(&mut pair, old);
            end.store(true, Ordering::SeqCst);
            let shown = watcher.join();
            outcome?;
            shown.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        ensure!(shown.is_empty(), "on command lines: {shown:?}");
        for node in &pair.nodes {
            let found = processes::naming(node.dir())?;
            let logs_all = |command: &str| command.contains("--log-level trace");
            ensure!(found.iter().any(|process| logs_all(&process.command)));
            let leaks = leaks(node.dir(), &secrets)?;
            ensure!(leaks.is_empty(), "in files: {leaks:?}");
            for question in ["status", "roles", "events", "checks"] {
                let answer = node.hactl(&[question])?.to_string();
                let told = secrets.iter().any(|secret| answer.contains(secret));
                ensure!(!told, "hactl {question}: {answer}");
            }
        }
        pair.verify(other(old)).map(drop)
    });
}

/// Both daemons begin, follow and promote, and log everything.
fn change_over(pair: &mut Pair, old: usize) -> Result<()> {
    pair.nodes[other(old)].restart_verbose()?;
    ensure!(pair.settle()? == old);
    let at = now();
    pair.server(old).strike()?;
    pair.served(at, Some(other(old)))?;
    pair.nodes[old].restart_verbose()?;
    pair.settle().map(drop)
}
