//! `kind = "mdadm"`: looks at /proc/mdstat, which tells when it changes.

mod mdstat;

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use ha_core::check::Observation;
use tokio::io::{Interest, unix::AsyncFd};

use self::mdstat::Array;
use super::{
    blocking::Blocking,
    probe::{Pending, Probe},
    words,
};
use crate::{config::Mdadm, sys::readiness};

/// Where the kernel tells of its arrays.
const MDSTAT: &str = "/proc/mdstat";
/// Bytes of it that are read.
const LONGEST: u64 = 1 << 20;
/// Arrays that a sentence names.
const MOST_NAMED: usize = 3;

/// See [`Mdadm`].
pub(super) struct MdadmProbe {
    config: Mdadm,
    file: PathBuf,
    /// A look may wait for a lock that the kernel holds while a disk does not answer.
    looking: Blocking<io::Result<(File, String)>>,
    /// What was read last; it tells when that has changed since.
    open: Option<AsyncFd<OwnedFd>>,
}

impl MdadmProbe {
    pub(super) fn new(config: &Mdadm) -> Self {
        Self::of(config, Path::new(MDSTAT))
    }

    fn of(config: &Mdadm, file: &Path) -> Self {
        Self {
            config: config.clone(),
            file: file.to_owned(),
            looking: Blocking::new(),
            open: None,
        }
    }

    async fn look(&mut self) -> Result<String, String> {
        let file = self.file.clone();
        let shown = file.display().to_string();
        let what = format!("the look at {shown}");
        let (file, text) = self
            .looking
            .call(&what, move || read(&file))
            .await?
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    format!("there is no {shown}: this kernel has no software RAID loaded")
                }
                _ => format!("{shown} cannot be read: {}", words::of_io(&error)),
            })?;
        // A file that cannot be waited for is looked at by the next probe.
        self.open = readiness::of(file.into(), Interest::PRIORITY).ok();
        judge(&self.config, &mdstat::parse(&text))
    }
}

/// From one opening of the file on the kernel tells changes.
fn read(path: &Path) -> io::Result<(File, String)> {
    let mut file = File::open(path)?;
    let mut text = Vec::new();
    (&mut file).take(LONGEST).read_to_end(&mut text)?;
    Ok((file, String::from_utf8_lossy(&text).into_owned()))
}

impl Probe for MdadmProbe {
    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(self.look())
    }

    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(async {
            let Some(open) = &self.open else {
                return std::future::pending().await;
            };
            if open.ready(Interest::PRIORITY).await.is_err() {
                return std::future::pending().await;
            }
            // The next look opens it anew.
            self.open = None;
            Observation::Suspect(format!("{} changed", self.file.display()))
        })
    }
}

fn judge(config: &Mdadm, arrays: &[Array]) -> Result<String, String> {
    let looked_at: Vec<&Array> = match &config.array {
        None => arrays.iter().collect(),
        Some(name) => arrays.iter().filter(|array| array.name == *name).collect(),
    };
    if looked_at.is_empty() {
        return Err(match &config.array {
            Some(name) => format!("there is no array {}", words::clean(name)),
            None => "there is no array".to_owned(),
        });
    }
    let mut wrong = Vec::new();
    let mut right = Vec::new();
    for array in looked_at {
        match state(array, config.allow_recovery) {
            Ok(words) => right.push(words),
            Err(words) => wrong.push(words),
        }
    }
    if wrong.is_empty() {
        Ok(listed(&right))
    } else {
        Err(listed(&wrong))
    }
}

fn state(array: &Array, allow_recovery: bool) -> Result<String, String> {
    let name = words::clean(&array.name);
    if !array.active {
        return Err(format!("{name} is inactive"));
    }
    let rebuilt = |kind: &str| array.work.as_ref().filter(|work| work.kind == kind);
    if array.missing() > 0 {
        let (wanted, there) = array.members.unwrap_or_default();
        let faulty = match array.faulty.as_slice() {
            [] => String::new(),
            faulty => format!(" (faulty: {})", words::clean(&faulty.join(", "))),
        };
        return match rebuilt("recovery") {
            Some(work) if allow_recovery => Ok(format!(
                "{name} is rebuilt ({})",
                words::clean(&work.progress)
            )),
            Some(work) => Err(format!(
                "{name} has {there} of {wanted} members{faulty}, and is rebuilt ({})",
                words::clean(&work.progress)
            )),
            None => Err(format!("{name} has {there} of {wanted} members{faulty}")),
        };
    }
    if let (None, [faulty, ..]) = (array.members, array.faulty.as_slice()) {
        return Err(format!(
            "{name} has a faulty member ({})",
            words::clean(faulty)
        ));
    }
    match rebuilt("resync") {
        Some(work) if !allow_recovery => Err(format!(
            "{name} is synchronised ({})",
            words::clean(&work.progress)
        )),
        Some(work) => Ok(format!(
            "{name} is synchronised ({})",
            words::clean(&work.progress)
        )),
        None => Ok(format!("{name} is whole")),
    }
}

fn listed(states: &[String]) -> String {
    let shown: Vec<&str> = states.iter().take(MOST_NAMED).map(String::as_str).collect();
    let more = states.len().saturating_sub(shown.len());
    match more {
        0 => shown.join("; "),
        _ => format!("{}; and {more} more", shown.join("; ")),
    }
}
