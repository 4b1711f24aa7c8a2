//! One run of a script: started, and ended with everything that belongs to it.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, geteuid, kill_process_group, pidfd_open},
    thread::set_no_new_privs,
};
use tokio::{io::Interest, runtime::Handle, sync::OwnedSemaphorePermit};

use super::{file, former};
use crate::{
    checks::words,
    config::Script,
    sys::{
        accounts::{self, User},
        descriptors, readiness,
    },
};

/// Users who run scripts where nothing else is said, the better one first.
const UNPRIVILEGED: [&str; 2] = ["had-script", "nobody"];

/// Where scripts find programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Takes off what the daemon may and its scripts may not (real-time priority, locked memory, being spared when memory
/// runs out), and becomes the program that follows.
///
/// A program in between, since setting this or another user takes fork(2), and a fork of the daemon stops its threads
/// for milliseconds: all of its memory is locked. Without them posix_spawn(3) does, which stops only the caller.
const SHELL: &str = "/bin/sh";
const LAUNCH: &str =
    "{ ulimit -r 0; ulimit -l 64; echo 0 >/proc/self/oom_score_adj; } 2>/dev/null; exec \"$@\"";

/// Becomes another user (of util-linux).
const SETPRIV: [&str; 2] = ["/usr/bin/setpriv", "/bin/setpriv"];

/// A program as scripts are started: with nothing of what the daemon may beyond others.
pub(crate) fn launched(program: &str) -> Command {
    let mut command = Command::new(SHELL);
    command.args(["-c", LAUNCH, "sh", program]);
    command
}

/// A run. When it is dropped, its process group is killed, and a task waits for its end.
pub(super) struct Run {
    /// `None` only while it is dropped.
    parts: Option<Parts>,
    pub(super) pid: u32,
}

struct Parts {
    child: Child,
    /// Tells the end of the process.
    handle: OwnedFd,
    /// Until it is given back no other run begins.
    permit: OwnedSemaphorePermit,
}

/// Starts a run; what it prints comes from the descriptor. It may hang, as every use of a file. With a `record`, what
/// that tells of is ended first.
pub(super) fn start(
    script: &Script,
    permit: OwnedSemaphorePermit,
    record: Option<&Path>,
) -> Result<(Run, OwnedFd), String> {
    let user = user(script.user.as_deref())?;
    let program = script.command.first().map_or("", String::as_str);
    file::judge(Path::new(program), &user)?;
    let mut command = Command::new(SHELL);
    match record {
        None => command.args(["-c", LAUNCH, "sh"]),
        Some(record) => {
            former::end(record)?;
            let launch = format!("{}{LAUNCH}", former::RECORD);
            command.args(["-c", &launch, "sh"]).arg(record)
        }
    };
    if user.uid != geteuid().as_raw() {
        command.args(become_user(&user)?);
    }
    command.args(&script.command);
    let failed =
        |error: io::Error| format!("{program} cannot be started: {}", words::of_io(&error));
    let (output, input) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let second = input.try_clone().map_err(failed)?;
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", &user.home)
        .env("USER", &user.name)
        .env("LOGNAME", &user.name)
        .env("LANG", "C")
        .envs(script.check.iter().map(|name| ("HAD_CHECK", name)))
        .envs(script.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&script.directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(input)
        .stderr(second);
    // Before Linux 5.11 those that others left open stay so.
    let _ = descriptors::keep_from_programs();
    // Of this thread, and of what it starts; it needs no privileges that a program file gives.
    set_no_new_privs(true).map_err(|error| failed(error.into()))?;
    let mut child = command.spawn().map_err(failed)?;
    // The command has the other end of the pipe.
    drop(command);
    let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::NONBLOCK);
    match handle {
        Ok(handle) => {
            let pid = child.id();
            let parts = Some(Parts {
                child,
                handle,
                permit,
            });
            Ok((Run { parts, pid }, output))
        }
        Err(error) => {
            kill_group(&child);
            // It has been killed a moment ago, and cannot have got anywhere to hang.
            let _ = child.wait();
            Err(failed(error.into()))
        }
    }
}

