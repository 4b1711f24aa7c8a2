//! What a directory lies on. One whose disk is not mounted is an empty directory of another disk: sent, it would empty the
//! standbys'; written to, it would fill the wrong disk.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, fstat, mkdirat, openat, openat2,
        statx,
    },
    io::Errno,
    process::geteuid,
};

use crate::{
    checks::words,
    roles::mount::{mount_of, mounted_in},
};

/// Which every file system of some kinds has.
const NO_FILE: &str = "lost+found";

/// Where rsync keeps what it has received until it is put in its place (`--partial-dir`): it neither sends nor removes a
/// directory of this name.
pub(super) const DRAFTS: &str = ".had-sync";

/// By directory, where that was mounted on which it lay when it was used last.
type Known = BTreeMap<PathBuf, PathBuf>;

/// What directories lay on when they were used last, as a file keeps it.
#[derive(Debug)]
pub(super) struct Ground {
    record: PathBuf,
    /// Streams use it side by side.
    writing: Mutex<()>,
}

impl Ground {
    /// In this file.
    pub(super) const fn new(record: PathBuf) -> Self {
        Self {
            record,
            writing: Mutex::new(()),
        }
    }

    /// Whether a directory lies on what it lay on.
    fn judge(&self, path: &Path, now: &Path) -> Result<(), String> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        judge(path, now, &self.record)
    }
}

/// A directory that stays what it is: what is unmounted or renamed while it is used is no other one by that.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// Opens a directory that is there, and its disk with it. It may hang, as every use of a path.
    pub(super) fn open(path: &Path, ground: &Ground) -> Result<Self, String> {
        Self::open_on(path, ground, place_of)
    }

    fn open_on(
        path: &Path,
        ground: &Ground,
        place_of: impl Fn(&OwnedFd) -> Result<PathBuf, String>,
    ) -> Result<Self, String> {
        let opened = Self::find(path)?;
        ground.judge(path, &place_of(&opened)?)?;
        Ok(Self(opened))
    }

    /// Opens a directory that could be copied, whatever it lies on.
    pub(super) fn find(path: &Path) -> Result<OwnedFd, String> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        // Who may write to a directory above could lead elsewhere by a link, and root would follow.
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(CWD, path, flags, Mode::empty(), resolve);
        let opened = opened.map_err(|error| match error {
            Errno::LOOP => format!(
                "{} leads over a symbolic link: name the directory itself",
                path.display()
            ),
            Errno::NOENT => format!(
                "there is no directory {0}: make it, or mount what it lies on (the same path on all nodes)",
                path.display()
            ),
            error => format!("{}: {}", path.display(), words::of_io(&error.into())),
        })?;
        if let Some(inside) = mounted_in(path)? {
            return Err(format!(
                "{} is mounted in {}, and is a directory like others where it is not: name directories in which nothing is mounted",
                inside.display(),
                path.display()
            ));
        }
        Ok(opened)
    }

    /// A path of the same directory, for as long as there is this.
    pub(super) fn path(&self) -> PathBuf {
        let own = std::process::id();
        PathBuf::from(format!("/proc/{own}/fd/{}", self.0.as_raw_fd()))
    }

    /// Whether there is anything in it.
    pub(super) fn has_something(&self) -> io::Result<bool> {
        for entry in fs::read_dir(self.path())? {
            let name = entry?.file_name();
            if name != NO_FILE && name != DRAFTS {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes a directory for what a run receives: on the same disk, and nobody's but root's, whoever may write beside it.
    pub(super) fn prepare(&self) -> io::Result<Self> {
        self.clear()?;
        mkdirat(&self.0, DRAFTS, Mode::RWXU)?;
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(&self.0, DRAFTS, flags, Mode::empty())?;
        // Who may write here could have put another one in its place.
        let about = fstat(&made)?;
        if about.st_uid != geteuid().as_raw() || about.st_mode & 0o077 != 0 {
            return Err(io::Error::other(format!(
                "somebody else has put a {DRAFTS} there"
            )));
        }
        Ok(Self(made))
    }

    /// Removes what was received at the top, where a run has ended.
    pub(super) fn clear(&self) -> io::Result<()> {
        unless_gone(fs::remove_dir_all(self.path().join(DRAFTS)))
    }

    /// Removes what a run that was broken off has left, anywhere.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let top = self.path();
        sweep(&top, fs::metadata(&top)?.dev())
    }
}

/// Removes the drafts in a directory, and in all below it on the same file system.
fn sweep(directory: &Path, device: u64) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        // Others may be at work in it.
        let about = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            about => about?,
        };
        if !about.is_dir() || about.dev() != device {
            continue;
        }
        unless_gone(if entry.file_name() == DRAFTS {
            fs::remove_dir_all(path)
        } else {
            sweep(&path, device)
        })?;
    }
    Ok(())
}

fn unless_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn place_of(directory: &OwnedFd) -> Result<PathBuf, String> {
    let failed = |error: Errno| words::of_io(&error.into());
    let about = statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map_err(failed)?;
    mount_of(about.stx_mnt_id)
}

