//! What is pinned, where, and whether it may be adopted.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use aya::maps::MapInfo;
use ha_common::{
    Address,
    abi::{
        ABI_VERSION, Gate, InstanceConfig, LeaseCell, MAX_INSTANCES, MAX_SENDERS, MAX_VIPS,
        MAX_VLANS, Reason, Received, SenderKey, VipKey, VlanKey, VridKey,
        lease::{
            LeaseConfig, MAX_PATHS, PATH_INSTANCES, PathConfig, PathInstance, PathKey, PathState,
            PromiseCell,
        },
        local::{LocalAddress, MAX_LOCALS},
    },
    gate::MAX_LEASES,
};
use tracing::warn;

use super::DataplaneError;

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The directory of the links within `pin_dir`.
const LINKS: &str = "links";

/// How the directories of the maps begin within `pin_dir`.
const MAPS: &str = "maps-v";

/// A pinned map: name, and what an adoptable one must be like.
pub(super) struct PinnedMap {
    pub(super) name: &'static str,
    key: usize,
    value: usize,
    entries: usize,
}

const fn array<V>(name: &'static str, entries: usize) -> PinnedMap {
    hash::<u32, V>(name, entries)
}

const fn hash<K, V>(name: &'static str, entries: usize) -> PinnedMap {
    PinnedMap {
        name,
        key: size_of::<K>(),
        value: size_of::<V>(),
        entries,
    }
}

/// The maps that outlive the daemon.
pub(super) const PINNED_MAPS: &[PinnedMap] = &[
    array::<InstanceConfig>("INSTANCES", MAX_INSTANCES as usize),
    hash::<VridKey, u32>("VRIDS", MAX_INSTANCES as usize),
    hash::<VipKey, u32>("VIPS", MAX_VIPS as usize),
    hash::<SenderKey, u8>("SENDERS", MAX_SENDERS as usize),
    hash::<VlanKey, u32>("VLANS", MAX_VLANS as usize),
    hash::<Address, LocalAddress>("LOCALS", MAX_LOCALS as usize),
    array::<Gate>("GATES", MAX_INSTANCES as usize),
    array::<LeaseCell>("LEASES", MAX_INSTANCES as usize * MAX_LEASES),
    array::<Received>("RECEIVED", MAX_INSTANCES as usize),
    hash::<PathKey, u32>("PATHS", MAX_PATHS as usize),
    array::<PathConfig>("PATH_CONFIG", MAX_PATHS as usize),
    array::<PathInstance>("PATH_INSTANCES", (MAX_PATHS * PATH_INSTANCES) as usize),
    array::<PathState>("PATH_STATE", MAX_PATHS as usize),
    array::<PromiseCell>("PROMISES", MAX_INSTANCES as usize * MAX_LEASES),
    array::<LeaseConfig>("LEASE_CONFIG", MAX_INSTANCES as usize),
    array::<u64>("COUNTERS", Reason::ALL.len()),
];

/// How the links of other interfaces' guards begin.
const GUARDS: &str = "guard-";

/// A `pin_dir` that can be used.
#[derive(Clone)]
pub(super) struct Pins {
    dir: PathBuf,
}

impl Pins {
    /// Makes the directories, and removes pinned maps of another layout: the programs that use those
    /// keep them until they are replaced.
    pub(super) fn open(dir: &Path) -> Result<Self, DataplaneError> {
        fs::create_dir_all(dir).map_err(|error| failed("making", dir, error))?;
        let stat =
            rustix::fs::statfs(dir).map_err(|error| failed("looking at", dir, error.into()))?;
        if stat.f_type != BPF_FS_MAGIC {
            return Err(DataplaneError::NotBpffs { path: dir.into() });
        }
        let pins = Self { dir: dir.into() };
        for entry in names(dir)? {
            let path = dir.join(&entry);
            if entry.starts_with(MAPS) && (path != pins.maps() || !adoptable(&path)) {
                warn!(
                    path = %path.display(),
                    "pinned maps have another layout: starting with new ones, every gate closed"
                );
                remove_dir(&path)?;
            }
        }
        for dir in [pins.maps(), pins.links()] {
            fs::create_dir_all(&dir).map_err(|error| failed("making", &dir, error))?;
        }
        Ok(pins)
    }

