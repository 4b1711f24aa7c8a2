//! Network namespaces, made and entered.

use std::{
    fs::File,
    os::fd::AsFd as _,
    process::{Command, Output},
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// `ip netns add` is not safe against itself while /run/netns does not exist yet.
static CREATION: Mutex<()> = Mutex::new(());

/// A network namespace; removed when dropped.
#[derive(Debug)]
pub struct NetNs {
    name: String,
}

impl NetNs {
    /// Makes one, with its loopback interface up and IPv6 off.
    pub fn new(name: String) -> Result<Self> {
        let created = {
            let _one_at_a_time = CREATION.lock().unwrap_or_else(PoisonError::into_inner);
            run(Command::new("ip").args(["netns", "add", &name]))
        };
        created.context("network namespaces need root")?;
        let this = Self { name };
        this.ip(&["link", "set", "lo", "up"])?;
        // No router solicitations and no duplicate address detection between the frames that matter.
        this.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        this.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        Ok(this)
    }

    /// Its name, as `ip netns list` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip ARGUMENTS` inside.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        let output = run(Command::new("ip").args(["-n", &self.name]).args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command that runs inside, and keeps its process id.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a program inside to its end and returns its standard output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = run(self.command(program).args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes a setting below /proc/sys of the namespace, if the kernel has it.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{key}");
        let value = value.to_owned();
        self.enter(move || match std::fs::write(&path, value) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("writing {path}"))
            }
            _ => Ok(()),
        })?
    }

    /// Runs `work` on a thread of its own inside the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = self.open()?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || -> Result<T> {
                enter(&file)?;
                Ok(work())
            });
            match inside.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a thread that lives inside the namespace.
    pub fn spawn(
        &self,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<()>>> {
        let file = self.open()?;
        Ok(thread::spawn(move || {
            enter(&file)?;
            work();
            Ok(())
        }))
    }

    fn open(&self) -> Result<File> {
        let path = format!("/run/netns/{}", self.name);
        File::open(&path).with_context(|| format!("opening {path}"))
    }
}

fn enter(namespace: &File) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("entering a network namespace")
}

impl Drop for NetNs {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next run removes what is left.
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

/// Runs a command to its end; a failure carries what it wrote to standard error.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output)
}
