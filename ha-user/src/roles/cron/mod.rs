//! `kind = "cron"`: jobs that cron runs on the Active node alone. They are a file in `/etc/cron.d`, which is there or
//! not: it is put there and taken away in one piece.

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use ha_core::plan::{Done, Observation, Order};

use super::{Pending, Role};
use crate::{checks::Blocking, config::CronRole as Config};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);
/// Cron takes no file that others may write.
const MODE: u32 = 0o644;
/// More than any table of jobs.
const LONGEST: u64 = 1 << 20;

/// See [`Config`].
pub(super) struct Cron {
    config: Config,
    /// One at a time, so that nothing that was given up comes after what followed it.
    working: Blocking<Result<Found, String>>,
}

/// What a call comes back with.
struct Found {
    text: &'static str,
    active: bool,
}

impl Cron {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            working: Blocking::new(),
        }
    }

    async fn work(
        &mut self,
        work: impl FnOnce(&Config) -> io::Result<Found> + Send + 'static,
    ) -> Result<Found, String> {
        let config = self.config.clone();
        let call = move || work(&config).map_err(|error| said(&config, &error));
        self.working
            .call("the work on the file of jobs", call)
            .await?
    }

    async fn carry_out(&mut self, order: &Order) -> Result<Done, String> {
        let found = match order.step {
            "activate" => self.work(activate).await?,
            "deactivate" => self.work(deactivate).await?,
            step => return Err(format!("jobs of cron have no step {step}")),
        };
        Ok(Done {
            text: found.text.to_owned(),
            ..Done::default()
        })
    }

    async fn look(&mut self) -> Observation {
        let looked = self.work(|config| {
            read(&config.file)?;
            let active = config.entry.try_exists()?;
            Ok(Found { text: "", active })
        });
        let looked = looked.await;
        let active = looked.as_ref().ok().map(|found| found.active);
        Observation::of(active, looked.map(drop))
    }
}

impl Role for Cron {
    fn run<'a>(&'a mut self, order: &'a Order) -> Pending<'a, Result<Done, String>> {
        Box::pin(self.carry_out(order))
    }

    fn observe(&mut self) -> Pending<'_, Observation> {
        Box::pin(self.look())
    }

    fn every(&self) -> Duration {
        EVERY
    }
}

fn said(config: &Config, error: &io::Error) -> String {
    format!(
        "{} and {}: {error}",
        config.file.display(),
        config.entry.display()
    )
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(file)?.len() > LONGEST {
        return Err(io::Error::other("there is too much in the file of jobs"));
    }
    fs::read(file)
}

fn activate(config: &Config) -> io::Result<Found> {
    let jobs = read(&config.file)?;
    let active = true;
    if fs::read(&config.entry).is_ok_and(|there| there == jobs) {
        let text = "was active already";
        return Ok(Found { text, active });
    }
    // With a dot in its name cron does not read it.
    let name = config.entry.file_name().unwrap_or_default();
    let draft = config
        .entry
        .with_file_name(format!(".{}.new", name.to_string_lossy()));
    let mut file = File::create(&draft)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(&jobs)?;
    file.sync_all()?;
    fs::rename(&draft, &config.entry)?;
    sync_directory(&config.entry)?;
    let text = "active";
    Ok(Found { text, active })
}

fn deactivate(config: &Config) -> io::Result<Found> {
    let text = match fs::remove_file(&config.entry) {
        Ok(()) => {
            sync_directory(&config.entry)?;
            "not active any more"
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => "was not active",
        Err(error) => return Err(error),
    };
    let active = false;
    Ok(Found { text, active })
}

fn sync_directory(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
