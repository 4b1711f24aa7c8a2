//! What is kept beside the backup of a log: what it is, and where it came from.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What a manifest's name ends with.
pub(super) const ENDING: &str = ".json";
/// More than any of them.
const LONGEST: u64 = 1 << 20;

/// One log's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Manifest {
    /// The log's name.
    pub(super) name: String,
    /// Its length.
    pub(super) bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub(super) sha256: String,
    /// The GTIDs of what had been written before it.
    pub(super) gtids_before: String,
    /// The GTIDs of what had been written at its end.
    pub(super) gtids_after: String,
    /// The node.
    pub(super) node: String,
    /// The group's epoch.
    pub(super) epoch: u64,
    /// The server's own `server_id`.
    pub(super) server_id: u32,
    /// When the server closed it, in nanoseconds since 1970.
    pub(super) closed_ns: i128,
    /// When the backup was made, in seconds since 1970.
    pub(super) made_s: u64,
    /// The same for people.
    pub(super) made: String,
}

impl Manifest {
    /// Of the log in a backup file; `None`: there is none, or it is not whole.
    pub(super) fn read(backup: &Path) -> Option<Self> {
        let path = path(backup);
        if fs::metadata(&path).ok()?.len() > LONGEST {
            return None;
        }
        let manifest: Self = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let there = fs::metadata(backup).ok()?;
        (there.len() == manifest.bytes).then_some(manifest)
    }

    /// Whether it is that of this very file.
    pub(super) fn is_of(&self, source: &fs::Metadata) -> bool {
        source.len() == self.bytes && modified_ns(source) == self.closed_ns
    }

    /// It appears when it is whole.
    pub(super) fn write(&self, backup: &Path) -> io::Result<()> {
        let path = path(backup);
        let part = with_ending(&path, super::backup::PART);
        let mut file = File::create(&part)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(part, path)
    }
}

/// Beside the backup.
pub(super) fn path(backup: &Path) -> PathBuf {
    with_ending(backup, ENDING)
}

/// A name with more behind it.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// When a file was written to last, in nanoseconds since 1970.
pub(super) fn modified_ns(file: &fs::Metadata) -> i128 {
    i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec())
}