    /// What an earlier daemon left, as it is.
    pub(super) fn found(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    /// The interfaces with pinned links.
    pub(super) fn linked(&self) -> Result<BTreeSet<u32>, DataplaneError> {
        let mut names = names(&self.links())?;
        names.retain(|name| !name.starts_with(GUARDS));
        Ok(names.iter().filter_map(|name| ifindex_of(name)).collect())
    }

    fn maps(&self) -> PathBuf {
        self.dir.join(format!("{MAPS}{ABI_VERSION}"))
    }

    fn links(&self) -> PathBuf {
        self.dir.join(LINKS)
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where an interface's link of a kind is pinned.
    pub(super) fn link(&self, kind: &str, ifindex: u32) -> PathBuf {
        self.links().join(format!("{kind}-{ifindex}"))
    }

    /// Where something is pinned for a moment.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        // A bpffs takes no name with a dot.
        self.dir.join(format!("new-{name}"))
    }

    /// Removes the links of the guards of some interfaces, which takes the programs off them.
    pub(super) fn remove_guards_if(
        &self,
        stale: impl Fn(u32) -> bool,
    ) -> Result<(), DataplaneError> {
        self.remove_links_if(|name| name.starts_with(GUARDS) && ifindex_of(name).is_none_or(&stale))
    }

    /// Removes the links of interfaces that are not to be kept, which takes the programs off them. Guards stay.
    pub(super) fn remove_links_but(
        &self,
        keep: impl Fn(u32) -> bool,
    ) -> Result<(), DataplaneError> {
        self.remove_links_if(|name| {
            !name.starts_with(GUARDS) && !ifindex_of(name).is_some_and(&keep)
        })
    }

    fn remove_links_if(&self, gone: impl Fn(&str) -> bool) -> Result<(), DataplaneError> {
        for name in names(&self.links())? {
            if gone(&name) {
                remove_file(&self.links().join(name))?;
            }
        }
        Ok(())
    }

    /// Removes everything; `pin_dir` itself stays if it holds something else.
    pub(super) fn remove(&self) -> Result<(), DataplaneError> {
        for name in names(&self.dir)? {
            if name.starts_with(MAPS) {
                remove_dir(&self.dir.join(name))?;
            }
        }
        remove_dir(&self.links())?;
        // It may be a mount point, or hold what is not ours.
        let _ = fs::remove_dir(&self.dir);
        Ok(())
    }
}

/// The interface of a link's pin.
fn ifindex_of(name: &str) -> Option<u32> {
    name.rsplit('-').next()?.parse().ok()
}

/// Whether every map in a directory is as this daemon's programs need it.
fn adoptable(maps: &Path) -> bool {
    PINNED_MAPS.iter().all(|expected| {
        let path = maps.join(expected.name);
        if !path.exists() {
            return true;
        }
        MapInfo::from_pin(path).is_ok_and(|found| {
            found.key_size() as usize == expected.key
                && found.value_size() as usize == expected.value
                && found.max_entries() as usize == expected.entries
        })
    })
}

fn names(dir: &Path) -> Result<Vec<String>, DataplaneError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("reading", dir, error)),
    };
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()
        .map_err(|error| failed("reading", dir, error))
}

/// Removes a directory of pins; one that is not there is as good as removed.
fn remove_dir(dir: &Path) -> Result<(), DataplaneError> {
    for name in names(dir)? {
        remove_file(&dir.join(name))?;
    }
    gone(fs::remove_dir(dir), dir)
}

/// Removes a pin; one that is not there is as good as removed.
pub(super) fn remove_file(path: &Path) -> Result<(), DataplaneError> {
    gone(fs::remove_file(path), path)
}

fn gone(result: io::Result<()>, path: &Path) -> Result<(), DataplaneError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("removing", path, error))
        }
        _ => Ok(()),
    }
}

fn failed(what: &str, path: &Path, source: io::Error) -> DataplaneError {
    DataplaneError::Kernel {
        what: format!("{what} {}", path.display()),
        source,
    }
}
