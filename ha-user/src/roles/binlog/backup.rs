//! Backups, as files: each log is copied, checked by the server's own tool, and named when it is whole.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ha_common::Nanos;
use ha_core::data::mysql::Dialect;
use sha2::{Digest as _, Sha256};
use tokio::{sync::oneshot, time::timeout};

use super::{
    manifest::{self, ENDING, Manifest, modified_ns, with_ending},
    server::Listed,
};
use crate::checks::{Blocking, tool::Tool};

/// What the names of files end with that are not whole.
pub(super) const PART: &str = ".part";
/// What stands between a log's name and the time, where the server began its logs anew and another one has the name.
const REPLACED: &str = ".replaced-";
/// Bytes that are copied in one go; then it is looked whether the copy is still wanted.
const CHUNK: usize = 1 << 20;
/// How long the copy, or the check, of one log may take.
const LIMIT: Duration = Duration::from_secs(3_600);
/// Entries of a directory that are looked at in one run.
const ENTRIES: usize = 1 << 16;

/// See the module.
pub(super) struct Files {
    /// This node's own.
    directory: PathBuf,
    work: Blocking<()>,
    mariadb: Tool,
    mysql: Tool,
}

/// A log that the server lists, as its file is found.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) modified_ns: i128,
    /// Whether there is a verified backup of it.
    pub(super) backed_up: bool,
}

impl Files {
    /// Backups below `directory`.
    pub(super) fn new(directory: PathBuf, node: &str) -> Self {
        Self {
            directory: directory.join(node),
            work: Blocking::new(),
            mariadb: Tool::new("mariadb-binlog"),
            mysql: Tool::new("mysqlbinlog"),
        }
    }

