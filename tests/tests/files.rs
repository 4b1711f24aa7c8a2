//! A role of kind `sync`: what is copied, what is never overwritten, and what is kept.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    Kind, Lab, Node, daemon::signal, eventually, own_directory::OwnDirectory, processes, scenario,
    wait::throughout,
};
use rustix::process::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(40);
/// In which what must not be copied would be.
const A_WHILE: Duration = Duration::from_secs(2);
/// Nothing in these tests takes so long: what is noticed sooner was seen to change.
const LATE: &str = "1h";
const GROUP: &str = "app";
const ROLE: &str = "files";
/// What is copied.
const DIRECTORIES: [&str; 2] = ["rules", "more"];
const KEY_BYTES: usize = 32;

struct Stage {
    nodes: Vec<Node>,
    directory: OwnDirectory,
}

impl Stage {
    /// So many nodes, which compare everything after such a time at the latest.
    fn start(lab: &Lab, count: usize, every: &str) -> Result<Self> {
        let mut nodes = Vec::new();
        for number in 1..=count {
            nodes.push(lab.node(&format!("n{number}"))?);
        }
        let directory = OwnDirectory::new(&nodes.iter().collect::<Vec<_>>())?;
        let mut stage = Self { nodes, directory };
        for index in 0..count {
            // Nothing is sent of a directory in which nothing is.
            for directory in DIRECTORIES {
                fs::create_dir(stage.directory.on(&stage.nodes[index]).join(directory))?;
                fs::write(stage.at(index, directory, "first"), format!("of {index}"))?;
            }
        }
        for index in 0..count {
            stage.launch(index, every)?;
        }
        Ok(stage)
    }

    fn launch(&mut self, index: usize, every: &str) -> Result<()> {
        let node = &self.nodes[index];
        let key = node.dir().join("link.key");
        fs::write(&key, "5a".repeat(KEY_BYTES))?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        let others = self
            .nodes
            .iter()
            .filter(|other| other.name() != node.name());
        let peers: Vec<_> = others.map(Node::address).collect();
        let top = self.directory.path();
        let paths = DIRECTORIES.map(|directory| top.join(directory));
        let lines = format!(
            "group = \"{GROUP}\"\n\n[link]\nkey_file = {key:?}\n\n[[group]]\nname = \"{GROUP}\"\nroles = [\"{ROLE}\"]\n\n\
             [[role]]\nname = \"{ROLE}\"\nkind = \"sync\"\npaths = {paths:?}\nexclude = [\"*.tmp\"]\nevery = \"{every}\"\n"
        );
        let router = node
            .router()
            .interval_ms(50)
            .peers(&peers)
            .had_lines(&lines);
        self.nodes[index].start(Kind::Had, &[router])
    }

    /// Of a node's first directory.
    fn file(&self, index: usize, name: &str) -> PathBuf {
        self.at(index, DIRECTORIES[0], name)
    }

    fn at(&self, index: usize, directory: &str, name: &str) -> PathBuf {
        let top = self.directory.on(&self.nodes[index]);
        top.join(directory).join(name)
    }

    fn group(&self, index: usize) -> Result<Value> {
        let mut report = self.nodes[index].hactl(&["roles"])?;
        Ok(report["groups"][0].take())
    }

    /// What it says of the role.
    fn said(&self, index: usize) -> Result<String> {
        let role = self.group(index)?["roles"][0].take();
        Ok(format!("{} {}", role["note"], role["warning"]))
    }

    fn says(&self, index: usize, words: &str) -> Result<()> {
        let mut last = String::new();
        eventually(LIMIT, words, || {
            last = self.said(index)?;
            Ok(last.contains(words))
        })
        .with_context(|| last)
    }

    /// The only one that is promoted, of these; waits until there is.
    fn only(&self, of: &[usize]) -> Result<usize> {
        let mut found = Vec::new();
        eventually(LIMIT, "one node is Active", || {
            found.clear();
            for index in of {
                if self.group(*index)?["stance"] == "primary" {
                    found.push(*index);
                }
            }
            Ok(found.len() == 1)
        })?;
        found.pop().context("a node that was found")
    }

    /// Waits until the others have what the Active one has.
    fn in_step(&self, active: usize, others: &[usize]) -> Result<()> {
        let source = self.nodes[active].name();
        for other in others {
            self.says(*other, &format!("has everything of {source}"))?;
        }
        Ok(())
    }

