//! Sysctls of interfaces that are changed for as long as the daemon runs: written down first, put back at the end.

use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::net::links::Table;

/// A sysctl of an interface, in `net.ipv4.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Key {
    /// 1: ARP requests are answered for addresses of the interface that they come by alone.
    ArpIgnore,
    /// 2: ARP requests of this host name the address of the interface that suits best as sender.
    ArpAnnounce,
}

impl Key {
    const fn name(self) -> &'static str {
        match self {
            Self::ArpIgnore => "arp_ignore",
            Self::ArpAnnounce => "arp_announce",
        }
    }

    /// What is needed at least: greater values are stricter.
    const fn needed(self) -> u32 {
        match self {
            Self::ArpIgnore => 1,
            Self::ArpAnnounce => 2,
        }
    }
}

/// A sysctl that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    /// The interface may have another name by now.
    ifindex: u32,
    key: Key,
    before: u32,
}

/// The sysctls that were changed, as they are written down.
pub(super) struct Sysctls {
    record: PathBuf,
    /// `/proc/sys/net/ipv4/conf`.
    root: PathBuf,
    changes: Vec<Change>,
}

impl Sysctls {
    /// With what an earlier run, which was killed, wrote down.
    pub(super) fn load(record: PathBuf) -> Self {
        Self::at(record, PathBuf::from("/proc/sys/net/ipv4/conf"))
    }

    fn at(record: PathBuf, root: PathBuf) -> Self {
        let text = fs::read(&record).unwrap_or_default();
        Self {
            changes: serde_json::from_slice(&text).unwrap_or_default(),
            record,
            root,
        }
    }

    /// Sets what is needed of these interfaces, by index and name, and puts back what is not needed any more. What
    /// could not be done, a sentence each.
    pub(super) fn apply(&mut self, wanted: &[(u32, &str, Key)], table: &Table) -> Vec<String> {
        let mut failures = Vec::new();
        let is_wanted = |change: &Change| {
            let same = |one: &&(u32, &str, Key)| (one.0, one.2) == (change.ifindex, change.key);
            wanted.iter().any(|one| same(&one))
        };
        let (kept, unneeded) = self.changes.drain(..).partition(is_wanted);
        self.changes = kept;
        let had_unneeded = !unneeded.is_empty();
        failures.extend(self.put_back(unneeded, table));
        for (ifindex, name, key) in wanted {
            if let Err(error) = self.set(*ifindex, name, *key) {
                failures.push(format!(
                    "net.ipv4.conf.{name}.{} cannot be set to {}, so that another interface may be taken for the \
                     one with the VIPs: {error}",
                    key.name(),
                    key.needed()
                ));
            }
        }
        if had_unneeded && let Err(error) = self.save() {
            failures.push(self.unwritten(&error));
        }
        failures
    }

    /// Puts everything back.
    pub(super) fn restore(mut self, table: &Table) -> Vec<String> {
        let changes = std::mem::take(&mut self.changes);
        let mut failures = self.put_back(changes, table);
        if let Err(error) = self.save() {
            failures.push(self.unwritten(&error));
        }
        failures
    }

    fn unwritten(&self, error: &io::Error) -> String {
        format!("{} cannot be written: {error}", self.record.display())
    }

    fn set(&mut self, ifindex: u32, name: &str, key: Key) -> io::Result<()> {
        let before = self.read(name, key)?;
        // The kernel takes the greater one.
        if before.max(self.read("all", key)?) >= key.needed() {
            return Ok(());
        }
        let is_known = |change: &Change| (change.ifindex, change.key) == (ifindex, key);
        if !self.changes.iter().any(is_known) {
            self.changes.push(Change {
                ifindex,
                key,
                before,
            });
            let saved = self.save();
            if saved.is_err() {
                self.changes.pop();
            }
            saved?;
        }
        let written = fs::write(self.path(name, key), key.needed().to_string());
        if written.is_err() {
            self.changes.retain(|change| !is_known(change));
            self.save()?;
        }
        written
    }

