//! A second guest beside the one of `cargo xtask vm-test`: a machine of its own with a disk, and a cable between the two.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Mode, OFlags, open};

use crate::{
    clock::{now, sleep_until, span},
    guest, netns,
};

/// The ports that QEMU gives this guest (`xtask/src/vm/machine.rs`).
const CONTROL: &str = "had.control";
const SECOND: &str = "had.second";

/// To start QEMU, or to end it.
const SWITCHING: Duration = Duration::from_secs(60);

/// To boot, on processors that are emulated.
const BOOTING: Duration = Duration::from_secs(240);

/// For one answer to what takes no time.
const ANSWER: Duration = Duration::from_secs(5);

/// Between two looks at a port.
const POLL: Duration = Duration::from_millis(5);

/// The second guest. Dropped, it is switched off; its disk and what is on it last as long as this guest.
pub struct Second {
    control: Port,
    agent: Port,
    /// Of the last command.
    number: u64,
}

impl Second {
    /// Switches it on, as if it had been off, and waits until it obeys.
    pub fn boot() -> Result<Self> {
        let mut this = Self {
            control: Port::open(CONTROL)?,
            agent: Port::open(SECOND)?,
            number: 0,
        };
        this.start()?;
        Ok(this)
    }

    /// Switches it on again, with what is on its disk and nothing else.
    pub fn start(&mut self) -> Result<()> {
        self.switch("start")?;
        let deadline = now().after(span(BOOTING));
        while now() < deadline {
            if self.answer("true", ANSWER).is_ok() {
                return Ok(());
            }
        }
        bail!("the second guest does not answer after {BOOTING:?}")
    }

    /// Takes its power.
    pub fn power_off(&mut self) -> Result<()> {
        self.switch("kill")
    }

    /// Runs a shell script there, and returns what it prints; an exit code other than 0 is an error.
    pub fn run(&mut self, script: &str) -> Result<String> {
        let limit = guest::patience(Duration::from_secs(30));
        let (code, printed) = self.answer(script, limit)?;
        ensure!(
            code == 0,
            "the second guest: exit code {code} of {script:?}: {printed}"
        );
        Ok(printed)
    }

    fn switch(&mut self, verb: &str) -> Result<()> {
        self.control.forget();
        self.control.write(&format!("{verb}\n"))?;
        match self.control.line(SWITCHING)?.as_str() {
            "ok" => Ok(()),
            error => bail!("{verb} of the second guest: {error}"),
        }
    }

    fn answer(&mut self, script: &str, limit: Duration) -> Result<(i32, String)> {
        self.number += 1;
        let number = self.number;
        let seconds = limit.as_secs().max(1);
        self.agent.forget();
        self.agent
            .write(&format!("{number} {seconds} {}\n", escaped(script)))?;
        let deadline = now().after(span(limit + ANSWER));
        while now() < deadline {
            let line = self
                .agent
                .line(limit + ANSWER)
                .with_context(|| format!("the second guest does not answer to {script:?}"))?;
            // Another number is the answer to what was given up.
            if let Some(answer) = line.strip_prefix(&format!("{number} ")) {
                let (code, printed) = answer.split_once(' ').context("an answer")?;
                return Ok((code.parse()?, unhex(printed)?));
            }
        }
        bail!("the second guest does not answer to {script:?}")
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // It ends with this guest, whatever happens.
        let _ = self.power_off();
    }
}

/// For `printf %b`.
fn escaped(script: &str) -> String {
    let bytes = script.bytes();
    bytes
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("\\0{byte:03o}"),
        })
        .collect()
}

fn unhex(digits: &str) -> Result<String> {
    let bytes: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        })
        .collect();
    let bytes = bytes.with_context(|| format!("the second guest answers {digits:?}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A port of a guest; nothing on it blocks.
struct Port {
    file: File,
    read: Vec<u8>,
}

impl Port {
    fn open(name: &str) -> Result<Self> {
        let path = device(name)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = open(&path, flags, Mode::empty())
            .with_context(|| format!("opening {}", path.display()))?;
        Ok(Self {
            file: File::from(file),
            read: Vec::new(),
        })
    }

    /// What came unasked.
    fn forget(&mut self) {
        while self.take() {}
        self.read.clear();
    }

    /// Whether there was something to take.
    fn take(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.file.read(&mut buffer) {
            Ok(length) => {
                self.read.extend(buffer.get(..length).unwrap_or_default());
                length > 0
            }
            Err(_) => false,
        }
    }

    fn line(&mut self, limit: Duration) -> Result<String> {
        let deadline = now().after(span(limit));
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                return Ok(line.trim_end_matches('\n').to_owned());
            }
            if !self.take() {
                ensure!(now() < deadline, "no answer for {limit:?}");
                sleep_until(now().after(span(POLL)));
            }
        }
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let deadline = now().after(span(SWITCHING));
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(length) => rest = rest.get(length..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ensure!(now() < deadline, "nobody listens");
                    sleep_until(now().after(span(POLL)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn device(name: &str) -> Result<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").context("this is no guest")?;
    for port in ports {
        let port = port?;
        // One has no name.
        let named = fs::read_to_string(port.path().join("name")).unwrap_or_default();
        if named.trim() == name {
            return Ok(PathBuf::from("/dev").join(port.file_name()));
        }
    }
    bail!("this guest has no port {name}: run `cargo xtask vm-test`")
}

/// Loads what both guests need for their cable and their disk, in this one.
pub fn modules() -> Result<()> {
    for module in ["virtio_net", "virtio_blk"] {
        netns::run(Command::new("modprobe").arg(module))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_answers_survive_the_port() {
        assert_eq!(escaped("a b\n"), "a\\0040b\\0012");
        assert_eq!(unhex("6f6b0a").unwrap(), "ok\n");
        assert!(unhex("6").unwrap() == "\u{6}" && unhex("zz").is_err());
    }
}