    /// Waits until a file has these contents; `None`: until there is none.
    fn becomes(&self, index: usize, name: &str, contents: Option<&str>) -> Result<()> {
        let file = self.file(index, name);
        let mut last = None;
        let what = format!("{} on {}", name, self.nodes[index].name());
        eventually(LIMIT, &what, || {
            last = fs::read_to_string(&file).ok();
            Ok(last.as_deref() == contents)
        })
        .with_context(|| {
            let group = self.group(index);
            format!("{contents:?} is wanted, and it is {last:?}: {group:?}")
        })
    }

    fn has(&self, index: usize, name: &str, contents: &str) -> Result<bool> {
        Ok(fs::read_to_string(self.file(index, name))? == contents)
    }

    /// What a node keeps that was replaced on it: each file's path and contents.
    fn kept(&self, index: usize) -> Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        let top = self.nodes[index].dir().join("state/kept").join(ROLE);
        collect(&top, &mut found)?;
        Ok(found)
    }

    /// rsync's processes that have to do with a node.
    fn copying(&self, index: usize) -> Result<Vec<u32>> {
        let inside = self.nodes[index].ns().name().to_owned();
        let inside = std::process::Command::new("ip")
            .args(["netns", "pids", &inside])
            .output()?;
        let inside: Vec<u32> = String::from_utf8_lossy(&inside.stdout)
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
        let all = processes::naming(Path::new("rsync"))?;
        let of_it = all
            .into_iter()
            .filter(|one| inside.contains(&one.pid) && one.state != 'Z');
        Ok(of_it.map(|one| one.pid).collect())
    }
}

fn collect(directory: &Path, found: &mut Vec<(PathBuf, String)>) -> Result<()> {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else {
            let contents = fs::read_to_string(&path)?;
            found.push((path, contents));
        }
    }
    Ok(())
}

#[test]
fn what_changes_on_the_active_node_changes_on_the_other_and_never_the_other_way() {
    scenario(|lab| {
        let stage = Stage::start(lab, 2, LATE)?;
        let active = stage.only(&[0, 1])?;
        let standby = 1 - active;
        stage.in_step(active, &[standby])?;
        stage.becomes(standby, "first", Some(&format!("of {active}")))?;
        stage.says(
            active,
            &format!("{} has everything", stage.nodes[standby].name()),
        )?;

        fs::create_dir(stage.file(active, "sub"))?;
        fs::write(stage.file(active, "sub/rule"), "allow")?;
        fs::set_permissions(
            stage.file(active, "sub/rule"),
            fs::Permissions::from_mode(0o640),
        )?;
        symlink("sub/rule", stage.file(active, "link"))?;
        fs::write(stage.file(active, "draft.tmp"), "not yet")?;
        fs::write(stage.file(standby, "own.tmp"), "mine")?;
        stage.becomes(standby, "link", Some("allow"))?;
        fs::write(stage.at(active, "more", "second"), "of the other directory")?;
        eventually(LIMIT, "the other directory is copied", || {
            let there = fs::read_to_string(stage.at(standby, "more", "second"))?;
            Ok(there == "of the other directory" && !stage.file(standby, "second").exists())
        })?;
        let there = fs::metadata(stage.file(standby, "sub/rule"))?;
        ensure!(there.permissions().mode() & 0o7777 == 0o640);
        ensure!(fs::read_link(stage.file(standby, "link"))? == Path::new("sub/rule"));
        let modified = fs::metadata(stage.file(active, "sub/rule"))?.modified()?;
        ensure!(there.modified()? == modified);

        // What a standby has otherwise is nobody's.
        fs::write(stage.file(standby, "stray"), "?")?;
        fs::remove_file(stage.file(active, "link"))?;
        stage.becomes(standby, "link", None)?;
        stage.becomes(standby, "stray", None)?;
        for (index, name) in [
            (active, "stray"),
            (active, "own.tmp"),
            (standby, "draft.tmp"),
        ] {
            ensure!(!stage.file(index, name).exists(), "{name} is copied");
        }
        ensure!(stage.has(standby, "own.tmp", "mine")?);

        // What was written just before a hand-over is there after it, and from then on it goes the other way.
        fs::write(stage.file(active, "sub/rule"), "deny")?;
        stage.nodes[active].hactl(&["switchover", GROUP])?;
        ensure!(stage.only(&[active, standby])? == standby);
        ensure!(stage.has(standby, "sub/rule", "deny")?);
        fs::write(stage.file(standby, "sub/rule"), "ask")?;
        stage.becomes(active, "sub/rule", Some("ask"))
    });
}