    /// Puts changes back where nobody changed them since; an interface that is gone took them along.
    fn put_back(&self, changes: Vec<Change>, table: &Table) -> Vec<String> {
        let mut failures = Vec::new();
        for Change {
            ifindex,
            key,
            before,
        } in changes
        {
            let Some(link) = table.by_index(ifindex) else {
                continue;
            };
            let result = match self.read(&link.name, key) {
                Ok(present) if present == key.needed() => {
                    fs::write(self.path(&link.name, key), before.to_string())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = result
                && error.kind() != io::ErrorKind::NotFound
            {
                failures.push(format!(
                    "net.ipv4.conf.{}.{} cannot be set back to {before}: {error}",
                    link.name,
                    key.name()
                ));
            }
        }
        failures
    }

    fn path(&self, interface: &str, key: Key) -> PathBuf {
        self.root.join(interface).join(key.name())
    }

    fn read(&self, interface: &str, key: Key) -> io::Result<u32> {
        let text = fs::read_to_string(self.path(interface, key))?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// Writes it down, in one piece; nothing is no file.
    fn save(&self) -> io::Result<()> {
        if self.changes.is_empty() {
            return match fs::remove_file(&self.record) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let draft = self.record.with_extension("new");
        fs::write(&draft, serde_json::to_vec_pretty(&self.changes)?)?;
        fs::rename(&draft, &self.record)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::net::links::Link;

    /// Two interfaces, as the kernel has them after its start.
    struct Host {
        dir: TempDir,
        table: Table,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for interface in ["all", "eth0", "eth1"] {
                fs::create_dir(dir.path().join(interface)).unwrap();
                for key in ["arp_ignore", "arp_announce"] {
                    fs::write(dir.path().join(interface).join(key), "0\n").unwrap();
                }
            }
            let link = |(ifindex, name): (u32, &str)| Link {
                ifindex,
                name: name.to_owned(),
                ..Link::default()
            };
            let table = [(1, "eth0"), (2, "eth1")].map(link).into_iter().collect();
            Self { dir, table }
        }

        fn sysctls(&self) -> Sysctls {
            Sysctls::at(self.dir.path().join("record"), self.dir.path().into())
        }

        fn value(&self, name: &str) -> String {
            let text = fs::read_to_string(self.dir.path().join(name)).unwrap();
            text.trim().to_owned()
        }

        fn set(&self, name: &str, value: &str) {
            fs::write(self.dir.path().join(name), value).unwrap();
        }

        fn is_recorded(&self) -> bool {
            self.dir.path().join("record").exists()
        }
    }

    const WANTED: [(u32, &str, Key); 2] =
        [(1, "eth0", Key::ArpAnnounce), (2, "eth1", Key::ArpIgnore)];

    #[test]
    fn what_was_changed_is_put_back_also_by_a_later_run() {
        let host = Host::new();
        host.set("eth0/arp_announce", "1");
        let failures = host.sysctls().apply(&WANTED, &host.table);
        assert_eq!(failures, Vec::<String>::new());
        assert_eq!(host.value("eth0/arp_announce"), "2");
        assert_eq!(host.value("eth1/arp_ignore"), "1");
        assert!(host.is_recorded());
        // It was killed; the next one finds them set, and still knows what they were.
        let mut next = host.sysctls();
        assert!(next.apply(&WANTED, &host.table).is_empty());
        assert!(next.restore(&host.table).is_empty());
        assert_eq!(host.value("eth0/arp_announce"), "1");
        assert_eq!(host.value("eth1/arp_ignore"), "0");
        assert!(!host.is_recorded());
    }

    #[test]
    fn what_is_strict_already_is_left_alone() {
        let host = Host::new();
        host.set("all/arp_announce", "2");
        host.set("eth1/arp_ignore", "2");
        let mut sysctls = host.sysctls();
        assert!(sysctls.apply(&WANTED, &host.table).is_empty());
        assert_eq!(host.value("eth0/arp_announce"), "0");
        assert_eq!(host.value("eth1/arp_ignore"), "2");
        assert!(!host.is_recorded());
    }

    #[test]
    fn what_is_not_needed_any_more_is_put_back_and_what_others_changed_is_not() {
        let host = Host::new();
        let mut sysctls = host.sysctls();
        sysctls.apply(&WANTED, &host.table);
        host.set("eth1/arp_ignore", "8");
        assert!(sysctls.apply(&[], &host.table).is_empty());
        assert_eq!(host.value("eth0/arp_announce"), "0");
        assert_eq!(host.value("eth1/arp_ignore"), "8");
        assert!(!host.is_recorded());
    }

    #[test]
    fn an_interface_that_was_renamed_or_is_gone() {
        let host = Host::new();
        let mut sysctls = host.sysctls();
        sysctls.apply(&WANTED, &host.table);
        fs::rename(host.dir.path().join("eth0"), host.dir.path().join("lan")).unwrap();
        let lan = Link {
            ifindex: 1,
            name: "lan".to_owned(),
            ..Link::default()
        };
        let table: Table = [lan].into_iter().collect();
        assert!(sysctls.restore(&table).is_empty());
        assert_eq!(host.value("lan/arp_announce"), "0");
        assert_eq!(host.value("eth1/arp_ignore"), "1", "it is gone");
    }

    #[test]
    fn what_cannot_be_set_is_told_and_not_recorded() {
        let host = Host::new();
        let file = host.dir.path().join("eth0/arp_announce");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let failures = host.sysctls().apply(&WANTED[..1], &host.table);
        assert_eq!(failures.len(), 1);
        assert!(failures[0].contains("net.ipv4.conf.eth0.arp_announce"));
        assert!(!host.is_recorded());
    }
}
