//! Processes, as /proc shows them.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// How it is, as in ps(1): `R`, `S`, `D`, …
    pub state: char,
}

/// Those whose command line names something in a directory.
pub fn naming(dir: &Path) -> Result<Vec<Process>> {
    let needle = dir.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid else {
            continue;
        };
        let read = |file: &str| match fs::read(entry.path().join(file)) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            // It has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {file} of {pid}")),
        };
        let Some(command) = read("cmdline")?.filter(|line| line.contains(&needle)) else {
            continue;
        };
        // The fields are counted behind the command's name, which may contain anything.
        let stat = read("stat")?;
        let state = stat
            .as_deref()
            .and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
        if let Some(state) = state {
            let command = command.replace('\0', " ");
            found.push(Process {
                pid,
                command,
                state,
            });
        }
    }
    Ok(found)
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
