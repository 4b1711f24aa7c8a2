//! A split brain is remembered until the two are connected again, also by a daemon that is started in the middle of a
//! recovery: DRBD itself, once it looks for its peer again, does not tell it from a peer that is away.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::checks::blocking::Blocking;

/// A file that is there as long as a split brain is to be remembered.
pub(super) struct Memory {
    file: PathBuf,
    /// Whether it is there, as far as that is known.
    there: Option<bool>,
    work: Blocking<bool>,
}

impl Memory {
    /// Of a role.
    pub(super) fn new(state_dir: &Path, role: &str) -> Self {
        Self {
            file: state_dir.join("roles").join(format!("{role}.split-brain")),
            there: None,
            work: Blocking::new(),
        }
    }

    /// For a sentence.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Whether there was one. Where its disk does not answer, no role is promoted for the sake of the journal.
    pub(super) async fn has_split_brain(&mut self) -> bool {
        let there = self.call(Path::exists).await;
        self.there = Some(there);
        there
    }

    /// Whether somebody has removed the file.
    pub(super) async fn is_removed(&mut self) -> bool {
        self.there == Some(true)
            && self
                .call(|file| matches!(file.try_exists(), Ok(false)))
                .await
    }

    /// There is one. What could not be written is written the next time.
    pub(super) async fn keep(&mut self) {
        if self.there != Some(true) && self.call(|file| write(file).is_ok()).await {
            self.there = Some(true);
        }
    }

    /// The two are connected. What could not be removed is removed the next time.
    pub(super) async fn forget(&mut self) {
        let remove = |file: &Path| match fs::remove_file(file) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if self.there != Some(false) && self.call(remove).await {
            self.there = Some(false);
        }
    }

    async fn call(&mut self, work: impl FnOnce(&Path) -> bool + Send + 'static) -> bool {
        let file = self.file.clone();
        let what = format!("the look at {}", file.display());
        let said = self.work.call(&what, move || work(&file)).await;
        said.unwrap_or(false)
    }
}

/// Writes it, to the disk.
fn write(file: &Path) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    File::create(file)?.sync_all()?;
    File::open(directory)?.sync_all()
}
