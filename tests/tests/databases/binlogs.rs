//! Binary logs are backed up on the Active node, and purged when both servers have them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    Node, eventually,
    mariadb::{Durability, Sampler, Topology, role},
    scenario,
};
use serde_json::Value;

use super::pair::{HEARTBEAT, LIMIT, Pair, other};

/// What the tool prints before the columns of a row that was written.
const INSERT: &str = "### INSERT INTO `";
const TABLE: &str = "`.`writes`";
const FIRST_COLUMN: &str = "###   @1=";

/// A backup every second, and nothing is kept that nobody needs.
fn backed_up(node: &Node) -> Result<role::Setup> {
    let directory = node.dir().join("backups");
    fs::create_dir(&directory)?;
    let mut setup = role::Setup::new(HEARTBEAT);
    setup.roles = vec!["binlogs"];
    setup.sections = format!(
        "\n[[role]]\nname = \"binlogs\"\nkind = \"binlog\"\ndirectory = {directory:?}\nevery = \"1s\"\n\
         keep = \"0s\"\n"
    );
    Ok(setup)
}

/// The manifests of a node's backups.
fn manifests(pair: &Pair, index: usize) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for file in files(pair, index)? {
        if is_manifest(&file) {
            found.push(serde_json::from_slice(&fs::read(file)?)?);
        }
    }
    Ok(found)
}

fn is_manifest(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "json")
}

/// What is whole.
fn files(pair: &Pair, index: usize) -> Result<BTreeSet<PathBuf>> {
    let node = &pair.nodes[index];
    let own = node.dir().join("backups").join(node.name());
    if !own.exists() {
        return Ok(BTreeSet::new());
    }
    let entries = fs::read_dir(own)?.map(|entry| Ok(entry?.path()));
    let files: Result<BTreeSet<PathBuf>> = entries.collect();
    let is_part = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "part");
    Ok(files?.into_iter().filter(|file| !is_part(file)).collect())
}

/// So many more than there are.
fn more(pair: &Pair, index: usize, count: usize) -> Result<()> {
    let wanted = manifests(pair, index)?.len() + count;
    eventually(LIMIT, "logs are backed up", || {
        Ok(manifests(pair, index)?.len() >= wanted)
    })
    .with_context(|| format!("{:?}", pair.roles(index)))
}

fn logs(pair: &Pair, index: usize) -> Result<Vec<String>> {
    let rows = pair.server(index).sql(&["SHOW BINARY LOGS"])?;
    let names = rows.iter().filter_map(|row| row.first().cloned().flatten());
    Ok(names.collect())
}

/// The identifiers of the rows that the backups in some files have, as the server's own tool reads them.
fn rows(backups: &BTreeSet<PathBuf>) -> Result<BTreeSet<u64>> {
    let mut ids = BTreeSet::new();
    // Each by itself: both nodes' have the same transactions.
    for log in backups.iter().filter(|file| !is_manifest(file)) {
        let output = Command::new("mariadb-binlog")
            .args(["--no-defaults", "--base64-output=DECODE-ROWS", "--verbose"])
            .arg(log)
            .output()?;
        ensure!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut is_row = false;
        for line in text.lines() {
            if line.starts_with(INSERT) {
                is_row = line.ends_with(TABLE);
            } else if let Some(id) = line.strip_prefix(FIRST_COLUMN).filter(|_| is_row) {
                ids.insert(id.trim().parse()?);
            }
        }
    }
    Ok(ids)
}

#[test]
fn binary_logs_are_backed_up_on_the_active_node_and_purged_when_both_have_them() {
    scenario(|lab| {
        let kind = (Topology::PrimaryReplica, Durability::SemiSync);
        let pair = Pair::with(lab, kind.0, kind.1, |node, _| backed_up(node))?;
        let old = pair.settle()?;
        let new = other(old);
        more(&pair, old, 3)?;
        let first = logs(&pair, old)?;
        let first = first.first().context("a binary log")?;
        eventually(LIMIT, "what both have is purged", || {
            Ok(!logs(&pair, old)?.contains(first))
        })
        .with_context(|| format!("{:?}", pair.roles(old)))?;
        ensure!(files(&pair, new)?.is_empty(), "a standby makes no backup");

        // What the replica lacks stays while its server does not answer.
        pair.server(new).freeze()?;
        eventually(LIMIT, "the primary goes on alone", || {
            Ok(pair.roles(old)?["in_sync"] == false)
        })?;
        let needed = logs(&pair, old)?;
        let needed = needed.last().context("a binary log")?;
        more(&pair, old, 3)?;
        ensure!(logs(&pair, old)?.contains(needed), "{needed} was purged");
        pair.server(new).thaw()?;
        eventually(LIMIT, "and is purged when it has it", || {
            Ok(!logs(&pair, old)?.contains(needed))
        })
        .with_context(|| format!("{:?}", pair.roles(old)))?;

        ensure!(pair.settle()? == old);
        pair.nodes[old].hactl(&["switchover", role::GROUP])?;
        more(&pair, new, 2)?;
        let before = files(&pair, old)?;
        more(&pair, new, 2)?;
        ensure!(files(&pair, old)? == before, "a standby makes no backup");

        pair.writers.pause()?;
        pair.samplers.iter().for_each(Sampler::pause);
        let end = pair.server(new).value("SELECT @@gtid_binlog_pos")?;
        eventually(LIMIT, "the last log is backed up", || {
            let all = manifests(&pair, new)?;
            Ok(all.iter().any(|one| one["gtids_after"] == end))
        })
        .with_context(|| format!("{end}: {:?}", pair.roles(new)))?;
        let mut backups = files(&pair, old)?;
        backups.extend(files(&pair, new)?);
        let rows = rows(&backups)?;
        let ledger = pair.writers.ledger();
        let lost: Vec<u64> = ledger
            .acknowledged()
            .map(|write| write.id)
            .filter(|id| !rows.contains(id))
            .collect();
        println!("{} rows in {} files", rows.len(), backups.len());
        ensure!(lost.is_empty(), "no backup has {lost:?}");
        pair.writers.resume();
        pair.samplers.iter().for_each(Sampler::resume);
        pair.verify(new).map(drop)
    });
}
