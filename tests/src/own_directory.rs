//! A directory that has one path on all nodes, and on each is another one: namespaces of one host share its files.
//!
//! `ip netns exec` gives a program what is in `/etc/netns/<namespace>` in the place of what `/etc` has of the same name.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{Node, netns::run, stale};

const ETC: &str = "/etc";
const OF_NAMESPACES: &str = "/etc/netns";

/// See the module. It is removed with this.
pub struct OwnDirectory {
    lab: String,
    name: String,
}

impl OwnDirectory {
    /// Of these nodes, before a daemon runs on any of them; empty on each.
    pub fn new(nodes: &[&Node]) -> Result<Self> {
        let first = nodes.first().context("a node")?;
        let lab = first.ns().name().trim_end_matches(first.name());
        let this = Self {
            lab: lab.to_owned(),
            name: format!("{lab}files"),
        };
        for directory in [this.path()]
            .into_iter()
            .chain(nodes.iter().map(|node| this.on(node)))
        {
            fs::create_dir_all(&directory)
                .with_context(|| format!("making {}", directory.display()))?;
        }
        Ok(this)
    }

    /// As every node sees it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(ETC).join(&self.name)
    }

    /// Where that of a node is for the test.
    #[must_use]
    pub fn on(&self, node: &Node) -> PathBuf {
        let own = Path::new(OF_NAMESPACES).join(node.ns().name());
        own.join(&self.name)
    }

    /// Takes it from a node's daemon, which sees the empty directory below then.
    pub fn unmount(&self, node: &mut Node) -> Result<()> {
        let path = self.path().display().to_string();
        in_mounts_of(node, &["umount", "--lazy", &path])
    }

    /// Gives it back.
    pub fn mount(&self, node: &mut Node) -> Result<()> {
        let own = self.on(node).display().to_string();
        let path = self.path().display().to_string();
        in_mounts_of(node, &["mount", "--bind", &own, &path])
    }
}

impl Drop for OwnDirectory {
    fn drop(&mut self) {
        if let Err(error) = remove_all(&self.lab) {
            println!("the nodes' own directories are left: {error:#}");
        }
    }
}

fn in_mounts_of(node: &mut Node, command: &[&str]) -> Result<()> {
    let pid = node.daemon()?.pid().to_string();
    let mut entered = Command::new("nsenter");
    run(entered.args(["--mount", "--target", &pid]).args(command)).map(drop)
}

/// Removes those whose names begin like that.
pub(crate) fn remove_all(prefix: &str) -> Result<()> {
    // Which a lab's have: never all that is there.
    ensure!(prefix.starts_with(&stale::namespace("", "")[..2]) && prefix.ends_with('-'));
    for parent in [ETC, OF_NAMESPACES] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(prefix)) {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("removing {}", entry.path().display()))?;
            }
        }
    }
    Ok(())
}
