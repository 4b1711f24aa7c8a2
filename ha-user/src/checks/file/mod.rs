//! `kind = "file"`: looks for a file, and notices at once when it comes, goes or changes.

mod directory;

#[cfg(test)]
mod tests;

use std::{fs, io, path::Path};

use ha_core::check::{Found, Observation};

use self::directory::Directory;
use super::{
    blocking::Blocking,
    files,
    probe::{Pending, Probe},
    words,
};
use crate::config::{self, FileExpect, WatchedFile};

/// Bytes of a file that are compared.
const LONGEST: u64 = 64 * 1024;

/// See [`WatchedFile`].
pub(super) struct FileProbe {
    config: WatchedFile,
    looking: Blocking<Looked>,
    /// Opened with the first probe; `None` where it cannot be had.
    directory: Option<Directory>,
    begun: bool,
    /// The number that stood in it last.
    count: i32,
}

/// What a look found, and the watch of the directory before it.
struct Looked {
    watch: io::Result<i32>,
    found: Result<Found, String>,
}

impl FileProbe {
    pub(super) fn new(config: &WatchedFile) -> Self {
        Self {
            config: config.clone(),
            looking: Blocking::new(),
            directory: None,
            begun: false,
            count: 0,
        }
    }

    async fn look(&mut self) -> Result<String, String> {
        if !self.begun {
            self.begun = true;
            self.directory = Directory::of(&self.config.path).ok();
        }
        let watch = match &self.directory {
            Some(directory) => directory.watch().ok(),
            None => None,
        };
        let config = self.config.clone();
        let what = format!("the look at {}", config.path.display());
        let looked = self.looking.call(&what, move || Looked {
            // First, so that nothing is missed between the two.
            watch: watch.map_or_else(|| Err(io::ErrorKind::Unsupported.into()), |watch| watch()),
            found: found(&config),
        });
        let looked = looked.await?;
        let told = self.begin_to_watch(looked.watch);
        let found = looked.found?;
        self.count = found.count;
        Ok(format!("{}{told}", found.text))
    }

    /// What is worth saying of how a change is found.
    fn begin_to_watch(&mut self, watch: io::Result<i32>) -> String {
        if let Some(directory) = &mut self.directory {
            directory.watched(watch.as_ref().ok().copied());
        }
        match watch {
            Ok(_) => String::new(),
            // Without its directory the file comes with that.
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => format!(
                "; changes are found by the next probe only: {}",
                words::of_io(&error)
            ),
        }
    }
}

impl Probe for FileProbe {
    fn count(&self) -> i32 {
        self.count
    }

    fn probe(&mut self) -> Pending<'_, Result<String, String>> {
        Box::pin(self.look())
    }

    fn watch(&mut self) -> Pending<'_, Observation> {
        Box::pin(async {
            match &self.directory {
                Some(directory) => directory.change().await,
                None => std::future::pending().await,
            }
            Observation::Suspect(format!("{} changed", self.config.path.display()))
        })
    }
}

fn found(config: &WatchedFile) -> Result<Found, String> {
    let shown = config.path.display();
    let there = is_there(&config.path)
        .map_err(|error| format!("{shown} cannot be looked at: {}", words::of_io(&error)))?;
    let text = || {
        let text = files::read(&config.path, LONGEST)
            .map_err(|error| format!("{shown} cannot be read: {}", words::of_io(&error)))?;
        Ok::<_, String>(String::from_utf8_lossy(&text).into_owned())
    };
    let number = || {
        let text = text()?;
        let number = text.trim().parse().ok();
        number
            .filter(|number| config::FILE_NUMBERS.contains(number))
            .ok_or_else(|| {
                let (least, most) = (config::FILE_NUMBERS.start(), config::FILE_NUMBERS.end());
                format!("{shown} says no number from {least} to {most}")
            })
    };
    // What stands in the file is not shown: it may be a secret.
    let text = match &config.expect {
        FileExpect::Absent if there => return Err(format!("{shown} is there")),
        FileExpect::Absent => format!("{shown} is not there"),
        _ if !there => return Err(format!("{shown} is not there")),
        FileExpect::Present => format!("{shown} is there"),
        FileExpect::Number => {
            let count = number()?;
            return Ok(Found {
                text: format!("{shown} says {count}"),
                count,
            });
        }
        FileExpect::Contains(wanted) if text()?.contains(wanted) => {
            format!("{shown} contains \"{}\"", words::clean(wanted))
        }
        FileExpect::Contains(wanted) => {
            return Err(format!(
                "{shown} does not contain \"{}\"",
                words::clean(wanted)
            ));
        }
        FileExpect::Content(wanted) if text()?.trim() == wanted => {
            format!("{shown} says \"{}\"", words::clean(wanted))
        }
        FileExpect::Content(wanted) => {
            return Err(format!(
                "{shown} says something else than \"{}\"",
                words::clean(wanted)
            ));
        }
    };
    Ok(Found { text, count: 0 })
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