#[test]
fn what_a_node_has_alone_when_it_is_taken_over_from_is_kept_beside_and_not_served() {
    scenario(|lab| {
        let mut stage = Stage::start(lab, 2, LATE)?;
        let old = stage.only(&[0, 1])?;
        let new = 1 - old;
        stage.in_step(old, &[new])?;
        // It hangs, with all that it started, and somebody still writes there.
        stage.nodes[old].daemon()?.freeze()?;
        ensure!(stage.only(&[new])? == new);
        fs::write(stage.file(old, "first"), "too late")?;
        fs::write(stage.file(old, "late"), "too")?;
        fs::write(stage.file(new, "first"), "in time")?;
        stage.nodes[old].daemon()?.thaw()?;
        stage.becomes(old, "first", Some("in time"))?;
        stage.becomes(old, "late", None)?;
        ensure!(stage.only(&[old, new])? == new);
        ensure!(stage.has(new, "first", "in time")?);
        ensure!(!stage.file(new, "late").exists());
        stage.in_step(new, &[old])?;
        let kept = stage.kept(old)?;
        for (name, contents) in [("first", "too late"), ("late", "too")] {
            let is_it =
                |(path, kept): &&(PathBuf, String)| path.ends_with(name) && kept == contents;
            ensure!(
                kept.iter().any(|one| is_it(&one)),
                "{name} is lost: {kept:?}"
            );
        }
        // Later changes replace what was copied, of which nothing is kept.
        let count = kept.len();
        fs::write(stage.file(new, "first"), "again")?;
        stage.becomes(old, "first", Some("again"))?;
        ensure!(stage.kept(old)?.len() == count);
        Ok(())
    });
}

#[test]
fn a_directory_whose_disk_is_not_mounted_is_neither_sent_nor_written_to() {
    scenario(|lab| {
        // That a disk is gone no event tells.
        let mut stage = Stage::start(lab, 2, "1s")?;
        let active = stage.only(&[0, 1])?;
        let standby = 1 - active;
        stage.in_step(active, &[standby])?;
        let first = format!("of {active}");
        let below = stage.directory.path().join(DIRECTORIES[0]);
        for directory in DIRECTORIES {
            fs::create_dir(stage.directory.path().join(directory))?;
        }

        // The Active node's: an empty directory is all that is left there.
        let Stage { nodes, directory } = &mut stage;
        directory.unmount(&mut nodes[active])?;
        fs::write(below.join("stray"), "of another disk")?;
        stage.says(standby, "mount it")?;
        stage.says(active, "mount it")?;
        throughout(A_WHILE, "nothing is copied", || {
            Ok(stage.has(standby, "first", &first)? && !stage.file(standby, "stray").exists())
        })?;
        let Stage { nodes, directory } = &mut stage;
        directory.mount(&mut nodes[active])?;
        fs::write(stage.file(active, "first"), "mounted")?;
        stage.becomes(standby, "first", Some("mounted"))?;

        // The standby's.
        let Stage { nodes, directory } = &mut stage;
        directory.unmount(&mut nodes[standby])?;
        fs::write(stage.file(active, "second"), "more")?;
        stage.says(standby, "mount it")?;
        throughout(A_WHILE, "nothing is written", || {
            Ok(!below.join("second").exists() && !below.join("first").exists())
        })?;
        ensure!(below.join("stray").exists());
        let Stage { nodes, directory } = &mut stage;
        directory.mount(&mut nodes[standby])?;
        stage.becomes(standby, "second", Some("more"))?;

        // Nor does an empty directory empty the others.
        let emptied = stage.file(active, "");
        fs::rename(
            &emptied,
            stage.directory.on(&stage.nodes[active]).join("away"),
        )?;
        fs::create_dir(&emptied)?;
        stage.says(active, "is empty on the Active node")?;
        // Which does not concern the other directory.
        fs::write(stage.at(active, "more", "third"), "goes on")?;
        eventually(LIMIT, "the other directory is copied", || {
            Ok(stage.at(standby, "more", "third").exists())
        })?;
        throughout(A_WHILE, "nothing is removed", || {
            stage.has(standby, "second", "more")
        })
    });
}

