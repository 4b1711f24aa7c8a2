//! Programs of others that a probe asks.

use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    time::timeout,
};

use super::{blocking::Blocking, words::clean};

/// Where programs are looked for, whatever environment the daemon has.
const PATHS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Bytes of an answer; more of it is an error.
const ANSWER: usize = 1 << 20;
/// Bytes of what a program complains of.
const COMPLAINT: usize = 1 << 16;

/// How long one that was killed may take to end before the next one is refused.
const GRACE: Duration = Duration::from_millis(100);

/// A program that is run again and again, one at a time.
pub(crate) struct Tool {
    start: Start,
    running: Option<Child>,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// On its standard output.
    pub(crate) printed: String,
    /// The last line that it wrote, of what it complained if it did.
    pub(crate) said: String,
}

/// Begins a program on a thread that may hang.
pub(crate) struct Start {
    name: &'static str,
    /// As sentences name it.
    what: String,
    starting: Blocking<Result<Child, String>>,
}

impl Start {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            what: format!("the start of {name}"),
            starting: Blocking::new(),
        }
    }

    /// One that was begun and given up before it ran. `Err`: it still does not.
    pub(crate) async fn late(&mut self) -> Result<Option<Child>, String> {
        let late = self.starting.settle(&self.what).await?;
        Ok(late.and_then(Result::ok))
    }

    /// A program that is killed when it is dropped.
    pub(crate) async fn begin(&mut self, arguments: &[&str]) -> Result<Child, String> {
        let name = self.name;
        let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        let start = self
            .starting
            .call(&self.what, move || start(name, &arguments));
        start.await?
    }
}

impl Tool {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            start: Start::new(name),
            running: None,
        }
    }

    /// What it prints, if it succeeds.
    pub(crate) async fn run(&mut self, arguments: &[&str]) -> Result<String, String> {
        let ended = self.finish(arguments).await?;
        if !ended.status.success() {
            return Err(format!(
                "{} failed ({}): {}",
                self.start.name, ended.status, ended.said
            ));
        }
        Ok(ended.printed)
    }

    /// How it ends. Where the future is dropped, it is killed with all that it started; if it does not end even so, no
    /// other one is begun.
    pub(crate) async fn finish(&mut self, arguments: &[&str]) -> Result<Ended, String> {
        self.earlier().await?;
        let mut child = self.start.begin(arguments).await?;
        let answer = child.stdout.take();
        let complaint = child.stderr.take();
        let kill = Kill(&mut self.running);
        *kill.0 = Some(child);
        let (answer, complaint) = tokio::join!(text(answer, ANSWER), text(complaint, COMPLAINT));
        let ended = match kill.0 {
            Some(child) => child.wait().await,
            None => Err(io::ErrorKind::NotFound.into()),
        };
        *kill.0 = None;
        let name = self.start.name;
        let ended = ended.map_err(|error| format!("{name}: {error}"))?;
        let said = {
            let complaint = complaint.unwrap_or_default();
            let printed = answer.as_deref().unwrap_or_default();
            let last = complaint.lines().last().or_else(|| printed.lines().last());
            clean(last.unwrap_or_default())
        };
        let printed = match answer {
            // What it printed is of no interest where it failed.
            Err(error) if ended.success() => return Err(format!("{name}: {error}")),
            answer => answer.unwrap_or_default(),
        };
        Ok(Ended {
            status: ended,
            printed,
            said,
        })
    }

    /// One that was killed and has not ended: its system call does not return.
    async fn earlier(&mut self) -> Result<(), String> {
        if let Some(late) = self.start.late().await? {
            let kill = Kill(&mut self.running);
            *kill.0 = Some(late);
        }
        let Some(child) = &mut self.running else {
            return Ok(());
        };
        match timeout(GRACE, child.wait()).await {
            Ok(Ok(_)) => {
                self.running = None;
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(format!(
                "an earlier {}{} does not end",
                self.start.name,
                child
                    .id()
                    .map_or_else(String::new, |id| format!(" (pid {id})"))
            )),
        }
    }
}

