//! Which processes there are, by /proc.

use std::{fs, os::fd::OwnedFd, path::Path, process};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{
    checks::{files, words},
    config::{CommandPlace, Process},
    sys::accounts,
};

/// Bytes of a command line that are compared.
const LONGEST_COMMAND: u64 = 64 * 1024;
/// Bytes of /proc/PID/status; it has about 1500.
const LONGEST_STATUS: u64 = 16 * 1024;
/// Bytes of a file with the number of a process.
const LONGEST_NUMBER: u64 = 64;
/// Bytes that the kernel keeps of a process's name.
const LONGEST_NAME: usize = 15;

/// Processes that match.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Those that run, with a descriptor that tells their end.
    pub(super) running: Vec<(i32, OwnedFd)>,
    /// Those that a signal or a debugger stopped.
    pub(super) stopped: Vec<i32>,
}

/// What is looked for, with the user's number.
struct Wanted<'a> {
    config: &'a Process,
    uid: Option<u32>,
}

/// What one process is.
enum Seen {
    /// Another one, none, or a dead one.
    No,
    Running,
    Stopped,
}

/// All processes that match. `Err`: why there can be none.
pub(super) fn all(config: &Process) -> Result<Found, String> {
    let wanted = Wanted::of(config)?;
    if let Some(file) = &config.pid_file {
        let pid = number_in(file)?;
        let found = wanted.among(&[pid]);
        if found.running.is_empty() && found.stopped.is_empty() {
            let what = match state_of(pid) {
                None => "which does not run",
                Some(_) => "which is another one",
            };
            return Err(format!("{} names process {pid}, {what}", file.display()));
        }
        return Ok(found);
    }
    let proc = fs::read_dir("/proc")
        .map_err(|error| format!("/proc cannot be read: {}", words::of_io(&error)))?;
    let pids: Vec<i32> = proc
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    Ok(wanted.among(&pids))
}

/// Those of some processes that match; of the one in the file, where there is a file.
pub(super) fn among(config: &Process, pids: &[i32]) -> Result<Found, String> {
    match &config.pid_file {
        Some(_) => all(config),
        None => Ok(Wanted::of(config)?.among(pids)),
    }
}

impl<'a> Wanted<'a> {
    fn of(config: &'a Process) -> Result<Self, String> {
        let uid = match &config.user {
            None => None,
            Some(name) => {
                let user = accounts::user(name)
                    .map_err(|error| format!("/etc/passwd: {}", words::of_io(&error)))?
                    .map(|user| user.uid)
                    .or_else(|| name.parse().ok());
                Some(user.ok_or_else(|| format!("there is no user {}", words::clean(name)))?)
            }
        };
        Ok(Self { config, uid })
    }

    fn among(&self, pids: &[i32]) -> Found {
        let mut found = Found::default();
        for pid in pids {
            match self.look(*pid) {
                Seen::No => {}
                Seen::Stopped => found.stopped.push(*pid),
                Seen::Running => {
                    let handle = Pid::from_raw(*pid)
                        .and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
                    // Looked at again, since its number may be another process's by now.
                    match (handle, self.look(*pid)) {
                        (_, Seen::No) | (None, _) => {}
                        (_, Seen::Stopped) => found.stopped.push(*pid),
                        (Some(handle), Seen::Running) => found.running.push((*pid, handle)),
                    }
                }
            }
        }
        found
    }

    fn look(&self, pid: i32) -> Seen {
        if self.matches(pid).is_none() {
            return Seen::No;
        }
        match state_of(pid) {
            None => Seen::No,
            Some('T' | 't') => Seen::Stopped,
            Some(_) => Seen::Running,
        }
    }

    /// `None`: it does not, or there is none.
    fn matches(&self, pid: i32) -> Option<()> {
        if u32::try_from(pid).ok()? == process::id() {
            return None;
        }
        if let Some(name) = &self.config.process {
            let file = format!("/proc/{pid}/comm");
            let comm = files::read(Path::new(&file), LONGEST_STATUS).ok()?;
            let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
            let name = name.as_bytes();
            (comm == &name[..name.len().min(LONGEST_NAME)]).then_some(())?;
        }
        if let Some(uid) = self.uid {
            let status = status_of(pid)?;
            // Real, effective, saved, of the file system.
            let effective = field(&status, "Uid:")?.split_whitespace().nth(1)?;
            (effective.parse() == Ok(uid)).then_some(())?;
        }
        if let Some(command) = &self.config.command {
            let file = format!("/proc/{pid}/cmdline");
            let line = files::read(Path::new(&file), LONGEST_COMMAND).ok()?;
            let line = joined(&line);
            let fits = match command.place {
                CommandPlace::Whole => line == command.words,
                CommandPlace::Start => {
                    format!("{line} ").starts_with(&format!("{} ", command.words))
                }
                CommandPlace::Anywhere => {
                    format!(" {line} ").contains(&format!(" {} ", command.words))
                }
            };
            fits.then_some(())?;
        }
        Some(())
    }
}

/// The words of a command line, with one space between them. Some programs write one text with spaces there.
fn joined(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let words: Vec<&str> = line
        .split(|c: char| c == '\0' || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// The number in a file.
fn number_in(file: &Path) -> Result<i32, String> {
    let shown = file.display();
    let text = files::read(file, LONGEST_NUMBER)
        .map_err(|error| format!("{shown} cannot be read: {}", words::of_io(&error)))?;
    let text = String::from_utf8_lossy(&text);
    let number = text.lines().next().unwrap_or_default().trim().parse();
    number
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{shown} has no number of a process in it"))
}

fn status_of(pid: i32) -> Option<String> {
    let file = format!("/proc/{pid}/status");
    let status = files::read(Path::new(&file), LONGEST_STATUS).ok()?;
    Some(String::from_utf8_lossy(&status).into_owned())
}

/// What follows a word at the beginning of a line.
fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// The letter of a process's state; `None`: there is no such process, or a dead one that nobody has waited for yet.
/// Of a process whose first thread alone has ended, the others run.
fn state_of(pid: i32) -> Option<char> {
    let status = status_of(pid)?;
    let state = field(&status, "State:")?.chars().next()?;
    let threads: u32 = field(&status, "Threads:")?.parse().ok()?;
    let dead = matches!(state, 'Z' | 'X' | 'x') && threads <= 1;
    (!dead).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_words() {
        assert_eq!(
            joined(b"/usr/bin/java\0-jar\0/opt/api.jar\0"),
            "/usr/bin/java -jar /opt/api.jar"
        );
        assert_eq!(
            joined(b"nginx: worker process\0\0\0"),
            "nginx: worker process"
        );
        assert_eq!(joined(b""), "");
    }

    #[test]
    fn fields_are_whole_words_of_a_line() {
        let status = "Name:\tState: R\nState:\tS (sleeping)\nUid:\t0\t106\t0\t0\n";
        assert_eq!(field(status, "State:"), Some("S (sleeping)"));
        assert_eq!(field(status, "Threads:"), None);
    }
}
