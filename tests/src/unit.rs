//! Services of systemd, where that is the first process: in the guest, or on a machine that runs it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::netns::run;

/// Where units are that last until the machine is switched off.
const UNITS: &str = "/run/systemd/system";

/// Whether systemd is the first process here (sd_booted(3)).
#[must_use]
pub fn systemd_runs() -> bool {
    Path::new(UNITS).is_dir()
}

/// A service, which is nothing but there; gone when dropped.
pub struct Unit {
    name: String,
}

impl Unit {
    /// Makes `NAME.service` known to systemd, with further lines of its section `[Service]`.
    pub fn new(name: &str, lines: &str) -> Result<Self> {
        let this = Self {
            name: format!("{name}.service"),
        };
        let text = format!("[Service]\nExecStart=/bin/sleep infinity\n{lines}\n");
        let path = path(&this.name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        systemctl(&["daemon-reload"])?;
        Ok(this)
    }

    /// The same, started.
    pub fn start(name: &str, lines: &str) -> Result<Self> {
        let this = Self::new(name, lines)?;
        this.tell("start")?;
        Ok(this)
    }

    /// Its name, with the type.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `systemctl VERB NAME`, which waits until that is done.
    pub fn tell(&self, verb: &str) -> Result<()> {
        systemctl(&[verb, &self.name]).map(drop)
    }

    /// Sends SIGKILL to its main process.
    pub fn kill(&self) -> Result<()> {
        systemctl(&["kill", "--kill-who=main", "--signal=KILL", &self.name]).map(drop)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Ends a unit of [`UNITS`] and forgets it. Nothing can be done about a failure.
fn remove(name: &str) {
    let _ = systemctl(&["stop", name]);
    let _ = fs::remove_file(path(name));
    let _ = systemctl(&["daemon-reload"]);
    // A failed one is kept for people to look at.
    let _ = systemctl(&["reset-failed", name]);
}

/// Removes those whose names begin with `prefix`.
pub(crate) fn remove_all(prefix: &str) {
    for entry in fs::read_dir(UNITS).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str()
            && name.starts_with(prefix)
        {
            remove(name);
        }
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(UNITS).join(name)
}

/// Runs `systemctl ARGUMENTS` and returns what it prints.
pub fn systemctl(arguments: &[&str]) -> Result<String> {
    let output = run(Command::new("systemctl").args(arguments))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