/// Whether a directory lies on what it lay on.
fn judge(path: &Path, now: &Path, record: &Path) -> Result<(), String> {
    let shown = path.display();
    let mut known = read(record)?;
    match known.get(path) {
        Some(before) if *before == now => return Ok(()),
        // Something was mounted over it, or nearer to it.
        Some(before) if now.starts_with(before) => {}
        Some(before) => {
            return Err(format!(
                "{shown} lay on what was mounted at {}, and lies on {} now: mount it; if it is to stay so, remove {}",
                before.display(),
                now.display(),
                record.display()
            ));
        }
        None => {}
    }
    known.insert(path.to_owned(), now.to_owned());
    write(record, &known)
}

fn read(record: &Path) -> Result<Known, String> {
    match fs::read(record) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| {
            format!(
                "{} cannot be read ({error}): remove it, if everything is mounted",
                record.display()
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Known::new()),
        Err(error) => Err(format!("{}: {}", record.display(), words::of_io(&error))),
    }
}

fn write(record: &Path, known: &Known) -> Result<(), String> {
    let text = serde_json::to_vec(known).map_err(|error| error.to_string())?;
    replace(record, &text)
}

/// Writes a file that is there in one piece.
pub(super) fn replace(file: &Path, text: &[u8]) -> Result<(), String> {
    let write = || {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut draft = file.as_os_str().to_owned();
        draft.push(".new");
        fs::write(&draft, text)?;
        fs::File::open(&draft)?.sync_all()?;
        fs::rename(&draft, file)?;
        file.parent()
            .map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
    };
    write().map_err(|error: io::Error| format!("{}: {}", file.display(), words::of_io(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_whose_disk_is_gone_is_refused_until_somebody_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (path, record) = (dir.join("rules"), dir.join("roles/files.ground"));
        let on = |place: &Path| {
            let place = place.to_owned();
            let ground = Ground::new(record.clone());
            Directory::open_on(&path, &ground, move |_| Ok(place.clone())).map(drop)
        };
        let missing = on(&dir).unwrap_err();
        assert!(missing.contains("there is no directory"), "{missing}");
        fs::create_dir(&path).unwrap();
        on(&dir).unwrap();
        on(&dir).unwrap();
        let gone = on(Path::new("/")).unwrap_err();
        assert!(
            gone.contains("mount it") && gone.contains("files.ground"),
            "{gone}"
        );
        let inside = Directory::open(Path::new("/"), &Ground::new(dir.join("root"))).unwrap_err();
        assert!(inside.contains("is mounted in /"), "{inside}");
        // A disk of its own, from now on.
        on(&path).unwrap();
        on(&dir).unwrap_err();
        fs::remove_file(&record).unwrap();
        on(&dir).unwrap();
        fs::write(&record, "rubbish").unwrap();
        on(&dir).unwrap_err();
        fs::write(dir.join("file"), "").unwrap();
        let other = Ground::new(dir.join("other"));
        Directory::open(&dir.join("file"), &other).unwrap_err();
        std::os::unix::fs::symlink(&dir, dir.join("link")).unwrap();
        for leads_elsewhere in ["link", "link/rules"] {
            let link = Directory::open(&dir.join(leads_elsewhere), &other);
            let why = link.unwrap_err();
            assert!(why.contains("name the directory itself"), "{why}");
        }
    }

    #[test]
    fn what_a_broken_run_has_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rules");
        let elsewhere = dir.path().join("elsewhere");
        for made in [path.join("a/b").join(DRAFTS), elsewhere.join(DRAFTS)] {
            fs::create_dir_all(&made).unwrap();
            fs::write(made.join("half"), "x").unwrap();
        }
        fs::write(path.join("a/b/whole"), "x").unwrap();
        std::os::unix::fs::symlink(&elsewhere, path.join("link")).unwrap();
        let directory = Directory::open(&path, &Ground::new(dir.path().join("ground"))).unwrap();
        directory.sweep().unwrap();
        // Whoever may write there could have put a link there, which root would follow.
        std::os::unix::fs::symlink(&elsewhere, path.join(DRAFTS)).unwrap();
        let drafts = directory.prepare().unwrap();
        fs::write(drafts.path().join("draft"), "x").unwrap();
        assert!(!elsewhere.join("draft").exists());
        assert!(path.join(DRAFTS).join("draft").exists());
        assert!(!path.join("a/b").join(DRAFTS).exists());
        assert!(path.join("a/b/whole").exists());
        assert!(elsewhere.join(DRAFTS).join("half").exists());
        drop(drafts);
        fs::write(path.join(DRAFTS).join("half"), "x").unwrap();
        directory.clear().unwrap();
        directory.clear().unwrap();
        assert!(!path.join(DRAFTS).exists());
    }

    #[test]
    fn a_directory_stays_what_it_was_when_it_was_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rules");
        let ground = Ground::new(dir.path().join("ground"));
        fs::create_dir(&path).unwrap();
        let opened = Directory::open(&path, &ground).unwrap();
        // A new file system has that.
        fs::create_dir(path.join(NO_FILE)).unwrap();
        fs::create_dir(path.join(DRAFTS)).unwrap();
        assert!(!opened.has_something().unwrap());
        fs::rename(&path, dir.path().join("before")).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join(".hidden"), "").unwrap();
        assert!(!opened.has_something().unwrap());
        let now = Directory::open(&path, &ground).unwrap();
        assert!(now.has_something().unwrap());
    }
}
