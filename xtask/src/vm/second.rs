//! The second guest, for tests of two machines: the first one has it started and killed, by lines on a port of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Child,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, bail};

use crate::vm::{
    initramfs,
    machine::{self, AGENT, Which},
    tools::Tools,
};

/// What the second guest does: it runs the commands that come by its port, one after the other. A line is a number,
/// a time limit in seconds and a command for `printf %b`; the answer is the number, the exit code and what was printed, in
/// hexadecimal digits.
const JOB: &str = r#"
/run/busybox hostname second
cd / || exit 1
port=
for named in /sys/class/virtio-ports/*/name; do
  [ "$(cat "$named")" = "@AGENT@" ] && port=/dev/$(basename "$(dirname "$named")")
done
exec 3<>"$port" || exit 1
while read -r number limit command <&3; do
  printf %b "$command" >/run/guest/command
  timeout "$limit" sh /run/guest/command >/run/guest/printed 2>&1 </dev/null 3<&-
  code=$?
  echo "$number $code $(od -An -v -tx1 /run/guest/printed | tr -d ' \n')" >&3
done
"#;

/// Obeys the first guest until it ends; then the second one is killed.
pub(super) fn serve(
    tools: &Tools,
    dir: &Path,
    control: UnixStream,
    preamble: &str,
) -> JoinHandle<()> {
    let mut second = Second {
        tools: tools.clone(),
        dir: dir.to_owned(),
        job: format!("{preamble}{}", JOB.replace("@AGENT@", AGENT)),
        initramfs: None,
        running: None,
    };
    // QEMU is killed when the thread ends that started it.
    thread::spawn(move || {
        // An error is the end of the first guest, as it is to be expected.
        let _ = second.obey(control);
    })
}

struct Second {
    tools: Tools,
    dir: PathBuf,
    job: String,
    /// Made for the first start.
    initramfs: Option<PathBuf>,
    running: Option<Child>,
}

impl Second {
    fn obey(&mut self, control: UnixStream) -> Result<()> {
        let mut answers = control.try_clone()?;
        for line in BufReader::new(control).lines() {
            let outcome = match line?.trim() {
                "start" => self.start(),
                "kill" => self.kill(),
                other => bail!("the first guest asks for {other:?}"),
            };
            let answer = match outcome {
                Ok(()) => "ok\n".to_owned(),
                Err(error) => format!("{}\n", format!("{error:#}").replace('\n', " ")),
            };
            answers.write_all(answer.as_bytes())?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        self.kill()?;
        let initramfs = match &self.initramfs {
            Some(made) => made.clone(),
            None => {
                let dir = self.dir.join("second");
                fs::create_dir_all(&dir)?;
                let made = initramfs::make(&self.tools, &self.job, &dir)?;
                self.initramfs.insert(made).clone()
            }
        };
        let mut command = machine::command(&self.tools, Which::Second, &self.dir, &initramfs)?;
        let qemu = command.spawn().context("starting the second QEMU")?;
        self.running = Some(qemu);
        Ok(())
    }

    /// As when its power fails.
    fn kill(&mut self) -> Result<()> {
        if let Some(mut qemu) = self.running.take() {
            qemu.kill()?;
            qemu.wait()?;
        }
        Ok(())
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // A failure means that it has ended.
        let _ = self.kill();
    }
}