#[test]
fn of_three_nodes_two_follow_whoever_is_active() {
    scenario(|lab| {
        let mut stage = Stage::start(lab, 3, LATE)?;
        let first = stage.only(&[0, 1, 2])?;
        let others: Vec<usize> = (0..3).filter(|index| *index != first).collect();
        stage.in_step(first, &others)?;
        fs::write(stage.file(first, "rule"), "one")?;
        for other in &others {
            stage.becomes(*other, "rule", Some("one"))?;
        }
        stage.nodes[first].daemon()?.freeze()?;
        let second = stage.only(&others)?;
        let third = 3 - first - second;
        fs::write(stage.file(first, "rule"), "too late")?;
        fs::write(stage.file(second, "rule"), "two")?;
        stage.becomes(third, "rule", Some("two"))?;
        // It goes on, and for a moment takes itself for what it was: nobody follows it.
        stage.nodes[first].daemon()?.thaw()?;
        let mut count = 0;
        throughout(A_WHILE, "nobody has what it wrote", || {
            count += 1;
            fs::write(stage.file(second, "count"), count.to_string())?;
            Ok(stage.has(third, "rule", "two")? && stage.has(second, "rule", "two")?)
        })?;
        // And they did copy.
        for other in [first, third] {
            stage.becomes(other, "count", Some(&count.to_string()))?;
            stage.becomes(other, "rule", Some("two"))?;
        }
        ensure!(stage.only(&[0, 1, 2])? == second);
        fs::write(stage.file(second, "rule"), "three")?;
        for other in [first, third] {
            stage.becomes(other, "rule", Some("three"))?;
        }
        Ok(())
    });
}

#[test]
fn a_copy_under_way_ends_before_the_node_becomes_active() {
    scenario(|lab| {
        let mut stage = Stage::start(lab, 2, LATE)?;
        let old = stage.only(&[0, 1])?;
        let new = 1 - old;
        stage.in_step(old, &[new])?;
        // A copy that does not come to its end: who sends stands still, as on a disk that hangs.
        let contents = "x".repeat(192 << 20);
        fs::write(stage.file(old, "large"), contents)?;
        eventually(LIMIT, "rsync sends", || {
            for pid in stage.copying(old)? {
                signal(pid, Signal::STOP)?;
            }
            Ok(!stage.copying(old)?.is_empty() && !stage.copying(new)?.is_empty())
        })?;
        let sends = stage.copying(old)?;
        ensure!(!stage.file(new, "large").exists());
        stage.nodes[old].daemon()?.hang()?;
        ensure!(stage.only(&[new])? == new);
        let receives = stage.copying(new)?;
        ensure!(
            receives.is_empty(),
            "rsync runs on an Active node: {receives:?}"
        );
        stage.says(new, "did not come to its end")?;
        // Nor is anything left of what it had received.
        eventually(LIMIT, "what was received is removed", || {
            let there = fs::read_dir(stage.file(new, ""))?;
            let names = there.map(|entry| Ok(entry?.file_name()));
            let names: Vec<_> = names.collect::<std::io::Result<_>>()?;
            Ok(names == ["first"])
        })?;
        for pid in sends {
            // It may be gone.
            let _ = signal(pid, Signal::CONT);
        }
        fs::write(stage.file(new, "small"), "of the new one")?;
        throughout(A_WHILE, "nothing comes to an Active node", || {
            Ok(!stage.file(new, "large").exists() && stage.has(new, "small", "of the new one")?)
        })?;
        stage.nodes[old].daemon()?.thaw()?;
        stage.becomes(old, "small", Some("of the new one"))?;
        eventually(LIMIT, "what only it had is kept", || {
            let kept = stage.kept(old)?;
            Ok(kept.iter().any(|(path, _)| path.ends_with("large")))
        })
    });
}

#[test]
fn a_daemon_that_is_killed_or_kept_from_working_leaves_nothing_that_goes_on() {
    scenario(|lab| {
        let mut stage = Stage::start(lab, 2, LATE)?;
        let active = stage.only(&[0, 1])?;
        let standby = 1 - active;
        stage.in_step(active, &[standby])?;
        let large = "x".repeat(192 << 20);
        fs::write(stage.file(active, "large"), &large)?;
        eventually(LIMIT, "rsync receives", || {
            for pid in stage.copying(standby)? {
                signal(pid, Signal::STOP)?;
            }
            Ok(!stage.copying(standby)?.is_empty())
        })?;
        let before = stage.copying(standby)?;
        stage.nodes[standby].daemon()?.crash()?;
        stage.nodes[standby].restart(Kind::Had)?;
        stage.becomes(standby, "large", Some(&large))?;
        stage.in_step(active, &[standby])?;
        let left: Vec<u32> = stage.copying(standby)?;
        ensure!(left.iter().all(|pid| !before.contains(pid)), "{left:?}");

        // In maintenance nothing is copied, and everything after it.
        stage.nodes[standby].hactl(&["mode", "maintenance"])?;
        stage.says(standby, "nothing is copied in maintenance")?;
        fs::remove_file(stage.file(active, "large"))?;
        throughout(A_WHILE, "nothing is copied", || {
            Ok(stage.file(standby, "large").exists())
        })?;
        stage.nodes[standby].hactl(&["mode", "active-standby"])?;
        stage.becomes(standby, "large", None)
    });
}
