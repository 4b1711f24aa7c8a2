//! A new server's data, made once and copied for each server.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use anyhow::{Context as _, Result};

use super::{accounts, settings::REDO_LOG};
use crate::{netns::run, stale};

/// As long as a server needs it.
static TEMPLATE: Mutex<Weak<Template>> = Mutex::new(Weak::new());

/// A directory with `data` and passwords; removed when dropped, as a lab's directory is.
pub(super) struct Template {
    dir: PathBuf,
}

impl Template {
    /// The one of this process.
    pub(super) fn get() -> Result<Arc<Self>> {
        let mut shared = TEMPLATE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(template) = shared.upgrade() {
            return Ok(template);
        }
        let template = Arc::new(Self::install()?);
        *shared = Arc::downgrade(&template);
        Ok(template)
    }

    fn install() -> Result<Self> {
        // In `/tmp`: the name makes it a thing that the next run removes, should this one be killed.
        let dir = stale::make_dir(&format!("{}xmariadb", std::process::id()))?;
        let this = Self { dir };
        let statements = this.dir.join("accounts.sql");
        accounts::write_secret(&statements, &accounts::create(&this.dir)?)?;
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        run(Command::new("mariadb-install-db")
            .args(["--no-defaults", "--user=root", "--skip-test-db"])
            .arg("--auth-root-authentication-method=socket")
            .arg(format!("--innodb-log-file-size={REDO_LOG}"))
            .arg(option("extra-file", &statements))
            .arg(option("datadir", &this.dir.join("data")))
            .env("TMPDIR", &this.dir)
            .stdin(Stdio::null()))
        .context("mariadb-server must be installed")?;
        Ok(this)
    }

    /// Copies data and passwords into a server's directory.
    pub(super) fn copy_to(&self, dir: &Path) -> Result<()> {
        run(Command::new("cp")
            .args(["--archive", "--sparse=always"])
            .arg(self.dir.join("data"))
            .args(accounts::ALL.map(|account| self.dir.join(account.password_file())))
            .arg(dir))
        .map(drop)
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next run removes what is left.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