/// It may hang, as every use of a file.
fn start(name: &str, arguments: &[String]) -> Result<Child, String> {
    let program = find(name)
        .ok_or_else(|| format!("there is no {name} in {}: install it", PATHS.join(", ")))?;
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATHS.join(":"))
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{name} cannot be run: {error}"))
}

/// Whether a program is there.
pub(crate) fn is_installed(name: &str) -> bool {
    find(name).is_some()
}

fn find(name: &str) -> Option<PathBuf> {
    let paths = PATHS.iter().map(|dir| Path::new(dir).join(name));
    paths.into_iter().find(|path| path.is_file())
}

/// Kills what is running, unless it has ended.
struct Kill<'a>(&'a mut Option<Child>);

impl Drop for Kill<'_> {
    fn drop(&mut self) {
        if let Some(child) = self.0 {
            // It may have ended by itself. As long as nobody has waited for it, its group cannot be another one.
            let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
            if let Some(pid) = pid {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = child.start_kill();
        }
    }
}

async fn text(pipe: Option<impl AsyncRead + Unpin>, limit: usize) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        pipe.take(limit).read_to_end(&mut bytes).await?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length == limit) {
            return Err(io::Error::other("the answer is too long"));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc};

    use tokio::{runtime::Builder, task::spawn_blocking, time::sleep};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn sh(tool: &mut Tool, script: &str) -> Result<String, String> {
        let arguments = ["-c", script];
        let run = tool.run(&arguments);
        timeout(PATIENCE, run).await.expect("the end of a program")
    }

    #[tokio::test]
    async fn what_a_program_prints_is_its_answer() {
        let mut tool = Tool::new("sh");
        assert_eq!(
            sh(&mut tool, "echo $LC_ALL; echo $HOME").await.unwrap(),
            "C\n\n"
        );
        let error = sh(&mut tool, "echo no; echo one >&2; echo two >&2; exit 3").await;
        assert_eq!(error.unwrap_err(), "sh failed (exit status: 3): two");
        let error = sh(&mut tool, "kill -9 $$").await.unwrap_err();
        assert!(error.contains("signal: 9"), "{error}");
    }

    #[tokio::test]
    async fn a_flood_is_not_read() {
        let error = sh(&mut Tool::new("sh"), "exec cat /dev/zero").await;
        assert!(error.is_err());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = Tool::new("had-no-such-program").run(&[]).await.unwrap_err();
        assert!(error.contains("there is no had-no-such-program"), "{error}");
    }

    /// Drops a run once its program has written its number, or even before it is started: the only thread that could
    /// start it is held up until then.
    async fn begin_and_give_up(tool: &mut Tool, at_once: bool) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("echo $$ > {}; exec sleep 1000", file.display());
        let pid = async {
            loop {
                match fs::read_to_string(&file) {
                    Ok(pid) if pid.ends_with('\n') => return pid.trim().to_owned(),
                    _ => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let arguments = ["-c", script.as_str()];
        let (release, held) = mpsc::channel::<()>();
        if at_once {
            // Ends when the sender is gone.
            spawn_blocking(move || held.recv());
        }
        let run = tool.run(&arguments);
        if at_once {
            assert!(timeout(Duration::ZERO, run).await.is_err());
            drop(release);
            return timeout(PATIENCE, pid).await.expect("a program that runs");
        }
        tokio::select! {
            ended = run => panic!("{ended:?}"),
            pid = timeout(PATIENCE, pid) => pid.expect("a program that runs"),
        }
    }

    #[test]
    fn a_program_that_is_given_up_is_killed_before_the_next_one() {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(1).build();
        runtime.unwrap().block_on(give_up_and_run());
    }

    async fn give_up_and_run() {
        for at_once in [false, true] {
            let mut tool = Tool::new("sh");
            let pid = begin_and_give_up(&mut tool, at_once).await;
            let gone = async {
                while sh(&mut tool, "true").await.is_err() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, gone).await.expect("an end");
            assert!(!Path::new(&format!("/proc/{pid}")).exists());
        }
    }
}
