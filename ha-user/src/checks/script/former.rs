//! A run of a daemon before, which was killed and left it: it is ended before the next one begins, else both would work
//! on the same thing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use ha_common::Nanos;
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group, test_kill_process_group},
};

use crate::{checks::words, sys::clock};

/// Writes down who it is, as the kernel tells it, before it does anything else: a process number alone says nothing
/// once the process has gone.
pub(super) const RECORD: &str = "{ read -r boot </proc/sys/kernel/random/boot_id && read -r stat \
     </proc/$$/stat && echo \"$boot $stat\" >\"$1\"; } || { echo \"$1 cannot be \
     written\"; exit 125; }; shift; ";

const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// How long a killed run may take to end.
const GRACE: Nanos = Nanos::from_secs(1);
const AGAIN: Duration = Duration::from_millis(5);
/// Where the process group stands behind the program's name in `/proc/PID/stat`.
const GROUP: usize = 2;
/// Where the start time stands behind it.
const START: usize = 19;
/// Where its state stands, likewise.
const STATE: usize = 0;

/// A process, and no other one that has its number later.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    pid: i32,
    start: String,
}

/// Ends the run that a file tells of, with all that is in its process group, if there still is one.
pub(super) fn end(record: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {}", record.display(), words::of_io(&error));
    let text = match fs::read_to_string(record) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return prepare(record),
        Err(error) => return Err(failed(error)),
    };
    let boot = fs::read_to_string(BOOT).map_err(failed)?;
    // A run that had not got so far as to write anything has done nothing.
    let Some(identity) = text.strip_prefix(boot.trim_end()).and_then(parse) else {
        return Ok(());
    };
    let deadline = clock::now().after(GRACE);
    while lives(&identity) {
        if let Some(group) = Pid::from_raw(identity.pid) {
            // It may end by itself at any time.
            let _ = kill_process_group(group, Signal::KILL);
        }
        if clock::now() >= deadline {
            return Err(format!(
                "a run that an earlier daemon began (process {}) was killed and does not end, so no other one is started",
                identity.pid
            ));
        }
        thread::sleep(AGAIN);
    }
    Ok(())
}

fn prepare(record: &Path) -> Result<(), String> {
    let dir = record.parent().map(PathBuf::from).unwrap_or_default();
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {}", dir.display(), words::of_io(&error)))
}

fn lives(identity: &Identity) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", identity.pid)) else {
        return false;
    };
    !has_ended(&stat) && parse(&stat).as_ref() == Some(identity)
}

/// Whether anybody in a process group still runs.
pub(super) fn has_members(group: i32) -> bool {
    let nobody = Pid::from_raw(group).map(test_kill_process_group);
    if nobody == Some(Err(Errno::SRCH)) {
        return false;
    }
    let Ok(all) = fs::read_dir("/proc") else {
        return true;
    };
    let name = group.to_string();
    all.flatten().any(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        field(&stat, GROUP) == Some(&name) && !has_ended(&stat)
    })
}

/// A process that nobody has waited for yet does nothing any more.
fn has_ended(stat: &str) -> bool {
    field(stat, STATE).is_some_and(|state| state == "Z" || state == "X")
}

fn parse(stat: &str) -> Option<Identity> {
    Some(Identity {
        pid: stat.split_whitespace().next()?.parse().ok()?,
        start: field(stat, START)?.to_owned(),
    })
}

/// One of the fields behind the program's name, which may have anything in it.
fn field(stat: &str, index: usize) -> Option<&str> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(index)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt as _,
        process::{Child, Command},
    };

    use super::*;

    fn run(record: &Path) -> Child {
        let mut command = Command::new("/bin/sh");
        let script = format!("{RECORD}exec \"$@\"");
        command.args(["-c", &script, "sh"]).arg(record);
        let child = command.args(["sleep", "1000"]).process_group(0).spawn();
        let child = child.unwrap();
        let deadline = clock::now().after(Nanos::from_secs(20));
        while !fs::read_to_string(record).is_ok_and(|text| text.ends_with('\n')) {
            assert!(clock::now() < deadline, "it writes nothing down");
            thread::sleep(AGAIN);
        }
        child
    }

    #[test]
    fn what_was_left_is_ended_with_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let record = dir.path().join("roles/told.run");
        end(&record).unwrap();
        let mut child = run(&record);
        end(&record).unwrap();
        assert!(!child.wait().unwrap().success());
        // And it need not be there.
        end(&record).unwrap();
    }

    #[test]
    fn a_group_has_members_as_long_as_somebody_in_it_runs() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & exit 0"]);
        let mut leader = command.process_group(0).spawn().unwrap();
        let group = i32::try_from(leader.id()).unwrap();
        assert!(leader.wait().unwrap().success());
        assert!(has_members(group));
        kill_process_group(Pid::from_raw(group).unwrap(), Signal::KILL).unwrap();
        let deadline = clock::now().after(Nanos::from_secs(20));
        while has_members(group) {
            assert!(clock::now() < deadline, "it does not end");
            thread::sleep(AGAIN);
        }
    }

    #[test]
    fn another_process_with_its_number_is_let_be() {
        let dir = tempfile::tempdir().unwrap();
        let record = dir.path().join("told.run");
        let mut child = run(&record);
        let told = fs::read_to_string(&record).unwrap();
        let start = field(&told, START).unwrap().to_owned();
        let boot = fs::read_to_string(BOOT).unwrap();
        let others = [
            told.replace(&format!(" {start} "), " 1 "),
            told.replace(boot.trim_end(), "another boot"),
            String::new(),
        ];
        for other in others {
            fs::write(&record, other).unwrap();
            end(&record).unwrap();
            assert!(child.try_wait().unwrap().is_none());
        }
        fs::write(&record, told).unwrap();
        end(&record).unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