/// Whether a script could be run by a daemon that may run it as its user, without running it.
pub(super) fn judge_beforehand(script: &Script) -> Result<(), String> {
    let user = find_user(script.user.as_deref())?;
    let program = Path::new(script.command.first().map_or("", String::as_str));
    // Somebody with fewer privileges than the daemon's may not see what it sees.
    let hidden = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    if !geteuid().is_root() && program.metadata().is_err_and(hidden) {
        return Ok(());
    }
    file::judge(program, &user)
}

fn find_user(name: Option<&str>) -> Result<User, String> {
    let find = |name: &str| {
        accounts::user(name).map_err(|error| format!("/etc/passwd: {}", words::of_io(&error)))
    };
    match name {
        Some(name) => find(name)?.ok_or_else(|| format!("there is no user {}", words::clean(name))),
        None => {
            let mut user = None;
            for name in UNPRIVILEGED {
                user = user.or(find(name)?);
            }
            user.ok_or_else(|| {
                format!(
                    "there is no user {} to run it: make one",
                    UNPRIVILEGED.join(" or ")
                )
            })
        }
    }
}

fn user(name: Option<&str>) -> Result<User, String> {
    let user = find_user(name)?;
    let own = geteuid();
    if !own.is_root() && own.as_raw() != user.uid {
        return Err(format!(
            "only root runs programs as {}: run had as root, or name its own user",
            user.name
        ));
    }
    Ok(user)
}

fn become_user(user: &User) -> Result<Vec<String>, String> {
    let setpriv = SETPRIV
        .iter()
        .find(|path| Path::new(path).exists())
        .ok_or_else(|| {
            format!(
                "{} is missing, which runs programs as {}: install util-linux",
                SETPRIV[0], user.name
            )
        })?;
    Ok(vec![
        (*setpriv).to_owned(),
        format!("--reuid={}", user.uid),
        format!("--regid={}", user.gid),
        "--clear-groups".to_owned(),
        "--inh-caps=-all".to_owned(),
        "--no-new-privs".to_owned(),
        "--".to_owned(),
    ])
}

impl Run {
    /// A descriptor that tells the end.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        match &self.parts {
            Some(parts) => parts.handle.try_clone(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Takes the exit status of a process that has ended, after everything that it left running was killed.
    pub(super) fn finish(mut self) -> io::Result<ExitStatus> {
        match &mut self.parts {
            Some(parts) => {
                kill_group(&parts.child);
                let status = parts.child.wait()?;
                self.parts = None;
                Ok(status)
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        kill_group(&parts.child);
        // Without a runtime the daemon ends, and init waits for the process.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(parts.end());
        }
    }
}

impl Parts {
    /// Waits for a killed process, which may take for ever.
    async fn end(mut self) {
        if let Ok(ended) = readiness::of(self.handle, Interest::READABLE)
            && ended.readable().await.is_ok()
        {
            let _ = self.child.wait();
        }
        drop(self.permit);
    }
}

/// As long as nobody has waited for the process, its group cannot be another one.
fn kill_group(child: &Child) {
    // There is none where the process is gone, and then nobody has to be killed.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

/// How a run ended, in words; `Ok`: with exit code 0.
pub(super) fn judge(status: ExitStatus, last_line: Option<&str>) -> Result<String, String> {
    let said = |words: String| match last_line {
        Some(line) => format!("{words}: {line}"),
        None => words,
    };
    match status.code() {
        Some(0) => Ok(last_line.map_or_else(|| "exit code 0".to_owned(), str::to_owned)),
        Some(code) => Err(said(format!("exit code {code}"))),
        None => Err(said(format!("ended by {status}"))),
    }
}