    /// Both the server's disk and that of the backups may hang.
    async fn call<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let (answer, answered) = oneshot::channel();
        let call = self.work.call("the work on backups", move || {
            // Who asked may have given up.
            let _ = answer.send(work());
        });
        timeout(LIMIT, call)
            .await
            .map_err(|_| format!("the work on backups has not ended in {} s", LIMIT.as_secs()))??;
        let answer = answered.await.map_err(|_| "the daemon ends")?;
        answer.map_err(|error| format!("{}: {error}", self.directory.display()))
    }

    /// Each of the listed logs is looked at. Who `writes` backups has a directory then, from which has gone what a run
    /// that was given up has left.
    pub(super) async fn look(
        &mut self,
        logs: &Path,
        listed: &[Listed],
        writes: bool,
    ) -> Result<Vec<Source>, String> {
        let (own, logs, listed) = (self.directory.clone(), logs.to_owned(), listed.to_vec());
        let found = self.call(move || {
            if writes {
                prepare(&own)?;
            }
            let of = |log: &Listed| source(&own, &logs, log);
            Ok(listed.iter().map(of).collect::<Result<Vec<_>, String>>())
        });
        found.await?
    }

    /// Copies, checks and names one log. `manifest` says what is known of it.
    pub(super) async fn back_up(
        &mut self,
        dialect: Dialect,
        source: &Source,
        manifest: Manifest,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<(), String> {
        let backup = self.directory.join(&manifest.name);
        let part = with_ending(&backup, PART);
        let made = self.make(dialect, source, manifest, &backup, cancelled);
        let made = made.await;
        if made.is_err() {
            // The room that it takes may be what is missing; what went wrong first is what is told.
            let _ = self.call(move || fs::remove_file(part)).await;
        }
        made
    }

    async fn make(
        &mut self,
        dialect: Dialect,
        source: &Source,
        mut manifest: Manifest,
        backup: &Path,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<(), String> {
        let backup = backup.to_owned();
        let part = with_ending(&backup, PART);
        let (from, to, stop) = (source.path.clone(), part.clone(), Arc::clone(cancelled));
        let bytes = source.bytes;
        manifest.sha256 = self.call(move || copy(&from, &to, bytes, &stop)).await?;
        let tool = match dialect {
            Dialect::MariaDb => &mut self.mariadb,
            Dialect::MySql => &mut self.mysql,
        };
        let file = part.display().to_string();
        // Its output is the log in words: what counts is whether it can be read.
        let arguments = [
            "--no-defaults",
            "--verify-binlog-checksum",
            "--result-file=/dev/null",
            &file,
        ];
        let checked = timeout(LIMIT, tool.run(&arguments)).await;
        checked
            .unwrap_or_else(|_| Err("the check does not end".to_owned()))
            .map_err(|why| format!("{} cannot be read: {why}", manifest.name))?;
        let stop = Arc::clone(cancelled);
        self.call(move || name(&part, &backup, &manifest, &stop))
            .await
    }

    /// Removes backups that are older, but of logs that the server still has. Returns how many.
    pub(super) async fn remove(
        &mut self,
        age: Nanos,
        now_s: u64,
        listed: &[Listed],
    ) -> Result<usize, String> {
        let own = self.directory.clone();
        let listed: Vec<String> = listed.iter().map(|log| log.name.clone()).collect();
        let before = now_s.saturating_sub(age.0 / 1_000_000_000);
        self.call(move || remove(&own, before, &listed)).await
    }
}

fn prepare(own: &Path) -> io::Result<()> {
    // Only its own: where what it lies in is not there, it is not mounted.
    match DirBuilder::new().mode(0o700).create(own) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    for name in names(own)? {
        if name.ends_with(PART) {
            fs::remove_file(own.join(name))?;
        }
    }
    Ok(())
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?.take(ENTRIES);
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let names: io::Result<Vec<Option<String>>> = names.collect();
    Ok(names?.into_iter().flatten().collect())
}

fn source(own: &Path, logs: &Path, log: &Listed) -> Result<Source, String> {
    let path = logs.join(&log.name);
    let file = fs::metadata(&path).map_err(|error| {
        format!(
            "the server's binary log {} cannot be had here: {error}; had copies the logs where the server writes them, so it has to see that directory",
            path.display()
        )
    })?;
    let known = Manifest::read(&own.join(&log.name));
    Ok(Source {
        backed_up: known.is_some_and(|known| known.is_of(&file)),
        bytes: log.bytes,
        modified_ns: modified_ns(&file),
        path,
    })
}

/// Returns the SHA-256 of what was copied.
fn copy(from: &Path, to: &Path, bytes: u64, cancelled: &AtomicBool) -> io::Result<String> {
    let mut source = File::open(from)?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true);
    let mut part = options.mode(0o600).open(to)?;
    let mut hash = Sha256::new();
    let mut copied = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        ask(cancelled)?;
        let read = source.read(&mut chunk)?;
        let read = chunk.get(..read).unwrap_or_default();
        if read.is_empty() {
            break;
        }
        hash.update(read);
        part.write_all(read)?;
        copied += u64::try_from(read.len()).unwrap_or(u64::MAX);
        if copied > bytes {
            break;
        }
    }
    if copied != bytes {
        return Err(io::Error::other(format!(
            "{} is not the log that the server lists: its length is another one",
            from.display()
        )));
    }
    part.sync_all()?;
    let mut digits = String::new();
    for byte in hash.finalize() {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    Ok(digits)
}

fn ask(cancelled: &AtomicBool) -> io::Result<()> {
    if cancelled.load(Ordering::SeqCst) {
        return Err(io::Error::other("it was given up"));
    }
    Ok(())
}

/// The backup appears, and then its manifest: without that it does not count.
fn name(part: &Path, backup: &Path, new: &Manifest, cancelled: &AtomicBool) -> io::Result<()> {
    ask(cancelled)?;
    if let Some(old) = Manifest::read(backup)
        && old.sha256 != new.sha256
    {
        let kept = with_ending(backup, &format!("{REPLACED}{}", old.made_s));
        fs::rename(backup, &kept)?;
        fs::rename(manifest::path(backup), manifest::path(&kept))?;
    }
    fs::rename(part, backup)?;
    new.write(backup)?;
    match backup.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn remove(own: &Path, before_s: u64, listed: &[String]) -> io::Result<usize> {
    let mut removed = 0;
    for name in names(own)? {
        let Some(log) = name.strip_suffix(ENDING) else {
            continue;
        };
        let backup = own.join(log);
        let old = Manifest::read(&backup).is_some_and(|known| known.made_s < before_s);
        if old && !listed.iter().any(|listed| listed == log) {
            fs::remove_file(&backup)?;
            fs::remove_file(manifest::path(&backup))?;
            removed += 1;
        }
    }
    Ok(removed)
}
