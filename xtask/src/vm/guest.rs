//! One guest: QEMU, from its start to its end, which comes by a deadline.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::vm::{
    initramfs,
    machine::{self, Which},
    second,
    tools::{self, Tools},
};

/// The device by which the guest writes what we print.
pub(crate) const REPORT: &str = "/dev/vport0p1";

/// What the guest writes last, before its exit code.
pub(crate) const END: &str = "guest: exit ";

/// Lines of the kernel's console that are shown when something is wrong.
const CONSOLE_TAIL: usize = 40;

/// Between a guest's last line and its end.
const POWER_OFF: Duration = Duration::from_secs(20);

/// A running guest; dropped, it is killed.
pub(crate) struct Guest {
    qemu: Child,
    started: Instant,
    dir: PathBuf,
    /// Ends after QEMU.
    second: Option<JoinHandle<()>>,
}

impl Guest {
    /// Boots a guest that runs `job`, a shell script that writes to [`REPORT`] and ends with [`END`]. `preamble` are the
    /// first lines of what a second guest runs, if the first one has it started.
    pub(crate) fn boot(tools: &Tools, job: &str, preamble: &str) -> Result<Self> {
        let dir = tools::own_directory();
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let initramfs = initramfs::make(tools, job, &dir)?;
        let (ours, its) = UnixStream::pair()?;
        let qemu = machine::command(tools, Which::First, &dir, &initramfs)?
            .stdin(OwnedFd::from(its))
            .stdout(Stdio::piped())
            .spawn()
            .context("starting QEMU")?;
        let second = second::serve(tools, &dir, ours, preamble);
        Ok(Self {
            qemu,
            started: now(),
            dir,
            second: Some(second),
        })
    }

    /// Prints what the guest writes, each line with the seconds since the start, and returns its exit code.
    pub(crate) fn watch(mut self, limit: Duration) -> Result<u8> {
        let outcome = self.follow(limit);
        if outcome.is_err() {
            self.explain();
        }
        outcome
    }

    fn follow(&mut self, limit: Duration) -> Result<u8> {
        let mut output = self.qemu.stdout.take().context("QEMU has an output")?;
        let (sender, pieces) = mpsc::channel();
        // It ends with QEMU's output, which ends with QEMU, which does not outlive this function for long.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = output.read(&mut buffer) {
                let piece = buffer.get(..length).unwrap_or_default().to_vec();
                if length == 0 || sender.send(piece).is_err() {
                    break;
                }
            }
        });
        let deadline = self.started + limit;
        let mut text = Lines::default();
        loop {
            let left = deadline.saturating_duration_since(now());
            match pieces.recv_timeout(left) {
                Ok(piece) => {
                    for line in text.add(&piece) {
                        if let Some(code) = line.strip_prefix(END) {
                            let code = code.trim().parse();
                            let code = code.with_context(|| format!("the guest wrote {line:?}"))?;
                            self.wait_for_end()?;
                            return Ok(code);
                        }
                        self.print(&line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let last = text.rest();
                    bail!(
                        "the guest has not ended after {} s; the last that it wrote: {last:?}",
                        limit.as_secs()
                    );
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait_for_end()?;
                    bail!(
                        "the guest ended before its tests did (QEMU: {status}); the last that it wrote: {:?}",
                        text.rest()
                    );
                }
            }
        }
    }

    fn print(&self, line: &str) {
        println!("{:7.1} s  {line}", self.started.elapsed().as_secs_f32());
        // Progress that nobody sees is none. Where standard output is gone there is nobody.
        let _ = std::io::stdout().flush();
    }

    fn wait_for_end(&mut self) -> Result<ExitStatus> {
        let deadline = now() + POWER_OFF;
        loop {
            if let Some(status) = self.qemu.try_wait()? {
                return Ok(status);
            }
            if now() > deadline {
                self.qemu.kill()?;
                bail!("the guest did not power off");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Shows what QEMU and the guest's kernel said last.
    fn explain(&self) {
        for (which, whose) in [(Which::First, "the"), (Which::Second, "the second")] {
            for (name, what) in [
                (which.errors(), format!("QEMU of {whose} guest wrote")),
                (
                    which.console(),
                    format!("{whose} guest's console ends with"),
                ),
            ] {
                let tail = tail(&self.dir.join(name));
                if !tail.is_empty() {
                    println!("--- {what}:\n{tail}");
                }
            }
            let kept = tools::directory().join(which.console());
            if fs::copy(self.dir.join(which.console()), &kept).is_ok() {
                println!("--- all of it: {}", kept.display());
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a program runs is nothing that the daemon's clock has to do with"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

impl Drop for Guest {
    fn drop(&mut self) {
        // A failure means that it has ended; what is left of its files is removed with `target`.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if let Some(second) = self.second.take() {
            let _ = second.join();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(CONSOLE_TAIL);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// Bytes, in whole lines.
#[derive(Default)]
struct Lines {
    unfinished: Vec<u8>,
    last: String,
}

impl Lines {
    /// The lines that these bytes complete.
    fn add(&mut self, bytes: &[u8]) -> Vec<String> {
        self.unfinished.extend(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.unfinished.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clone_into(&mut self.last);
            lines.push(line);
        }
        lines
    }

    /// What came last: an unfinished line, such as a test's name, or the last whole one.
    fn rest(&self) -> String {
        if self.unfinished.is_empty() {
            self.last.clone()
        } else {
            String::from_utf8_lossy(&self.unfinished).into_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_a_rest_is_kept() {
        let mut lines = Lines::default();
        assert_eq!(lines.add(b"one\ntw"), ["one"]);
        assert_eq!(lines.rest(), "tw");
        assert_eq!(lines.add(b"o\nthree\n"), ["two", "three"]);
        assert_eq!(lines.rest(), "three");
    }
}
